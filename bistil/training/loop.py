"""The one training path: a thin subclass of transformers.Trainer that every stage goes through.

Notable:
* a stage hands over an `Objective`, a module whose forward maps a batch to (loss, named parts of it); several
  processes share out each batch and take the steps that one would (`parallel`);
* batches come from a dataset whose item k *is* the batch of step k, so a resumed run continues with the very
    same data;
* a kill in the middle of saving or of deleting a checkpoint costs one interval, never the run
  (`checkpoints`);
* at the end the model holds the state of its best evaluation;
* events tell means since the last half second, so a curve moves long before the first entry of the log.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from bistil.errors import InputError
from bistil.models.device import has_bfloat16
from bistil.models.finite import not_finite
from bistil.settings.ranges import Count, Positive, Settings, Share, Tally, Weight
from bistil.training import checkpoints, logs
from bistil.training.parallel import Shared, processes
from bistil.training.progress import Listener, silent

if TYPE_CHECKING:
    from transformers import TrainerCallback

History = list[dict[str, float]]
Evaluate = Callable[[], Mapping[str, float]]


class Stopped(KeyboardInterrupt):
    """The run was asked to stop; its last checkpoint is on disk and the same call resumes there."""


class Objective(nn.Module):
    """What is minimised. Subclasses define `forward(batch) -> (loss, parts)`; `parts` are detached numbers
    worth watching.

    Only `self.model` is trained and saved; a teacher belongs in a tuple, where nn.Module does not see it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Parameters and buffers, each storage once: safetensors refuses tied tensors."""
        state = super().state_dict(*args, **kwargs)
        owner = self._owner(state)
        return {name: tensor for name, tensor in state.items() if owner[name] == name}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load what `state_dict` returned; a tied tensor takes its owner's values."""
        owner = self._owner(super().state_dict())
        whole = {name: state_dict[owned] for name, owned in owner.items() if owned in state_dict}
        return super().load_state_dict({**whole, **state_dict}, strict=strict, assign=assign)

    @staticmethod
    def _owner(state: Mapping[str, Tensor]) -> dict[str, str]:
        """For each name, the first name that shares its storage."""
        first: dict[Any, str] = {}
        keys = {
            name: (tensor.data_ptr(), tensor.shape) if tensor.numel() else name
            for name, tensor in state.items()
        }
        for name, key in keys.items():
            first.setdefault(key, name)
        return {name: first[key] for name, key in keys.items()}


@dataclass(frozen=True, kw_only=True)
class Schedule(Settings):
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps; 0 where `epochs` says how many.
        learning_rate: The peak of the learning rate, which then falls linearly to 0.
        evaluations: At most so many evaluations, evenly spaced; each is a checkpoint.
        warmup_share: The share of the steps in which the rate rises.
        weight_decay: The weight decay of the optimiser.
        clip: The largest gradient norm, 0 for any.
        bf16: Whether to autocast to bfloat16; weights and optimiser states stay in float32. A processor that
            does not multiply matrices of bfloat16, and would be many times slower, computes in float32.
        epochs: How often each example is seen, instead of `steps`; steps are counted once the examples are.
        at_most: The largest number of steps that `epochs` may come to.
        at_least: The least number of steps that `epochs` come to.
        epsilon: What Adam adds to the root of a squared gradient's mean.
        accumulation: How many batches a step adds up, each of which counts alike.
    """

    steps: Tally = 0
    learning_rate: Positive
    evaluations: Count = 4
    warmup_share: Share = 0.0
    weight_decay: Weight = 0.0
    clip: Weight = 0.0
    bf16: bool = False
    epochs: Positive | None = field(default=None, metadata={"added_later": True})
    at_most: Count | None = field(default=None, metadata={"added_later": True})
    at_least: Count | None = field(default=None, metadata={"added_later": True})
    epsilon: Positive = field(default=1e-8, metadata={"added_later": True})
    accumulation: Count = field(default=1, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.steps) == bool(self.epochs):
            raise InputError("Either `steps` or `epochs` was expected of a schedule, and one of them only.")
        if not self.epochs and (self.at_most or self.at_least):
            raise InputError("`at_most` and `at_least` bound the steps of `epochs`, which are not given.")
        if self.at_most and self.at_least and self.at_most < self.at_least:
            raise InputError(f"At least {self.at_least} and at most {self.at_most} steps cannot be.")

    @property
    def batches(self) -> int:
        """How many batches are read."""
        return self.steps * self.accumulation

    @property
    def every(self) -> int:
        """Steps from one evaluation to the next."""
        return math.ceil(self.steps / self.evaluations)

    @property
    def bound(self) -> int:
        """Its steps, or while they are not counted the most that its epochs may come to; 0 where nothing says
        that.
        """
        return self.steps or self.at_most or 0

    def counted(self, examples: int, batch_size: int) -> "Schedule":
        """The same schedule with its epochs of so many examples as steps."""
        if not self.epochs:
            return self
        a_step = batch_size * self.accumulation
        steps = max(math.ceil(self.epochs * examples / a_step), self.at_least or 1)
        return self.of_steps(min(steps, self.at_most or steps))

    def of_steps(self, steps: int) -> "Schedule":
        """The same schedule with so many steps, whatever it said of its length."""
        return replace(self, steps=steps, epochs=None, at_most=None, at_least=None)


@dataclass(frozen=True)
class Run:
    """Where a training takes place, and who watches it.

    Attributes:
        folder: what it keeps its checkpoints and results in; the same folder resumes.
        stage: its name in events and messages.
        progress: told after every step and every evaluation; until it returns, training waits.
        stop: when it is set, the training writes a checkpoint and raises `Stopped`.
    """

    folder: Path
    stage: str
    progress: Listener = silent
    stop: threading.Event | None = None

    def phase(self, folder: str, name: str = "") -> "Run":
        """A part of this run with a folder of its own inside."""
        stage = f"{self.stage}, {name}" if name else self.stage
        return replace(self, folder=self.folder / folder, stage=stage)


def fit(
    objective: Objective,
    batches: Dataset,
    evaluate: Evaluate,
    run: Run,
    *,
    schedule: Schedule,
    select: str,
    seed: int,
    optimizer: torch.optim.Optimizer | None = None,
    callbacks: "Sequence[TrainerCallback]" = (),
    until: int | None = None,
) -> History:
    """Train `objective` on `batches`, resuming from the newest complete checkpoint in the run's folder.

    Args:
        evaluate: returns metrics; called in eval mode without gradients.
        select: the metric that picks the best checkpoint; a name that ends in "loss" is minimised, any other
            maximised.
        run: its events carry the newest numbers of the log and of the last half second, with `learning_rate`,
            `tokens_per_second` and `seconds_left` (of this call, listeners' time left out).
        until: the step after which training ends, where that is not the schedule's last.

    Returns:
        one entry per log and evaluation, each with its step. The model is left in its best state.

    Raises:
        Stopped: where `stop` was set; a checkpoint was written first.
        InputError: where the schedule asks for bfloat16 and the objective is on a CUDA device without it;
            where the weights are not finite, before the first step or after the last.
    """
    from transformers import PrinterCallback, ProgressCallback, TrainingArguments

    from bistil.training.memory import GivingBack
    from bistil.training.trainer import ObjectiveTrainer, Watcher

    device = next(objective.parameters()).device
    half = schedule.bf16 and has_bfloat16(device)
    if schedule.bf16 and not half and device.type == "cuda":
        raise InputError(
            f"The schedule asks for bf16, but {torch.cuda.get_device_name(device)} lacks bfloat16. Set bf16:"
            " false."
        )
    if told := not_finite(objective.model):
        raise InputError(
            f"{run.stage} should start from finite weights, but {told}: the model it starts from is broken,"
            " and no setting of this training mends that."
        )
    checkpoint = checkpoints.start(run.folder)
    every, ends = schedule.every, min(until or schedule.steps, schedule.steps)
    if ends < schedule.steps:  # as short as the training, so that a finished one is not gone on with
        batches = Subset(batches, range(ends * schedule.accumulation))
    arguments = TrainingArguments(
        output_dir=str(run.folder),
        max_steps=ends,
        learning_rate=schedule.learning_rate,
        warmup_steps=round(schedule.warmup_share * schedule.steps),
        weight_decay=schedule.weight_decay,
        adam_epsilon=schedule.epsilon,
        gradient_accumulation_steps=schedule.accumulation,
        max_grad_norm=schedule.clip,
        lr_scheduler_type="linear",
        per_device_train_batch_size=1,
        eval_strategy="steps",
        eval_steps=every,
        save_steps=every,
        logging_steps=max(1, every // 4),
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{select}",
        greater_is_better=not select.endswith("loss"),
        seed=seed,
        bf16=half,
        use_cpu=device.type == "cpu",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        run_name=run.stage,
        dataloader_pin_memory=False,
    )
    watcher = Watcher(run.stage, run.progress, run.stop)
    trainer = ObjectiveTrainer(
        model=objective,
        args=arguments,
        train_dataset=Shared(batches, processes()),
        eval_dataset=(),
        data_collator=one_item,
        optimizers=(optimizer, None),
        callbacks=[watcher, GivingBack(), *logs.loggers(run.stage, run.folder), *callbacks],
    )
    trainer.evaluate_model, trainer.live, trainer.scheduled = evaluate, watcher.live, schedule.steps
    prepare: Any = trainer.accelerator.prepare_model
    # gradients are exchanged by us
    trainer.accelerator.prepare_model = partial(prepare, evaluation_mode=True)
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:  # what accelerate hangs on a model would decide the precision of its next training
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            objective.__dict__.pop(name, None)
        logs.end()  # of a training that failed too, or the next one would go on with its curves
    if watcher.stopped:
        raise Stopped(
            f"{run.stage} stopped at step {trainer.state.global_step} of {ends}; run the same call"
            " to go on from there."
        )
    if told := not_finite(objective.model):
        raise InputError(
            f"{run.stage} should end with finite weights, but {told}: the training diverged. Lower its"
            " `learning_rate`, or set `clip`."
        )
    entries = (entry for entry in trainer.state.log_history if "train_runtime" not in entry)
    return [{**entry, "epoch": entry["step"] / schedule.steps} for entry in entries]


def one_item(rows: list[Any]) -> Any:
    """Collate what is a batch already."""
    return rows[0]
