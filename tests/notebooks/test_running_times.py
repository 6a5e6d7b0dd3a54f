"""Running times are measured: what a notebook builds the first time it does not build again, and a store that is there already is refused."""

from pathlib import Path

import nbformat
import pytest
from running_times import measure

from bistil.errors import InputError

BUILD = """
import time
from pathlib import Path

built = Path(store) / "built"
while not built.exists():
    if time.process_time() > 3:
        built.parent.mkdir(parents=True)
        built.touch()
"""


@pytest.mark.slow
def test_a_notebook_is_measured_over_an_empty_store_and_again(tmp_path: Path) -> None:
    path = tmp_path / "00_builds.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(metadata=kernel)
    made.cells = [nbformat.v4.new_code_cell("store = ''", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(BUILD)]
    nbformat.write(made, path)
    first, again = measure([path], tmp_path / "measured")["00_builds"].values()
    assert first["processor"] > 3 > again["processor"] > 0
    assert first["clock"] > again["clock"] > 0


def test_a_store_that_is_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs an empty store"):
        measure([], tmp_path)
