"""What a run will take on this machine, told by a rehearsal: every kind of stage once, with phases of a few
steps, in a store thrown away.

Notable: nothing is modelled. What a step, an evaluation and all the rest of a stage take is read from the
clock while the pipeline itself runs, and counted up to the real schedule. Stages that differ by seed and
language only are one kind.
"""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any, NamedTuple

from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Job, Stage, perform
from bistil.plan.estimate import schedules
from bistil.pretrain import PretrainConfig
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder
from bistil.training.loop import Schedule
from bistil.training.progress import Event

FEW = 24
"""Steps of a phase: more than a pool of 16 batches of like length, and than an interval of SpIEL."""


class Phase(NamedTuple):
    """A phase as it was rehearsed: its short schedule, and the seconds of a step and of an evaluation with
    its checkpoint.
    """

    schedule: Schedule
    step: float
    evaluation: float


@dataclass(frozen=True)
class Rehearsed:
    """A stage as it was rehearsed: all of its seconds, and its phases."""

    seconds: float
    phases: Sequence[Phase]

    def at_length(self, real: Sequence[Schedule]) -> float:
        """The seconds that the stage takes with the real schedules of its phases; epochs that are not counted
        are as many steps as their `at_most`, or as were rehearsed.
        """
        phases = [
            (one.of_steps(one.bound or phase.schedule.steps), *phase)
            for one, phase in zip(real, self.phases, strict=True)
        ]
        more = (
            (schedule.steps - short.steps) * step + (evaluations(schedule) - evaluations(short)) * evaluation
            for schedule, short, step, evaluation in phases
        )
        return self.seconds + sum(more)


class Watch:
    """A listener that notes when each step of each phase was done."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self.times: dict[str, list[float]] = {}

    def __call__(self, event: Event) -> None:
        """Note a step; what is told in words is none."""
        if event.told:
            return
        self.times.setdefault(event.stage, []).append(self._clock())


class _Short(Pipeline):
    """A pipeline whose teachers are made in a few steps, too."""

    def pretraining(self, file: str) -> PretrainConfig:
        found: PretrainConfig = shortened(super().pretraining(file), few_steps(self.experiment))
        return found


def rehearse(
    experiment: Experiment,
    data: DataFolder,
    stages: Mapping[str, Stage],
    *,
    beside: Path | None = None,
    device: str | None = None,
) -> dict[str, float]:
    """Return the seconds that each stage which is not there yet will take, by id.

    Args:
        stages: of `foresee`.
        beside: the folder in which the store of the rehearsal lies while it is needed.

    Raises:
        InputError: before anything runs, for whatever would fail later.
    """
    left = [stage for stage in stages.values() if not stage.there]
    first: dict[Job, Stage] = {}
    for stage in left:
        first.setdefault(kind_of(stage.job), stage)
    wanted = _with_what_they_need(list(first.values()), stages)
    watch, found = Watch(), dict[str, Rehearsed]()
    with tempfile.TemporaryDirectory(dir=beside) as folder:
        pipeline = _Short(shortened(experiment), data, Store(folder), device=device, progress=watch)
        pipeline.check()
        for stage in stages.values():
            if stage.id in wanted:
                watch.times.clear()
                made = perform(pipeline, stage.job)
                short = schedules(shortened(stage.config, few_steps(experiment)))
                phases = [phase(one, times) for one, times in zip(short, watch.times.values(), strict=False)]
                found[stage.id] = Rehearsed(float(made.manifest["wall_seconds"]), phases)
    return {
        stage.id: found[first[kind_of(stage.job)].id].at_length([*schedules(stage.config)]) for stage in left
    }


def makespan(stages: Mapping[str, Stage], seconds: Mapping[str, float], workers: int) -> float:
    """Seconds until all stages are there that have some, when each worker takes the first that is ready, as
    the pool does.
    """
    waiting, done = list(seconds), set(stages) - set(seconds)
    running: dict[str, float] = {}
    now = 0.0
    while waiting or running:
        ready = [name for name in waiting if done.issuperset(stages[name].after)][: workers - len(running)]
        running |= {name: now + seconds[name] for name in ready}
        waiting = [name for name in waiting if name not in running]
        ended = min(running, key=lambda name: running[name])
        now = running.pop(ended)
        done.add(ended)
    return now


def kind_of(job: Job) -> Job:
    """The job without its languages and seed; each of several teachers is made in its own way."""

    def without(argument: Any) -> Any:
        if isinstance(argument, Cell):
            return argument._replace(target="", seed=0)
        return (
            kind_of(argument) if isinstance(argument, Job) else "" if isinstance(argument, str) else argument
        )

    return job if job.stage == "named_teacher" else Job(job.stage, tuple(map(without, job.arguments)))


def few_steps(experiment: Experiment) -> int:
    """Steps of a phase in the rehearsal: FEW, or what SpIEL needs to update its support once."""
    asked = (experiment.language_sft, *(settings.sft for settings in experiment.task.values()))
    intervals = [sft.spiel.interval for sft in asked if sft and sft.spiel]
    intervals += [experiment.system(name).learning.interval or 0 for name, *_ in experiment.parsed]
    return max(FEW, *(interval + 4 for interval in intervals))


def shortened(settings: Any, steps: int | None = None) -> Any:
    """The settings with every schedule cut to that many steps and two evaluations; shorter ones stay as they
    are.
    """
    steps = few_steps(settings) if steps is None else steps
    if isinstance(settings, Schedule):
        cut = replace(settings.of_steps(steps), evaluations=min(settings.evaluations, 2))
        return settings if 0 < settings.steps <= steps else cut
    if isinstance(settings, Mapping):
        return {name: shortened(value, steps) for name, value in settings.items()}
    if is_dataclass(settings) and not isinstance(settings, type):
        return replace(
            settings, **{one.name: shortened(getattr(settings, one.name), steps) for one in fields(settings)}
        )
    return settings


def evaluations(schedule: Schedule) -> int:
    """How often a schedule evaluates: evenly, and at its last step."""
    return math.ceil(schedule.steps / schedule.every)


def phase(schedule: Schedule, times: Sequence[float]) -> Phase:
    """What a step and an evaluation took, from the times at which steps were done; the first step, which
    warms up, is left out.
    """
    between = [(number, later - earlier) for number, (earlier, later) in enumerate(pairwise(times), start=1)]
    plain = [seconds for number, seconds in between if number % schedule.every]
    if not plain:  # as short as it is in the run
        return Phase(schedule, 0.0, 0.0)
    evaluated = [seconds for number, seconds in between if not number % schedule.every]
    return Phase(schedule, mean(plain), max(0.0, mean(evaluated) - mean(plain)) if evaluated else 0.0)


def _with_what_they_need(chosen: Sequence[Stage], stages: Mapping[str, Stage]) -> set[str]:
    """The ids of some stages and of all they wait for."""
    found, waiting = set[str](), [stage.id for stage in chosen]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += stages[name].after
    return found
