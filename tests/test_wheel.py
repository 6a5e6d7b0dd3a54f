"""A wheel works outside the checkout: all that code reads travels with it, and things are written where it is
called.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny import ROOT

SHIPPED = (
    "datasets.yaml",
    "languages.csv",
    "miniworld.yaml",
    "public-teachers.yaml",
    "experiments/demo.yaml",
    "translators/miniworld.yaml",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT],
        capture_output=True,
        text=True,
    )
    if made.returncode and "hatchling" in made.stderr:
        pytest.skip(f"the wheel cannot be built here, hatchling is not to be had: {made.stderr[-300:]}")
    assert made.returncode == 0, made.stderr
    [found] = folder.glob("bistil-*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel]
    subprocess.run(command, check=True, capture_output=True)
    return target


def told(site: Path, folder: Path, *words: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    env.pop("BISTIL_DATA", None)
    done = subprocess.run(
        [sys.executable, "-m", "bistil.cli", *words], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_code_reads_travels_and_what_was_made_does_not(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in SHIPPED:
        assert f"bistil/shipped/data/{name}" in names
    assert not [name for name in names if "cache" in name or ".ipynb_checkpoints" in name]


@pytest.mark.slow
def test_an_installed_bistil_works_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    assert told(site, tmp_path, "--version").startswith("bistil 0.")
    said = told(site, tmp_path, "predict", "data/students/miniworld-ner", "data/students/sentences.txt")
    assert said.startswith("Lolnalat\tB-PER\n")
    pair = ("--source", "qaa", "--target", "qab", "--task", "ner")
    told(site, tmp_path, "new", "mine", "--teacher", "data/teachers/miniworld", *pair)
    assert (tmp_path / "mine" / "experiment.yaml").is_file()
    assert "stages for" in told(site, tmp_path, "batch", "mine/experiment.yaml", "--dry-run")


@pytest.mark.slow
@pytest.mark.skipif("BISTIL_LONG" not in os.environ, reason="takes minutes; BISTIL_LONG=1 runs it")
def test_an_installed_bistil_runs_the_tiny_demo_where_it_is_called(site: Path, tmp_path: Path) -> None:
    told(site, tmp_path, "demo", "--tiny", "--workers", "1")
    assert (tmp_path / "reports" / "small" / "index.html").is_file()
    assert (tmp_path / "data" / "cache" / "store").is_dir()
