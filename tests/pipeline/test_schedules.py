"""Schedules in epochs for every kind of stage, and shares of text that are held out by language."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bistil.pipeline import Pipeline
from bistil.plan import foresee
from bistil.store.artefacts import Store

EPOCHS = {"epochs": 1, "at_most": 40, "learning_rate": 1e-3, "evaluations": 1}


def stages(pipeline: Pipeline) -> dict[str, object]:
    """The settings of each kind of stage as the plan counts them."""
    found = foresee(pipeline.experiment, pipeline.data, Store(pipeline.store.root, read_only=True)).values()
    return {stage.kind: stage.config for stage in found}


@pytest.mark.slow
def test_epochs_of_tasks_and_generators_come_to_the_steps_that_the_plan_shows(
    experiment, data, tmp_path: Path
) -> None:
    task: dict[str, dict[str, Any]] = {"ner": {"batch_size": 5, "max_length": 48}}
    phases = {"dense": {**EPOCHS, "at_least": 7}, "sparse": {**EPOCHS, "epochs": 2}}
    task["ner"] |= {"sft": {"lottery": {"density": 0.1}, **phases}}
    task["ner"] |= {"adapter": {"adapter": {"reduction": 2}, "sparse": EPOCHS}}
    small = experiment(
        systems=["teacher-no-adaptation", "teacher-madg"],
        targets={"ner": ["qac"]},
        task=task,
        typology={"from": "table"},
        generator={"languages": ["qaa", "qab"], "schedule": EPOCHS, "batch_size": 8},
        text={"length": 24, "batch_size": 4, "lines": 60, "packed": False},
    )
    pipeline = Pipeline(small, data, Store(tmp_path))
    own, generated = small.cells()
    planned = stages(pipeline)
    generator = pipeline.generator()
    assert generator.metrics["steps"] == planned["generator"]["generator"].schedule.steps == 15  # 2 x 57 / 8
    found = pipeline.task_sft(own)
    assert found.metrics["steps"] == 10  # the sparse phase's: 2 x 24 / 5
    by_method = [
        stage.config["settings"].sft
        for stage in foresee(small, data, Store(tmp_path, read_only=True)).values()
        if stage.kind == "task-sft"
    ]
    lottery = next(one for one in by_method if one.lottery)
    assert (lottery.dense.steps, lottery.sparse.steps) == (7, 10)
    adapter = next(one for one in by_method if one.adapter)
    assert adapter.sparse.steps == 5 == pipeline.task_sft(generated).metrics["steps"]


def test_a_teacher_that_is_pretrained_for_epochs_does_not_stop_a_plan(
    experiment, data, tmp_path: Path
) -> None:
    config = {"languages": ["qaa", "qac"], "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 150}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**config, "schedule": EPOCHS}), encoding="utf-8")
    small = experiment(
        systems=["own"],
        targets={"ner": ["qac"]},
        teachers={"own": {"pretrain": str(tmp_path / "own.yaml")}},
        variants={"own": {"of": "teacher-full", "model": "own"}},
    )
    assert (
        stages(Pipeline(small, data, Store(tmp_path / "store")))["teacher"]["pretrain"].schedule.epochs == 1
    )


def test_a_share_of_one_language_touches_stages_that_read_it_alone(experiment, data, tmp_path: Path) -> None:
    text = {"length": 24, "batch_size": 4, "lines": 60, "packed": False}
    general = {"lrf": 2, "batch_size": 4, "schedule": {**EPOCHS, "at_most": 2}}
    shares = {"held_out_shares": {"qab": 0.5}}
    plain, own = (
        Pipeline(
            experiment(
                targets={"ner": ["qac", "qab"]},
                text={**text, **more},
                general={**general, **more},
                systems=["bistil-tf:2", "scratch:2"],
            ),
            data,
            Store(tmp_path),
        )
        for more in ({}, shares)
    )
    assert own.language_sft("qac").id == plain.language_sft("qac").id
    assert own.language_sft("qab").id != plain.language_sft("qab").id
    assert own.experiment.general.held_out("qab") == 0.5
    assert own.experiment.general.held_out("qac") == 0.05
    far, scratch_far, near, scratch_near = own.experiment.cells()
    assert (far.target, near.target) == ("qac", "qab")
    assert own.student(far).manifest["config"] == plain.student(far).manifest["config"]
    assert own.student(near).manifest["config"]["general"]["held_out_shares"] == {"qab": 0.5}
    assert own.student(scratch_far).id == plain.student(scratch_far).id
    assert own.student(scratch_near).id != plain.student(scratch_near).id
