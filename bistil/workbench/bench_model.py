"""The bench without its widgets: what is chosen, what exists, a run in a thread with a stop button, results.

Notable: choosing never builds; a run does the missing stages only, in the batch planner's order; stopping writes a checkpoint first, and
the next run goes on from there. What a run raises ends up in `error`, in words.
"""

import dataclasses
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment, parse_system
from bistil.languages import DATA, DataFolder
from bistil.pipeline import Pipeline
from bistil.plan import perform
from bistil.store import NotBuilt, Store
from bistil.student import layer_map
from bistil.systems import REDUCED, WHOLE
from bistil.train import Stopped
from bistil.workbench.guard import in_words
from bistil.workbench.recorder import Recorder
from bistil.workbench.session import located
from bistil.workbench.stages import StageStatus, describe, jobs_of, status_of

DENSITIES = (0.02, 0.04, 0.08, 0.16, 0.3)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one score is about. `lrf` is ignored by whole teachers and the floor; `density` is that of language and task SFTs alike."""

    teacher: str
    source: str
    target: str
    task: str
    system: str
    lrf: int
    density: float
    seed: int


class Bench:
    """The view-model: it knows nothing of widgets, and every method but `run` returns at once or in seconds."""

    def __init__(self, experiment: Experiment, data: DataFolder, store: Path | str, *, device: str | None = None) -> None:
        self.experiment, self.data, self.store, self.device = experiment, data, Path(store), device
        self.recorder = Recorder()
        self.error, self.message = "", ""
        self.on_choice: Callable[[], None] = lambda: None
        self.on_stage: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        cells = [cell for cell in experiment.cells() if cell.task in experiment.task]
        student = next((cell for cell in cells if cell.system in REDUCED), cells[0])
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

    # -- choosing -------------------------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the experiment has settings for."""
        return tuple(self.experiment.task)

    @property
    def systems(self) -> tuple[str, ...]:
        """Every system that can be run."""
        return (*REDUCED, *WHOLE)

    @cached_property
    def teachers(self) -> tuple[str, ...]:
        """The experiment's teacher and every folder under data/teachers; any other name or folder may be chosen too."""
        folders = [str(config.parent) for config in sorted((DATA / "teachers").glob("*/config.json"))]
        return tuple(dict.fromkeys([self.experiment.teacher, *folders]))

    def languages(self, split: str) -> tuple[str, ...]:
        """Return the languages that have the chosen task's `split`: "train" for sources, "test" for targets."""
        found = []
        for code in self.data.languages:
            with suppress(InputError):
                self.data.file(self.choice.task, code, split)
                found.append(code)
        return tuple(found)

    def lrfs(self) -> tuple[int, ...]:
        """Return the layer reduction factors above 1 that divide the chosen teacher's layers."""
        layers = _layers(self.choice.teacher)
        return tuple(lrf for lrf in range(2, layers + 1) if layers % lrf == 0)

    @property
    def densities(self) -> tuple[float, ...]:
        """A few densities, the experiment's own among them."""
        return tuple(sorted({*DENSITIES, *(settings.sft.density for settings in self.experiment.task.values())}))

    def choose(self, **changes: Any) -> None:
        """Change the choice, for example choose(task="ner", lrf=3), and call `on_choice`.

        :raises InputError: where the choice cannot be run; the choice then stays as it was.
        """
        try:
            choice = dataclasses.replace(self.choice, **changes)
            choice = dataclasses.replace(choice, teacher=located(choice.teacher))
        except TypeError as error:
            raise InputError(f"The bench has the choices {', '.join(vars(self.choice))}; {error}.") from error
        if choice.task not in self.experiment.task or choice.system not in self.systems:
            raise InputError(
                f"One of the tasks {', '.join(self.tasks)} and one of the systems {', '.join(self.systems)} were expected, but "
                f"{choice.task!r} and {choice.system!r} came."
            )
        if choice.source == choice.target:
            raise InputError(f"Source and target should be two languages, but both are {choice.source}. Choose another target.")
        self.data.file(choice.task, choice.source, "train")
        self.data.file(choice.task, choice.target, "test")
        if choice.system in REDUCED:
            layer_map(_layers(choice.teacher), choice.lrf)
        _chosen_experiment(self.experiment, choice)
        self.choice = choice
        self.on_choice()

    @property
    def chosen(self) -> Experiment:
        """The experiment with the chosen teacher, source, density and this one score."""
        return _chosen_experiment(self.experiment, self.choice)

    @property
    def cell(self) -> Cell:
        """The chosen score."""
        choice = self.choice
        return Cell(choice.system, choice.task, choice.target, choice.lrf if choice.system in REDUCED else 1, choice.seed)

    # -- looking --------------------------------------------------------------------------------------------------------------------

    def status(self) -> list[StageStatus]:
        """Return every stage of the chosen score: whether the store has it, and what it took or may take."""
        pipeline = self._pipeline(read_only=True)
        return [status_of(pipeline, job) for job in jobs_of(self.chosen, self.cell)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the result rows in the store for the chosen task and target: every system of the experiment, and the chosen one."""
        pipeline, choice = self._pipeline(read_only=True), self.choice
        names = map(parse_system, self.experiment.systems)
        cells = [Cell(system, choice.task, choice.target, lrf, choice.seed, drf) for system, lrf, drf in names]
        found: list[dict[str, Any]] = []
        for cell in dict.fromkeys([*cells, self.cell]):
            with suppress(NotBuilt):
                found += pipeline.rows(cell)
        return found

    # -- running --------------------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._thread is not None and self._thread.is_alive()

    def run(self) -> None:
        """Start building what the chosen score lacks, in a thread; `on_stage` is called after each stage, `on_end` when it ends.

        :raises InputError: where a run is under way already.
        """
        if self.running:
            raise InputError("A run is under way. Wait for it, or press Stop first.")
        self._stop.clear()
        self.recorder.clear()
        self.error, self.message = "", "starting"
        self._thread = threading.Thread(target=self._work, args=(self.chosen, self.cell), name="bench", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the run to stop: it writes a checkpoint after the step it is in."""
        self._stop.set()
        if self.running:
            self.message = "stopping after this step"

    def join(self, seconds: float | None = None) -> None:
        """Wait for the run's end, at most `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self, experiment: Experiment, cell: Cell) -> None:
        try:
            pipeline = self._pipeline(read_only=False)
            for job in jobs_of(experiment, cell):
                if self._stop.is_set():
                    raise Stopped("Stopped between two stages; Run goes on from there.")
                self.message = f"working on: {describe(job)}"
                perform(pipeline, job)
                self.on_stage()
            self.message = "finished: every stage is in the store"
        except Stopped as stopped:
            self.message = str(stopped)
        except BaseException as error:
            self.error, self.message = in_words(error), "ended by an error"
        finally:
            self._thread = None
            self.on_end()

    def _pipeline(self, *, read_only: bool) -> Pipeline:
        store = Store(self.store, self.recorder, read_only=read_only)
        return Pipeline(self.chosen, self.data, store, device=self.device, progress=self.recorder, stop=self._stop)


def _chosen_experiment(experiment: Experiment, choice: Choice) -> Experiment:
    """The experiment with the choice in it; the density is put into every SFT only where it differs from the task's own."""
    changes: dict[str, Any] = {"teacher": choice.teacher, "source": choice.source, "seeds": (choice.seed,)}
    if choice.density != experiment.task[choice.task].sft.density:
        if experiment.language_sft is not None:
            changes["language_sft"] = experiment.language_sft.at_density(choice.density)
        tasks = experiment.task.items()
        changes["task"] = {name: dataclasses.replace(one, sft=one.sft.at_density(choice.density)) for name, one in tasks}
    return dataclasses.replace(experiment, **changes)


def _layers(teacher: str) -> int:
    try:
        return int(AutoConfig.from_pretrained(teacher).num_hidden_layers)
    except (OSError, ValueError) as error:
        raise InputError(f"No teacher could be read from {teacher!r}. Give a folder with a config.json, or a hub name.") from error
