"""How long each notebook runs on the setting it opens with: after those before it, building what it needs,
and once more.

Notable: what papermill says of the clock is kept beside the processor seconds of the kernel, which other work
on the machine lengthens far less; the tables of notebooks show the latter. Measure with `OMP_NUM_THREADS=1
python tests/notebooks/running_times.py FOLDER`, which keeps the store and the executed notebooks in FOLDER,
takes about an hour, and goes on where it was stopped; then write the tables with `python
tests/notebooks/normal_form.py`.
"""

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bistil.batch import notebooks
from bistil.batch.notebooks import NOTEBOOKS, Copy
from bistil.report.readme import TIMES, TURNS
from bistil.sources.folder import open_data

Seconds = dict[str, dict[str, dict[str, float]]]


def measure(paths: Sequence[Path], folder: Path, *, keep: Callable[[Seconds], None]) -> Seconds:
    """Seconds by notebook, turn (`first`, `again`) and kind (`clock`, `processor`); `keep` is called after
    each notebook.

    The first notebook finds an empty store. One that was stopped finds what those before it have built, and
    nothing of its own.
    """
    store, kept = folder / "store", folder / TIMES
    found: Seconds = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    store.mkdir(parents=True, exist_ok=True)
    for path in paths:
        turns = found.get(path.stem, {})
        for turn in TURNS[len(turns) :]:
            growing = folder / "growing"
            shutil.rmtree(growing, ignore_errors=True)
            shutil.copytree(store, growing)
            turns[turn] = _run(path, growing, folder / turn)
            shutil.rmtree(store)
            growing.rename(store)
            kept.write_text(json.dumps(found | {path.stem: turns}), encoding="utf-8")
        found[path.stem] = turns
        keep(found)
    return found


def _run(path: Path, store: Path, to: Path) -> dict[str, float]:
    """Execute a notebook over a store; seconds by kind."""
    before = _of_children()
    notebooks.execute([Copy(path, {"store": str(store)})], to, results="", say=print)
    clock = json.loads((to / path.name).read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"]
    return {"clock": round(clock, 1), "processor": round(_of_children() - before, 1)}


def _of_children() -> float:
    """Processor seconds of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _keep(seconds: Seconds) -> None:
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    (NOTEBOOKS / TIMES).write_text(
        json.dumps({"machine": machine, "seconds": seconds}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    open_data("miniworld")  # writing the world is no notebook's work
    measure(sorted(NOTEBOOKS.glob("*.ipynb")), Path(sys.argv[1]).resolve(), keep=_keep)
