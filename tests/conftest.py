"""Fixtures made once a session from the stand-ins of tiny.py."""

import gc
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings
from tiny import entries, write_tiny_teacher, write_tiny_world
from transformers import BertTokenizer

from bistil.batch import pool
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.settings.yaml import build
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder

torch.set_num_threads(1)
settings.register_profile(
    "bistil", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure
settings.load_profile("bistil")


frozen = 0
"""Modules that were imported when the garbage collector was last told to leave everything alone."""


def pytest_runtest_setup() -> None:
    """Leave imported libraries out of garbage collection: the trainer collects before each training, which
    takes longer than a tiny training itself where it looks at a million objects.
    """
    global frozen
    if len(sys.modules) > frozen + 20:
        gc.collect()
        gc.freeze()
        frozen = len(sys.modules)


LONG = (
    "notebooks/test_run_notebooks.py",
    "batch/test_snakemake.py",
    "test_matrix.py",
    "test_kill_batch.py",
    "batch/test_batch.py",
    "systems/test_systems.py",
    "test_kill_resume.py",
    "cli/test_cli.py",
)
"""Files that take minutes, the longest first, so that none of them runs alone in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files; the others stay in their order."""
    tests = Path(__file__).parent
    order = {tests / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path, len(LONG)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-cases",
        type=int,
        default=200,
        help="spoilt files a reader in tests/fuzz (the long run: 100000)",
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data folder. Do not write into it."""
    return write_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def data(world: Path) -> DataFolder:
    return DataFolder(world)


@pytest.fixture(scope="session")
def teacher_folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_teacher(tmp_path_factory.mktemp("teachers") / "tiny", world)


@pytest.fixture(scope="session")
def wordpiece(teacher_folder: Path) -> BertTokenizer:
    """The tiny teacher's tokenizer."""
    return BertTokenizer.from_pretrained(teacher_folder)


@pytest.fixture(scope="session")
def experiment(teacher_folder: Path) -> Callable[..., Experiment]:
    """Makes the tiny experiment, with some entries changed."""
    return lambda **changes: build(Experiment, {**entries(teacher_folder), **changes}, "tiny")


@pytest.fixture(scope="session")
def finished(experiment, data, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A pipeline in whose store every cell of the tiny experiment has been evaluated."""
    whole = Pipeline(experiment(), data, Store(tmp_path_factory.mktemp("store")))
    whole.check()
    for cell in whole.experiment.cells():
        whole.evaluation(cell)
    whole.timing("ner")
    return whole


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's workers are forked: nothing is imported anew, and what a test changes is changed in them."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda method: context)


@pytest.fixture
def experiment_file(teacher_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny experiment, with some entries changed, into a YAML file."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**entries(teacher_folder), **changes}), encoding="utf-8")
        return path

    return write
