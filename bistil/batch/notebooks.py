"""Executed copies of the notebooks: parameters checked first, one papermill run each, and none that would say
the same again.

Notable: a copy is named by the hash of its notebook, its parameters and the results it shows; it appears
whole or not at all.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bistil.errors import InputError
from bistil.settings.files import read_json
from bistil.settings.places import ROOT
from bistil.store.provenance import canonical_json
from bistil.store.whole import write_whole

KEPT = "manifest.json"
NOTEBOOKS = ROOT / "notebooks"


class Copy(NamedTuple):
    """A notebook to execute: its parameters, and what its copy's name has after the notebook's own."""

    notebook: Path
    parameters: Mapping[str, Any]
    suffix: str = ""

    @property
    def name(self) -> str:
        """The file name of the executed copy."""
        return f"{self.notebook.stem}{self.suffix}.ipynb"


def numbered(number: str) -> Path:
    """The lecture with this number."""
    return next(NOTEBOOKS.glob(f"{number}_*.ipynb"))


def from_notebooks(path: Path) -> str:
    """A path as a notebook names it, so that executed copies tell no machine's folders."""
    return Path(os.path.relpath(path, NOTEBOOKS)).as_posix()


def can_execute() -> bool:
    """Whether what the notebooks need is installed: papermill, a kernel, widgets."""
    return all(find_spec(name) for name in ("papermill", "ipykernel", "ipywidgets", "anywidget"))


def parameters_of(notebook: Path) -> dict[str, Any]:
    """Return the names in a notebook's `parameters` cell with their values, read without running it.

    Raises:
        InputError: where the file is no notebook, or has no such cell.
    """
    try:
        cells: list[Mapping[str, Any]] = read_json(notebook, dict)["cells"]
        tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", ())]
        found = _values("".join(tagged[0]["source"])) if tagged else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"A notebook was expected at {notebook}, with names and plain values in its cell of parameters,"
            f" but it cannot be read as one ({type(error).__name__}: {error}). Save it again."
        ) from error
    if not tagged:
        raise InputError(
            f"A code cell tagged `parameters` was expected in {notebook}, but there is none. Tag the one with"
            " the settings."
        )
    return found


def _values(source: str) -> dict[str, Any]:
    """The names that Python gives a plain value, with it."""
    import ast

    found: dict[str, Any] = {}
    for line in ast.parse(source).body:
        target = (
            line.targets[0]
            if isinstance(line, ast.Assign)
            else line.target
            if isinstance(line, ast.AnnAssign)
            else None
        )
        if (
            isinstance(target, ast.Name)
            and isinstance(line, ast.Assign | ast.AnnAssign)
            and line.value is not None
        ):
            found[target.id] = ast.literal_eval(line.value)
    return found


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse names the notebook does not have and values of another type than its own (papermill itself only
    warns of the first).

    Raises:
        InputError: naming the notebook and the parameter.
    """
    known = parameters_of(notebook)
    for name, value in parameters.items():
        if name not in known:
            raise InputError(
                f"{notebook.name} has the parameters {', '.join(known) or 'none'}, but {name!r} was given."
                " Correct the name."
            )
        own = known[name]
        fits = type(value) is type(own) or own is None or (isinstance(own, float) and type(value) is int)
        if not fits:
            raise InputError(
                f"The parameter {name} of {notebook.name} is of type {type(own).__name__} ({own!r}), but"
                f" {value!r} was given. Give it that type."
            )


def execute(copies: Sequence[Copy], to: Path, *, results: str, say: Callable[[str], None]) -> int:
    """Run every notebook whose copy in `to` is not of this notebook, its parameters and these `results` (an
    id); return how many.

    A failure leaves the copy with the error in it, named `….failed.ipynb`.

    Raises:
        InputError: before anything runs, for a parameter that a notebook lacks or that has another type
            there; or where a cell fails.
    """
    for copy in copies:
        check_parameters(copy.notebook, copy.parameters)
    kept, ran = _kept(to), 0
    for number, copy in enumerate(copies, start=1):
        given = canonical_json({"parameters": copy.parameters, "results": results}).encode()
        wanted = sha256(copy.notebook.read_bytes() + given).hexdigest()
        if kept.get(copy.name) == wanted and (to / copy.name).is_file():
            continue
        say(f"[notebook {number}/{len(copies)}] {copy.name}")
        _run(copy.notebook, to / copy.name, copy.parameters)
        kept[copy.name] = wanted
        write_whole(to / KEPT, json.dumps(kept, indent=1, sort_keys=True) + "\n")
        ran += 1
    return ran


def _run(notebook: Path, copy: Path, parameters: Mapping[str, Any]) -> None:
    """Execute one notebook in its own folder with papermill."""
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # a kernel's threads should not spin where others need the processor
    copy.parent.mkdir(parents=True, exist_ok=True)
    growing = copy.with_suffix(".failed.ipynb")
    quietly = [
        "--log-level=ERROR"
    ]  # a kernel warns at every start that it listens on this machine without encryption
    kernel = {
        "cwd": notebook.parent,
        "kernel_name": "python3",
        "language": "python",  # a notebook without metadata does not say
        "extra_arguments": quietly,
    }
    try:
        papermill.execute_notebook(
            notebook, growing, dict(parameters), progress_bar=True, log_output=False, **kernel
        )
    except PapermillExecutionError as error:
        raise InputError(
            f"Cell {error.exec_count} of {notebook.name} was expected to run, but it ended with"
            f" {error.ename}: {error.evalue}. {growing} shows where."
        ) from error
    except (RuntimeError, TimeoutError, NoSuchKernel) as error:
        raise InputError(
            f"{notebook.name} was expected to run to its end, but its kernel did not ({error}): it was"
            " killed, most likely for want of memory, or could not be started. Run the same command again."
        ) from error
    growing.replace(copy)


def _kept(folder: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept
