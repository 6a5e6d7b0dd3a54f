"""What every stage reads and how it keeps what it made: teacher, text, task data, device, histories."""

import dataclasses
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.adapt.worn import WORN, Worn
from bistil.distil.merge import MergeConfig
from bistil.experiment import Cell, Experiment
from bistil.models.config import read_config
from bistil.models.device import choose_device
from bistil.models.load import Teacher, load_teacher, save_student
from bistil.models.packaged import teacher_config, teacher_folder
from bistil.pipeline.identity import teacher_id
from bistil.sft.language import TextConfig
from bistil.store.artefacts import Artefact, Store, file_id
from bistil.systems.recipe import Rows, System
from bistil.tasks import RETRIEVAL, column
from bistil.tasks import task as find_task
from bistil.tasks.retrieval import parallel, parallel_files
from bistil.tasks.task import Task
from bistil.tasks.training import in_codes, read_examples
from bistil.text.corpora import Blocks, cut, read_lines
from bistil.text.languages import DataFolder
from bistil.text.typology import Typology, read_typology
from bistil.training.loop import Run
from bistil.training.progress import Listener, silent

LARGE = 100_000
"""Tokens above which a teacher's vocabulary is cut to the experiment's, where `text.trim` says nothing."""
CUT = "teacher"
"""The folder of a cut teacher in its artefact."""
TRANSLATION = "translation.tsv"
"""The file of a translated one in its artefact."""


class Inputs(ABC):
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

    @abstractmethod
    def trimmed_teacher(self) -> Artefact:
        """The stage that cuts the teacher to the experiment."""

    @abstractmethod
    def shots(self, task: str, code: str, most: int, seed: int, overlap: str) -> Artefact:
        """The stage that draws a few labelled examples of a language."""

    @abstractmethod
    def translation(self, task: str, split: str, code: str, to: str, by: str) -> Artefact:
        """The stage that translates a file of a task."""

    @cached_property
    def trims(self) -> bool:
        """Whether every stage works on the teacher cut to the experiment."""
        asked, named = self.experiment.text.trim, self.experiment.teacher
        if asked is not None:
            return asked == "experiment"
        return int((teacher_config(named) or read_config(teacher_folder(named))).vocab_size) > LARGE

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher of the stages as loaded, on the CPU; stages copy what they change."""
        return self.fresh_teacher()

    @cached_property
    def teacher_id(self) -> str:
        """What the teacher is, by content, before it is cut."""
        return teacher_id(self.uncut_teacher())

    @property
    def teacher_input(self) -> Artefact | str:
        """What a stage is made from that reads the teacher."""
        return self.trimmed_teacher() if self.trims else self.teacher_id

    def fresh_teacher(self) -> Teacher:
        """A copy of the teacher of one's own, to adapt or to trim; the cut one where the experiment cuts
        it.
        """
        if self.trims:
            return load_teacher(self.trimmed_teacher().path(CUT))
        return load_teacher(teacher_folder(self.experiment.teacher))

    def uncut_teacher(self) -> Teacher:
        """The teacher as it is named, to look at; not kept where the stages have another."""
        return load_teacher(teacher_folder(self.experiment.teacher)) if self.trims else self.teacher

    def parameters_cut(self, encoder: PreTrainedModel) -> int:
        """How many parameters the cut took from an encoder that has the teacher's vocabulary: rows of
        embeddings.
        """
        if not self.trims:
            return 0
        words: Any = encoder.get_input_embeddings()
        return int(self.trimmed_teacher().metrics["rows"]) * int(words.weight.shape[1])

    def cut_from(self, cell: Cell, encoder: PreTrainedModel) -> tuple[int, int]:
        """How many parameters the cut took from a cell's encoder, and how many tokens it knew before."""
        system, student = self.system(cell), self.system(cell).student
        own = system.own_teacher or (student is not None and student.vocabulary != "teacher")
        if not self.trims or own:
            return 0, int(encoder.config.vocab_size)
        return self.parameters_cut(encoder), int(self.trimmed_teacher().metrics["vocabulary"][0])

    @property
    def text(self) -> TextConfig:
        """How text is cut and masked, as a stage's settings say it: whether the teacher is cut says the
        teacher.
        """
        return dataclasses.replace(self.experiment.text, trim=None)

    @cache  # noqa: B019 - a pipeline lives as long as its process
    def blocks(self, code: str) -> Blocks:
        """A language's text in the teacher's tokens."""
        return self.student_blocks(code, self.teacher.tokenizer)

    def student_blocks(self, code: str, tokenizer: PreTrainedTokenizerFast) -> Blocks:
        """A language's text in a student's tokens."""
        text = self.experiment.text
        return cut(tokenizer, self.lines(code), text.length, packed=text.packed)

    def lines(self, code: str) -> list[str]:
        """A language's text as all stages read it, without retrieval's sentences where these are left out."""
        pairs = (pair for to in self._unseen for pair in parallel(self.data, self.experiment.source, to))
        without = {sentence.strip() for pair in pairs for sentence in pair}
        return read_lines(self.data.text(code), self.experiment.text.lines, without=without)

    @property
    def seen(self) -> tuple[str, ...]:
        """The languages that the teacher saw, which a multilingual student is distilled on."""
        return self.experiment.seen or tuple(
            code for code, language in self.data.languages.items() if language.seen
        )

    def system(self, cell: Cell) -> System:
        """The system of a cell."""
        return self.experiment.system(cell.system)

    def merging(self, cell: Cell) -> MergeConfig:
        """How a cell's system merges teachers."""
        return self.experiment.merging(cell.system)

    def reading(self, cell: Cell) -> dict[str, str]:
        """What a stage says of how text of a task is cut, where that is not by the model's own tokenizer."""
        teacher = self.system(cell).merges and self.merging(cell).read_with == "teacher"
        return {"read_with": "teacher"} if teacher else {}

    def languages(self, cell: Cell) -> tuple[str, ...]:
        """What the student of a cell is distilled on."""
        student = self.system(cell).student
        if student is not None and student.merges:
            return tuple(self.merging(cell).taught_by)
        match student.languages if student else "pair":
            case "seen":
                return self.seen
            case "target":
                return (cell.target,)
        return self.experiment.languages(cell.target)

    def in_codes(self, cell: Cell, rows: Sequence[Rows]) -> tuple[Rows, ...]:
        """Rows with the codes of their languages."""
        targets = self.experiment.targets.get(cell.task, (cell.target,))
        return in_codes(rows, source=self.experiment.source, target=cell.target, targets=targets)

    def examples(self, cell: Cell) -> tuple[Rows, ...]:
        """The examples that a cell's task is learnt from, or its finished model is tuned further on."""
        system = self.system(cell)
        return self.in_codes(cell, system.further or system.learning.rows)

    def validated(self, cell: Cell) -> tuple[Rows, ...]:
        """The examples that choose a cell's checkpoint."""
        learning, source = self.system(cell).learning, self.experiment.source
        if learning.validated:
            return self.in_codes(cell, learning.validated)
        codes = [part.language for part in self.in_codes(cell, learning.rows)]
        return (Rows(language=source if source in codes else codes[0], split="dev"),)

    def reads(self, cell: Cell, code: str) -> bool:
        """Whether a cell's model learns from a language: of all `targets` a student of a pair learns from its
        own, although its teacher may learn from each.
        """
        student, learning = self.system(cell).student, self.system(cell).learning
        if student is None or student.languages == "seen":
            return True
        named = {part.language for part in (*learning.rows, *learning.validated)}
        return code in named or code in self.experiment.languages(cell.target)

    def learnt_from(self, cell: Cell) -> tuple[str, ...]:
        """The languages of the examples that a cell's task is learnt from, the first one first."""
        found = dict.fromkeys(part.language for part in self.examples(cell))
        return tuple(code for code in found if self.reads(cell, code))

    @cached_property
    def typology(self) -> Typology:
        """The features of languages."""
        assert self.experiment.typology is not None, "systems that need features are checked to have some"
        return read_typology(self.experiment.typology, self.data)

    @property
    def generator_languages(self) -> tuple[str, ...]:
        """What the generator is trained on: what its settings say, or every language with text and
        features.
        """
        asked = self.experiment.generator.languages if self.experiment.generator else ()
        return asked or tuple(
            code
            for code, language in self.data.languages.items()
            if code in self.typology.rows and (self.data.root / language.corpus).is_file()
        )

    def nearest(self, code: str) -> str:
        """The language whose adapter stands in for that of one: itself where it has one."""
        among = self.experiment.typology_among or self.generator_languages
        return self.typology.nearest(code, among)[0]

    @property
    def codes(self) -> tuple[str, ...]:
        """Every language whose text a stage reads."""
        cells = self.experiment.cells()
        read = (code for cell in cells for code in (*self._read_for(cell), *self._worn_for_the_task(cell)))
        return tuple(dict.fromkeys(read))

    def _worn_for_the_task(self, cell: Cell) -> tuple[str, ...]:
        """The languages that a cell's model, or the teacher that it follows, wears while it learns its
        task.
        """
        system = self.system(cell)
        adaptation = system.adaptation
        wears = system.forced or (adaptation.worn in ("sft", "adapter") and adaptation.of == "own")
        return tuple(part.language for part in self.examples(cell)) if wears and cell.regime else ()

    def _read_for(self, cell: Cell) -> tuple[str, ...]:
        """The languages whose text is read for a cell."""
        adaptation, student = self.system(cell).adaptation, self.system(cell).student
        if adaptation.worn == "nothing" and student is None and not self.trims:
            return ()
        if adaptation.worn == "generated":
            return self.generator_languages
        if adaptation.of == "nearest":
            return tuple(map(self.nearest, (*self.learnt_from(cell), cell.target)))
        return self.languages(cell)

    @property
    def task_files(self) -> list[tuple[str, str, str]]:
        """Task, language and split of every file of examples that a stage reads."""
        experiment = self.experiment
        found = {(task, code, "test") for task, codes in experiment.tuned.items() for code in codes}
        for cell in experiment.cells():
            if cell.task in experiment.tuned:
                learnt = self.in_codes(cell, self.system(cell).learning.rows)
                for part in dict.fromkeys((*learnt, *self.examples(cell), *self.validated(cell))):
                    found.add((cell.task, *self._origin(cell.task, part)))
        return sorted(found)

    def _origin(self, task: str, part: Rows) -> tuple[str, str]:
        """Language and split of the file that some examples are of, or are translated from; shots come from
        the dev file of a language that has no train file.
        """
        if part.translated:
            return self.experiment.source, part.split
        given = part.drawn and not self.data.has(column(task), part.language, "train")
        return part.language, "dev" if given else part.split

    def origin(self, task: str, part: Rows) -> Path:
        """The file that some examples are of, or are translated from."""
        return self.data.file(column(task), *self._origin(task, part))

    def texts(self, codes: tuple[str, ...]) -> dict[str, Artefact | str]:
        """The texts of some languages, as inputs of a stage, with what is left out of them."""
        return {f"text {code}": file_id(self.data.text(code)) for code in codes} | self.left_out

    @property
    def left_out(self) -> dict[str, Artefact | str]:
        """The files whose sentences are left out of every text, as inputs of a stage."""
        files = [parallel_files(self.data, self.experiment.source, target) for target in self._unseen]
        return {f"without {path.name}": file_id(path) for both in files for path in both if path}

    @property
    def _unseen(self) -> tuple[str, ...]:
        """The targets of retrieval whose sentences no text may have."""
        return self.experiment.targets.get(RETRIEVAL, ()) if self.experiment.text.without_pairs else ()

    def training(self, cell: Cell) -> tuple[Task, dict[str, list[Any]]]:
        """A cell's task with the labels of its training examples, and those of them that it reads, by
        language.
        """
        rows = self.examples(cell)
        task, examples = self._training(cell.task, rows, cell.seed if any(p.drawn for p in rows) else 0)
        if self.system(cell).further:
            learnt = self.in_codes(cell, self.system(cell).learning.rows)
            task = self._training(cell.task, learnt, 0)[0]
        return task, {code: own for code, own in examples.items() if self.reads(cell, code)}

    def validation(self, cell: Cell, most: int | None) -> dict[str, list[Any]]:
        """The examples that choose a cell's checkpoint, at most so many of each file, by language."""
        found: dict[str, list[Any]] = {}
        for part in self.validated(cell):
            if self.reads(cell, part.language):
                found.setdefault(part.language, []).extend(self._read(cell.task, part, 0)[:most])
        return found

    @cache  # noqa: B019
    def _training(self, name: str, rows: tuple[Rows, ...], seed: int) -> tuple[Task, dict[str, list[Any]]]:
        examples = read_examples(rows, lambda part: self._read(name, part, seed))
        return find_task(name).for_training([one for own in examples.values() for one in own]), examples

    def _read(self, name: str, part: Rows, seed: int) -> list[Any]:
        """All the examples that some are the first of."""
        made, task = self._made(name, part, seed), find_task(name)
        if made is not None and part.translated:
            return task.read(made.path(TRANSLATION))
        examples = task.read(self.origin(name, part))
        return examples if made is None else [examples[i] for i in made.metrics["rows"]]

    def _made(self, name: str, part: Rows, seed: int) -> Artefact | None:
        """The translation or the shots that some examples are; None for a file of the data folder."""
        if part.translated:
            return self.translation(name, part.split, self.experiment.source, part.language, part.translated)
        if part.drawn and part.most:
            return self.shots(name, part.language, part.most, seed, part.overlap)
        return None

    def training_files(self, cell: Cell) -> dict[str, Artefact | str]:
        """The files of a cell's training and validation examples, as inputs of a stage."""
        parts = [(part, part.language == self.experiment.source) for part in self.examples(cell)]
        parts += [(part, not number) for number, part in enumerate(self.validated(cell))]
        found: dict[str, Artefact | str] = {}
        for part, alone in parts:
            made = self._made(cell.task, part, cell.seed)
            kind = "shots" if part.drawn else f"{part.split} translated" if part.translated else part.split
            name = kind if alone else f"{kind} {part.language}"
            found[name] = made or file_id(self.origin(cell.task, part))
        return found

    def test_file(self, cell: Cell) -> Artefact | Path:
        """What a cell is scored on: the target's test file, or its translation into the source language."""
        by, source = self.system(cell).translated_test, self.experiment.source
        if by:
            return self.translation(cell.task, "test", cell.target, source, by)
        return self.data.file(column(cell.task), cell.target, "test")

    def translations(self, task: str) -> dict[str, Artefact]:
        """Every translation of a task's files that a stage reads, by id."""
        found = list[Artefact | Path | None]()
        for cell in (one for one in self.experiment.cells() if one.task == task):
            parts = {*self.examples(cell), *self.validated(cell)}
            found += [self._made(task, part, 0) for part in parts if part.translated]
            found += [self.test_file(cell)] if self.system(cell).translated_test else []
        return {one.id: one for one in found if isinstance(one, Artefact)}

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
        return {**keep_history(folder, history, metric), "values": worn.trained, **self.where}

    def keep_student(
        self,
        folder: Path,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        history: list[dict[str, float]],
        name: str = "model",
    ) -> dict[str, Any]:
        """Write a student, in a folder of that name, and its history; return what a manifest says of them."""
        save_student(folder / name, encoder, tokenizer)
        parameters = sum(p.numel() for p in encoder.parameters())
        return {**keep_history(folder, history, "loss"), "parameters": parameters, **self.where}


def keep_history(folder: Path, history: list[dict[str, float]], metric: str) -> dict[str, Any]:
    """Write a history; return its steps and its best value of a metric."""
    (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    steps = max((int(entry["step"]) for entry in history), default=0)
    return {"steps": steps, f"best_{metric}": _best(history, metric)}


def _best(history: list[dict[str, float]], metric: str) -> float | None:
    values = [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]
    return (min(values) if metric == "loss" else max(values)) if values else None
