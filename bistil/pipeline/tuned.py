"""Task SFTs, and the models they make: base, language SFT where the system has one, task SFT, head (BiStil
section 3.2).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from bistil.adapt.worn import WORN, load_worn
from bistil.distil.task import task_sft
from bistil.distil.width import Narrowing
from bistil.evaluation.score import evaluate, predict_all
from bistil.experiment import Cell
from bistil.models.load import TaskModel, load_encoder
from bistil.pipeline.baselines import Baselines
from bistil.pipeline.students import NARROWING, kept_ids, trimmed_tokenizer
from bistil.sft.delta import base_hash
from bistil.store.artefacts import Artefact, file_id
from bistil.systems.table import SYSTEMS
from bistil.tasks.task import Task


class Tuned(Baselines):
    """From students and task data to task models."""

    def task_sft(self, cell: Cell) -> Artefact:
        """The task SFT of a cell: `delta.safetensors` with the head in it, and the labels as a metric."""
        base, source_sft = self._base(cell), self._language_delta(cell, self.experiment.source)
        follows = self.task_sft(cell.of_teacher) if SYSTEMS[cell.system].forced else None
        config = self.experiment.task_config(cell)

        def build(folder: Path) -> Mapping[str, Any]:
            task, examples = self._training(cell.task)
            validation = task.read(self.data.file(cell.task, self.experiment.source, "dev"))[
                : config.validation_examples
            ]
            encoder, tokenizer, kept = self._load_base(cell)
            set_seed(cell.seed)
            model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size)).to(self.device)
            base_id = base_hash(encoder)
            stage = f"{cell.task} SFT, {cell.system}"
            stage += f" lrf {cell.lrf}, {cell.target}" if cell.lrf > 1 else ""
            if source_sft is not None:
                load_worn(source_sft.path(WORN), base=base_id).apply(encoder)
            delta, history = task_sft(
                model,
                task,
                examples,
                tokenizer,
                config=config,
                validate=lambda: evaluate(model, task, validation, tokenizer, max_length=config.max_length),
                base=base_id,
                run=self._run(folder, stage),
                teacher=self.task_model(cell.of_teacher, self.experiment.source)[0] if follows else None,
                kept=kept if follows else None,
                narrowing=self._narrowing(cell) if follows else None,
            )
            return {**self._keep(folder, delta, history, task.metric), "labels": list(task.labels)}

        inputs: dict[str, Artefact | str] = {
            "base": base or self.teacher_id,
            **{
                split: file_id(self.data.file(cell.task, self.experiment.source, split))
                for split in ("train", "dev")
            },
            **({"source sft": source_sft} if source_sft else {}),
            **({"task teacher": follows} if follows else {}),
        }
        return self.store.run(
            "task-sft", {"task": cell.task, "settings": config, "forced": follows is not None}, inputs, build
        )

    def task_model(self, cell: Cell, language: str) -> tuple[TaskModel, Task, PreTrainedTokenizerFast]:
        """A cell's finished model for text in `language`: base, language SFT where the system has one, task
        SFT, head.
        """
        tuned = self.task_sft(cell)
        encoder, tokenizer, _ = self._load_base(cell)
        base = base_hash(encoder)
        language_delta = self._language_delta(cell, language)
        if language_delta is not None:
            load_worn(language_delta.path(WORN), base=base).apply(encoder)
        worn = load_worn(tuned.path(WORN), base=base)
        worn.apply(encoder)
        task, _ = self._training(cell.task)
        model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size))
        model.head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in worn.full.items()})
        return model.to(self.device).eval(), task, tokenizer

    def encoder(self, cell: Cell, language: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """A cell's encoder for text in `language` before any task: base, and language SFT where the system
        has one.
        """
        encoder, tokenizer, _ = self._load_base(cell)
        if worn := self._language_delta(cell, language):
            load_worn(worn.path(WORN), base=base_hash(encoder)).apply(encoder)
        return self._placed(encoder).eval(), tokenizer

    def predictions(self, cell: Cell, sentences: list[Any]) -> list[Any]:
        """What the cell's model says of some examples of its task."""
        model, task, tokenizer = self.task_model(cell, cell.target)
        return predict_all(
            model, task, sentences, tokenizer, max_length=self.experiment.task[cell.task].max_length
        )

    def _base(self, cell: Cell) -> Artefact | None:
        """The student a cell tunes, or None for the teacher itself."""
        return self.student(cell) if SYSTEMS[cell.system].recipe else None

    def _narrowing(self, cell: Cell) -> Narrowing | None:
        """What ties a narrower student to the teacher's states, None for one of the teacher's width."""
        if cell.drf == 1:
            return None
        kept = load_file(self.student(cell).path(NARROWING))
        narrowing: Narrowing = self._placed(Narrowing(kept["map"], kept["heads"]))
        return narrowing

    def _language_delta(self, cell: Cell, code: str) -> Artefact | None:
        """The language SFT a cell's model wears for `code`: the teacher's, or the multilingual student's own;
        None where it wears none.
        """
        system = SYSTEMS[cell.system]
        if self.experiment.language_sft is None or not system.adapted:
            return None
        return self.language_sft(code, self._base(cell), system.select)

    def _load_base(self, cell: Cell) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, torch.Tensor | None]:
        base = self._base(cell)
        if base is None:
            return self.fresh_teacher().encoder, self.teacher.tokenizer, None
        if SYSTEMS[cell.system].languages == "seen":
            return load_encoder(base.path("model")), self.teacher.tokenizer, None
        vocabulary = self.vocabulary(cell.target)
        return load_encoder(base.path("model")), trimmed_tokenizer(vocabulary), kept_ids(vocabulary)
