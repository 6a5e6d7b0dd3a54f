"""The stages behind one score: which there are, whether the store has them, and roughly what the missing ones
will cost.

Notable: the list is the batch planner's own, so the workbench and `bistil batch` never disagree about what a
score needs.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Job, perform, plan
from bistil.sft.generator import Further
from bistil.store.artefacts import NotBuilt, Store

KINDS = {
    "language_sft": "language-sft",
    "language_adapter": "language-adapter",
    "nearest_adapter": "language-adapter",
    "generated_adapter": "generated-adapter",
    "further_adapter": "further-adapter",
    "task_sft": "task-sft",
    "trimmed_teacher": "trimmed-teacher",
    "named_teacher": "teacher",
    "union_vocabulary": "union-vocabulary",
    "teacher_labels": "teacher-labels",
    "source_evaluation": "evaluation",
}
WORDS = {
    "trimmed_teacher": "teacher, cut to the experiment",
    "vocabulary": "vocabulary for {target}",
    "language_sft": "language SFT {code}",
    "language_adapter": "language adapter {code}",
    "named_teacher": "teacher {code}",
    "union_vocabulary": "union of vocabularies, {system}",
    "teacher_labels": "labels of {of}, {system}",
    "nearest_adapter": "language adapter nearest to {code}",
    "generator": "generator of adapters",
    "generated_adapter": "generated adapter {code}",
    "further_adapter": "adapter {code} on a little text",
    "student": "student, {system} lrf {lrf}",
    "task_sft": "{task} SFT, {system}",
    "evaluation": "score on {target}",
    "source_evaluation": "score on the source",
}


@dataclass(frozen=True)
class StageStatus:
    """A stage of a score. seconds: what it took, or where it is missing an estimate (None: nothing to go by);
    steps: its length; at_work: whether a run is at it.
    """

    name: str
    there: bool
    seconds: float | None
    steps: int
    artefact: str = ""
    at_work: bool = False


def jobs_of(experiment: Experiment, cell: Cell) -> list[Job]:
    """Return the stages that one score needs, in an order that can be run; joint timing is none of them."""
    only = dataclasses.replace(
        experiment, targets={cell.task: (cell.target,)}, systems=(experiment.named(cell),), seeds=(cell.seed,)
    )
    return [job for job in plan(only) if job.stage != "timing"]


def status_of(pipeline: Pipeline, job: Job) -> StageStatus:
    """Look a stage up in a read-only pipeline's store."""
    steps = steps_of(pipeline.experiment, job)
    try:
        found = perform(pipeline, job)
    except NotBuilt:
        return StageStatus(describe(job), False, estimate(pipeline.store, job, steps), steps)
    return StageStatus(
        describe(job), True, float(found.manifest["wall_seconds"]), steps, f"{found.kind}/{found.id}"
    )


def summary(status: Sequence[StageStatus]) -> str:
    """Return how many stages are missing, and what they will take in minutes, or in steps where there is
    nothing to go by.
    """
    missing = [stage for stage in status if not stage.there]
    if not missing:
        return "Everything is in the store."
    known = [stage.seconds for stage in missing if stage.seconds is not None]
    cost = (
        f"about {sum(known) / 60:.1f} min"
        if len(known) == len(missing)
        else f"{sum(stage.steps for stage in missing):,} steps"
    )
    return f"{len(missing)} of {len(status)} stages are missing, {cost}."


def steps_of(experiment: Experiment, job: Job) -> int:
    """Return how many optimiser steps a stage takes, 0 for one that does not train."""
    if job.stage == "language_sft" and experiment.language_sft is not None:
        return experiment.language_sft.steps
    if job.stage in ("language_adapter", "nearest_adapter") and experiment.language_adapter is not None:
        return experiment.language_adapter.steps
    if job.stage == "generator" and experiment.generator is not None:
        return experiment.generator.schedule.steps
    if job.stage == "further_adapter" and experiment.generator is not None:
        return (experiment.generator.further or Further()).schedule.steps
    if job.stage == "student":
        student = experiment.system(job.arguments[0].system).student
        cut = student is not None and student.trim == "after" and len(job.arguments) == 1
        if student is not None and (cut or not student.terms):
            return 0
        follows = student is not None and student.follows
        return (experiment.general if follows else experiment.scratch).schedule.steps
    if job.stage == "task_sft":
        return experiment.task_config(job.arguments[0]).sft.steps
    return 0


def estimate(store: Store, job: Job, steps: int) -> float | None:
    """Return seconds by the median of the store's finished stages of the same kind, in proportion to the
    steps; None without any.
    """
    done = store.all(KINDS.get(job.stage, job.stage))
    if not steps:
        return median(float(one.manifest["wall_seconds"]) for one in done) if done else None
    rates = [
        float(one.manifest["wall_seconds"]) / length
        for one in done
        if (length := _steps_in(one.manifest["config"]))
    ]
    return median(rates) * steps if rates else None


def _steps_in(config: Any) -> int:
    """Sum every `steps` of a stage's settings: the phases of an SFT, the schedule of a student."""
    if not isinstance(config, dict):
        return 0
    return sum(int(value) if name == "steps" else _steps_in(value) for name, value in config.items())


def describe(job: Job) -> str:
    """Return a stage's name in words."""
    words: dict[str, Any] = dict.fromkeys(("code", "target"), next(iter(job.arguments), ""))
    words["of"] = " by ".join(one for one in job.arguments if isinstance(one, str))
    for argument in job.arguments:
        if isinstance(argument, Cell):
            words |= argument._asdict()
    text = WORDS.get(job.stage, job.stage.replace("_", " ")).format(**words)
    if any(isinstance(argument, Job) for argument in job.arguments):
        return f"{text} of the student"
    factors = {"student": ("drf",), "task_sft": ("lrf", "drf")}.get(job.stage, ())
    return text + "".join(f" {name} {words[name]}" for name in factors if words.get(name, 1) > 1)
