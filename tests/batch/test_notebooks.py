"""Executed copies: parameters are checked before anything runs, and nothing is run twice."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from bistil.batch import notebooks
from bistil.batch.notebooks import Copy
from bistil.errors import InputError


def notebook(path: Path, *lines: str, tags: tuple[str, ...] = ("parameters",)) -> Path:
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    made.cells = [
        nbformat.v4.new_code_cell(lines[0], metadata={"tags": list(tags)}),
        *map(nbformat.v4.new_code_cell, lines[1:]),
    ]
    nbformat.write(made, path)
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return notebook(tmp_path / "01_first.ipynb", "lrf = 2\nname: str = 'a'\nshare = 0.5")


def run(paths: list[Path], to: Path, results: str = "r", **parameters: Any) -> int:
    return notebooks.execute(
        [Copy(path, parameters) for path in paths], to, results=results, say=lambda text: None
    )


def test_parameters_are_read_without_running(first: Path) -> None:
    assert notebooks.parameters_of(first) == {"lrf": 2, "name": "a", "share": 0.5}
    notebooks.check_parameters(first, {"lrf": 3, "share": 1})


@pytest.mark.parametrize(
    ("parameters", "told"), [({"lfr": 2}, "lfr"), ({"lrf": "2"}, "type int"), ({"lrf": True}, "type int")]
)
def test_unknown_names_and_other_types_are_refused(
    first: Path, parameters: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        notebooks.check_parameters(first, parameters)


def test_a_notebook_without_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="parameters"):
        notebooks.parameters_of(notebook(tmp_path / "02.ipynb", "x = 1", tags=()))


def test_a_copy_is_made_once_for_the_same_notebook_parameters_and_results(
    tmp_path: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def pretend(notebook: Path, copy: Path, parameters: dict[str, Any]) -> None:
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(notebook.read_bytes())
        ran.append(notebook.name)

    monkeypatch.setattr(notebooks, "_run", pretend)
    to = tmp_path / "copies"
    assert run([first], to, lrf=2) == 1
    assert run([first], to, lrf=2) == 0
    assert run([first], to, lrf=3) == 1
    assert run([first], to, results="other", lrf=3) == 1
    notebook(first, "lrf = 4")
    assert run([first], to, results="other", lrf=3) == 1
    (to / first.name).unlink()
    assert run([first], to, results="other", lrf=3) == 1
    assert len(ran) == 5


@pytest.mark.slow
def test_papermill_executes_a_copy_and_an_error_names_its_cell(tmp_path: Path) -> None:
    good = notebook(tmp_path / "01_good.ipynb", "lrf = 2", "print(lrf * 7)")
    bad = notebook(tmp_path / "02_bad.ipynb", "lrf = 2", "1 / 0")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        run([good, bad], tmp_path / "copies", lrf=3)
    assert "21" in (tmp_path / "copies" / good.name).read_text(encoding="utf-8")
    assert not (tmp_path / "copies" / bad.name).exists()


@pytest.mark.parametrize(
    "error", [DeadKernelError("Kernel died"), CellTimeoutError("too long"), NoSuchKernel("python3")]
)
def test_a_kernel_that_dies_is_an_input_error_like_any_failing_cell(
    error: Exception, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("papermill.execute_notebook", die)
    with pytest.raises(
        InputError, match=r"01_first\.ipynb was expected to run to its end, but its kernel did not"
    ):
        run([first], tmp_path / "out")


def test_a_notebook_whose_metadata_was_taken_away_runs_in_python(first: Path, tmp_path: Path) -> None:
    bare = nbformat.read(first, as_version=4)
    bare.metadata = nbformat.NotebookNode()
    nbformat.write(bare, first)
    assert run([first], tmp_path / "to", lrf=3) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"cells": 1}',
        b'{"cells": [1]}',
        b'{"cells": [{"metadata": {"tags": ["parameters"]}, "source": "lrf = "}]}',
        b'{"cells": [{"metadata": {"tags": ["parameters"]}, "source": "lrf = open()"}]}',
        b'{"cells": [{"metadata": {"tags": ["parameters"]}}]}',
    ],
)
def test_what_is_no_notebook_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_bytes(content)
    with pytest.raises(InputError, match=r"notebook was expected at .*x\.ipynb"):
        notebooks.parameters_of(tmp_path / "x.ipynb")
