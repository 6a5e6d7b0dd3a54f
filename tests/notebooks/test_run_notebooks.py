"""The notebooks run without the demo's artefacts: under papermill with other parameters, and under nbval with
the outputs they hold, which fails where one of them holds a wrong number.

Notable: data/experiments/small.yaml has a handful of steps a stage, but the demo's texts, threshold and
density, so that everything a checked output says (counts, layer maps, exactness) is the same. With the demo's
artefacts nbval runs on the notebooks themselves, see the Makefile. """

import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest

from bistil.batch import notebooks
from bistil.batch.notebooks import Copy

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = ROOT / "data" / "experiments" / "small.yaml"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / "data/teachers/miniworld/model.safetensors").is_file(),
        reason="the miniworld teacher is not there",
    ),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks") / "store"


def on_small(path: Path, store: Path) -> Any:
    """A notebook whose parameters cell names the small experiment."""
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell["metadata"].get("tags", ()))
    cell.source = "\n".join(
        [f"experiment = {str(SMALL)!r}", f"store = {str(store)!r}", *cell.source.splitlines()[2:]]
    )
    return notebook


def nbval(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval-lax",
        "--nbval-cell-timeout=600",
        "-p",
        "no:cacheprovider",
        *more,
        str(folder),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def plant(notebook: Any) -> int:
    """Put a copy behind the first checked cell whose output has a digit, with the last one changed; the
    number of the copy among code cells.
    """
    for place, cell in enumerate(notebook.cells):
        copy = deepcopy(cell)
        for output in copy.get("outputs", ()) if "nbval-check-output" in cell["metadata"].get("tags", ()) else ():
            if found := re.search(r"[0-9](?=[^0-9]*$)", output.get("text", "")):
                wrong = str((int(found[0]) + 1) % 10)
                output["text"] = output["text"][: found.start()] + wrong + output["text"][found.end() :]
                copy["id"] = "planted"
                notebook.cells.insert(place + 1, copy)
                return sum(one.cell_type == "code" for one in notebook.cells[: place + 1])
    pytest.fail("a checked output with a number was expected")


@pytest.fixture(scope="module")
def ran(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str]]]:
    """Of each notebook the number of its planted cell, and what nbval says of each cell in their order."""
    folder, planted = tmp_path_factory.mktemp("checked"), {}
    for path in NOTEBOOKS:
        notebook = on_small(path, store)
        planted[path.stem] = plant(notebook)
        nbformat.write(notebook, folder / path.name)
    said = re.findall(
        r"^(PASSED|FAILED|ERROR|SKIPPED) (\S+?)\.ipynb::Cell (\d+)", nbval(folder, "-rA").stdout, re.MULTILINE
    )
    cells = sorted((Path(name).name, int(number), verdict) for verdict, name, number in said)
    return {
        stem: (place, [verdict for name, _, verdict in cells if name == stem])
        for stem, place in planted.items()
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_checked_outputs_come_out_the_same_and_a_planted_wrong_number_fails(
    ran: dict[str, tuple[int, list[str]]], path: Path
) -> None:
    place, verdicts = ran[path.stem]
    expected = ["PASSED"] * sum(
        cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells
    )
    assert verdicts == [*expected[:place], "FAILED", *expected[place:]]


def test_papermill_runs_them_with_another_language_task_and_depth(store: Path, tmp_path: Path) -> None:
    parameters = {"experiment": str(SMALL), "store": str(store), "target": "qab", "task": "ner", "lrf": 3}
    # the later ones train a great deal, and ran above
    chosen = NOTEBOOKS if os.environ.get("BISTIL_LONG") else NOTEBOOKS[:13]
    copies = [Copy(path, parameters) for path in chosen]
    assert notebooks.execute(copies, tmp_path, results="", say=lambda text: None) == len(chosen)


@pytest.mark.parametrize("task", ["pos", "nli", "qa"])
def test_task_distillation_is_shown_for_the_tasks_that_the_experiment_has_no_targets_for(
    store: Path, tmp_path: Path, task: str
) -> None:
    [notebook] = [path for path in NOTEBOOKS if path.name.startswith("05_")]
    parameters = {"experiment": str(SMALL), "store": str(store), "task": task}
    assert notebooks.execute([Copy(notebook, parameters)], tmp_path, results="", say=lambda text: None) == 1
