"""The workbench without its widgets: what is chosen, what exists, a run of what is missing, results.

Notable: choosing never builds; a run (`training`) does the missing stages only, in the batch planner's order.
"""

import dataclasses
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from bistil.distil.width import check_drf
from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.models.config import read_config
from bistil.models.load import load_tokenizer
from bistil.models.packaged import teacher_folder
from bistil.pipeline import Pipeline
from bistil.plan import perform
from bistil.plan.sizes import depths, widths
from bistil.store.artefacts import NotBuilt, Store
from bistil.systems.layers import start_layers
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.text.corpora import read_lines
from bistil.text.languages import DATA, DataFolder
from bistil.training.progress import Listener
from bistil.vocab import Coverage, coverage
from bistil.workbench.choice import Choice, chosen_experiment, densities_of
from bistil.workbench.stages import StageStatus, describe, jobs_of, status_of, summary
from bistil.workbench.training import Training

DENSITIES = (0.02, 0.04, 0.08, 0.16, 0.3)
SAMPLE = 500
"""Lines of a text that tell how a vocabulary covers its language: enough for two digits, and read in a
moment.
"""


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
        if not cells:
            raise InputError(
                "An experiment with settings for one of its tasks was expected, but"
                f" {experiment.name} tunes none. Take another one for the workbench, such as"
                " data/experiments/demo.yaml."
            )
        first = next((cell for cell in cells if self.is_student(cell.system)), cells[0])
        self.choice = Choice(
            teacher=experiment.teacher,
            source=experiment.source,
            target=first.target,
            task=first.task,
            system=first.system,
            lrf=first.lrf,
            drf=first.drf,
            density=None,
            seed=first.seed,
        )
        if not self.is_student(first.system):
            self.choice = dataclasses.replace(self.choice, lrf=next(iter(self.lrfs()), 1))

    # -- choosing
    # ----------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the experiment has settings for."""
        return tuple(self.experiment.task)

    @property
    def systems(self) -> tuple[str, ...]:
        """Every system that can be run, students first; the experiment's own with their regimes."""
        own = (system for system, _, _ in self.experiment.parsed)
        names = dict.fromkeys([*self.experiment.all_systems, *own])
        return tuple(sorted(names, key=lambda name: not self.is_student(name)))

    def is_student(self, name: str) -> bool:
        """Whether a system is a student, which has a layer reduction factor."""
        return self.experiment.system(name).reduced

    def narrows(self, name: str) -> bool:
        """Whether a system is a student that can be narrower than its teacher."""
        return self.experiment.system(name).narrows

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
        return self._languages(self.choice.task, split)

    def _languages(self, task: str, split: str) -> tuple[str, ...]:
        found = []
        for code in self.data.languages:
            with suppress(InputError):
                self.data.file(column(task), code, split)
                found.append(code)
        return tuple(found)

    def lrfs(self) -> tuple[int, ...]:
        """Return the layer reduction factors above 1 that divide the chosen teacher's layers."""
        return tuple(depths(read_config(self.choice.teacher))[1:])

    def drfs(self) -> tuple[int, ...]:
        """Return the hidden reduction factors that keep the chosen teacher's heads whole."""
        return tuple(widths(read_config(self.choice.teacher)))

    @property
    def densities(self) -> tuple[float, ...]:
        """A few densities, the experiment's own among them."""
        own = (densities_of(self.experiment, task).values() for task in self.tasks)
        return tuple(sorted({*DENSITIES, *(density for one in own for density in one)}))

    def density_of_file(self, task: str) -> str:
        """Return what the experiment says of density for a task, in words: one number where it is the same
        for language and task SFTs.
        """
        found = densities_of(self.experiment, task)
        each = dict.fromkeys(f"{density:g}" for density in found.values())
        if len(each) > 1:
            each = dict.fromkeys(f"{density:g} ({name})" for name, density in found.items())
        return " and ".join(each)

    def choose(self, **changes: Any) -> None:
        """Change the choice, for example choose(task="ner", lrf=3), and call everything in `on_choice`.

        What is not named and does not go with the change moves to what does: languages to those that have
        the task, reduction factors to the nearest that the teacher allows.

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
        choice = self._fitted(choice, changes)
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
        self._check_size(choice)
        chosen_experiment(self.experiment, choice)
        self.choice = choice
        if not self.training.running:
            self.training.message = self.training.job = ""
        for follow in self.on_choice:
            follow()

    def _fitted(self, choice: Choice, asked: Collection[str]) -> Choice:
        """The choice with what was not asked for, and does not go with the rest, moved to what does."""
        own = self.experiment.source, *self.experiment.targets.get(choice.task, ())
        for name, other, split in (("source", choice.target, "train"), ("target", choice.source, "test")):
            found = self._languages(choice.task, split)
            fits = sorted((code for code in found if code != other), key=lambda code: code not in own)
            if fits and name not in asked and getattr(choice, name) not in found:
                moved: Any = {name: fits[0]}
                choice = dataclasses.replace(choice, **moved)
        try:
            self._check_size(choice)
        except InputError:
            config = read_config(choice.teacher)
            factors = {"lrf": depths(config)[1:] or [1], "drf": widths(config)}
            nearest: Any = {
                name: min(offered, key=lambda one: abs(one - getattr(choice, name)))
                for name, offered in factors.items()
                if name not in asked
            }
            choice = dataclasses.replace(choice, **nearest)
        return choice

    def _check_size(self, choice: Choice) -> None:
        """Refuse reduction factors that the chosen teacher does not allow."""
        if student := self.experiment.system(choice.system).student:
            cell, config = self._cell(choice), read_config(choice.teacher)
            start = "uniform" if student.start == "random" else student.start
            start_layers(start, config.num_hidden_layers, cell.lrf)
            check_drf(config, cell.drf)

    @property
    def chosen(self) -> Experiment:
        """The experiment with the chosen teacher, source and density, and the chosen seed beside its own."""
        return chosen_experiment(self.experiment, self.choice)

    @property
    def cell(self) -> Cell:
        """The chosen score."""
        return self._cell(self.choice)

    def _cell(self, choice: Choice) -> Cell:
        lrf = choice.lrf if self.is_student(choice.system) else 1
        drf = choice.drf if self.narrows(choice.system) else 1
        return Cell(choice.system, choice.task, choice.target, lrf, choice.seed, drf)

    def in_words(self, choice: Choice) -> str:
        """Return what a score is about: task, languages, system, density and seed."""
        source, target = (
            f"{self.data.languages[code].name} ({code})" for code in (choice.source, choice.target)
        )
        system = self.experiment.named(self._cell(choice))
        density = self.density_of_file(choice.task) if choice.density is None else f"{choice.density:g}"
        return f"{choice.task}, {source} to {target}, {system}, density {density}, seed {choice.seed}"

    # -- looking
    # ----------------------------------------------------------------------------------------------

    def status(self) -> list[StageStatus]:
        """Return every stage of the chosen score: whether the store has it, and what it took or may take."""
        return self._status(self.choice)

    def run_status(self) -> list[StageStatus]:
        """Return every stage of the run under way, none without one."""
        return self._status(self.running) if self.running else []

    def _status(self, choice: Choice) -> list[StageStatus]:
        experiment = chosen_experiment(self.experiment, choice)
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

    def summary(self, system: str = "") -> str:
        """Return what exists of the chosen score, or of the same with another system, and what a run will
        take, in a sentence.
        """
        return summary(self._status(dataclasses.replace(self.choice, system=system or self.choice.system)))

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
        """Write the report of every score of the chosen experiment that the store has, of each of its seeds,
        beside the store; return the page's path.

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


@cache
def _coverage(teacher: str, text: Path) -> Coverage:
    return coverage(_tokenizer(teacher), read_lines(text, SAMPLE))


_tokenizer = cache(load_tokenizer)
