"""Logs for TensorBoard: every training in a folder of its own, by one option; a missing package in words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bistil.batch import Place, snakemake
from bistil.cli import main
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.training import logs


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (logs.FORM, logs.FOLDER):
        monkeypatch.setenv(name, "")


@pytest.mark.slow
def test_a_stage_writes_event_files_that_tensorboard_reads(
    tmp_path: Path, experiment_file: Callable[..., Path], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file, store = str(experiment_file()), ["--store", str(tmp_path / "store"), "--data", str(world)]
    assert main(["stage", file, *store]) == 0
    stages = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    name = next(stage[0] for stage in stages if "language-sft" in stage[-1])
    kept = tmp_path / "logs"
    assert main(["stage", file, name, *store, "--log", "tensorboard", "--logs", str(kept)]) == 0
    found = {path.parent for path in kept.rglob("events.*")}
    assert {path.name for path in found} == {name}
    assert len(found) == 2  # the dense phase and the sparse one
    for path in found:
        events = reader.EventAccumulator(str(path))
        events.Reload()
        curves = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        assert {"train/loss", "train/learning_rate", "eval/loss"} <= curves.keys()
        assert curves["train/loss"] == sorted(set(curves["train/loss"]))
    assert not list((tmp_path / "store").rglob("events.*"))  # no part of an artefact


def test_a_form_whose_package_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install wandb"):
        logs.ask("wandb", tmp_path)
    with pytest.raises(InputError, match="tensorboard or wandb"):
        logs.ask("paper", tmp_path)
    assert logs.loggers("stage", tmp_path) == []
    assert not os.environ[logs.FORM]


def test_a_job_of_a_scheduler_is_told_of_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment_file: Callable[..., Path]
) -> None:
    monkeypatch.setattr(logs, "find_spec", lambda name: name)
    experiment, place = Experiment.read(experiment_file()), Place(tmp_path, tmp_path)
    assert "--log" not in snakemake._command(experiment, place, None, tmp_path)
    logs.ask("tensorboard", tmp_path / "logs")
    told = f"--log tensorboard --logs {tmp_path / 'logs'}"
    assert told in snakemake._command(experiment, place, None, tmp_path)
