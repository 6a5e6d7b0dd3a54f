"""From a file to a report: every notebook's parameters are checked first, and results open as notebooks
unless they shall not.
"""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from bistil.batch import experiments as run
from bistil.batch import notebooks
from bistil.batch.notebooks import NOTEBOOKS, check_parameters, parameters_of
from bistil.errors import InputError
from bistil.experiment import Experiment

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
