"""Stage 1, general distillation: the student learns the language-adapted teacher's states on unlabelled text
(BiStil section 3.1).

Notable: no masked-LM head is ever evaluated; the loss is L_attn + L_hidden (eqs. 5.1, 5.2). Each step is one
language, drawn with equal weight, and the teacher wears that language's SFT; the student never does."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from bistil.distil.start import layer_map
from bistil.distil.teachers import AdaptedTeacher
from bistil.distil.width import Narrowing
from bistil.losses import attention_loss, hidden_loss
from bistil.models.load import Output, encode
from bistil.settings.ranges import Count, Dropout, Factor, Part, Positive, Seed, Settings
from bistil.text.corpora import Batches, Blocks, held_out
from bistil.training.loop import History, Objective, Schedule, fit
from bistil.training.progress import Listener, silent


@dataclass(frozen=True, kw_only=True)
class GeneralConfig(Settings):
    """Stage 1, general distillation.

    Attributes:
        lrf: The layer reduction factor. In an experiment it comes with the system's name.
        schedule: How long and how fast the student trains.
        batch_size: Blocks of the corpora in a batch.
        mask_share: The share of tokens that are masked in the input; 0 leaves the text as it is.
        held_out_share: The share of the text that picks the checkpoint.
        seed: The seed of start, batches and masks.
        drf: The hidden reduction factor. In an experiment it comes with the system's name.
        learn_map: The map from a narrower student's states to the teacher's trains along, instead of staying
            the projection that the student starts from.
        weights: How often a language is drawn in relation to the others, 1 where none is given.
        language_run: The number of steps that one language has at a time, so that the teacher changes its SFT
            less often. Each language's expected share of the steps stays the same.
        pool: The number of batches out of which sequences of like length are put together, where text is not
            packed. A pool of 64 leaves about a third of the padding that one of 16 leaves.
    """

    lrf: Factor
    schedule: Schedule
    batch_size: Count = 8
    mask_share: Dropout = 0.15
    held_out_share: Part = 0.05
    seed: Seed = 1
    drf: Factor = field(default=1, metadata={"added_later": True})
    learn_map: bool = field(default=False, metadata={"added_later": True})
    weights: Mapping[str, Positive] | None = field(default=None, metadata={"added_later": True})
    language_run: Count = field(default=1, metadata={"added_later": True})
    pool: Count = field(default=16, metadata={"added_later": True})


class GeneralDistillation(Objective):
    """L_attn + L_hidden of a student against its adapted teacher; `narrowing` where the student is
    narrower.
    """

    model: PreTrainedModel

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: AdaptedTeacher,
        layers: Sequence[int],
        narrowing: Narrowing | None = None,
    ) -> None:
        super().__init__(student)
        self._teacher, self._layers, self.narrowing = (teacher,), tuple(layers), narrowing

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch of one language; parts `attention` and `hidden`."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        teacher = self._teacher[0]
        teacher.wear(batch["language"])
        theirs = teacher.states(ids, mask, maps=False)
        own = encode(self.model, ids, mask, states=True, maps=False)
        return state_losses(own, theirs, self._layers, mask, self.narrowing)


def state_losses(
    student: Output, teacher: Output, layers: Sequence[int], mask: Tensor, narrowing: Narrowing | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_attn + L_hidden with the teacher's layers selected: student layer i against teacher layer layers[i -
    1], H_0 against H_0.
    """
    if narrowing is not None:
        student, teacher = narrowing.align(student, teacher, layers)
    attention = attention_loss(student.attention, [teacher.attention[i - 1] for i in layers], mask)
    hidden = hidden_loss(student.hidden, [teacher.hidden[i] for i in (0, *layers)], mask)
    return attention + hidden, {"attention": attention.detach(), "hidden": hidden.detach()}


@torch.no_grad()
def evaluate_general(objective: Objective, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Held-out `loss`, the mean over languages, with `loss_<code>` of each."""
    device = next(objective.parameters()).device
    losses: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        moved = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()
        }
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
    narrowing: Narrowing | None = None,
    progress: Listener = silent,
    stop: threading.Event | None = None,
) -> History:
    """Train `student` in place, and the map of `narrowing` if it learns; `corpora` are in the student's token
    ids. The best held-out loss is kept."""
    objective = GeneralDistillation(
        student, teacher, layer_map(teacher.encoder.config.num_hidden_layers, config.lrf), narrowing
    )
    try:
        return distil(
            objective,
            tokenizer,
            corpora,
            config=config,
            folder=folder,
            stage="stage 1",
            progress=progress,
            stop=stop,
        )
    finally:
        teacher.wear(None)


def distil(
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    corpora: Mapping[str, Blocks],
    *,
    config: GeneralConfig,
    folder: Path,
    stage: str,
    progress: Listener = silent,
    stop: threading.Event | None = None,
) -> History:
    """Train an objective's student in place on text, by whatever the objective minimises. The best held-out
    loss is kept.

    Dropout of the student is off: it learns a function, not a sample of it.
    """
    set_seed(config.seed)
    set_dropout(objective.model, 0.0)
    parts = {code: blocks.split(config.held_out_share) for code, blocks in corpora.items()}
    batches = Batches(
        {code: training for code, (training, _) in parts.items()},
        tokenizer,
        weights={code: (config.weights or {}).get(code, 1.0) for code in corpora},
        batch_size=config.batch_size,
        steps=config.schedule.steps,
        mask_share=config.mask_share,
        seed=config.seed,
        language_run=config.language_run,
        pool=config.pool,
    )
    evaluation = held_out(
        {code: kept for code, (_, kept) in parts.items()},
        tokenizer,
        batch_size=16,
        mask_share=config.mask_share,
        most=32,
    )
    return fit(
        objective,
        batches,
        lambda: evaluate_general(objective, evaluation),
        schedule=config.schedule,
        select="loss",
        folder=folder,
        seed=config.seed,
        stage=f"{stage}, {' + '.join(corpora)}, lrf {config.lrf}"
        + (f", drf {config.drf}" if config.drf > 1 else ""),
        progress=progress,
        stop=stop,
    )


def set_dropout(model: torch.nn.Module, p: float) -> None:
    """Set every dropout of the model, the attention's included."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
        elif isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", p)  # noqa: B010 - ModernBERT's attention has a number in place of a module
