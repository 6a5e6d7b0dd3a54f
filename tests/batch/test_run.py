"""From a file to a report: every notebook's parameters are checked first, and results open as notebooks
unless they shall not.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from bistil import batch
from bistil.batch import experiments as run
from bistil.batch import notebooks
from bistil.batch.notebooks import NOTEBOOKS, check_parameters, parameters_of
from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.report import fresh
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
STUDENTS: dict[str, Any] = {
    "systems": ["teacher-ltsft", "bistil-tf:2", "bistil-st:2"],
    "targets": {"ner": ["qac"]},
}


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.name)
def test_every_notebook_refuses_unknown_and_ill_typed_parameters(notebook: Path) -> None:
    known = parameters_of(notebook)
    assert known
    check_parameters(notebook, known)
    with pytest.raises(InputError, match="'tarhget' was given"):
        check_parameters(notebook, {**known, "tarhget": "qab"})
    for name, value in known.items():
        with pytest.raises(InputError, match=f"{name} of {notebook.name} is of type {type(value).__name__}"):
            check_parameters(notebook, {name: [value]})


def copies(experiment: Experiment) -> dict[str, Any]:
    return {
        copy.name: copy.parameters for copy in run.lecture_copies(experiment, Path("e.yaml"), Path("store"))
    }


def test_results_are_shown_by_06_and_every_task_by_05(experiment) -> None:
    found = copies(
        experiment(
            targets={"parsing": ["qab", "qac"], "ner": ["qac"]},
            systems=["teacher-ltsft", "bistil-st:3", "bistil-tf:3"],
        )
    )
    names = [
        "05_task_distillation-parsing.ipynb",
        "06_results_and_cost.ipynb",
        "05_task_distillation-ner.ipynb",
    ]
    assert list(found) == names
    chosen = [(one["task"], one["target"], one["lrf"]) for one in found.values()]
    assert chosen == [("parsing", "qab", 3), ("parsing", "qab", 3), ("ner", "qac", 3)]
    assert list(copies(experiment(systems=["teacher-ltsft", "bistil-tf:2"]))) == [
        "06_results_and_cost.ipynb"
    ]  # 05 compares with bistil-st
    assert copies(experiment(systems=["teacher-ltsft", "scratch:2"])) == {}
    assert copies(experiment(systems=["bistil-tf:2", "bistil-st:2"])) == {}


def test_a_notebook_that_cannot_take_them_is_refused_before_any_stage(
    experiment_file, world: Path, tmp_path: Path, monkeypatch
) -> None:
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("lrf = 2", metadata={"tags": ["parameters"]})]
    )
    for number in ("05", "06"):
        nbformat.write(made, tmp_path / f"{number}_bad.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(run.batch, "run", lambda *_, **__: pytest.fail("a stage was built"))
    with pytest.raises(InputError, match="has the parameters lrf"):
        run.run_experiment(
            experiment_file(),
            str(world),
            tmp_path / "store",
            tmp_path / "r",
            workers=1,
            say=lambda text: None,
        )
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_batch_ends_in_notebooks_that_its_report_links(
    experiment_file, world: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    where = (experiment_file(**STUDENTS), str(world), tmp_path / "store", tmp_path / "reports")
    assert run.run_experiment(*where, workers=1, say=said.append) == 0
    folder = tmp_path / "reports" / "tiny"
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in ("05_task_distillation-ner.ipynb", "06_results_and_cost.ipynb"):
        made = nbformat.read(folder / "notebooks" / name, as_version=4)
        assert all(cell.execution_count for cell in made.cells if cell.cell_type == "code"), said
        assert f"notebooks/{name}" in page
    assert run.run_experiment(*where, workers=1, say=said.append) == 0
    assert "nothing to do" in said[-1]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages are built in this process."""

    def build(experiment: Experiment, place: Any, *, say: Any, on_score: Any, **_: Any) -> list[str]:
        jobs = batch.plan(experiment)
        account = batch.Account(len(jobs), say, on_score)
        pipeline = Pipeline(experiment, DataFolder(place.data), Store(place.store))
        for job in jobs:
            artefact = batch.perform(pipeline, job)
            account.finished(job, 0.0, new=artefact.id in pipeline.store.built)
        return account.errors

    monkeypatch.setattr(run.batch, "run", build)


@pytest.fixture
def again(here: None, experiment_file, world: Path, tmp_path: Path) -> Callable[[], tuple[int, list[str]]]:
    """Run a small experiment (again); return the status and what was said."""
    file = experiment_file(systems=["floor"], targets={"ner": ["qac"]})

    def run_it() -> tuple[int, list[str]]:
        said: list[str] = []
        where = (file, str(world), tmp_path / "store", tmp_path / "reports")
        return run.run_experiment(*where, workers=1, say=said.append), said

    return run_it


def test_some_seeds_run_and_the_report_tells_of_all(
    here: None, experiment_file, world: Path, tmp_path: Path
) -> None:
    file = experiment_file(systems=["teacher-no-adaptation"], targets={"ner": ["qac"]}, seeds=[1, 2, 3])
    where = (file, str(world), tmp_path / "store", tmp_path / "reports")
    with pytest.raises(InputError, match=r"which has 1, 2, 3, but got 4"):
        run.run_experiment(*where, workers=1, say=print, seeds=[4, 2])
    assert run.run_experiment(*where, workers=1, say=print, seeds=[2]) == 0
    folder = tmp_path / "reports" / "tiny"
    rows = read_results(folder / "results.csv")
    assert {row["seed"] for row in rows} == {2}
    assert all(row["latency_ms"] for row in rows), "timed by the first seed that ran"
    assert "seed 2 (not run yet: 1, 3)" in (folder / "index.html").read_text(encoding="utf-8")


def cut(folder: Path) -> None:
    page = (folder / "index.html").read_bytes()
    (folder / "index.html").write_bytes(page[: len(page) // 2])


def empty(folder: Path) -> None:
    (folder / "results.csv").write_text("")


def lose_the_note(folder: Path) -> None:
    (folder / "shown.json").unlink()


@pytest.mark.parametrize("damage", [cut, empty, lose_the_note])
def test_a_page_that_is_cut_or_old_is_made_again(damage, again, tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "tiny"
    assert again()[0] == 0
    whole = {name: (folder / name).read_bytes() for name in ("index.html", "results.csv")}
    assert again()[1][-1] == "everything was there already; nothing to do"
    damage(folder)
    assert again()[1][-1].startswith("report: ")
    assert {name: (folder / name).read_bytes() for name in whole} == whole
    assert again()[1][-1] == "everything was there already; nothing to do"


def test_a_run_that_was_ended_before_its_page_writes_it_the_next_time(
    again, tmp_path: Path, monkeypatch
) -> None:
    assert again()[0] == 0
    page = tmp_path / "reports" / "tiny" / "index.html"
    page.write_text("the page of an experiment of before")
    lose_the_note(page.parent)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_experiment_report", killed)
        with pytest.raises(KeyboardInterrupt):
            again()
    assert again()[1][-1].startswith("report: ")
    assert "of before" not in page.read_text(encoding="utf-8")


def test_what_a_page_shows_is_more_than_how_many_rows_there_are(experiment, tmp_path: Path) -> None:
    asked, store = experiment(), Store(tmp_path)
    row = {"artefact": "a" * 16, "value": 50.0, "latency_ms": None}
    before = fresh.shown(tmp_path, asked, [row], store, [])
    assert fresh.shown(tmp_path, asked, [dict(row)], store, []) == before
    assert fresh.shown(tmp_path, asked, [{**row, "latency_ms": 1.5}], store, []) != before
    assert fresh.shown(tmp_path, asked, [row], store, ["a stage failed"]) != before
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "05.ipynb").write_text("{}")
    assert fresh.shown(tmp_path, asked, [row], store, []) != before


def test_a_reports_folder_that_cannot_be_written_any_more_costs_no_stage(
    again, tmp_path: Path, monkeypatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_results", full)
        patch.setattr(run, "write_experiment_report", full)
        status, said = again()
    assert status == 1
    assert [line for line in said if "scores so far could not be told: [Errno 28]" in line]
    assert said[-1].startswith("FAILED report: [Errno 28]")
    assert again()[0] == 0


def test_a_reports_folder_that_cannot_be_written_is_refused_before_any_stage(
    again, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "reports").write_text("a file")
    monkeypatch.setattr(run.batch, "run", lambda *_, **__: pytest.fail("a stage was built"))
    with pytest.raises(InputError, match=r"The report should go into the folder .*Not a directory"):
        again()


def test_damage_that_is_not_this_experiments_and_a_score_that_is_none_cost_no_report(
    again, tmp_path: Path
) -> None:
    assert again()[0] == 0
    for kind in ("evaluation", "timing"):
        other = tmp_path / "store" / kind / ("0" * 16)
        other.mkdir(parents=True)
        (other / "manifest.json").write_text("{")
    [path] = [
        path
        for path in (tmp_path / "store" / "evaluation").glob("*/manifest.json")
        if "0" * 16 not in str(path)
    ]
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    manifest["metrics"]["recall"] = None
    path.write_text(json.dumps(manifest), encoding="utf-8")
    status, said = again()
    assert status == 0
    assert said[-1].startswith("report: ")
    rows = read_results(tmp_path / "reports" / "tiny" / "results.csv")
    assert {row["metric"] for row in rows} == {"f1", "precision"}
