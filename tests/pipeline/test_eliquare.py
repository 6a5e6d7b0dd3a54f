"""Eliquare's students: cut when they are finished without loss, positions that stay, epochs as steps in the
plan.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from zoo import write_teacher

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.models.load import encode
from bistil.pipeline import Pipeline
from bistil.pipeline.bases import OWN_HEAD, kept_ids, trimmed_tokenizer
from bistil.plan import foresee, plan
from bistil.plan.text import plan_lines
from bistil.store.artefacts import Store
from bistil.systems.recipe import Student, Term
from bistil.systems.table import SYSTEMS


def pipeline_of(experiment, data, store: Path, **changes: object) -> Pipeline:
    vocabulary = {"criterion": "sentences", "threshold": 0.05}
    return Pipeline(
        experiment(targets={"ner": ["qac"]}, vocabulary=vocabulary, **changes), data, Store(store)
    )


@pytest.mark.slow
def test_a_finished_student_is_cut_without_loss_and_without_training(
    experiment, data, tmp_path: Path
) -> None:
    pipeline = pipeline_of(experiment, data, tmp_path, systems=["eliquare:2", "eliquare-post:2"])
    basic, post = pipeline.experiment.cells()
    whole, cut = pipeline.student(basic), pipeline.student(post)
    assert pipeline.student(post, "teacher").id == whole.id
    assert cut.metrics["steps"] == 0
    assert set(cut.manifest["inputs"]) == {"student", "vocabulary"}
    vocabulary = pipeline.vocabulary("qac", "target")
    kept, small = kept_ids(vocabulary), trimmed_tokenizer(vocabulary)
    assert len(kept) == len(small) < len(pipeline.teacher.tokenizer)
    encoders = [pipeline.encoder(cell, "qac")[0] for cell in (basic, post)]
    ids = torch.tensor(small(data.text("qac").read_text(encoding="utf-8").splitlines()[0]).input_ids)[None]
    mask = torch.ones_like(ids)
    states = [
        encode(encoder, rows, mask, states=False).last
        for encoder, rows in zip(encoders, (kept[ids], ids), strict=True)
    ]
    assert torch.equal(*states)
    heads = [load_file(one.path(OWN_HEAD)) for one in (whole, cut)]
    assert torch.equal(heads[1]["cls.predictions.bias"], heads[0]["cls.predictions.bias"][kept])
    decoder = "cls.predictions.decoder.weight"
    assert torch.equal(heads[1][decoder], heads[0][decoder][kept])
    assert pipeline.evaluation(post).metrics["vocabulary"] == len(kept)
    jobs = plan(pipeline.experiment)
    assert not any(job in after for job, after in jobs.items())


def test_positions_stay_as_they_start_and_a_model_without_them_is_refused(
    experiment, data, tmp_path: Path
) -> None:
    variants = {"still": {"of": "eliquare-pre", "recipe": {"frozen": ["positions"]}}}
    pipeline = pipeline_of(
        experiment, data, tmp_path, systems=["still:2", "eliquare-pre:2"], variants=variants
    )
    teacher, found = pipeline.teacher.encoder.state_dict(), []
    for cell in pipeline.experiment.cells():
        own = pipeline.encoder(cell, "qac")[0].state_dict()
        found.append(
            [
                torch.equal(own[f"embeddings.{name}.weight"], teacher[f"embeddings.{name}.weight"])
                for name in ("position_embeddings", "token_type_embeddings")
            ]
        )
    assert found == [[True, False], [False, False]]
    with pytest.raises(InputError, match="one student"):
        Student(terms={"masked": Term(of="prediction", by="ce")}, trim="after", vocabulary="teacher")


def test_what_exists_says_nothing_of_the_new_fields() -> None:
    for name in ("eliquare", "eliquare-pre", "monoshot"):
        student = SYSTEMS[name].student
        assert student is not None
        assert not {"trim", "frozen"} & set(student.settings)
    assert SYSTEMS["eliquare-post"].student.settings["trim"] == "after"


def test_positions_that_a_teacher_has_no_table_of_are_refused_before_any_work(
    experiment, data, tmp_path: Path
) -> None:
    lines = data.text("qaa").read_text(encoding="utf-8").splitlines()
    teacher = write_teacher(tmp_path / "teacher", "modernbert", lines)
    variants = {"still": {"of": "eliquare-pre", "recipe": {"frozen": ["positions"]}}}
    small = experiment(teacher=str(teacher), systems=["still:2"], variants=variants, targets={"ner": ["qac"]})
    with pytest.raises(InputError, match="A table of positions was expected to be frozen, but ModernBert"):
        Pipeline(small, data, Store(tmp_path / "store")).check()
    assert not (tmp_path / "store").exists()


def test_a_plan_shows_the_steps_that_epochs_come_to(experiment, data, tmp_path: Path) -> None:
    schedule = {"epochs": 3, "learning_rate": 1e-3, "evaluations": 1}
    general = {"lrf": 2, "batch_size": 4, "schedule": schedule}
    bounded = {**schedule, "at_least": 1000}
    sft = {"lottery": {"density": 0.1}, "dense": {**schedule, "at_most": 2}, "sparse": bounded}
    pipeline = pipeline_of(
        experiment, data, tmp_path, systems=["eliquare:2", "bistil-st:2"], general=general, language_sft=sft
    )
    small: Experiment = pipeline.experiment
    (cell, _) = small.cells()
    lines = "\n".join(plan_lines(small, tmp_path, tflops=1.0, data=str(data.root)))
    history = pipeline.student(cell).metrics["steps"]
    stages = foresee(small, data, Store(tmp_path, read_only=True)).values()
    of = {(stage.kind, stage.cells[0].system): stage.config for stage in stages}
    assert of["student", "eliquare"]["general"].schedule.steps == history > 3
    found = of["language-sft", "bistil-st"]["sft"]
    assert (found.dense.steps, found.sparse.steps) == (2, 1000)
    assert "in epochs" not in lines
    assert "in epochs" in "\n".join(plan_lines(small, tmp_path, tflops=1.0, data=None))
