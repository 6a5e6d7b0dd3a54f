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


ROOMS = ("languages", "corpora", "sampling", "tasks", "losses", "sft", "student", "narrow", "vocab", "systems")
FOUNDATIONS = tuple(f"bistil.{room}" for room in ROOMS)
ABOVE = tuple(f"bistil.{room}" for room in ("evaluate", "export", "cost", "pipeline", "batch", "report", "workbench", "cli"))
ARROWS = {
    **{room: ("bistil.distil", *ABOVE) for room in FOUNDATIONS},
    "bistil.distil": (*ABOVE, "bistil.store"),
    "bistil.train": ("bistil.distil", "bistil.sft", "bistil.tasks", "bistil.pipeline", "bistil.corpora"),
    "bistil.store": ("bistil.train", "bistil.distil", "bistil.sft", "bistil.tasks", "bistil.pipeline", "bistil.models"),
    "bistil.sft.lottery": ("bistil.train", "bistil.tasks"),
    "bistil.sft.delta": ("bistil.train", "bistil.tasks", "bistil.models"),
    "bistil.miniworld": ("bistil.tasks", "bistil.sft", "bistil.distil", "bistil.models", "bistil.pipeline", "bistil.train"),
    "bistil.pipeline": ("bistil.batch", "bistil.cli", "bistil.report", "bistil.plots", "bistil.workbench"),
    "bistil.batch": ("bistil.cli", "bistil.run", "bistil.workbench", "bistil.report", "bistil.plots", "bistil.notebooks"),
    "bistil.schema": ("bistil.experiment", "bistil.settings", *ABOVE),
    "bistil.run": ("bistil.cli", "bistil.demo", "bistil.workbench"),
}  # fmt: skip


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_run_one_way(room: str) -> None:
    against = [
        f"{name} imports {one}"
        for name, found in IMPORTS.items()
        if within(name, room)
        for one in found
        if any(within(one, forbidden) for forbidden in ARROWS[room])
    ]
    assert against == []


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("ipywidgets", ("bistil.workbench",)),
        ("IPython", ("bistil.workbench",)),
        ("papermill", ("bistil.demo", "bistil.batch", "bistil.notebooks")),
        ("jinja2", ("bistil.report",)),
        ("pandas", ("bistil.workbench",)),
        ("datasets", ("bistil.sources.get",)),
        ("jsonschema", ("bistil.schema",)),
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
        calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        if any(isinstance(function, ast.Name) and function.id == "print" for function in calls):
            printing.add(module(path))
    assert {name for name in printing if not within(name, "bistil.cli")} <= {"bistil.demo"}


def test_nothing_unpickles_or_runs_remote_code() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, path
        assert "weights_only=False" not in text, path
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & {name.partition(".")[0] for name in IMPORTS[module(path)]}, path


@pytest.mark.parametrize("name", IMPORTS)
def test_every_module_opens_by_saying_what_is_notable(name: str) -> None:
    path = next(path for path in FILES if module(path) == name)
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


HEAVY = ("ipywidgets", "papermill", "matplotlib", "IPython", "seaborn")


@pytest.mark.parametrize("name", ["bistil", "bistil.sft.delta"])
def test_a_bare_import_is_quick_and_brings_no_bench_along(name: str) -> None:
    code = f"import sys, time, {name}; print([heavy for heavy in {HEAVY!r} if heavy in sys.modules]); print(time.process_time())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = ran.stdout.split("\n")[:2]
    assert heavy == "[]"
    assert float(seconds) < 3.0  # processor time: the clock on the wall also measures what else the machine does


@pytest.mark.slow
def test_the_library_and_the_pipeline_need_no_bench() -> None:
    code = f"import sys, bistil.pipeline, bistil.batch, bistil.cli; print([heavy for heavy in {HEAVY!r} if heavy in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
