"""Stage 1, general distillation: a student learns on unlabelled text by whatever its terms compare (BiStil
section 3.1 and the recipes beside it).

Notable: each step is one language, drawn with equal weight where nothing else is said, or a family's in turn,
and the teacher wears that language's SFT; the student never does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from bistil.distil.family import Family
from bistil.distil.objective import Distillation
from bistil.settings.ranges import Count, Dropout, Factor, Part, Positive, Seed, Settings, Weight
from bistil.text.corpora import Batches, Blocks, HeldOut, held_out, rarity
from bistil.training.checkpoints import newest
from bistil.training.loop import Evaluate, History, Objective, Run, Schedule, fit
from bistil.training.mlm import by_language, on_device
from bistil.training.progress import NOTE, Event


@dataclass(frozen=True, kw_only=True)
class GeneralConfig(Settings, HeldOut):
    """Stage 1, general distillation.

    Attributes:
        lrf: The layer reduction factor. In an experiment it comes with the system's name.
        schedule: How long and how fast the student trains.
        batch_size: Blocks of the corpora in a batch.
        mask_share: The share of tokens that are masked in the input; 0 leaves the text as it is.
        held_out_share: The share of the text that is held out; its first blocks, 32 of a language at most,
            pick the checkpoint.
        held_out_shares: That of languages that have another one, by code.
        seed: The seed of start, batches and masks.
        drf: The hidden reduction factor. In an experiment it comes with the system's name.
        learn_map: The map from a narrower student's states to the teacher's trains along, instead of staying
            the projection that the student starts from.
        weights: How often a language is drawn in relation to the others, 1 where none is given.
        language_run: The number of steps that one language has at a time, so that the teacher changes its SFT
            less often. Each language's expected share of the steps stays the same.
        smoothing: Rare tokens are masked more often, by their count to the power of minus this; the number of
            masked tokens is then exact. 0 masks all alike.
        pool: The number of batches out of which sequences of like length are put together, where text is not
            packed. A pool of 64 leaves about a third of the padding that one of 16 leaves.
        select: What picks the checkpoint: the held-out "loss", or "retrieval", how many translations of the
            source are found by BERTScore of the last layer among 200 pairs at most that no evaluation
            uses (Bui's published code).
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
    smoothing: Weight = field(default=0.0, metadata={"added_later": True})
    held_out_shares: Mapping[str, Part] | None = field(default=None, metadata={"added_later": True})
    select: Literal["loss", "retrieval"] = field(default="loss", metadata={"added_later": True})

    @property
    def metric(self) -> str:
        """The metric that picks the checkpoint."""
        return "accuracy" if self.select == "retrieval" else "loss"


def evaluate_general(objective: Objective, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The objective's held-out loss, as `by_language` tells it; in float32 even where the training that it is
    part of computes in bfloat16.
    """
    plain = type(objective).forward  # that of the object itself is the training's
    return by_language(batches, lambda batch: plain(objective, batch)[0], next(objective.parameters()).device)


def distil(
    objective: Distillation | Family,
    tokenizer: PreTrainedTokenizerBase,
    corpora: Mapping[str, Blocks],
    *,
    config: GeneralConfig,
    run: Run,
    also: Evaluate | None = None,
) -> History:
    """Train an objective's student in place on text; the checkpoint that `config.select` says is kept. The
    teacher wears nothing in the end.

    A student that follows a teacher has no dropout: it learns a function, not a sample of it. The languages
    of a family take turns.

    Args:
        also: further metrics of the student as it is, beside its held-out losses.
    """
    set_seed(config.seed)
    follows = objective.teacher is not None
    if follows:
        set_dropout(objective.model, 0.0)
    parts = {code: blocks.split(config.held_out(code)) for code, blocks in corpora.items()}
    trained = {code: training for code, (training, _) in parts.items()}
    schedule = config.schedule.counted(sum(map(len, trained.values())), config.batch_size)
    rare = rarity(trained, len(tokenizer), config.smoothing)
    batches = Batches(
        trained,
        tokenizer,
        weights={code: (config.weights or {}).get(code, 1.0) for code in corpora},
        batch_size=config.batch_size,
        steps=schedule.batches,
        mask_share=config.mask_share,
        seed=config.seed,
        language_run=config.language_run,
        pool=config.pool,
        in_turn=isinstance(objective, Family),
        rare=rare,
    )
    evaluation = held_out(
        {code: kept for code, (_, kept) in parts.items()},
        tokenizer,
        batch_size=16 if follows else config.batch_size,
        mask_share=config.mask_share,
        most=32 if follows else 64,
        rare=rare,
    )
    narrower = f", drf {config.drf}" if config.drf > 1 else ""
    run = replace(run, stage=f"{run.stage}, {' + '.join(corpora)}, lrf {config.lrf}{narrower}")
    if len(objective.terms) > 1 and newest(run.folder) is None:
        run.progress(Event(f"{NOTE}{run.stage}: {_weighed(objective, batches[0])}", 1, 1))
    try:
        return fit(
            objective,
            batches,
            lambda: {**evaluate_general(objective, evaluation), **(also() if also else {})},
            run,
            schedule=schedule,
            select=config.metric,
            seed=config.seed,
        )
    finally:
        if objective.teacher is not None:
            objective.teacher.wear(None)


def _weighed(objective: Distillation | Family, batch: Mapping[str, Any]) -> str:
    """What the terms' weights come to at the first step, in words."""
    shares = objective.shares(on_device(batch, next(objective.parameters()).device))
    told = (f"{name} {own['loss']:.1%} and {own['gradient']:.1%}" for name, own in shares.items())
    return f"at step 1, shares of the loss and of the last layer's gradient norms: {', '.join(told)}"


def set_dropout(model: torch.nn.Module, p: float) -> None:
    """Set every dropout of the model, the attention's included."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
        elif isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", p)  # noqa: B010 - ModernBERT's attention has a number in place of a module
