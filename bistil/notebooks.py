"""Executed copies of the notebooks: parameters checked first, one papermill run each, and none that would say the same again.

Notable: a copy is named by the hash of its notebook, its parameters and the results it shows; it appears whole or not at all.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.provenance import canonical_json

KEPT = "manifest.json"


def parameters_of(notebook: Path) -> dict[str, Any]:
    """Return the names in a notebook's `parameters` cell with their values, read without running it.

    :raises InputError: where the notebook has no such cell.
    """
    import ast

    cells: list[Mapping[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", ())]
    if not tagged:
        raise InputError(f"A code cell tagged `parameters` was expected in {notebook}, but there is none. Tag the one with the settings.")
    found: dict[str, Any] = {}
    for line in ast.parse("".join(tagged[0]["source"])).body:
        target = line.targets[0] if isinstance(line, ast.Assign) else line.target if isinstance(line, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            found[target.id] = ast.literal_eval(line.value)
    return found


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse names the notebook does not have and values of another type than its own (papermill itself only warns of the first).

    :raises InputError: naming the notebook and the parameter.
    """
    known = parameters_of(notebook)
    for name, value in parameters.items():
        if name not in known:
            raise InputError(f"{notebook.name} has the parameters {', '.join(known) or 'none'}, but {name!r} was given. Correct the name.")
        own = known[name]
        fits = type(value) is type(own) or own is None or (isinstance(own, float) and type(value) is int)
        if not fits:
            raise InputError(
                f"The parameter {name} of {notebook.name} is of type {type(own).__name__} ({own!r}), but {value!r} was given. "
                "Give it that type."
            )


def execute(notebooks: Sequence[Path], to: Path, *, results: str, parameters: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Run every notebook whose copy in `to` is not of this notebook, these parameters and these `results` (an id); return how many.

    A failure leaves the copy with the error in it, named `….failed.ipynb`.

    :raises InputError: before anything runs, for a parameter that a notebook lacks or that has another type there; or where a cell fails.
    """
    for notebook in notebooks:
        check_parameters(notebook, parameters)
    kept, ran, given = _kept(to), 0, canonical_json({"parameters": parameters, "results": results}).encode()
    for number, notebook in enumerate(notebooks, start=1):
        wanted = sha256(notebook.read_bytes() + given).hexdigest()
        if kept.get(notebook.name) == wanted and (to / notebook.name).is_file():
            continue
        say(f"[notebook {number}/{len(notebooks)}] {notebook.name}")
        _run(notebook, to / notebook.name, parameters)
        kept[notebook.name] = wanted
        (to / KEPT).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        ran += 1
    return ran


def _run(notebook: Path, copy: Path, parameters: Mapping[str, Any]) -> None:
    """Execute one notebook in its own folder with papermill."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a kernel's threads should not spin where others need the processor
    copy.parent.mkdir(parents=True, exist_ok=True)
    growing = copy.with_suffix(".failed.ipynb")
    try:
        papermill.execute_notebook(
            notebook, growing, dict(parameters), cwd=notebook.parent, kernel_name="python3", progress_bar=True, log_output=False
        )
    except PapermillExecutionError as error:
        raise InputError(
            f"Cell {error.exec_count} of {notebook.name} was expected to run, but it ended with {error.ename}: {error.evalue}. "
            f"{growing} shows where."
        ) from error
    growing.replace(copy)


def _kept(folder: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept
