"""POS, NLI and QA through the pipeline: scores, rows, titles and exports of teacher and student; retrieval on
their encoders.
"""

import json
import shutil
from pathlib import Path

import pytest
from tiny import entries

from bistil.errors import InputError
from bistil.evaluation.results import COLUMNS, METRICS, Setting, primary_metric
from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.report.tables import score_tables, setting_name
from bistil.settings.yaml import build
from bistil.store.artefacts import Store
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.tasks.retrieval import Side, parallel, retrieve
from bistil.text.languages import DataFolder

SYSTEMS = ("teacher-ltsft", "bistil-tf:2", "floor")
TITLES = {
    "pos": "Parts of speech",
    "nli": "Natural language inference",
    "classification": "Text classification",
    "choice": "Choice of an answer",
    "qa": "Question answering",
}
CLASSES = {
    "pos": "BertForTokenClassification",
    "nli": "BertForSequenceClassification",
    "classification": "BertForSequenceClassification",
    "qa": "BertForQuestionAnswering",
}
SCORES = {
    "pos": {"accuracy"},
    "nli": {"accuracy"},
    "classification": {"macro_f1", "micro_f1", "accuracy"},
    "choice": {"accuracy"},
    "qa": {"em", "f1"},
}


@pytest.fixture(scope="module")
def pipeline(teacher_folder: Path, data, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    whole = entries(teacher_folder, steps=1)
    task = whole["task"]["ner"]
    plan = {
        **whole,
        "targets": {name: ["qac"] for name in TITLES},
        "task": dict.fromkeys(TITLES, task),
        "systems": list(SYSTEMS),
    }
    return Pipeline(build(Experiment, plan, "tiny"), data, Store(tmp_path_factory.mktemp("store")))


@pytest.mark.slow
@pytest.mark.parametrize("name", TITLES)
def test_a_task_ends_in_rows_of_teacher_student_and_floor(pipeline: Pipeline, name: str) -> None:
    pipeline.check()
    rows = [row for cell in pipeline.experiment.cells() if cell.task == name for row in pipeline.rows(cell)]
    assert {(row["system"], row["metric"]) for row in rows} == {
        (s.partition(":")[0], metric) for s in SYSTEMS for metric in SCORES[name]
    }
    for row in rows:
        assert set(row) == set(COLUMNS)
        assert 0.0 <= row["value"] <= 100.0
        assert row["n_examples"] == len(find_task(name).read(pipeline.data.file(column(name), "qac", "test")))
        assert (row["flops_per_example"] is None) == (row["system"] == "floor")
    assert primary_metric(rows, name) == find_task(name).metric
    setting = Setting(name, "tiny", "qaa")
    assert setting_name(setting) == f"{TITLES[name]} (tiny, from qaa)"
    assert (
        next(table["metric"] for table in score_tables(rows, setting))
        == f"{METRICS[primary_metric(rows, name)]} (%)"
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "nli",
            "\tneutral",
            "\tmaybe",
            r"qac-test.tsv, line \d+: expected a label, one of entailment, .* but got 'maybe'",
        ),
        (
            "qa",
            '"answer_start": ',
            '"answer_start": 1',
            r"qac-test.json, line \d+, question qac-test-0-0: expected the answer .* but got",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_line_before_any_work(
    teacher_folder: Path, world: Path, tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    spoilt = DataFolder(shutil.copytree(world, tmp_path / "world"))
    file = spoilt.file(column(name), "qac", "test")
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    whole = entries(teacher_folder, steps=1)
    plan = {
        **whole,
        "targets": {name: ["qac"]},
        "task": {name: whole["task"]["ner"]},
        "systems": list(SYSTEMS),
    }
    with pytest.raises(InputError, match=said):
        Pipeline(build(Experiment, plan, "tiny"), spoilt, Store(tmp_path / "store")).check()
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").iterdir())


def test_a_task_besides_the_targets_has_scores_but_no_timing_and_one_without_settings_is_refused(
    teacher_folder: Path, data, tmp_path: Path
) -> None:
    whole = entries(teacher_folder, steps=1)
    plan = {**whole, "targets": {"ner": ["qac"]}, "task": dict.fromkeys(("ner", "pos"), whole["task"]["ner"])}
    pipeline = Pipeline(build(Experiment, plan, "tiny"), data, Store(tmp_path))
    [row] = pipeline.rows(Cell("floor", "pos", "qac", 1, 1))
    assert (row["metric"], row["latency_ms"]) == ("accuracy", None)
    assert not (tmp_path / "timing").exists()
    with pytest.raises(
        InputError, match="Settings for nli under `task` of the experiment tiny were expected"
    ):
        pipeline.task_sft(Cell("teacher-ltsft", "nli", "qac", 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_the_student_is_a_class_of_transformers(pipeline: Pipeline, name: str) -> None:
    deployed = pipeline.deployed(Cell("bistil-tf", name, "qac", 2, 1))
    config = json.loads((deployed.path("model") / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [CLASSES[name]]
    assert list(config["id2label"].values()) == deployed.metrics["labels"]


@pytest.mark.slow
@pytest.mark.parametrize(("system", "lrf"), [("teacher-ltsft", 1), ("bistil-tf", 2)])
def test_sentences_are_retrieved_with_the_encoders_of_a_cell(
    pipeline: Pipeline, system: str, lrf: int
) -> None:
    cell = Cell(system, "nli", "qac", lrf, 1)
    source, target = (Side(*pipeline.encoder(cell, code)) for code in ("qaa", "qac"))
    pairs = parallel(pipeline.data, "qaa", "qac")
    for by in ("cosine", "bertscore"):
        found = retrieve(source, target, pairs, layer=3, by=by)
        assert set(found) == {"forward", "backward", "accuracy"}
        assert all(0.0 <= value <= 100.0 for value in found.values())
