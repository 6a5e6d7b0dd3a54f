"""What notebooks import is there, as a quick check before they are run."""

import ast
from importlib import import_module
from importlib.util import find_spec

import nbformat
import pytest

from bistil.batch.notebooks import NOTEBOOKS


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_notebook_imports_of_bistil_is_there(path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    found = [node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)]
    asked = [(one.module, name.name) for one in found if one.module for name in one.names]
    ours = [(module, name) for module, name in asked if module.split(".")[0] == "bistil"]
    assert ours
    for module, name in ours:
        assert hasattr(import_module(module), name) or find_spec(f"{module}.{name}"), f"{module}.{name}"
