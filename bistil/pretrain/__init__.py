"""Make a small multilingual teacher, or a masked-LM head for one that came without: masked-language modelling
on a named list of languages.

Notable: it starts from a whole encoder and its tokenizer, from real BERT weights (a folder or a Python
package that carries one) whose vocabulary is extended, or from nothing. Languages are sampled by temperature;
translation pairs are one more "language" whose sequences hold both sentences (TLM, Conneau & Lample 2019).
Where the vocabulary is extended, each new piece's embedding starts at the pieces it translates to (`align`),
and some steps draw translations to the start encoder's states (`translation`). From nothing, a deep narrow
post-norm model came off the unigram plateau with these together (which of them does it was not separated):
sentences alone instead of packed, position embeddings that start as sinusoids, residual branches scaled down,
30 % masked, a high learning rate."""

import json
import math
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.models.finite import not_finite
from bistil.pretrain.config import PretrainConfig, Text, read_text
from bistil.pretrain.start import Initial, initial_model, start_at_unigram, weights_folder
from bistil.pretrain.translation import Translations, translation_loss
from bistil.store.whole import write_whole
from bistil.text import sampling
from bistil.text.corpora import Batches, Blocks, cut, held_out, pairs_to_blocks, unigram_entropy
from bistil.text.written import open_to_others
from bistil.training.loop import History, Objective, Run, fit
from bistil.training.mlm import evaluate_mlm, masked_lm_loss
from bistil.training.progress import WARNING, Event, Listener, silent

__all__ = [
    "LAST",
    "PARALLEL",
    "Initial",
    "PretrainConfig",
    "Text",
    "initial_model",
    "pretrain",
    "read_text",
    "save_teacher",
    "unlearnt",
    "weights_folder",
]

PARALLEL = "parallel"
LOSS = "eval_loss_"
LAST = "history.json"
"""What `save_teacher` writes last."""
CPU = torch.device("cpu")


class Steps(Dataset):
    """Step number -> batch: a masked one, or in `share` of the steps one of translations, which carries
    `links`.
    """

    def __init__(self, masked: Batches, translations: Translations | None, share: float, seed: int) -> None:
        self._masked, self._translations = masked, translations
        rng = np.random.Generator(np.random.PCG64([seed, 0x57E9]))
        self._translated = rng.random(len(masked)) < (share if translations else 0.0)

    def __len__(self) -> int:
        return len(self._masked)

    def __getitem__(self, step: int) -> dict[str, Any]:
        if self._translations is not None and self._translated[step]:
            return self._translations.batch(step)
        return self._masked[step]


class MaskedLMAndTranslation(Objective):
    """The masked-LM loss, and `weight` times the translation loss where a batch holds translations."""

    model: PreTrainedModel

    def __init__(self, model: PreTrainedModel, reference: BertModel | None, weight: float) -> None:
        super().__init__(model)
        self._reference, self._weight = (reference,), weight

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch; no further parts."""
        (reference,) = self._reference
        if "links" not in batch or reference is None:
            return masked_lm_loss(self.model, batch), {}
        encoder: Any = self.model.base_model
        return self._weight * translation_loss(encoder, reference, batch), {}


def pretrain(
    config: PretrainConfig,
    text: Text,
    folder: Path,
    *,
    progress: Listener = silent,
    stop: threading.Event | None = None,
    device: torch.device = CPU,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, History]:
    """Train the teacher on a device and return it; `folder` keeps the checkpoints, and the run resumes from
    them.

    In a process group (torchrun) the processes share out each batch.
    """
    set_seed(config.seed)
    mlm, tokenizer, translations, reference, new_head = initial_model(config, text)
    _freeze(mlm, config.train)
    blocks = {
        code: cut(tokenizer, lines, config.length, packed=config.packed) for code, lines in text.lines.items()
    }
    weights = sampling.temperature({code: len(b) for code, b in blocks.items()}, config.alpha)
    if text.pairs and config.parallel_share > 0:
        blocks[PARALLEL] = _pair_blocks(tokenizer, text, config)
        total = sum(weights.values())
        weights = {code: (1 - config.parallel_share) * weight / total for code, weight in weights.items()}
        weights[PARALLEL] = config.parallel_share
    training, kept_out = {}, {}
    for code, b in blocks.items():
        training[code], kept_out[code] = b.split(0.05)
    if new_head:
        start_at_unigram(mlm, tokenizer, training, weights)
    for model in (mlm, reference):
        if model is not None:
            torch.nn.Module.to(model, device)
    # one pool of text, so that each batch mixes the languages; pairs are longer and keep to themselves
    if not config.packed:
        pairs = {PARALLEL: training.pop(PARALLEL)} if PARALLEL in training else {}
        training = {"text": Blocks.pooled(training, weights), **pairs}
        weights = {
            "text": 1 - config.parallel_share * bool(pairs),
            **dict.fromkeys(pairs, config.parallel_share),
        }
    schedule = config.schedule.counted(sum(map(len, training.values())), config.batch_size)
    masked = Batches(
        training,
        tokenizer,
        weights=weights,
        batch_size=config.batch_size,
        steps=schedule.batches,
        mask_share=config.mask_share,
        seed=config.seed,
        by_length=config.packed,
    )
    evaluation = held_out(kept_out, tokenizer, batch_size=32, mask_share=0.15, most=32)
    plain = {f"entropy_{code}": unigram_entropy(blocks[code], tokenizer) for code in kept_out}
    history = fit(
        MaskedLMAndTranslation(mlm, reference, config.translation_weight),
        Steps(masked, translations, config.translation_share, config.seed),
        lambda: {**evaluate_mlm(mlm, evaluation), **plain},
        Run(folder, "pretrain", progress, stop),
        schedule=schedule,
        select="loss",
        seed=config.seed,
        optimizer=_optimizer(mlm, config),
    )
    if told := unlearnt(history):
        progress(Event(f"{WARNING}{told}", schedule.steps, schedule.steps))
    return mlm, tokenizer, history


def unlearnt(history: History) -> str:
    """What there is to say of languages in which the kept model, that of the least held-out loss, predicts no
    better than by how often tokens are used; "" where there are none.
    """
    best = min((one for one in history if "eval_loss" in one), key=lambda one: one["eval_loss"], default={})
    losses = {name.removeprefix(LOSS): value for name, value in best.items() if name.startswith(LOSS)}
    above = [code for code, loss in losses.items() if loss >= best.get(f"eval_entropy_{code}", math.inf)]
    if not above:
        return ""
    shown = ", ".join(f"{code} {losses[code]:.2f} of {best[f'eval_entropy_{code}']:.2f}" for code in above)
    return (
        f"the held-out loss ended at or above the unigram entropy in {shown} nats: there the teacher has"
        " learnt no more than how often tokens are used. Lower `learning_rate`, rise to it longer"
        " (`warmup_share`), or give it more steps."
    )


def _freeze(mlm: PreTrainedModel, train: str) -> None:
    """Let what `train` names learn, and the head; its decoder is the embeddings where they are tied."""
    if train == "head":
        mlm.base_model.requires_grad_(False)
    if train == "layers":
        embeddings: Any = mlm.get_input_embeddings()
        embeddings.requires_grad_(False)


def _optimizer(mlm: PreTrainedModel, config: PretrainConfig) -> torch.optim.Optimizer:
    """AdamW; what came with the start learns at `start_rate` times the rate. Biases and norms decay too."""
    base = mlm.base_model_prefix
    old = "" if config.start is None else f"{base}." if config.vocabulary is None else f"{base}.encoder."
    parts: dict[bool, list[Tensor]] = {False: [], True: []}
    for name, parameter in mlm.named_parameters():
        if parameter.requires_grad:
            parts[bool(old) and name.startswith(old)].append(parameter)
    rate, decay = config.schedule.learning_rate, config.schedule.weight_decay
    groups = [{"params": parts[False], "lr": rate}, {"params": parts[True], "lr": rate * config.start_rate}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=rate,
        betas=(0.9, 0.98),
        weight_decay=decay,
        eps=config.schedule.epsilon,
        fused=True,
    )


def _pair_blocks(tokenizer: PreTrainedTokenizerBase, text: Text, config: PretrainConfig) -> Blocks:
    pairs = [pair for found in text.pairs.values() for pair in found]
    random.Random(config.seed).shuffle(pairs)
    return pairs_to_blocks(tokenizer, pairs, config.length)


def save_teacher(
    folder: Path,
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    history: History,
    *,
    half: bool = False,
) -> None:
    """Write model (fp16 where `half`), tokenizer and learning curve.

    Raises:
        InputError: for weights that fp16 cannot hold.
    """
    if half and (told := not_finite(mlm.half())):
        raise InputError(f"These weights are too large for fp16 ({told}). Save them without --half.")
    folder.mkdir(parents=True, exist_ok=True)
    mlm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    open_to_others(folder)
    write_whole(folder / LAST, json.dumps(history, indent=1) + "\n")
