"""The plan of an experiment: every stage once, what it waits for, which scores need it, and whether it is
there already.

Notable: the graph is written down nowhere. The pipeline itself runs, over a store that notes what is asked of
it and builds nothing, so a plan cannot differ from a run. What is not at hand (data, a teacher's weights) is
stood in for, so a plan needs neither data nor network.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.models.load import Teacher, load_teacher
from bistil.models.packaged import lacks_package, teacher_config, teacher_folder
from bistil.pipeline import Pipeline
from bistil.plan.epochs import counted, has_epochs, stored_bytes
from bistil.store.artefacts import Artefact, Build, Store, artefact_id, file_id
from bistil.text.languages import DATA, DataFolder, Language
from bistil.text.typology import Typology

METHODS: dict[str, Callable[..., Artefact]] = {
    method.__name__: method
    for method in (
        Pipeline.trimmed_teacher,
        Pipeline.shots,
        Pipeline.translation,
        Pipeline.vocabulary,
        Pipeline.language_sft,
        Pipeline.language_adapter,
        Pipeline.named_teacher,
        Pipeline.union_vocabulary,
        Pipeline.teacher_labels,
        Pipeline.nearest_adapter,
        Pipeline.generator,
        Pipeline.generated_adapter,
        Pipeline.further_adapter,
        Pipeline.student,
        Pipeline.task_sft,
        Pipeline.evaluation,
        Pipeline.source_evaluation,
        Pipeline.timing,
        Pipeline.deployed,
    )
}
"""The stages: public methods of a pipeline that return an artefact, by name."""


class Job(NamedTuple):
    """One call of a pipeline method; an argument that is an artefact is the job that makes it."""

    stage: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        words = [_words(argument) for argument in self.arguments if argument is not None]
        return " ".join([self.stage.replace("_", " "), *words])


def _words(argument: Any) -> str:
    return f"of {argument}" if isinstance(argument, Job) else str(argument)


@dataclass(frozen=True)
class Stage:
    """An artefact to be: its id, kind and settings, the job that makes it, what it waits for, and the scores
    that need it.

    inputs: id of the stage, or of the file or teacher, by name. after: ids of stages. known: whether
    everything it is made from is at hand, so that the id is its real one; there: whether the store has it,
    None where that cannot be known. stores: the bytes of the labels that it stores, where text is at hand.
    """

    id: str
    kind: str
    job: Job
    config: Any
    inputs: Mapping[str, str]
    after: tuple[str, ...]
    cells: tuple[Cell, ...] = ()
    known: bool = True
    stores: int = 0
    there: bool | None = None

    @property
    def name(self) -> str:
        """What it is, by all that the scores that need it have in common: `student bistil-tf qac lrf 2 seed
        1`.
        """
        asked = list(signature(METHODS[self.job.stage]).parameters.values())[1:]
        codes = [
            str(argument)
            for one, argument in zip(asked, self.job.arguments, strict=False)
            if isinstance(argument, str) or (isinstance(argument, int) and one.default is one.empty)
        ]
        kind, cell = self.job.stage.replace("_", "-"), self._cell(self.job)
        if cell is None:
            return " ".join([kind, *codes])
        agreed = [
            name
            for name in ("task", "target", "lrf", "drf", "seed")
            if len({getattr(one, name) for one in self.cells}) == 1
        ]
        words = [
            f"{name} {getattr(cell, name)}" if name in ("lrf", "drf", "seed") else getattr(cell, name)
            for name in agreed
        ]
        return " ".join(
            [kind, *codes, cell.system, *(word for word in words if word not in ("lrf 1", "drf 1"))]
        )

    @staticmethod
    def _cell(job: Job) -> Cell | None:
        """The cell that the job, or the job of its argument, was first called for."""
        inner = (Stage._cell(one) if isinstance(one, Job) else one for one in job.arguments)
        return next((one for one in inner if isinstance(one, Cell)), None)


def plan(experiment: Experiment) -> dict[Job, tuple[Job, ...]]:
    """Every job of the grid with the jobs it waits for, in an order that can be run. Needs no data and no
    teacher.
    """
    stages = foresee(experiment)
    return {stage.job: tuple(stages[name].job for name in stage.after) for stage in stages.values()}


def foresee(
    experiment: Experiment,
    data: DataFolder | None = None,
    store: Store | None = None,
    *,
    teacher_id: str | None = None,
) -> dict[str, Stage]:
    """Every stage of the grid by id, in an order that can be run.

    Args:
        data: where files are that are at hand.
        store: where to look for what is there already; None: neither that nor a teacher is read.
        teacher_id: of a pipeline that has loaded the teacher; by default one that is a folder is loaded here.
    """
    with tempfile.TemporaryDirectory() as spare:
        folder = Foreseen(data.root if data else DATA, Path(spare))
        notes = Notes(folder.stand_ins)
        pipeline = ForeseenPipeline(experiment, folder, notes, device="cpu")
        if teacher_id is not None:
            pipeline.__dict__["teacher_id"] = teacher_id
        elif store is None or not pipeline.teacher_is_here:
            pipeline.__dict__["teacher_id"] = folder.stand_in("teacher", "id").name
            folder.stand_ins.add(pipeline.teacher_id)
            if experiment.text.trim is None and teacher_config(experiment.teacher) is None:
                pipeline.__dict__["trims"] = False  # how large its vocabulary is nobody knows
        users: dict[str, list[Cell]] = {}
        for cell in experiment.cells():
            scored = [pipeline.evaluation(cell)]
            scored += [pipeline.source_evaluation(cell)] if experiment.scores_source(cell) else []
            for name in dict.fromkeys(name for one in scored for name in _behind(one.id, notes.stages)):
                users.setdefault(name, []).append(cell)
        for task in experiment.tuned:
            timing = notes.stages[pipeline.timing(task).id]
            before = [pipeline.evaluation(cell).id for cell in pipeline.timed(task)]  # scores come first
            notes.stages[timing.id] = replace(timing, after=tuple(dict.fromkeys((*timing.after, *before))))
            users[timing.id] = pipeline.timed(task)
        there = {
            name: (store.root / stage.kind / name).is_dir() if store and stage.known else None
            for name, stage in notes.stages.items()
        }
        for name, stage in notes.stages.items():
            if store is not None and stage.known and has_epochs(stage.config):
                called = stage.job.arguments
                if stage.job.stage == Pipeline.nearest_adapter.__name__:
                    called = (pipeline.nearest(str(called[0])),)
                config = counted(pipeline, stage.config, called)
                notes.stages[name] = replace(stage, config=config)
            if stage.kind == "teacher-labels" and stage.known and pipeline.teacher_is_here:
                size = stored_bytes(pipeline, stage.config, stage.job.arguments[1])
                notes.stages[name] = replace(stage, stores=size)
        return {
            name: replace(stage, cells=tuple(users[name]), there=there[name])
            for name, stage in notes.stages.items()
        }


def perform(pipeline: Pipeline, job: Job) -> Artefact:
    """Return what a job makes, building it where the store may be written."""
    arguments = [
        perform(pipeline, argument) if isinstance(argument, Job) else argument for argument in job.arguments
    ]
    return METHODS[job.stage](pipeline, *arguments)


def _behind(name: str, stages: Mapping[str, Stage]) -> Iterator[str]:
    """The ids of a stage and of everything it needs, each once."""
    waiting, seen = [name], set[str]()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += stages[one].after
            yield one


class Notes(Store):
    """A store that builds nothing: it notes what is asked of it, by which call, and pretends that it is
    there.
    """

    def __init__(self, unknown: set[str]) -> None:
        super().__init__(Path(), read_only=True)
        self.stages: dict[str, Stage] = {}
        self._calls: list[Job] = []
        self._noted: dict[Job, Artefact] = {}
        self._unknown = unknown

    def run(self, kind: str, config: Any, inputs: Mapping[str, Artefact | str], build: Build) -> Artefact:
        """Note a stage, unless it is known, and return an artefact without files."""
        name = artefact_id(kind, config, inputs)
        if name not in self.stages:
            ids = {key: value.id if isinstance(value, Artefact) else value for key, value in inputs.items()}
            after = tuple(dict.fromkeys(one for one in ids.values() if one in self.stages))
            known = not self._unknown.intersection(ids.values()) and all(
                self.stages[one].known for one in after
            )
            self.stages[name] = Stage(name, kind, self._calls[-1], config, ids, after, known=known)
        return Artefact(Path(kind) / name, {"id": name, "kind": kind, "metrics": {}})

    def call(self, method: Callable[..., Artefact], *arguments: Any, **named: Any) -> Artefact:
        """Call a stage method of the pipeline, so that what it runs is known by that call; the same one
        again gives the same.
        """
        given = signature(method).bind(*arguments, **named).args
        while given and given[-1] is None:
            given = given[:-1]  # what is left to its default goes without saying
        jobs = tuple(self.stages[one.id].job if isinstance(one, Artefact) else one for one in given)
        job = Job(method.__name__, jobs)
        if job not in self._noted:
            with self._inside(job):
                self._noted[job] = method(*arguments, **named)
        return self._noted[job]

    @contextmanager
    def _inside(self, job: Job) -> Iterator[None]:
        self._calls.append(job)
        try:
            yield
        finally:
            self._calls.pop()


class ForeseenPipeline(Pipeline):
    """A pipeline whose every stage call is noted."""

    store: Notes
    data: "Foreseen"

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self.store.call, found) if name in METHODS else found

    @cached_property
    def typology(self) -> Typology:
        """The features of languages, or a stand-in."""
        try:
            return super().typology
        except InputError:
            return UnknownTypology((), {}, self.data)

    def fresh_teacher(self) -> Teacher:
        """The whole teacher, where its cut is only noted: it cuts text alike."""
        return load_teacher(teacher_folder(self.experiment.teacher))

    def translation_model(self, name: str) -> Path:
        """The folder of a translation model, or a stand-in where it is none."""
        return Path(name) if Path(name).is_dir() else self.data.stand_in("model", name.replace("/", "-"))

    @property
    def teacher_is_here(self) -> bool:
        """Whether the teacher can be read without a network."""
        named = self.experiment.teacher
        return not lacks_package(named) and Path(teacher_folder(named)).is_dir()


@dataclass(frozen=True)
class Foreseen(DataFolder):
    """A data folder in which everything is there: a stand-in under `spare` for what is not. `stand_ins` are
    their content ids.
    """

    spare: Path
    stand_ins: set[str] = field(default_factory=set)

    def language(self, code: str) -> Language:
        """The language; one that the table does not name is as good as any other."""
        known = self.languages
        return (
            known[code]
            if code in known
            else Language(code=code, name=code, family="", seen=False, corpus=f"{code}.txt", files={})
        )

    def text(self, code: str) -> Path:
        """The text of a language or its stand-in."""
        path = super().text(code)
        return path if path.is_file() else self.stand_in("text", code)

    def file(self, column: str, code: str, split: str) -> Path:
        """A file of a task or its stand-in."""
        try:
            return super().file(column, code, split)
        except InputError:
            return self.stand_in(column, code, split)

    def translations(self, source: str, target: str) -> Path:
        """A file of translations or its stand-in."""
        try:
            return super().translations(source, target)
        except InputError:
            return self.stand_in("translations", source, target)

    def stand_in(self, *words: str) -> Path:
        """A file of its own for these words."""
        path = self.spare / "-".join(words)
        if not path.is_file():
            path.write_text(path.name, encoding="utf-8")
            self.stand_ins.add(file_id(path))
        return path


@dataclass(frozen=True)
class UnknownTypology(Typology):
    """Features that are not at hand, of every language."""

    folder: Foreseen

    def digest(self, codes: Iterable[str]) -> str:
        """A stand-in of its own for these languages."""
        return file_id(self.folder.stand_in("typology", sha256(" ".join(sorted(codes)).encode()).hexdigest()))

    def nearest(self, code: str, among: Collection[str]) -> list[str]:
        """A language of no table."""
        return [f"like-{code}"]
