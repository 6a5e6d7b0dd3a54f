"""Every notebook is in normal form, and the check sees what is not."""

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from normal_form import indexes, problems, tidy

from bistil.batch.notebooks import parameters_of
from bistil.errors import InputError
from bistil.report.readme import TIMES, indexed

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_is_one_numbered_series() -> None:
    numbers = [path.name[:3] for path in NOTEBOOKS]
    assert numbers[:13] == [f"{number:02}_" for number in range(13)]
    assert len(set(numbers)) == len(numbers)  # further ones may come out of turn


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_in_normal_form(path: Path) -> None:
    assert problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_given_the_same_parameters_as_the_others(path: Path) -> None:
    assert list(parameters_of(path)) == ["experiment", "store", "source", "target", "task", "lrf", "seed"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rhythm_is_that_of_a_lecture(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.startswith("# ")
    assert "**" in cells[0].source
    titles = [
        line
        for cell in cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    assert titles[-3:] == ["## Try it", "## Exercises", "## Honest limits"]


def test_the_check_sees_stripped_and_untidy_notebooks_and_tidy_mends_them(tmp_path: Path) -> None:
    made = nbformat.v4.new_notebook(metadata={"widgets": {}})
    checked = nbformat.v4.new_code_cell("print(1)", metadata={"tags": ["nbval-check-output"]})
    checked.outputs = [
        nbformat.v4.new_output("stream", text="1\n"),
        nbformat.v4.new_output("stream", name="stderr", text="warning\n"),
    ]
    loud = nbformat.v4.new_code_cell(
        "2", outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=7)]
    )
    made.cells = [nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}), checked, loud]
    wide = nbformat.v4.new_code_cell("\n".join(["b = 1", f"c = {'1' * 85}", *["d = 1"] * 23]))
    nbformat.write(nbformat.v4.new_notebook(cells=[wide]), tmp_path / "wide.ipynb")
    found = " ".join(problems(tmp_path / "wide.ipynb"))
    assert "has a line of 89 columns" in found
    assert "has 25 lines" in found
    path = tmp_path / "00.ipynb"
    nbformat.write(made, path)
    found = " ".join(problems(path))
    for word in ("counts", "metadata", "keeps an error", "without a tag"):
        assert word in found
    tidy(path)
    assert problems(path) == []
    mended = nbformat.read(path, as_version=4)
    assert [len(cell.outputs) for cell in mended.cells] == [0, 1, 0]
    mended.cells[1].outputs = []
    nbformat.write(mended, path)
    assert problems(path) == [f"{mended.cells[1]['id']}: is tagged but has no output"]


def test_both_tables_of_notebooks_are_those_that_the_notebooks_give() -> None:
    for readme, text in indexes().items():
        assert len(re.findall(r"^\| \[?\d\d ", text, re.M)) == len(NOTEBOOKS)
        assert readme.read_text(encoding="utf-8") == text


def test_a_table_of_notebooks_is_made_of_their_first_cells_and_measured_times(tmp_path: Path) -> None:
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Trees\n\n**A tree has one root:** see.\n\n**Not this.**")]
    )
    path = tmp_path / "notebooks" / "03_trees.ipynb"
    path.parent.mkdir()
    nbformat.write(made, path)
    text = indexed("a\n<!-- notebooks -->\nold\n<!-- end -->\nb", [path], tmp_path)
    line = "| [03 Trees](notebooks/03_trees.ipynb) | A tree has one root |"
    assert (
        text
        == f"a\n<!-- notebooks -->\n| | shows | minutes |\n| --- | --- | ---: |\n{line} – |\n<!-- end -->\nb"
    )
    turns = {"first": {"clock": 500.0, "processor": 93.0}, "again": {"clock": 9.0, "processor": 6.0}}
    times = {"machine": {"cores": 4, "threads": 1}, "seconds": {"03_trees": turns}}
    (path.parent / TIMES).write_text(json.dumps(times), encoding="utf-8")
    timed = indexed("<!-- notebooks -->\n\n<!-- end -->", [path], tmp_path)
    assert f"{line} 2 / < 1 |\n\nMinutes of processor time (1 thread, 4 cores): " in timed
    made.cells[0].source = "# Trees\n\nno claim"
    nbformat.write(made, path)
    with pytest.raises(InputError, match="a claim between two"):
        indexed("<!-- notebooks -->\n\n<!-- end -->", [path], tmp_path)


def test_make_lab_opens_the_first_notebook_in_copies_that_git_ignores() -> None:
    dry = ["make", "-n", "-o", ".venv/.installed", "lab"]
    told = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "cp -n notebooks/*.ipynb lab/" in told
    assert f'root_dir="{ROOT}" --LabApp.default_url=/lab/tree/lab/00_workbench.ipynb' in told
    ignored = ["git", "check-ignore", "lab/00_workbench.ipynb", "lab/.ipynb_checkpoints/x.ipynb"]
    assert (
        subprocess.run(ignored, cwd=ROOT, capture_output=True, text=True, check=True).stdout.count("\n") == 2
    )
