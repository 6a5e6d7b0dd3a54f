"""Stage 1, general distillation: the student learns the language-adapted teacher's states on unlabelled text (BiStil section 3.1).

Notable: no masked-LM head is ever evaluated; the loss is L_attn + L_hidden (eqs. 5.1, 5.2). Each step is one language, drawn with equal
weight, and the teacher wears that language's SFT; the student never does.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from bistil.corpora import Batches, Blocks, held_out
from bistil.distil.wardrobe import AdaptedTeacher
from bistil.losses import attention_loss, hidden_loss
from bistil.models import Output, encode
from bistil.progress import Listener, silent
from bistil.student import layer_map
from bistil.train import History, Objective, Schedule, fit


@dataclass(frozen=True, kw_only=True)
class GeneralConfig:
    """Stage 1. lrf: layer reduction factor. batch_size in blocks of the corpora. mask_share: share of tokens masked in the input."""

    lrf: int
    schedule: Schedule
    batch_size: int = 8
    mask_share: float = 0.15
    held_out_share: float = 0.05
    seed: int = 1


class GeneralDistillation(Objective):
    """L_attn + L_hidden of a student against its adapted teacher."""

    model: PreTrainedModel

    def __init__(self, student: PreTrainedModel, teacher: AdaptedTeacher, layers: Sequence[int]) -> None:
        super().__init__(student)
        self._teacher, self._layers = (teacher,), tuple(layers)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch of one language; parts `attention` and `hidden`."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        teacher = self._teacher[0]
        teacher.wear(batch["language"])
        return state_losses(encode(self.model, ids, mask, states=True), teacher.states(ids, mask), self._layers, mask)


def state_losses(student: Output, teacher: Output, layers: Sequence[int], mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L_attn + L_hidden with the teacher's layers selected: student layer i against teacher layer layers[i - 1], H_0 against H_0."""
    attention = attention_loss(student.attention, [teacher.attention[i - 1] for i in layers], mask)
    hidden = hidden_loss(student.hidden, [teacher.hidden[i] for i in (0, *layers)], mask)
    return attention + hidden, {"attention": attention.detach(), "hidden": hidden.detach()}


@torch.no_grad()
def evaluate_general(objective: Objective, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Held-out `loss`, the mean over languages, with `loss_<code>` of each."""
    device = next(objective.parameters()).device
    losses: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        losses[batch["language"]].append(float(objective(moved)[0]))
    by_language = {f"loss_{code}": sum(values) / len(values) for code, values in losses.items()}
    return {"loss": sum(by_language.values()) / len(by_language), **by_language}


def distil_general(
    student: PreTrainedModel,
    teacher: AdaptedTeacher,
    tokenizer: PreTrainedTokenizerBase,
    corpora: Mapping[str, Blocks],
    *,
    config: GeneralConfig,
    folder: Path,
    progress: Listener = silent,
    stop: threading.Event | None = None,
) -> History:
    """Train `student` in place; `corpora` are in the student's token ids. The best held-out loss is kept.

    Dropout of the student is off: it learns a function, not a sample of it.
    """
    set_seed(config.seed)
    set_dropout(student, 0.0)
    parts = {code: blocks.split(config.held_out_share) for code, blocks in corpora.items()}
    batches = Batches(
        {code: training for code, (training, _) in parts.items()},
        tokenizer,
        weights=dict.fromkeys(corpora, 1.0),
        batch_size=config.batch_size,
        steps=config.schedule.steps,
        mask_share=config.mask_share,
        seed=config.seed,
    )
    evaluation = held_out(
        {code: kept for code, (_, kept) in parts.items()}, tokenizer, batch_size=16, mask_share=config.mask_share, most=32
    )
    objective = GeneralDistillation(student, teacher, layer_map(teacher.encoder.config.num_hidden_layers, config.lrf))
    try:
        return fit(
            objective,
            batches,
            lambda: evaluate_general(objective, evaluation),
            schedule=config.schedule,
            select="loss",
            folder=folder,
            seed=config.seed,
            stage=f"stage 1, {' + '.join(corpora)}, lrf {config.lrf}",
            progress=progress,
            stop=stop,
        )
    finally:
        teacher.wear(None)


def set_dropout(model: torch.nn.Module, p: float) -> None:
    """Set every dropout of the model, the attention's included."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
        elif isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", p)  # noqa: B010 - ModernBERT's attention has a number in place of a module
