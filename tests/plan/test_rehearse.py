"""A rehearsal counts up what it measured: closed forms of a phase, a stage and a run, and one rehearsal of a
whole pipeline.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.pipeline import merged
from bistil.plan import Job, Stage, foresee
from bistil.plan.estimate import schedules
from bistil.plan.rehearse import (
    FEW,
    Phase,
    Rehearsed,
    evaluations,
    kind_of,
    makespan,
    phase,
    rehearse,
    shortened,
)
from bistil.plan.text import plan_lines
from bistil.pretrain import PretrainConfig
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder
from bistil.training.loop import Schedule


def schedule(steps: int, evaluations: int) -> Schedule:
    return Schedule(steps=steps, learning_rate=1e-3, evaluations=evaluations)


def test_a_step_and_an_evaluation_are_told_apart_by_when_steps_are_done() -> None:
    times, now = [], 100.0
    for step in range(
        1, 9
    ):  # an evaluation of 5 s comes after steps 4 and 8, a step takes 2 s, the first one 9 s
        now += 9.0 if step == 1 else 7.0 if step == 5 else 2.0
        times.append(now)
    assert phase(schedule(8, 2), times)[1:] == (2.0, 5.0)
    assert phase(schedule(8, 1), times)[1:] == (pytest.approx((6 * 2 + 7) / 7), 0.0)
    assert phase(schedule(1, 1), times[:1])[1:] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("steps", "asked", "found"), [(200, 5, 5), (10, 4, 4), (7, 3, 3), (5, 4, 3), (2, 4, 2), (1, 1, 1)]
)
def test_evaluations_come_evenly_and_at_the_last_step(steps: int, asked: int, found: int) -> None:
    every = -(-steps // asked)
    assert evaluations(schedule(steps, asked)) == len({*range(every, steps + 1, every), steps}) == found


def test_a_stage_is_counted_up_by_its_steps_and_evaluations() -> None:
    short = [Phase(schedule(24, 2), 0.5, 3.0), Phase(schedule(24, 2), 0.25, 3.0)]
    stage = Rehearsed(40.0, short)
    assert stage.at_length([schedule(24, 2), schedule(24, 2)]) == 40.0
    assert (
        stage.at_length([schedule(124, 5), schedule(224, 4)]) == 40 + 100 * 0.5 + 3 * 3 + 200 * 0.25 + 2 * 3
    )


def test_epochs_that_are_not_counted_are_as_long_as_they_may_be_or_as_was_rehearsed() -> None:
    stage = Rehearsed(40.0, [Phase(schedule(24, 2), 0.5, 3.0)])
    epochs = Schedule(epochs=2, learning_rate=1e-3, evaluations=2)
    assert stage.at_length([epochs]) == 40.0
    assert stage.at_length([replace(epochs, at_most=124)]) == 40.0 + 100 * 0.5


def test_only_schedules_are_shortened_and_short_ones_stay(experiment) -> None:
    long = experiment(
        general={
            "lrf": 2,
            "batch_size": 4,
            "schedule": {"steps": 500, "learning_rate": 1e-3, "evaluations": 9},
        }
    )
    short = shortened(long)
    assert short.general.schedule == schedule(FEW, 2)
    assert (short.cells(), short.task, short.language_sft) == (long.cells(), long.task, long.language_sft)
    assert [stage.job for stage in foresee(short).values()] == [stage.job for stage in foresee(long).values()]


def test_spiel_gets_the_steps_that_it_needs_to_update_its_support(experiment) -> None:
    sft = {
        "spiel": {"density": 0.1, "interval": 50},
        "sparse": {"steps": 400, "learning_rate": 1e-3, "evaluations": 1},
    }
    assert shortened(experiment(language_sft=sft)).language_sft.sparse.steps == 54
    slow = {"slow": {"of": "teacher-spiel-ag", "learning": {"interval": 50}}}
    long = {"lottery": {"density": 0.1}, "dense": sft["sparse"], "sparse": sft["sparse"]}
    short = shortened(
        experiment(systems=["slow"], variants=slow, targets={"ner": ["qac"]}, task={"ner": {"sft": long}})
    )
    assert short.task_config(short.cells()[0]).sft.sparse.steps == 54


def test_seeds_and_languages_make_no_other_kind() -> None:
    def of(**changes: object) -> Job:
        cell = Cell("bistil-tf", "parsing", "qac", 2, 1)._replace(**changes)  # type: ignore[arg-type]
        return kind_of(Job("language_sft", ("qac", Job("student", (cell,)))))

    assert of() == of(seed=2) == of(target="qab")
    assert of() != of(lrf=3)
    assert of() != of(system="bistil-st")


def test_workers_take_what_is_ready_in_the_order_of_the_plan() -> None:
    after = {"a": (), "b": (), "c": ("a",), "d": ("a", "b"), "e": ("there",), "there": ()}
    stages = {name: Stage(name, "student", Job(name, ()), {}, {}, waits) for name, waits in after.items()}
    seconds = {"a": 1.0, "b": 4.0, "c": 2.0, "d": 3.0, "e": 5.0}
    assert makespan(stages, seconds, 1) == 15.0
    assert makespan(stages, seconds, 2) == 8.0  # a, c, e in one (1 + 2 + 5), b and d in the other (4 + 3)
    assert makespan(stages, seconds, 9) == 7.0  # b, then d
    assert makespan(stages, {}, 2) == 0.0


@pytest.mark.slow
def test_a_rehearsal_builds_each_kind_once_and_tells_every_stage(
    experiment, data: DataFolder, tmp_path: Path
) -> None:
    long = {"steps": 60, "learning_rate": 1e-3, "evaluations": 3}
    settings: Experiment = experiment(
        systems=["teacher-ltsft", "bistil-st:2", "floor"],
        targets={"parsing": ["qab", "qac"]},
        seeds=[1, 2],
        general={"lrf": 2, "batch_size": 4, "schedule": long},
    )
    stages = foresee(settings, data, Store(tmp_path / "store", read_only=True))
    seconds = rehearse(settings, data, stages, beside=tmp_path)
    assert seconds.keys() == stages.keys()
    assert min(seconds.values()) > 0
    assert list(tmp_path.iterdir()) == []
    students = [seconds[stage.id] for stage in stages.values() if stage.kind == "student"]
    assert len(students) == 4
    assert len(set(students)) == 1
    assert all(len([*schedules(stage.config)]) == 2 for stage in stages.values() if stage.kind == "task-sft")
    lines = list(
        plan_lines(
            settings,
            tmp_path / "store",
            tflops=5.7,
            data=str(data.root),
            rehearse=lambda given: seconds,
            workers=2,
        )
    )
    told = makespan(stages, seconds, 2) / 60
    assert any(line.startswith(f"About {told:.1f} min with 2 workers") for line in lines)


@pytest.mark.slow
def test_teachers_are_rehearsed_each_in_a_few_steps(
    experiment, data: DataFolder, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"steps": 2000, "learning_rate": 1e-3, "evaluations": 3}
    config = {"languages": ["qaa"], "layers": 1, "hidden": 8, "heads": 1, "vocabulary": 150}
    config |= {"packed": False, "length": 24, "batch_size": 2, "schedule": long}
    (tmp_path / "north.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    settings: Experiment = experiment(
        systems=["merged"],
        targets={"ner": ["qac"]},
        teachers={
            "north": {"pretrain": str(tmp_path / "north.yaml")},
            "wide": {"model": str(teacher_folder)},
        },
        merge={
            "taught_by": {"qaa": ["north"], "qac": ["wide"]},
            "k": 2,
            "masks": 1,
            "student": {"layers": 1, "hidden": 8, "heads": 1},
        },
        text={"length": 24, "batch_size": 4, "lines": 60, "packed": False},
        general={"lrf": 2, "batch_size": 4, "schedule": {**long, "steps": 60}},
    )
    stages = foresee(settings, data, Store(tmp_path / "store", read_only=True))
    steps, real = list[int](), merged.pretrain

    def counted(config: PretrainConfig, *more: Any, **named: Any) -> Any:
        steps.append(config.schedule.steps)
        return real(config, *more, **named)

    monkeypatch.setattr(merged, "pretrain", counted)
    seconds = rehearse(settings, data, stages, beside=tmp_path)
    assert steps == [FEW]
    assert seconds.keys() == stages.keys()
    made = {stage.job.arguments[0]: stage for stage in stages.values() if stage.kind == "teacher"}
    assert [one.steps for one in schedules(made["north"].config)] == [2000]
    assert [*schedules(made["wide"].config)] == []


def test_a_rehearsal_is_refused_before_it_runs(experiment, data: DataFolder, tmp_path: Path) -> None:
    impossible = experiment(text={"length": 4000, "batch_size": 4})
    with pytest.raises(InputError, match="positions of the teacher"):
        rehearse(impossible, data, foresee(impossible, data), beside=tmp_path)
