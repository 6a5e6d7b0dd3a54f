"""A method nobody has written code for: a new recipe, adaptation and learning as values only, from the
experiment to the report, the workbench and the export; and no other room that knows a system by its name.
"""

import ast
from pathlib import Path

import pytest

from bistil import batch
from bistil.deploy import write
from bistil.deploy.read import load_deployed
from bistil.evaluation.results import read_results
from bistil.pipeline import Pipeline
from bistil.plan import plan
from bistil.report.experiment import write_experiment_report
from bistil.store.artefacts import Store
from bistil.systems.table import SYSTEMS
from bistil.workbench.stages import jobs_of, status_of

PACKAGE = Path(__file__).parents[2] / "bistil"
VARIANTS = {
    "mixture": {
        "of": "bistil-tf",
        "recipe": {
            "terms": {
                "attention": None,
                "hidden": {"of": "hidden", "by": "cosine", "over": "sum"},
                "first": {"of": "embedding", "by": "mse", "weight": 0.5},
                "soft": {"of": "prediction", "by": "kl", "temperature": 2.0},
            },
            "layers": "bottom",
            "start": "random",
        },
        "adaptation": {"worn": "sft", "select": "random", "in_training": False},
        "learning": {
            "select": "biases",
            "rows": [{"most": 12}, {"language": "target", "split": "dev", "most": 4}],
        },
    }
}


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_new_method_is_a_value_all_the_way(experiment, data, tmp_path: Path, monkeypatch) -> None:
    task = {"batch_size": 4, "max_length": 48}
    phase = {"steps": 2, "learning_rate": 1e-3, "evaluations": 1}
    small = experiment(
        variants=VARIANTS,
        systems=["teacher-ltsft", "mixture:2", "floor"],
        targets={"ner": ["qac"]},
        task={"ner": {**task, "sft": {"lottery": {"density": 0.1}, "dense": phase, "sparse": phase}}},
    )
    cell = next(cell for cell in small.cells() if cell.system == "mixture")
    jobs = plan(small)
    assert {job.stage for job in jobs} == {
        "vocabulary", "language_sft", "student", "task_sft", "evaluation", "timing"
    }  # fmt: skip
    place = batch.Place(data.root, tmp_path / "store")
    assert batch.run(small, place, workers=1, say=lambda text: None) == []
    pipeline = Pipeline(small, data, Store(place.store))
    student = pipeline.student(cell)
    assert set(student.manifest["config"]["recipe"]["terms"]) == {"hidden", "first", "soft"}
    sft = pipeline.task_sft(cell).manifest
    assert {"train", "dev qac", "dev", "task teacher"} <= set(sft["inputs"])
    assert "source sft" not in sft["inputs"]
    assert [part["most"] for part in sft["config"]["rows"]] == [12, 4]
    assert "target sft" in pipeline.evaluation(cell).manifest["inputs"]

    rows = batch.rows(batch.reader(small, place))
    page = write_experiment_report(tmp_path / "report", small, rows, pipeline.store, failures=[])
    mine = next(row for row in read_results(page.parent / "results.csv") if row["system"] == "mixture")
    assert (mine["start"], mine["layers"], mine["lrf"]) == ("random", "bottom", 2)
    assert (mine["adaptation"], mine["learning"], mine["follows"], mine["regime"]) == (
        "sft random use only", "biases", "teacher", "source:12+target dev:4"
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert "As bistil-tf, but without the term attention" in text
    assert (page.parent / "figures" / "student-mixture-lrf-2.svg").is_file()

    status = [status_of(pipeline, job) for job in jobs_of(small, cell)]
    assert all(stage.there for stage in status)
    assert any("student, mixture lrf 2" in stage.name for stage in status)
    write.export(pipeline, cell, "folder", tmp_path / "taken", say=lambda line: None)
    model, labelled, _ = load_deployed(tmp_path / "taken")
    assert model.encoder.config.num_hidden_layers == 3
    assert labelled.labels


def strings(path: Path):
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.lineno, node.value


OTHER_MEANINGS = {
    "floor": {"bistil/tasks/__init__.py", "bistil/pipeline/tuned.py"},
    "scratch": {"bistil/pipeline/students.py", "bistil/plan/begin.py"},
    "minilm": {"bistil/pipeline/students.py"},
}
"""Words that are also something else: a function of tasks, a metric, a part of an experiment file."""


def test_no_other_room_knows_a_system_by_its_name() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE.parent).as_posix()
        if name.startswith("bistil/systems/"):
            continue
        for line, text in strings(path):
            exact = text in SYSTEMS and name not in OTHER_MEANINGS.get(text, set())
            within = any(one in text for one in SYSTEMS if "-" in one)
            prefix = text.rstrip("-") in {"teacher", "bistil", "minilm"} and text.endswith("-")
            if exact or within or prefix:
                found.append(f"{name}:{line}: {text!r}")
    for path in PACKAGE.rglob("*.j2"):
        text = path.read_text(encoding="utf-8")
        found += [f"{path.name}: {one}" for one in SYSTEMS if "-" in one and one in text]
    assert found == []
