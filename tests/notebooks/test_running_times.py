"""Running times are measured: what a notebook builds the first time it does not build again, and a stopped
measurement goes on.
"""

from pathlib import Path

import nbformat
import pytest
from running_times import Seconds, measure

from bistil.errors import InputError

BUILD = """
import time
from pathlib import Path

built = Path(store) / "built"
while not built.exists():
    if time.process_time() > 3:
        built.touch()
"""
FAIL = "built.with_name('half').touch(); 1 / 0"


def write(path: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    made.cells = [
        nbformat.v4.new_code_cell("store = ''", metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, cells),
    ]
    nbformat.write(made, path)
    return path


@pytest.mark.slow
def test_notebooks_are_measured_over_what_those_before_built_and_again(tmp_path: Path) -> None:
    paths = [write(tmp_path / "00_builds.ipynb", BUILD), write(tmp_path / "01_stops.ipynb", BUILD, FAIL)]
    kept: list[Seconds] = []
    folder = tmp_path / "measured"
    with pytest.raises(InputError, match="ZeroDivisionError"):
        measure(paths, folder, keep=kept.append)
    [built] = kept
    first, again = built["00_builds"].values()
    assert first["processor"] > 3 > again["processor"] > 0
    assert all(turn["clock"] > 0 for turn in (first, again))  # other work lengthens either: they are not compared
    write(paths[1], BUILD, "assert not built.with_name('half').exists()")
    found = measure(paths, folder, keep=kept.append)
    assert found["00_builds"] == {"first": first, "again": again}
    assert 0 < found["01_stops"]["first"]["processor"] < 3
