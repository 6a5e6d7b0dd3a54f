"""Task tuning by SFT: on gold labels (a teacher's task SFT, a self-taught student) or after a teacher (stage
2, BiStil section 3.2).

Notable: one procedure for all of them. Teacher-forced means L_attn + L_hidden + L_pred against the teacher
that wears the source language's SFT and its own task SFT; no gold label enters then. The head trains in full,
from the same start in both phases; a teacher-forced student's head starts as the teacher's, since its states
are trained to be the teacher's.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from bistil.distil.general import set_dropout, state_losses
from bistil.distil.start import layer_map
from bistil.distil.width import Narrowing
from bistil.models.load import TaskModel
from bistil.settings.ranges import Count, Length, Settings
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.tune import fine_tune
from bistil.tasks.task import Row, Task
from bistil.text import sampling
from bistil.training.loop import Evaluate, History, Objective
from bistil.training.progress import Listener, silent


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Settings):
    """A task SFT.

    Attributes:
        sft: What may change, and for how long it trains.
        batch_size: Examples (sentences, pairs or questions) in a batch.
        max_length: The largest number of sub-words of an example; of a question, that of a window.
        examples: The largest number of training examples, None for all.
        validation_examples: The largest number of examples that pick the checkpoint, None for all.
    """

    sft: SftConfig
    batch_size: Count = 16
    max_length: Length = 128
    examples: Count | None = None
    validation_examples: Count | None = field(default=None, metadata={"added_later": True})


class TaskBatches(Dataset):
    """Step number -> padded batch; sentences of like length come together."""

    def __init__(
        self, task: Task, rows: Sequence[Row], pad_id: int, *, batch_size: int, steps: int, seed: int
    ) -> None:
        self._task, self._rows, self._pad_id = task, rows, pad_id
        lengths = [len(row["input_ids"]) for row in rows]
        self._order = sampling.epochs(len(rows), steps, batch_size, seed=seed, lengths=lengths)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return self._task.collate([self._rows[i] for i in self._order[step]], self._pad_id)


class TaskLearning(Objective):
    """Cross-entropy on gold labels."""

    model: TaskModel

    def __init__(self, model: TaskModel, task: Task) -> None:
        super().__init__(model)
        self._task = task

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The task's loss; no further parts."""
        return self._task.loss(self.model(batch).logits, batch), {}


class TaskDistillation(Objective):
    """L_attn + L_hidden + L_pred against a task teacher (BiStil eqs. 5.1 to 5.3, plain sum)."""

    model: TaskModel

    def __init__(
        self,
        student: TaskModel,
        teacher: TaskModel,
        task: Task,
        kept: Tensor | None,
        narrowing: Narrowing | None = None,
    ) -> None:
        super().__init__(student)
        self._teacher, self._task, self._kept = (teacher.eval().requires_grad_(False),), task, kept
        self._narrowing = (narrowing,)
        self._layers = layer_map(
            teacher.encoder.config.num_hidden_layers,
            teacher.encoder.config.num_hidden_layers // student.encoder.config.num_hidden_layers,
        )

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch; parts `attention`, `hidden` and `prediction`."""
        student = self.model(batch, states=True, maps=False)
        ids = batch["input_ids"]
        theirs = {**batch, "input_ids": ids if self._kept is None else self._kept.to(ids.device)[ids]}
        with torch.inference_mode():
            teacher = self._teacher[0](theirs, states=True, maps=False)
        states, parts = state_losses(
            student, teacher, self._layers, batch["attention_mask"], self._narrowing[0]
        )
        prediction = self._task.distillation_loss(student.logits, teacher.logits, batch)
        return states + prediction, {**parts, "prediction": prediction.detach()}


def task_sft(
    model: TaskModel,
    task: Task,
    examples: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: TaskConfig,
    validate: Evaluate,
    base: str,
    folder: Path,
    teacher: TaskModel | None = None,
    kept: Tensor | None = None,
    narrowing: Narrowing | None = None,
    stage: str = "task SFT",
    progress: Listener = silent,
    stop: threading.Event | None = None,
) -> tuple[SparseDelta, History]:
    """Tune `model` on the source language's task data; return the delta with the whole head in it.

    :param model: its encoder wears the source language's delta already where there is one; the new delta adds
        to that.
    :param validate: source-language validation metrics, among them `task.metric`, which picks the checkpoint.
    :param teacher: a task model to follow (teacher-forced), None for gold labels. `kept`: its ids of the
        student's tokens.
    :param narrowing: of a narrower student, its map as stage 1 left it; only where there is a teacher.
    """
    rows = task.encode(examples[: config.examples], tokenizer, max_length=config.max_length)
    objective: Objective = TaskLearning(model, task)
    if teacher is not None:
        head = teacher.head.state_dict()
        model.head.load_state_dict(narrowing.head_state(head, model.head.state_dict()) if narrowing else head)
        set_dropout(model, 0.0)
        objective = TaskDistillation(model, teacher, task, kept, narrowing)

    def batches(steps: int, seed: int) -> Dataset:
        return TaskBatches(
            task, rows, int(tokenizer.pad_token_id), batch_size=config.batch_size, steps=steps, seed=seed
        )

    return fine_tune(
        objective,
        model.encoder,
        model.head,
        batches,
        validate,
        config=config.sft,
        base=base,
        select=task.metric,
        folder=folder,
        stage=stage,
        progress=progress,
        stop=stop,
    )
