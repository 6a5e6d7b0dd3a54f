"""The normal form of a notebook in this repository: check it, or bring executed notebooks into it.

Notable: nbval skips a cell without an execution count, so a stripped notebook would pass with wrong answers.
Outputs stay only in cells tagged `nbval-check-output` (compared by nbval) or `figure` (worth seeing). Tidy
with `python tests/notebooks/normal_form.py notebooks/*.ipynb`, run anew and tidy with `python
tests/notebooks/normal_form.py --execute notebooks/*.ipynb` (after `make demo`, whose artefacts the notebooks
show); both also write the tables of notebooks anew, in docs/explore.md and notebooks/README.md."""

import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from bistil.report.readme import indexed

ROOT = Path(__file__).parents[2]
CHECKED, FIGURE = "nbval-check-output", "figure"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LARGEST = 150_000
WIDEST, LONGEST = 88, 24
"""Columns and lines of a code cell that can be read on a screen of 1280 pixels without scrolling."""
ID = re.compile(r"[a-z0-9-]{4,32}")


def tags(cell: Any) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def problems(path: Path) -> list[str]:
    """Everything about a notebook that is not in normal form, in words."""
    notebook, found = nbformat.read(path, as_version=4), []
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell["execution_count"] for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("execution counts are not 1..n")
    if notebook.metadata != {"kernelspec": KERNEL, "language_info": {"name": "python"}}:
        found.append(f"metadata is {dict(notebook.metadata)}")
    if len({cell["id"] for cell in notebook.cells}) < len(notebook.cells) or not all(
        ID.fullmatch(cell["id"]) for cell in notebook.cells
    ):
        found.append("ids are not unique and plain")
    if [tags(cell) for cell in cells].count(["parameters"]) != 1:
        found.append("there is not one cell tagged parameters")
    if path.stat().st_size > LARGEST:
        found.append(f"{path.stat().st_size} bytes are more than {LARGEST}")
    for cell in cells:
        found += [f"{cell['id']}: {problem}" for problem in _cell_problems(cell)]
    return found


def _cell_problems(cell: Any) -> list[str]:
    kept = {CHECKED, FIGURE} & set(tags(cell))
    lines = cell["source"].splitlines()
    found = [f"has a line of {len(line)} columns" for line in lines if len(line) > WIDEST]
    if len(lines) > LONGEST:
        found.append(f"has {len(lines)} lines")
    if kept and not cell["outputs"]:
        found.append("is tagged but has no output")
    if cell["outputs"] and not kept:
        found.append("has an output without a tag")
    if unknown := set(tags(cell)) - {CHECKED, FIGURE, "parameters"}:
        found.append(f"has the tags {unknown}")
    if set(cell["metadata"]) - {"tags"}:
        found.append(f"has the metadata {dict(cell['metadata'])}")
    for output in cell["outputs"]:
        if output["output_type"] == "error" or output.get("name") == "stderr":
            found.append("keeps an error")
        if output.get("metadata") or output.get("execution_count") not in (None, cell["execution_count"]):
            found.append("has metadata or a foreign count in its output")
        if any("widget" in kind for kind in output.get("data", {})):
            found.append("keeps a widget")
    return found


def tidy(path: Path) -> None:
    """Bring an executed notebook into normal form, in place."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell["execution_count"] = count
        keep = {CHECKED, FIGURE} & set(tags(cell))
        cell["outputs"] = [output for output in cell["outputs"] if keep and _worth(output)]
        for output in cell["outputs"]:
            if output["output_type"] != "stream":
                output["metadata"] = {}
            if output["output_type"] == "execute_result":
                output["execution_count"] = count
    for cell in notebook.cells:
        cell["metadata"] = nbformat.from_dict({"tags": tags(cell)} if tags(cell) else {})
    nbformat.write(notebook, path)


def _worth(output: Any) -> bool:
    return output.get("name") != "stderr" and not any("widget" in kind for kind in output.get("data", {}))


def execute(path: Path) -> None:
    """Run a notebook in its own folder and keep it, outputs and all, in place."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    nbformat.write(notebook, path)


def indexes() -> dict[Path, str]:
    """The texts of both files with a table of notebooks, as the notebooks say."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    readmes = (ROOT / "docs" / "explore.md", ROOT / "notebooks" / "README.md")
    return {path: indexed(path.read_text(encoding="utf-8"), notebooks, path.parent) for path in readmes}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if not name.startswith("-"):
            if "--execute" in sys.argv:
                execute(Path(name))
            tidy(Path(name))
    for readme, text in indexes().items():
        readme.write_text(text, encoding="utf-8", newline="\n")
