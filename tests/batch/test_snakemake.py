"""Snakemake as the engine: what is refused beforehand, that profiles are sound, and that the results are
those of the warm pool.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from bistil import batch, cli
from bistil.batch import Account, Place, snakemake
from bistil.batch.snakemake import FIXED, PROFILES, SNAKEFILE, Scheduling
from bistil.batch.stage import BEGUN, DONE, FAILED, Ended, build_stage, ended, failure, open_run, stages_of
from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.pipeline.scores import TIMES
from bistil.plan import foresee, plan
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder

needs_snakemake = pytest.mark.skipif(
    find_spec("snakemake") is None, reason="Snakemake is not installed (bistil[batch])"
)
PLUGINS = {"slurm": "snakemake_executor_plugin_slurm", "kubernetes": "snakemake_executor_plugin_kubernetes"}
SMALL: dict[str, Any] = {"systems": ["teacher-no-adaptation", "floor"], "targets": {"ner": ["qac"]}}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"profile": "slrum"}, "kubernetes, local, slurm, submit"),
        ({"resources": ("gpu",)}, "as in gpu=1"),
        ({"resources": ("gpu=one",)}, "as in gpu=1"),
        ({"retries": -1}, "retries should be at least 0"),
        ({"cores": 0}, "cores should be at least 1"),
    ],
)
def test_what_snakemake_could_not_do_is_refused_beforehand(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Scheduling(**settings).check()


@pytest.mark.parametrize("options", [["--retries", "2"], ["--resources", "gpu=1"], ["--profile", "local"]])
def test_the_pool_takes_no_options_of_snakemake(
    options: list[str], capsys, experiment_file, tmp_path: Path
) -> None:
    assert (
        cli.main(
            [
                "batch",
                str(experiment_file()),
                "--engine",
                "pool",
                *options,
                "--store",
                str(tmp_path / "store"),
            ]
        )
        == 2
    )
    assert f"goes without {options[0]}" in capsys.readouterr().err


def test_ids_of_stages_are_known_beforehand_and_the_same_in_every_process(
    experiment, world: Path, tmp_path: Path
) -> None:
    pipeline = Pipeline(experiment(), DataFolder(world), Store(tmp_path))
    stages = stages_of(pipeline)
    assert {stage.job for stage in stages.values()} == set(plan(pipeline.experiment))
    assert list(stages) == list(foresee(experiment(), DataFolder(world), Store(tmp_path)))
    assert all(set(stage.after) <= set(stages) for stage in stages.values())


def test_jobs_of_some_seeds_know_the_stages_of_these_seeds(
    experiment_file: Callable[..., Path], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is measured once is of the first seed that runs, so the file alone does not have its id."""
    file, place = experiment_file(**SMALL, seeds=[1, 2]), Place(world, tmp_path / "store")
    part = Experiment.read(file).of_seeds([2])
    planned = stages_of(Pipeline(part, DataFolder(world), Store(place.store)))
    command = snakemake._command(part, place, None, tmp_path)
    assert "stage --seeds 2 --data" in command
    where = ["--data", str(world), "--store", str(place.store)]
    assert cli.main(["stage", "--seeds", "2", *where, str(file)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(planned)
    assert (
        not planned.keys()
        <= stages_of(Pipeline(Experiment.read(file), DataFolder(world), Store(place.store))).keys()
    )


def test_a_run_notes_how_its_stages_went(experiment, world: Path, tmp_path: Path) -> None:
    place, run = Place(world, tmp_path / "store"), tmp_path / "run"
    stages = stages_of(Pipeline(experiment(**SMALL), DataFolder(world), Store(place.store)))
    [floor] = [name for name, stage in stages.items() if stage.name == "evaluation floor ner qac seed 1"]
    open_run(run, stages)
    assert ended(run) == {}
    artefact = build_stage(experiment(**SMALL), place, floor, run=run)
    assert artefact.folder == place.store / "evaluation" / floor
    assert (set(ended(run)), ended(run)[floor].new) == ({floor}, True)
    with pytest.raises(InputError, match="has no stage '0123456789abcdef'"):
        build_stage(experiment(**SMALL), place, "0123456789abcdef", run=run)
    assert "has no stage" in str(failure(run, "0123456789abcdef"))
    shutil.rmtree(run)
    open_run(run, stages_of(Pipeline(experiment(**SMALL), DataFolder(world), Store(place.store))))
    assert ended(run) == {floor: Ended(0.0, False)}


def test_what_was_begun_and_is_not_there_has_failed_and_what_waited_for_it_goes_without_saying(
    experiment, tmp_path: Path
) -> None:
    stages = foresee(experiment(**SMALL))
    first, *rest = stages
    for folder in (BEGUN, DONE, FAILED):
        (tmp_path / folder).mkdir()
    (tmp_path / BEGUN / first).touch()
    account = Account(len(stages), say=lambda text: None)
    snakemake._tell_failures(tmp_path, stages, {}, account)
    assert len(account.errors) == 1
    assert "killed" in account.errors[0]
    (tmp_path / FAILED / first).write_text("ValueError: broken", encoding="utf-8")
    snakemake._tell_failures(tmp_path, stages, {}, account)
    assert account.errors[1] == f"{stages[first].job}: ValueError: broken"
    snakemake._tell_failures(tmp_path, stages, {first: None}, account)
    assert len(account.errors) == 2
    assert rest


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*/config.yaml")), ids=lambda path: path.parent.name)
def test_a_profile_names_its_commands_and_these_are_there(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if name.startswith("cluster-generic-") and name.endswith("-cmd"):
            assert os.access(profile.parent / value, os.X_OK), value


@pytest.mark.slow
@needs_snakemake
@pytest.mark.parametrize("profile", sorted(path.parent.name for path in PROFILES.glob("*/config.yaml")))
def test_snakemake_takes_the_profile_and_plans_every_stage(profile: str, experiment, tmp_path: Path) -> None:
    if profile in PLUGINS and find_spec(PLUGINS[profile]) is None:
        pytest.skip(f"{PLUGINS[profile]} is not installed")
    stages = foresee(experiment(**SMALL))
    table = {name: {"after": stage.after, "gpu": 1} for name, stage in stages.items()}
    (tmp_path / "config.json").write_text(json.dumps({"stages": table, "command": "false"}), encoding="utf-8")
    where = [
        "--snakefile",
        SNAKEFILE,
        "--directory",
        tmp_path,
        "--configfile",
        tmp_path / "config.json",
        "--profile",
        PROFILES / profile,
    ]
    command = [sys.executable, "-m", "snakemake", *where, *FIXED, "--dry-run", "--resources", "gpu=1"]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = set(re.findall(r"^(stage|total) +(\d+)$", ran.stdout + ran.stderr, re.MULTILINE))
    assert counts == {("stage", str(len(stages))), ("total", str(len(stages) + 1))}


def scores(reports: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_results(reports / "tiny" / "results.csv")
    ]


def run_batch(path: Path, world: Path, folder: Path, *options: str) -> int:
    where = [
        "--data",
        str(world),
        "--store",
        str(folder / "store"),
        "--reports",
        str(folder / "reports"),
        "--no-notebooks",
    ]
    return cli.main(["batch", str(path), *where, *options])


@pytest.mark.slow
@needs_snakemake
@pytest.mark.usefixtures("forked")
def test_a_cluster_gives_the_results_of_the_pool_and_a_second_run_does_nothing(
    capsys, experiment_file, world, tmp_path: Path
) -> None:
    path = experiment_file(**SMALL)
    assert run_batch(path, world, tmp_path / "pool", "--cores", "2") == 0
    assert run_batch(path, world, tmp_path / "cluster", "--profile", "submit", "--resources", "gpu=1") == 0
    assert scores(tmp_path / "pool" / "reports") == scores(tmp_path / "cluster" / "reports")
    out = capsys.readouterr().out
    assert "4/4" in out
    assert (
        tmp_path / "cluster" / "store" / ".runs" / "tiny" / "jobs"
    ).is_dir()  # they went through submit-job
    assert run_batch(path, world, tmp_path / "cluster", "--engine", "snakemake", "--cores", "2") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
@needs_snakemake
def test_a_failing_stage_is_tried_again_and_takes_only_its_dependants(
    capsys, experiment_file, world: Path, tmp_path: Path
) -> None:
    path, folder = experiment_file(**SMALL), tmp_path / "run"
    experiment = Experiment.read(path)
    pipeline = Pipeline(experiment, DataFolder(world), Store(folder / "store"))
    [name] = [name for name, stage in stages_of(pipeline).items() if stage.kind == "task-sft"]
    (folder / "store" / "task-sft").mkdir(parents=True)
    (folder / "store" / "task-sft" / f"{name}.partial").write_text(
        "in the way of the folder", encoding="utf-8"
    )
    assert run_batch(path, world, folder, "--engine", "snakemake", "--cores", "2") == 1
    out = capsys.readouterr().out
    assert "FAILED task sft teacher-no-adaptation ner qac 1 1: FileExistsError" in out
    assert out.count("FAILED") == 1
    assert [row["system"] for row in scores(folder / "reports")][:1] == ["floor"]
    log = (folder / "store" / ".runs" / "tiny" / "snakemake.log").read_text(encoding="utf-8")
    assert log.count("refused a file or folder: File exists") == 2  # once more than once
    (folder / "store" / "task-sft" / f"{name}.partial").unlink()
    assert run_batch(path, world, folder, "--engine", "snakemake", "--cores", "2") == 0
    assert {row["system"] for row in scores(folder / "reports")} == {"teacher-no-adaptation", "floor"}
    assert len(batch.rows(batch.reader(experiment, Place(world, folder / "store")))) == len(
        scores(folder / "reports")
    )


@pytest.mark.slow
@needs_snakemake
@pytest.mark.parametrize(
    ("profile", "number"),
    [
        ("local", signal.SIGINT),
        ("submit", signal.SIGINT),
        ("local", signal.SIGTERM),
        ("local", signal.SIGHUP),
    ],
)
def test_an_interrupt_ends_the_jobs_and_says_how_to_go_on(
    profile: str, number: int, experiment_file, world: Path, tmp_path: Path
) -> None:
    """The signal reaches `bistil batch` alone, as when it is sent by its process id."""
    store = tmp_path / "store"
    where = ["--data", world, "--store", store, "--reports", tmp_path, "--no-notebooks"]
    command = [
        sys.executable,
        "-m",
        "bistil.cli",
        "batch",
        *map(str, where),
        "--profile",
        profile,
        str(experiment_file(**SMALL)),
    ]
    heeded = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # tests that run in the background ignore it, as would their children
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=heeded
    )
    try:
        until = time.monotonic() + 240
        while not list(store.glob(".runs/tiny/begun/*")) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command goes on" in err
    until = time.monotonic() + 30  # the scheduler ends its jobs in its own time
    while (left := [line for line in all_processes() if str(store) in line]) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def all_processes() -> list[str]:
    import psutil

    return [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
