"""The panel of reports: what its index says, narrowed by words, opened, and compared as the command does."""

import shutil
from pathlib import Path

from bistil.report.compare import compare
from bistil.report.sides import read_side
from bistil.workbench import reports_panel

KEPT = Path(__file__).parents[2] / "reports"
NAMES = ("miniworld-nli", "miniworld-qa", "miniworld-anatomy")


def test_reports_are_listed_narrowed_opened_and_compared(tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copytree(KEPT / name, tmp_path / name)
    panel = reports_panel(tmp_path)
    assert "ReportsPanel" in repr(panel)  # as a notebook shows it
    assert all(name in panel.list.value for name in NAMES)
    panel.words.value = "QUESTION qaa"
    assert "miniworld-qa" in panel.list.value
    assert "miniworld-nli" not in panel.list.value
    panel.words.value = "nobody"
    assert "No such report" in panel.list.value

    assert "miniworld-anatomy" not in panel.left.options  # a study has no results to compare
    panel.left.value = "miniworld-nli"
    assert panel.difference.value == ""
    panel.right.value = "miniworld-qa"
    sides = [read_side(tmp_path / name, tmp_path) for name in NAMES[:2]]
    assert all(one.title in panel.difference.value for one in compare(*sides))
    panel.right.value = "–"
    assert panel.difference.value == ""

    panel.opened.value = "miniworld-nli"
    assert "srcdoc=" in panel.page.value
    assert "about:srcdoc" in panel.page.value
    shutil.rmtree(tmp_path / "miniworld-qa")
    panel.right.value = "miniworld-qa"
    assert "miniworld-qa" in panel.error.value

    (tmp_path / "miniworld-anatomy" / "index.html").unlink()
    panel.opened.value = "miniworld-anatomy"
    assert "it is gone. Press Refresh." in panel.error.value
    assert panel.page.value == ""
    shutil.copytree(KEPT / "miniworld-claims", tmp_path / "miniworld-claims")
    panel.words.value = ""
    panel.refresh.click()
    assert panel.opened.options == ("–", "miniworld-claims", "miniworld-nli")
    assert (panel.left.value, panel.right.value, panel.opened.value) == ("miniworld-nli", "–", "–")
    assert "miniworld-claims" in panel.list.value
    assert panel.error.value == ""


def test_a_folder_without_reports_says_so(tmp_path: Path) -> None:
    assert "No such report" in reports_panel(tmp_path).list.value
