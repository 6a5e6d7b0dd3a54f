"""The notebooks run without the demo's artefacts: under papermill with other parameters, and under nbval with the outputs they hold.

Notable: data/experiments/small.yaml has a handful of steps a stage, but the demo's texts, threshold and density, so that everything a
checked output says (counts, layer maps, exactness) is the same. With the demo's artefacts nbval runs on the notebooks themselves, see the
Makefile.
"""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from bistil import notebooks
from bistil.notebooks import Copy

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = ROOT / "data" / "experiments" / "small.yaml"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "data/teachers/miniworld/model.safetensors").is_file(), reason="the miniworld teacher is not there"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks") / "store"


def test_the_checked_outputs_come_out_the_same(store: Path, tmp_path: Path) -> None:
    """nbval on copies whose parameters cell names the small experiment."""
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        cell = next(cell for cell in notebook.cells if "parameters" in cell["metadata"].get("tags", ()))
        lines = [f"experiment = {str(SMALL)!r}", f"store = {str(store)!r}", *cell.source.splitlines()[2:]]
        cell.source = "\n".join(lines)
        nbformat.write(notebook, tmp_path / path.name)
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-cell-timeout=600", "-p", "no:cacheprovider", str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-6000:]
    assert "skipped" not in run.stdout.splitlines()[-1]


def test_papermill_runs_them_with_another_language_task_and_depth(store: Path, tmp_path: Path) -> None:
    parameters = {"experiment": str(SMALL), "store": str(store), "target": "qab", "task": "ner", "lrf": 3}
    copies = [Copy(path, parameters) for path in NOTEBOOKS]
    assert notebooks.execute(copies, tmp_path, results="", say=lambda text: None) == len(NOTEBOOKS)


@pytest.mark.parametrize("task", ["pos", "nli", "qa"])
def test_task_distillation_is_shown_for_the_tasks_that_the_experiment_has_no_targets_for(store: Path, tmp_path: Path, task: str) -> None:
    [notebook] = [path for path in NOTEBOOKS if path.name.startswith("05_")]
    parameters = {"experiment": str(SMALL), "store": str(store), "task": task}
    assert notebooks.execute([Copy(notebook, parameters)], tmp_path, results="", say=lambda text: None) == 1
