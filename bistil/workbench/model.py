"""The workbench without its widgets: what is chosen, what exists, a run of what is missing, results.

Notable: choosing never builds; a run (`training`) does the missing stages only, in the batch planner's order.
"""

import dataclasses
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.models.load import load_tokenizer
from bistil.models.packaged import teacher_folder
from bistil.pipeline import Pipeline
from bistil.plan import perform
from bistil.store.artefacts import NotBuilt, Store
from bistil.systems.layers import start_layers
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.text.corpora import read_lines
from bistil.text.languages import DATA, DataFolder
from bistil.training.progress import Listener
from bistil.vocab import Coverage, coverage
from bistil.workbench.stages import StageStatus, describe, jobs_of, status_of, summary
from bistil.workbench.training import Training

DENSITIES = (0.02, 0.04, 0.08, 0.16, 0.3)
SAMPLE = 500
"""Lines of a text that tell how a vocabulary covers its language: enough for two digits, and read in a
moment.
"""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one score is about. `lrf` is ignored by whole teachers and the floor; `density` is that of
    language and task SFTs alike.
    """

    teacher: str
    source: str
    target: str
    task: str
    system: str
    lrf: int
    density: float
    seed: int


class Workbench:
    """The view-model: it knows nothing of widgets, and every method returns at once or in seconds.

    `choice` is what the next run is for, `running` what the one under way is for, `stage` what that is at.
    """

    def __init__(
        self, experiment: Experiment, data: DataFolder, store: Path | str, *, device: str | None = None
    ) -> None:
        self.experiment, self.data, self.store, self.device = experiment, data, Path(store), device
        self.training = Training(self._work)
        self.running: Choice | None = None
        self.stage = ""
        self.on_choice: list[Callable[[], None]] = []
        self.on_stage: Callable[[], None] = lambda: None
        cells = [cell for cell in experiment.cells() if cell.task in experiment.task]
        student = next((cell for cell in cells if experiment.system(cell.system).reduced), cells[0])
        self.choice = Choice(
            teacher=experiment.teacher,
            source=experiment.source,
            target=student.target,
            task=student.task,
            system=student.system,
            lrf=max(student.lrf, 2),
            density=experiment.task[student.task].sft.density,
            seed=student.seed,
        )

    # -- choosing
    # ----------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the experiment has settings for."""
        return tuple(self.experiment.task)

    @property
    def systems(self) -> tuple[str, ...]:
        """Every system that can be run."""
        return tuple(sorted(self.experiment.all_systems, key=lambda name: not self.is_student(name)))

    def is_student(self, name: str) -> bool:
        """Whether a system is a student, which has a layer reduction factor."""
        return self.experiment.system(name).reduced

    @cached_property
    def teachers(self) -> tuple[str, ...]:
        """The experiment's teacher and every folder under data/teachers; any other name or folder may be
        chosen too.
        """
        folders = [str(config.parent) for config in sorted((DATA / "teachers").glob("*/config.json"))]
        return tuple(dict.fromkeys([self.experiment.teacher, *folders]))

    def languages(self, split: str) -> tuple[str, ...]:
        """Return the languages that have the chosen task's `split`: "train" for sources, "test" for
        targets.
        """
        found = []
        for code in self.data.languages:
            with suppress(InputError):
                self.data.file(column(self.choice.task), code, split)
                found.append(code)
        return tuple(found)

    def lrfs(self) -> tuple[int, ...]:
        """Return the layer reduction factors above 1 that divide the chosen teacher's layers."""
        layers = _layers(self.choice.teacher)
        return tuple(lrf for lrf in range(2, layers + 1) if layers % lrf == 0)

    @property
    def densities(self) -> tuple[float, ...]:
        """A few densities, the experiment's own among them."""
        return tuple(
            sorted({*DENSITIES, *(settings.sft.density for settings in self.experiment.task.values())})
        )

    def choose(self, **changes: Any) -> None:
        """Change the choice, for example choose(task="ner", lrf=3), and call everything in `on_choice`.

        Raises:
            InputError: where the choice cannot be run; the choice then stays as it was.
        """
        if unknown := changes.keys() - vars(self.choice).keys():
            raise InputError(
                f"The workbench has the choices {', '.join(vars(self.choice))}, but"
                f" {', '.join(sorted(unknown))} came. Correct the name."
            )
        choice = dataclasses.replace(self.choice, **changes)
        choice = dataclasses.replace(choice, teacher=teacher_folder(choice.teacher))
        if choice.task not in self.experiment.task or choice.system not in self.systems:
            raise InputError(
                f"One of the tasks {', '.join(self.tasks)} and one of the systems {', '.join(self.systems)}"
                f" were expected, but {choice.task!r} and {choice.system!r} came."
            )
        if choice.source == choice.target:
            raise InputError(
                f"Source and target should be two languages, but both are {choice.source}. Choose another"
                " target."
            )
        self.data.file(column(choice.task), choice.source, "train")
        self.data.file(column(choice.task), choice.target, "test")
        system = self.experiment.system(choice.system)
        if system.merges or system.own_teacher:
            self.experiment.merging(choice.system)
        if student := system.student:
            start = "uniform" if student.start == "random" else student.start
            start_layers(start, _layers(choice.teacher), choice.lrf)
        _chosen_experiment(self.experiment, choice)
        self.choice = choice
        if not self.training.running:
            self.training.message = self.training.job = ""
        for follow in self.on_choice:
            follow()

    @property
    def chosen(self) -> Experiment:
        """The experiment with the chosen teacher, source, density and this one score."""
        return _chosen_experiment(self.experiment, self.choice)

    @property
    def cell(self) -> Cell:
        """The chosen score."""
        return self._cell(self.choice)

    def _cell(self, choice: Choice) -> Cell:
        lrf = choice.lrf if self.is_student(choice.system) else 1
        return Cell(choice.system, choice.task, choice.target, lrf, choice.seed)

    def in_words(self, choice: Choice) -> str:
        """Return what a score is about: task, languages, system, density and seed."""
        source, target = (
            f"{self.data.languages[code].name} ({code})" for code in (choice.source, choice.target)
        )
        system = self.experiment.named(self._cell(choice))
        return f"{choice.task}, {source} to {target}, {system}, density {choice.density}, seed {choice.seed}"

    # -- looking
    # ----------------------------------------------------------------------------------------------

    def status(self) -> list[StageStatus]:
        """Return every stage of the chosen score: whether the store has it, and what it took or may take."""
        return self._status(self.choice)

    def run_status(self) -> list[StageStatus]:
        """Return every stage of the run under way, none without one."""
        return self._status(self.running) if self.running else []

    def _status(self, choice: Choice) -> list[StageStatus]:
        experiment = _chosen_experiment(self.experiment, choice)
        pipeline = self._reader(experiment)
        found = [status_of(pipeline, job) for job in jobs_of(experiment, self._cell(choice))]
        at = self.stage if choice == self.running else ""
        return [dataclasses.replace(one, at_work=one.name == at and not one.there) for one in found]

    def coverage(self, code: str) -> Coverage | None:
        """How the chosen teacher's vocabulary covers a language, by the first SAMPLE lines of its text; None
        where there is no text.

        Read once for each teacher and text.
        """
        text = self.data.text(code)
        return _coverage(teacher_folder(self.choice.teacher), text) if text.is_file() else None

    def summary(self) -> str:
        """What exists of the chosen score and what a run will take, in a sentence."""
        return summary(self.status())

    def examples(self, most: int = 8) -> list[Any]:
        """The target's first test examples of the chosen task, to ask a model about."""
        task = find_task(self.choice.task)
        return list(task.read(self.data.file(task.column, self.choice.target, "test"))[:most])

    def rows(self) -> list[dict[str, Any]]:
        """Return the result rows in the store for the chosen task and target: every system of the experiment,
        and the chosen one.
        """
        pipeline, choice = self.reader(), self.choice
        names = self.experiment.parsed
        cells = [
            Cell(system, choice.task, choice.target, lrf, choice.seed, drf) for system, lrf, drf in names
        ]
        found: list[dict[str, Any]] = []
        for cell in dict.fromkeys([*cells, self.cell]):
            with suppress(NotBuilt):
                found += pipeline.rows(cell)
        return found

    # -- running
    # ----------------------------------------------------------------------------------------------

    def _work(self, progress: Listener, stop: threading.Event) -> None:
        """Build what the chosen score lacks; `on_stage` is called when a stage begins."""
        choice = self.running = self.choice
        experiment, self.training.job = self.chosen, self.in_words(choice)
        pipeline = Pipeline(
            experiment,
            self.data,
            Store(self.store, progress),
            device=self.device,
            progress=progress,
            stop=stop,
        )
        try:
            for job in jobs_of(experiment, self._cell(choice)):
                self.stage = describe(job)
                self.training.tell(f"working on: {self.stage}")
                self.on_stage()
                perform(pipeline, job)
        finally:
            self.running, self.stage = None, ""

    def report(self) -> Path:
        """Write the report of every score of the chosen experiment that the store has, beside the store;
        return the page's path.

        Raises:
            InputError: where there is none yet.
        """
        from bistil.report.experiment import write_experiment_report

        pipeline = self.reader()
        rows: list[dict[str, Any]] = []
        for cell in dict.fromkeys([*self.chosen.cells(), self.cell]):
            with suppress(NotBuilt):
                rows += pipeline.rows(cell)
        folder = self.store.parent / "reports" / self.experiment.name
        seen = [code for code, language in self.data.languages.items() if language.seen]
        return write_experiment_report(folder, self.chosen, rows, pipeline.store, failures=[], seen=seen)

    def reader(self) -> Pipeline:
        """A pipeline of the chosen experiment that builds nothing."""
        return self._reader(self.chosen)

    def _reader(self, experiment: Experiment) -> Pipeline:
        return Pipeline(experiment, self.data, Store(self.store, read_only=True), device=self.device)


def under_way(experiment: Experiment, data: DataFolder, store: Path | str) -> Workbench | None:
    """Return the workbench of this process whose run of this experiment over this store and data is under
    way, as it is after a page was loaded again; None without one.
    """
    for training in Training.under_way():
        one = getattr(training.work, "__self__", None)
        if isinstance(one, Workbench) and (one.experiment, one.data.root, one.store.resolve()) == (
            experiment,
            data.root,
            Path(store).resolve(),
        ):
            return one
    return None


def _chosen_experiment(experiment: Experiment, choice: Choice) -> Experiment:
    """The experiment with the choice in it; the density is put into every SFT only where it differs from the
    task's own.
    """
    changes: dict[str, Any] = {"teacher": choice.teacher, "seeds": (choice.seed,)}
    if choice.density != experiment.task[choice.task].sft.density:
        if experiment.language_sft is not None:
            changes["language_sft"] = experiment.language_sft.at_density(choice.density)
        tasks = experiment.task.items()
        changes["task"] = {
            name: dataclasses.replace(one, sft=one.sft.at_density(choice.density)) for name, one in tasks
        }
    return dataclasses.replace(experiment.from_source(choice.source), **changes)


@cache
def _coverage(teacher: str, text: Path) -> Coverage:
    return coverage(_tokenizer(teacher), read_lines(text, SAMPLE))


_tokenizer = cache(load_tokenizer)


def _layers(teacher: str) -> int:
    try:
        return int(AutoConfig.from_pretrained(teacher, trust_remote_code=False).num_hidden_layers)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No teacher could be read from {teacher!r}. Give a folder with a config.json, or a hub name."
        ) from error
