"""One-way arrows: which room may import which, what a bare import costs, and what it must not bring along."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bistil"
FILES = sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; names of `from package import name` are joined on."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


IMPORTS = {module(path): sorted(set(imported(path))) for path in FILES}


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def importers(package: str) -> set[str]:
    """The modules of bistil that import a package."""
    return {name for name, found in IMPORTS.items() if any(within(one, package) for one in found)}


FLOORS = (
    "errors",
    "settings",
    "systems",
    "text",
    "models",
    "training",
    "vocab",
    "store",
    "losses",
    "sft",
    "miniworld",
    "tasks",
    "adapt",
    "evaluation",
    "distil",
    "plots",
    "pretrain",
    "experiment",
    "sources",
    "pipeline",
    "report",
    "deploy",
    "plan",
    "bench",
    "batch",
    "studies",
    "workbench",
    "cli",
)
"""The rooms from the ground up: a room uses rooms above it in this list, never one below."""
APART = {
    "bistil.store": ("bistil.models", "bistil.vocab"),
    "bistil.training.loop": ("bistil.text",),
    "bistil.miniworld": ("bistil.sft", "bistil.models", "bistil.training.loop"),
    "bistil.batch.pool": (
        "bistil.batch.experiments",
        "bistil.report",
        "bistil.plots",
        "bistil.batch.notebooks",
    ),
}
"""Rooms that know nothing of each other although their floors would let them."""


def room(name: str) -> str:
    return name.split(".")[1]


def test_the_house_has_thirty_names_at_most() -> None:
    names = {
        path.stem if path.suffix else path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"
    }
    assert names == {*FLOORS, "__init__"} - ({"adapt"} - names)
    assert len(names) <= 30


def test_no_arrow_runs_up() -> None:
    floor = {name: number for number, name in enumerate(FLOORS)}
    against = [
        f"{name} imports {one}"
        for name, found in IMPORTS.items()
        if name != "bistil"
        for one in found
        if one.startswith("bistil.") and room(one) in floor and floor[room(one)] > floor[room(name)]
    ]
    assert against == []


@pytest.mark.parametrize("apart", APART)
def test_some_rooms_stay_apart(apart: str) -> None:
    against = [
        f"{name} imports {one}"
        for name, found in IMPORTS.items()
        if within(name, apart)
        for one in found
        if any(within(one, forbidden) for forbidden in APART[apart])
    ]
    assert against == []


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("ipywidgets", ("bistil.workbench",)),
        ("anywidget", ("bistil.workbench",)),
        ("IPython", ("bistil.workbench",)),
        ("papermill", ("bistil.batch.demo", "bistil.batch", "bistil.batch.notebooks")),
        ("jinja2", ("bistil.report",)),
        ("pandas", ("bistil.workbench",)),
        ("datasets", ("bistil.sources.get",)),
        ("jsonschema", ()),
        ("snakemake", ()),
        ("psutil", ("bistil.batch.snakemake",)),
    ],
)
def test_only_some_rooms_import(package: str, rooms: tuple[str, ...]) -> None:
    strangers = {name for name in importers(package) if not any(within(name, room) for room in rooms)}
    assert strangers == set()


def test_nothing_prints_but_the_command_line() -> None:
    printing = set()
    for path in FILES:
        calls = (
            node.func
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        )
        if any(isinstance(function, ast.Name) and function.id == "print" for function in calls):
            printing.add(module(path))
    assert {name for name in printing if not within(name, "bistil.cli")} <= {"bistil.batch.demo"}


def test_nothing_unpickles_or_runs_remote_code() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, path
        assert "weights_only=False" not in text, path
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & {
            name.partition(".")[0] for name in IMPORTS[module(path)]
        }, path


@pytest.mark.parametrize("name", IMPORTS)
def test_every_module_opens_by_saying_what_is_notable(name: str) -> None:
    path = next(path for path in FILES if module(path) == name)
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


HEAVY = ("ipywidgets", "anywidget", "papermill", "matplotlib", "IPython", "seaborn", "peft")


@pytest.mark.parametrize("name", ["bistil", "bistil.sft.delta"])
def test_a_bare_import_is_quick_and_brings_no_bench_along(name: str) -> None:
    code = (
        f"import sys, time, {name}; print([heavy for heavy in {HEAVY!r} if heavy in sys.modules]);"
        " print(time.process_time())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = ran.stdout.split("\n")[:2]
    assert heavy == "[]"
    assert (
        float(seconds) < 3.0
    )  # processor time: the clock on the wall also measures what else the machine does


@pytest.mark.slow
def test_the_library_and_the_pipeline_need_no_bench() -> None:
    code = (
        "import sys, bistil.pipeline, bistil.plan, bistil.batch, bistil.cli;"
        f" print([heavy for heavy in {HEAVY!r} if heavy in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
