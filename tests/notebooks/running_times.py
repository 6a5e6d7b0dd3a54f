"""How long the notebooks run on the setting they open with: in order over an empty store, where each builds what it needs, and once more.

Notable: what papermill says of the clock is kept beside the processor seconds of the kernel, which other work on the machine does not
lengthen; the tables of notebooks show the latter. Measure with `OMP_NUM_THREADS=1 python tests/notebooks/running_times.py FOLDER` (about half
an hour; FOLDER, not there yet, keeps the store and the executed notebooks) and write the tables with `python tests/notebooks/normal_form.py`.
"""

import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bistil import notebooks
from bistil.errors import InputError
from bistil.notebooks import NOTEBOOKS, Copy
from bistil.places import open_data
from bistil.report.readme import TIMES, TURNS

Seconds = dict[str, dict[str, dict[str, float]]]


def measure(paths: Sequence[Path], folder: Path) -> Seconds:
    """Seconds by notebook, turn (`first`, `again`) and kind (`clock`, `processor`).

    :raises InputError: where `folder` is there already, since what a store holds is not built the first time.
    """
    if folder.exists():
        raise InputError(f"A folder that is not there yet was expected, but {folder} is: the first turn needs an empty store. Name another.")
    found: Seconds = {path.stem: {} for path in paths}
    parameters = {"store": notebooks.from_notebooks(folder / "store")}
    for turn in TURNS:
        for path in paths:
            before = _of_children()
            notebooks.execute([Copy(path, parameters)], folder / turn, results="", say=print)
            clock = json.loads((folder / turn / path.name).read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"]
            found[path.stem][turn] = {"clock": round(clock, 1), "processor": round(_of_children() - before, 1)}
            print(turn, path.stem, found[path.stem][turn], flush=True)
    return found


def _of_children() -> float:
    """Processor seconds of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    open_data("miniworld")  # writing the world is no notebook's work
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    seconds = measure(sorted(NOTEBOOKS.glob("*.ipynb")), Path(sys.argv[1]).resolve())
    (NOTEBOOKS / TIMES).write_text(json.dumps({"machine": machine, "seconds": seconds}, indent=1) + "\n", encoding="utf-8")
