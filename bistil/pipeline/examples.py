"""The examples that every task is learnt from and scored on: which files they are of, and what is in them."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bistil.experiment import Cell, Experiment
from bistil.models.device import choose_device
from bistil.store.artefacts import Artefact, Store, file_id
from bistil.systems.rows import Rows
from bistil.systems.system import System
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.tasks.task import Task
from bistil.tasks.training import draw_shots, in_codes, read_examples
from bistil.text.languages import DataFolder
from bistil.training.progress import Listener, silent

TRANSLATION = "translation.tsv"
"""The file of a translated one in its artefact."""


class Examples(ABC):
    """The labelled data of one experiment over one store and one data folder."""

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
    def shots(self, task: str, code: str, most: int, seed: int, overlap: str) -> Artefact:
        """The stage that draws a few labelled examples of a language."""

    @abstractmethod
    def translation(self, task: str, split: str, code: str, to: str, by: str) -> Artefact:
        """The stage that translates a file of a task."""

    @cache  # noqa: B019 - a pipeline lives as long as its process
    def system(self, cell: Cell) -> System:
        """The system of a cell."""
        return self.experiment.system(cell.system)

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

    def exposed(self, cell: Cell) -> tuple[str, ...]:
        """The languages whose modules the source's batches wear besides its own, those that the model
        knows.
        """
        of = self.system(cell).learning.exposed
        rows = self.in_codes(cell, [Rows(language=of)]) if of else ()
        return tuple(part.language for part in rows if self.reads(cell, part.language))

    @property
    def task_files(self) -> list[tuple[str, str, str]]:
        """Task, language and split of every file of examples that a stage reads."""
        experiment = self.experiment
        found = {(task, code, "test") for task, codes in experiment.tuned.items() for code in codes}
        found |= {
            (cell.task, experiment.source, "test")
            for cell in experiment.cells()
            if experiment.scores_source(cell)
        }
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

    def training(self, cell: Cell) -> tuple[Task, dict[str, list[Any]]]:
        """A cell's task with the labels of its training examples, and those of them that it reads, by
        language.
        """
        rows = self.examples(cell)
        seed, most = (
            cell.seed if any(p.drawn for p in rows) else 0,
            self.experiment.task_config(cell).examples,
        )
        task, examples = self._training(cell.task, rows, seed, most)
        if self.system(cell).further:
            learnt = self.in_codes(cell, self.system(cell).learning.rows)
            task = self._training(cell.task, learnt, 0, most)[0]
        return task, {code: own for code, own in examples.items() if self.reads(cell, code)}

    def validation(self, cell: Cell, most: int | None) -> dict[str, list[Any]]:
        """The examples that choose a cell's checkpoint, at most so many of each file and no more than its
        rows say, by language.
        """
        found: dict[str, list[Any]] = {}
        for part in self.validated(cell):
            if self.reads(cell, part.language):
                own = self._read(cell.task, part, cell.seed)[: None if part.drawn else part.most]
                found.setdefault(part.language, []).extend(own[:most])
        return found

    def amounts(self, cell: Cell) -> dict[tuple[str, str], int]:
        """How many examples an epoch of a cell's training has, by language and kind (`own`, `shots`,
        `translated`), after upsampling.

        Nothing is built: a translation has as many as the file that it is of.
        """
        task, most = find_task(cell.task), self.experiment.task_config(cell).examples

        def read(part: Rows) -> list[Any]:
            found = task.read(self.origin(cell.task, part))
            if not part.drawn:
                return found
            test = task.read(self.data.file(column(cell.task), part.language, "test"))
            return [found[i] for i in draw_shots(cell.task, part, found, test, seed=cell.seed)]

        amounts = dict[tuple[str, str], int]()
        for part in self.examples(cell):
            if self.reads(cell, part.language):
                [(code, own)] = read_examples((part,), read, most).items()
                kind = "shots" if part.drawn else "translated" if part.translated else "own"
                amounts[code, kind] = amounts.get((code, kind), 0) + len(own)
        return amounts

    @cache  # noqa: B019
    def _training(
        self, name: str, rows: tuple[Rows, ...], seed: int, most: int | None
    ) -> tuple[Task, dict[str, list[Any]]]:
        """The task with the labels of all the examples, and the first `most` of each file."""
        read = cache(lambda part: self._read(name, part, seed))
        every, examples = read_examples(rows, read), read_examples(rows, read, most)
        task, source = find_task(name), every.get(self.experiment.source)
        if source and getattr(task, "labels_of_source", False):  # a task of one's own need not say it
            return task.for_training(source), examples
        return task.for_training([one for own in every.values() for one in own]), examples

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
            file = made or file_id(self.origin(cell.task, part))
            if found.get(name, file) != file:  # another translator's, say
                name = f"{kind} {part}"
            found[name] = file
        return found

    def test_file(self, cell: Cell) -> Artefact | Path:
        """What a cell is scored on: the target's test file, or its translation into the source language."""
        by, source = self.system(cell).translated_test, self.experiment.source
        if by:
            return self.translation(cell.task, "test", cell.target, source, by)
        return self.data.file(column(cell.task), cell.target, "test")

    def test_path(self, cell: Cell) -> Path:
        """That file."""
        found = self.test_file(cell)
        return found.path(TRANSLATION) if isinstance(found, Artefact) else found

    def tested_in(self, cell: Cell) -> str:
        """The language of that file, for which a cell's finished model is dressed."""
        return self.experiment.source if self.system(cell).translated_test else cell.target

    def translations(self, task: str) -> dict[str, Artefact]:
        """Every translation of a task's files that a stage reads, by id."""
        found = list[Artefact | Path | None]()
        for cell in (one for one in self.experiment.cells() if one.task == task):
            parts = {*self.examples(cell), *self.validated(cell)}
            found += [self._made(task, part, 0) for part in parts if part.translated]
            found += [self.test_file(cell)] if self.system(cell).translated_test else []
        return {one.id: one for one in found if isinstance(one, Artefact)}
