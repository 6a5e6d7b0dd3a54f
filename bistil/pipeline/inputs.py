"""What every stage reads and how it keeps what it made: teacher, text, task data, device, histories."""

import json
import threading
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.adapt.worn import WORN, Worn
from bistil.experiment import Cell, Experiment
from bistil.models.load import Teacher, choose_device, load_teacher, save_student
from bistil.models.packaged import teacher_folder
from bistil.pipeline.identity import teacher_id
from bistil.store.artefacts import Artefact, Store, file_id
from bistil.systems.recipe import Rows, System
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.tasks.task import Task
from bistil.tasks.training import language_of, read_examples
from bistil.text.corpora import Blocks, cut, read_lines
from bistil.text.languages import DataFolder
from bistil.training.loop import Run
from bistil.training.progress import Listener, silent


class Inputs:
    """One experiment over one store and one data folder."""

    def __init__(
        self,
        experiment: Experiment,
        data: DataFolder,
        store: Store,
        *,
        device: str | None = None,
        progress: Listener = silent,
        stop: threading.Event | None = None,
    ) -> None:
        self.experiment, self.data, self.store = experiment, data, store
        self.device, self.device_reason = choose_device(device)
        self.progress, self.stop = progress, stop

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher as loaded, on the CPU; stages copy what they change."""
        return self.fresh_teacher()

    @cached_property
    def teacher_id(self) -> str:
        """What the teacher is, by content."""
        return teacher_id(self.teacher)

    def fresh_teacher(self) -> Teacher:
        """A copy of the teacher of one's own, to adapt or to trim."""
        return load_teacher(teacher_folder(self.experiment.teacher))

    @cache  # noqa: B019 - a pipeline lives as long as its process
    def blocks(self, code: str) -> Blocks:
        """A language's text in the teacher's tokens."""
        return self.student_blocks(code, self.teacher.tokenizer)

    def student_blocks(self, code: str, tokenizer: PreTrainedTokenizerFast) -> Blocks:
        """A language's text in a student's tokens."""
        text = self.experiment.text
        return cut(tokenizer, read_lines(self.data.text(code), text.lines), text.length, packed=text.packed)

    @property
    def seen(self) -> tuple[str, ...]:
        """The languages that the teacher saw, which a multilingual student is distilled on."""
        return self.experiment.seen or tuple(
            code for code, language in self.data.languages.items() if language.seen
        )

    def system(self, cell: Cell) -> System:
        """The system of a cell."""
        return self.experiment.system(cell.system)

    def languages(self, cell: Cell) -> tuple[str, ...]:
        """What the student of a cell is distilled on."""
        student = self.system(cell).student
        seen = student is not None and student.languages == "seen"
        return self.seen if seen else self.experiment.languages(cell.target)

    def texts(self, codes: tuple[str, ...]) -> dict[str, Artefact | str]:
        """The texts of some languages, as inputs of a stage."""
        return {f"text {code}": file_id(self.data.text(code)) for code in codes}

    def training(self, cell: Cell) -> tuple[Task, dict[str, list[Any]]]:
        """A cell's task with the labels of its training examples, and these by language."""
        rows = self.system(cell).learning.rows
        own = any(part.language == "target" for part in rows)
        return self._training(cell.task, rows, cell.target if own else "")

    @cache  # noqa: B019
    def _training(self, name: str, rows: tuple[Rows, ...], target: str) -> tuple[Task, dict[str, list[Any]]]:
        task = find_task(name)
        source, file = self.experiment.source, partial(self.data.file, task.column)
        examples = read_examples(task, rows, file, source=source, target=target)
        return task.for_training([one for own in examples.values() for one in own]), examples

    def training_files(self, cell: Cell) -> dict[str, Artefact | str]:
        """The files of a cell's training and validation examples, as inputs of a stage."""
        source, file = self.experiment.source, partial(self.data.file, column(cell.task))
        found: dict[str, Artefact | str] = {}
        for part in self.system(cell).learning.rows:
            code = language_of(part, source=source, target=cell.target)
            name = part.split if code == source else f"{part.split} {code}"
            found[name] = file_id(file(code, part.split))
        return {**found, "dev": file_id(file(source, "dev"))}

    def placed(self, model: Any) -> Any:
        """The model on this run's device."""
        return model.to(self.device)

    def run(self, folder: Path, stage: str) -> Run:
        """A training of this pipeline."""
        return Run(folder, stage, self.progress, self.stop)

    @property
    def where(self) -> dict[str, str]:
        """The device and why, for a manifest."""
        return {"device": str(self.device), "device_reason": self.device_reason}

    def keep(self, folder: Path, worn: Worn, history: list[dict[str, float]], metric: str) -> dict[str, Any]:
        """Write what can be worn and its history; return what a manifest says of them."""
        worn.save(folder / WORN)
        best = {f"best_{metric}": _best(history, metric)}
        return {**_history(folder, history), **best, "values": worn.trained, **self.where}

    def keep_student(
        self,
        folder: Path,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        history: list[dict[str, float]],
    ) -> dict[str, Any]:
        """Write a student and its history; return what a manifest says of them."""
        save_student(folder / "model", encoder, tokenizer)
        parameters = sum(p.numel() for p in encoder.parameters())
        best = _best(history, "loss")
        return {**_history(folder, history), "best_loss": best, "parameters": parameters, **self.where}


def _history(folder: Path, history: list[dict[str, float]]) -> dict[str, Any]:
    (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    return {"steps": max((int(entry["step"]) for entry in history), default=0)}


def _best(history: list[dict[str, float]], metric: str) -> float | None:
    values = [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]
    return (min(values) if metric == "loss" else max(values)) if values else None
