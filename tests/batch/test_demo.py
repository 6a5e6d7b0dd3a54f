"""The demo's order: notebooks are checked before long work, and a second run only says that everything is
there.
"""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from bistil.batch import demo, notebooks
from bistil.errors import InputError
from bistil.text.languages import DataFolder


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    calls: dict[str, Any] = {"stages": 0, "finished": True, "ran": 0, "written": 0}

    def report(folder: Path, *_: Any, failures: list[str], **__: Any) -> None:
        calls["written"] += 1
        calls["failures"] = failures
        for name in ("index.html", "results.csv"):
            (folder / name).write_text("whole")

    def stages(*_: Any, **__: Any) -> int:
        calls["stages"] += 1
        return 1

    monkeypatch.setattr(demo, "open_data", lambda *_: DataFolder(tmp_path))
    monkeypatch.setattr(demo, "run_experiment", stages)
    monkeypatch.setattr(demo, "_is_finished", lambda *_: calls["finished"])
    monkeypatch.setattr(demo, "rows", lambda *_: [{"artefact": "a" * 16}])
    monkeypatch.setattr(demo, "write_experiment_report", report)
    monkeypatch.setattr(notebooks, "execute", lambda *_, **__: calls["ran"])
    (tmp_path / "reports" / "demo").mkdir(parents=True)
    (tmp_path / "reports" / "demo" / "index.html").touch()
    return calls


def run(folder: Path, tour: list[Path]) -> int:
    return demo.run_demo(1, store=folder / "store", reports=folder / "reports", tour=tour)


def test_a_second_run_says_that_everything_is_there(
    tmp_path: Path, called: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, []) == 0
    assert run(tmp_path, []) == 0
    assert called["stages"] == 0
    assert called["written"] == 1, "the page that was there was of nobody knows what"
    assert "nothing to do" in capsys.readouterr().out


def test_a_notebook_that_fails_is_told_on_the_page_and_by_the_status(
    tmp_path: Path, called: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise InputError("its kernel did not")

    monkeypatch.setattr(notebooks, "execute", fail)
    assert run(tmp_path, []) == 1
    assert called["failures"] == ["notebook: its kernel did not"]


def test_failed_stages_end_the_demo_before_the_notebooks(
    tmp_path: Path, called: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    called["finished"] = False
    monkeypatch.setattr(notebooks, "execute", lambda *_, **__: pytest.fail("executed"))
    assert run(tmp_path, []) == 1


def test_a_notebook_that_cannot_take_the_parameters_is_refused_before_any_stage(
    tmp_path: Path, called: dict[str, Any]
) -> None:
    called["finished"] = False
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("lrf = 2", metadata={"tags": ["parameters"]})]
    )
    nbformat.write(made, tmp_path / "01_bad.ipynb")
    with pytest.raises(InputError, match="experiment"):
        run(tmp_path, [tmp_path / "01_bad.ipynb"])
    assert called["stages"] == 0


def test_the_tour_is_the_notebooks_of_what_the_demo_builds() -> None:
    assert [path.name[:2] for path in sorted((demo.ROOT / "notebooks").glob(demo.TOUR))] == [
        f"0{number}" for number in range(7)
    ]
