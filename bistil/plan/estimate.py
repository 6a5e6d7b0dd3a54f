"""What a stage will cost before anything runs: optimiser steps, and FLOPs from the teacher's configuration
and the stage's settings.

Notable: FLOPs of a forward pass are counted on the meta device, by the model's own code and without its
weights; a backward pass is taken as two forward passes, a student of layer reduction factor n as 1/n of its
teacher, or of its teacher narrowed by drf. It is an estimate from above: every sequence has its full length,
every vocabulary its full size. Task heads, held-out evaluations and scoring are left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, PreTrainedConfig

from bistil.distil.width import narrowed
from bistil.plan import Stage
from bistil.sft.train_sft import SftConfig
from bistil.training.loop import Schedule

TRAINING = 3
"""Forward passes that a training step is worth: one forward, and a backward of twice its FLOPs."""


@dataclass(frozen=True)
class Cost:
    """Optimiser steps of a stage, and the FLOPs of all of them together (two a multiply-add)."""

    steps: int = 0
    flops: float = 0.0

    def hours(self, tflops: float) -> float:
        """Hours on a device that sustains so many TFLOP/s."""
        return self.flops / (tflops * 1e12) / 3600


class Estimator:
    """Costs of the stages of one plan."""

    def __init__(self, stages: Mapping[str, Stage], config: PreTrainedConfig | None) -> None:
        self.stages, self.config = stages, config

    def cost(self, stage: Stage) -> Cost:
        """What a stage costs; without a teacher's configuration the FLOPs are nought, for a stage that trains
        nothing the steps too.
        """
        found = list(schedules(stage.config))
        steps = sum(one.bound for one in found)
        batches = sum(one.bound * one.accumulation for one in found)
        if self.config is None or not steps or stage.kind == "teacher":
            return Cost(steps)
        return Cost(steps, batches * self._batch(stage, self.config))

    def _batch(self, stage: Stage, config: PreTrainedConfig) -> float:
        """FLOPs of one batch."""
        lrf, drf = self._reductions(stage)
        if stage.kind == "task-sft":
            settings = stage.config["settings"]
            student, teacher = (
                self._forward(settings.max_length, drf) / lrf,
                self._forward(settings.max_length),
            )
            return settings.batch_size * (TRAINING * student + (teacher if stage.config["forced"] else 0))
        text = stage.config["text"]
        batch = next(
            (part.batch_size for name, part in stage.config.items() if hasattr(part, "schedule")),
            text.batch_size,
        )
        student, teacher = self._forward(text.length, drf) / lrf, self._forward(text.length)
        if (
            stage.kind in ("language-sft", "language-adapter") or "general" not in stage.config
        ):  # a student that follows no teacher
            return TRAINING * batch * (student + text.length * text.mask_share * head_flops(config))
        return batch * (TRAINING * student + teacher)

    @cache  # noqa: B019 - as long as its plan
    def _forward(self, length: int, drf: int = 1) -> int:
        return (
            forward_flops(narrowed(self.config, drf) if drf > 1 else self.config, length)
            if self.config
            else 0
        )

    def _reductions(self, stage: Stage) -> tuple[int, int]:
        """Layer and hidden reduction factor of the model that a stage trains: its own, or those of the
        student it starts from.
        """
        general = stage.config.get("general")
        if lrf := stage.config.get("lrf") or getattr(general, "lrf", None):
            return int(lrf), int(getattr(general, "drf", 1))
        base = self.stages.get(stage.inputs.get("base") or stage.inputs.get("student", ""))
        return self._reductions(base) if base else (1, 1)


def schedules(config: Any) -> Iterator[Schedule]:
    """Every schedule in a stage's settings: the phases of an SFT (one, where its support is not learned), the
    one of a student.
    """
    if isinstance(config, Schedule):
        yield config
    elif isinstance(config, SftConfig):
        yield from config.phases
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from schedules(value)
    elif is_dataclass(config):
        for one in fields(config):
            yield from schedules(getattr(config, one.name))


def forward_flops(config: PreTrainedConfig, length: int) -> int:
    """FLOPs of a configuration's encoder on one sequence of `length` tokens."""
    return encoder_flops(meta_encoder(config), length)


def encoder_flops(model: torch.nn.Module, length: int) -> int:
    """FLOPs of an encoder on the meta device on one sequence of `length` tokens, counted over its matrix
    products.
    """
    ids = torch.zeros(1, length, dtype=torch.long, device="meta")
    try:
        return _counted(model, ids, None)
    # without numbers, some models cannot make a mask of their own, others cannot look into one they are given
    except RuntimeError:
        return _counted(model, ids, torch.ones_like(ids))


def _counted(model: torch.nn.Module, ids: Tensor, mask: Tensor | None) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(ids, attention_mask=mask)
    return counter.get_total_flops()


def meta_encoder(config: PreTrainedConfig) -> torch.nn.Module:
    """The encoder of a configuration without weights, for its shapes."""
    with torch.device("meta"):
        encoder: torch.nn.Module = AutoModel.from_config(
            config, trust_remote_code=False, attn_implementation="eager"
        )
    return encoder.eval()


def head_flops(config: PreTrainedConfig) -> int:
    """FLOPs of a masked-language-model head for one token: its dense layer and the projection onto the
    vocabulary.
    """
    return 2 * config.hidden_size * (config.hidden_size + config.vocab_size)
