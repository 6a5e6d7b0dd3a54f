"""Several teachers as one student, from their pretraining files to scores, reports and an export."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel

from bistil import batch
from bistil.deploy import write
from bistil.deploy.read import load_deployed
from bistil.distil.labels import Labels
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.pipeline.bases import trimmed_tokenizer
from bistil.plan import plan
from bistil.plan.text import plan_lines
from bistil.report.experiment import write_experiment_report
from bistil.settings.places import ROOT
from bistil.store.artefacts import Store

SHAPE = {"layers": 2, "hidden": 32, "heads": 2}
MERGE: dict[str, Any] = {
    "taught_by": {"qaa": ["north"], "qab": ["north", "south"], "qac": ["south"]},
    "k": 3,
    "masks": 1,
    "student": SHAPE,
}
SCHEDULE = {"steps": 3, "learning_rate": 1e-3, "evaluations": 1}


@pytest.fixture
def several(experiment, teacher_folder: Path, tmp_path: Path) -> Callable[..., Experiment]:
    """Makes an experiment with two teachers of two languages each and the tiny teacher."""
    for name, codes in (("north", ["qaa", "qab"]), ("south", ["qab", "qac"])):
        config = {"languages": codes, "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 150}
        config |= {"packed": False, "length": 24, "batch_size": 4, "schedule": SCHEDULE}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    teachers = {name: {"pretrain": str(tmp_path / f"{name}.yaml")} for name in ("north", "south")}
    teachers["wide"] = {"model": str(teacher_folder)}

    def make(**changes: Any) -> Experiment:
        settings = {
            "systems": ["merged", "floor"],
            "targets": {"ner": ["qac"]},
            "teachers": teachers,
            "merge": MERGE,
            "text": {"length": 24, "batch_size": 4, "lines": 60, "packed": False},
            "general": {"lrf": 2, "batch_size": 4, "schedule": SCHEDULE},
        }
        return experiment(**{**settings, **changes})

    return make


VARIANTS = {
    "merged-gold": {"of": "merged", "merge": {"labels": "gold"}},
    "merged-wide": {"of": "merged-gold", "merge": {"vocabulary": "wide"}},
    "merged-best": {"of": "merged", "merge": {"copies": "best"}},
    "merged-k1": {"of": "merged", "merge": {"k": 1}},
    "merged-early": {"of": "merged", "merge": {"until": 0.4}},
    "merged-read": {"of": "merged", "merge": {"read_with": "teacher"}},
    "merged-start": {"of": "merged", "merge": {"start": "north"}},
    "merged-in-language": {"of": "merged", "learning": {"rows": [{"language": "target"}]}},
}


@pytest.mark.slow
def test_the_whole_goes_on_from_the_student_that_ended_before(several, data, tmp_path: Path) -> None:
    schedule = {**SCHEDULE, "steps": 4, "evaluations": 2}
    small = several(
        systems=["merged", "merged-half"],
        variants={"merged-half": {"of": "merged", "merge": {"until": 0.5}}},
        general={"lrf": 2, "batch_size": 4, "schedule": schedule},
    )
    whole, half = small.cells()[:2]
    found = []
    for name, order in (("a", (whole,)), ("b", (half, whole))):
        told: list[int] = []

        def listen(event: Any, told: list[int] = told) -> None:
            if " + " in event.stage and not event.evaluated:  # the student, not its teachers
                told.append(event.step)

        pipeline = Pipeline(small, data, Store(tmp_path / name), progress=listen)
        made = [pipeline.student(cell) for cell in order]
        found.append(load_file(made[-1].path("model/model.safetensors")))
        assert not (made[-1].folder / "to-go-on-from").exists()
    assert made[0].path("to-go-on-from").is_dir()
    assert made[0].metrics["steps"] == 2
    assert told == [1, 2, 3, 4]
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_teachers_are_merged_from_the_yaml_to_an_export(several, data, tmp_path: Path) -> None:
    small = several(systems=["merged", *VARIANTS, "teacher-of-language", "floor"], variants=VARIANTS)
    place = batch.Place(data.root, tmp_path / "store")
    assert batch.run(small, place, workers=1, say=lambda text: None) == []
    pipeline = Pipeline(small, data, Store(place.store))
    cells = {cell.system: cell for cell in small.cells()}
    rows = {row["system"]: row for row in batch.rows(batch.reader(small, place))}
    union = pipeline.union_vocabulary(cells["merged"]).metrics
    assert rows["merged"]["vocabulary"] == union["tokens"] == sum(union["own"].values()) + union["shared"]
    assert rows["merged-wide"]["vocabulary"] == len(pipeline.teacher.tokenizer)
    assert rows["teacher-of-language"]["vocabulary"] == pipeline.named_teacher("south").metrics["vocabulary"]
    assert {rows[name]["lrf"] for name in ("merged", "teacher-of-language")} == {None}
    assert pipeline.student(cells["merged-early"]).metrics["steps"] == 1
    assert pipeline.student(cells["merged-read"]).id == pipeline.student(cells["merged"]).id
    assert pipeline.student(cells["merged-in-language"]).id == pipeline.student(cells["merged"]).id
    assert pipeline.task_sft(cells["merged-read"]).id != pipeline.task_sft(cells["merged"]).id
    inputs = set(pipeline.student(cells["merged"]).manifest["inputs"])
    assert inputs == {
        "union", "labels qaa north", "labels qab north", "labels qab south", "labels qac south"
    }  # fmt: skip
    wide = set(pipeline.student(cells["merged-wide"]).manifest["inputs"])
    assert wide == {"union", "labels qaa wide", "labels qab wide", "labels qac wide"}
    labels = pipeline.teacher_labels(cells["merged"], "qab", "south")
    store = Labels(labels.path("labels"))
    assert (len(store), store.k) == (labels.metrics["rows"], 3) == (60, 3)

    page = write_experiment_report(tmp_path / "report", small, [*rows.values()], pipeline.store, failures=[])
    assert (page.parent / "figures" / "student-merged.svg").is_file()
    assert "As merged, but labels gold." in page.read_text(encoding="utf-8")
    write.export(pipeline, cells["merged"], "folder", tmp_path / "taken", say=lambda line: None)
    taken = load_deployed(tmp_path / "taken")
    assert taken is not None
    assert any(
        "stored labels" in line for line in plan_lines(small, place.store, tflops=1.0, data=str(data.root))
    )


def test_a_merged_experiment_has_a_plan_without_data(several) -> None:
    small = several(systems=["merged", "merged-wide", "teacher-of-language"], variants=VARIANTS)
    jobs = plan(small)
    assert {"named_teacher", "union_vocabulary", "teacher_labels"} < {job.stage for job in jobs}
    assert not any(job in after for job, after in jobs.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merge": None}, "name them, and give `merge`"),
        ({"merge": {**MERGE, "taught_by": {"qaa": ["west"]}}}, "north, south, wide was expected"),
        ({"merge": {**MERGE, "taught_by": {"qaa": ["north", "north"]}}}, "none of them twice"),
        ({"merge": {**MERGE, "until": 0}}, "until should be above 0"),
        ({"merge": {**MERGE, "start": "west"}}, "'west'"),
        ({"systems": ["merged:2"]}, "is not a system"),
        ({"merge": {**MERGE, "union_of": ["north"]}}, "but south teaches"),
        ({"merge": {**MERGE, "vocabulary": "wide", "union_of": ["north", "south"]}}, "`vocabulary` is wide"),
        (
            {
                "merge": {**MERGE, "copies": "best"},
                "text": {"length": 24, "batch_size": 4, "lines": 60, "packed": True},
            },
            "Set `packed: false`",
        ),
        (
            {"systems": ["x"], "variants": {"x": {"of": "merged", "recipe": {"terms": {"masked": None}}}}},
            "`constant: 1`",
        ),
        ({"teachers": {"north": {}}}, "give one of them"),
        (
            {
                "systems": ["teacher-of-language"],
                "merge": {**MERGE, "taught_by": {"qaa": ["north"]}},
            },
            "teacher of qac",
        ),
        ({"systems": ["x"], "variants": {"x": {"of": "merged", "merge": {"kk": 1}}}}, "kk"),
        ({"systems": ["x:2"], "variants": {"x": {"of": "minilm", "merge": {"k": 1}}}}, "does not"),
        (
            {"systems": ["x"], "variants": {"x": {"of": "merged", "recipe": {"vocabulary": "trimmed"}}}},
            "go together",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused(several, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        several(**changes)


@pytest.mark.slow
def test_a_student_with_narrow_embeddings_is_an_electra_that_transformers_loads(
    several, data, tmp_path: Path
) -> None:
    narrow = {**MERGE, "student": {**SHAPE, "embedding": 16}}
    pipeline = Pipeline(several(systems=["merged"], merge=narrow), data, Store(tmp_path / "store"))
    (cell,) = pipeline.experiment.cells()
    rows, own = pipeline.rows(cell), pipeline.encoder(cell, "qac")[0]
    plain = AutoModel.from_pretrained(pipeline.student(cell).path("model"))
    assert plain.config.model_type == "electra"
    assert plain.embeddings.word_embeddings.weight.shape[1] == 16
    assert plain.embeddings_project.weight.shape == (32, 16)
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in own.state_dict().items())
    whole = Pipeline(several(systems=["merged"]), data, Store(tmp_path / "store"))
    assert rows[0]["parameters"] < whole.rows(cell)[0]["parameters"]
    with pytest.raises(InputError, match="starts at random, not from north"):
        several(systems=["merged"], merge={**narrow, "start": "north"})


@pytest.mark.slow
def test_a_student_can_start_from_one_teacher(several, data, tmp_path: Path) -> None:
    small = several(systems=["merged-start"], variants=VARIANTS)
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    (cell,) = small.cells()
    own = pipeline.encoder(cell, "qac")[0].state_dict()
    north = pipeline.named_teacher("north")
    first = Pipeline(
        several(teacher=str(north.path("model"))), data, Store(tmp_path / "store")
    ).teacher.encoder
    theirs = first.state_dict()
    name = "encoder.layer.1.output.dense.weight"
    assert (own[name] - theirs[name]).abs().max() < 0.01  # three steps away
    assert not torch.equal(own[name], theirs[name])
    wrong = several(
        systems=["merged-start"], variants=VARIANTS, merge={**MERGE, "student": {**SHAPE, "layers": 3}}
    )
    with pytest.raises(InputError, match="size of north"):
        Pipeline(wrong, data, Store(tmp_path / "store")).student(cell)


def test_a_student_read_with_the_union_may_be_labelled_by_one_teacher(several, data, tmp_path: Path) -> None:
    """MergeDistill's Student_mBERT: the union's vocabulary, and labels of the wide teacher alone."""
    taught = {code: ["wide"] for code in MERGE["taught_by"]}
    own = {"of": "merged", "merge": {"taught_by": taught, "union_of": ["north", "south", "wide"]}}
    small = several(systems=["merged-mismatch"], variants={"merged-mismatch": own})
    names: tuple[str, ...] = ("north", "south", "wide")
    how = small.merging("merged-mismatch")
    assert how.vocabularies(names) == names
    assert set(how.teaches.values()) == {("wide",)}
    for name in ("miniworld-merge", "paper-merge"):
        shipped = Experiment.read(ROOT / "data" / "experiments" / f"{name}.yaml")
        how, names = shipped.merging("merged-mismatch"), tuple(shipped.teachers)
        assert set(shipped.merging("merged").vocabularies(names)) <= set(how.vocabularies(names))
        assert len(set(how.teaches.values())) == 1


@pytest.mark.slow
def test_each_language_is_read_as_its_own_teacher_reads(several, data, tmp_path: Path) -> None:
    taught = {"qaa": ["north"], "qab": ["south"]}
    merge = {**MERGE, "taught_by": taught, "read_with": "teacher", "normaliser": "north"}
    small = several(systems=["merged"], targets={"ner": ["qab", "qac"]}, merge=merge, on_source=True)
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    cell, untaught = small.cells()
    line = " ".join(pipeline.lines("qab")[:5])
    as_read = {code: pipeline.task_model(cell, code)[2](line).input_ids for code in ("qaa", "qab", "qac")}
    union = pipeline.union_vocabulary(cell)
    for code, folder in (("qaa", "tokenizer-north"), ("qab", "tokenizer-south"), ("qac", "tokenizer")):
        assert as_read[code] == trimmed_tokenizer(union, folder)(line).input_ids
    assert as_read["qaa"] != as_read["qab"]
    assert [pipeline.reading(one) for one in (cell, untaught)] == [
        {"read_with": "south"},
        {"read_with": "union"},
    ]
    alone = several(
        systems=["x"], variants={"x": {"of": "merged", "merge": {"vocabulary": "south"}}}, merge=merge
    )
    (other,) = alone.cells()  # whose way to normalise is not that of its only teacher
    assert Pipeline(alone, data, Store(tmp_path / "store")).union_vocabulary(other).metrics["own"].keys() == {
        "south"
    }


def test_what_a_teacher_cannot_label_is_refused_early(several, data, tmp_path: Path) -> None:
    taught = {code: ["wide"] for code in MERGE["taught_by"]}
    for changes, message in (({"k": 10**6}, "A `k` of at most"), ({}, "positions of the teacher")):
        long = {} if changes else {"text": {"length": 4000, "batch_size": 4, "lines": 60, "packed": False}}
        small = several(systems=["merged"], merge={**MERGE, "taught_by": taught, **changes}, **long)
        with pytest.raises(InputError, match=message):
            Pipeline(small, data, Store(tmp_path / "store")).check()
    assert not (tmp_path / "store").exists()


def test_layers_that_a_merged_student_has_not_are_refused_early(several, data, tmp_path: Path) -> None:
    asked = {"targets": {"retrieval": ["qac"]}, "retrieval": {"layers": [3]}}
    small = several(systems=["merged"], **asked)
    with pytest.raises(InputError, match=r"Layers from 0 to 2 were expected .* since merged has so many"):
        Pipeline(small, data, Store(tmp_path / "store")).check()


def test_a_merged_student_is_tuned_with_the_dropout_of_what_it_is_compared_with(
    several, data, tmp_path: Path
) -> None:
    small = several(systems=["merged"])
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    theirs = pipeline.uncut_teacher().encoder.config.hidden_dropout_prob
    config = pipeline.student(small.cells()[0]).path("model/config.json")
    found = json.loads(config.read_text(encoding="utf-8"))
    assert theirs > 0
    assert found["hidden_dropout_prob"] == found["attention_probs_dropout_prob"] == theirs


def test_positions_of_longer_tasks_are_in_a_merged_students_id(several, data, tmp_path: Path) -> None:
    """The usual number is not, so that what was made before is found."""
    task = several().task
    longer = {"ner": replace(task["ner"], max_length=384)}
    ids = []
    for changed in (several(), replace(several(), task=longer)):
        pipeline = Pipeline(changed, data, Store(tmp_path / "store"))
        ids.append(pipeline.student(changed.cells()[0]))
    assert ids[0].id != ids[1].id
    assert "positions" not in ids[0].manifest["config"]
    assert ids[1].manifest["config"]["positions"] == 384
