"""The command line: what it prints, and that bad input is one paragraph and status 2."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_pipeline import BAD_DATA, BAD_SETTINGS, NER, copy, finished, nothing_begun

from bistil import cli
from bistil.models.load import load_teacher
from bistil.sft.delta import SparseDelta

__all__ = ["copy", "finished"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def is_one_paragraph(text: str) -> bool:
    return text.startswith("bistil: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_paragraph_and_nothing_is_begun(
    name: str, capsys, experiment_file, copy: Path, tmp_path: Path
) -> None:
    BAD_DATA[name][0](copy)
    status, out, err = run(
        capsys,
        "batch",
        experiment_file(),
        "--data",
        copy,
        "--store",
        tmp_path / "store",
        "--reports",
        tmp_path / "r",
    )
    assert status == 2
    assert is_one_paragraph(err), err
    assert out == ""
    assert nothing_begun(tmp_path / "store")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_one_paragraph(
    name: str, capsys, experiment_file, world: Path, tmp_path: Path
) -> None:
    path = experiment_file(**BAD_SETTINGS[name][0])
    status, _, err = run(
        capsys, "batch", path, "--data", world, "--store", tmp_path / "store", "--reports", tmp_path / "r"
    )
    assert status == 2
    assert is_one_paragraph(err), err
    assert nothing_begun(tmp_path / "store")


@pytest.mark.parametrize(
    "changes",
    [
        {"vocabulary": {"threshold": 1e-6, "critreion": "unigram"}},
        {"systems": ["bistil"]},
        {"teacher": "/no/such/folder"},
        {"language_sft": {"lottery": {"density": 1.5}, "dense": {}, "sparse": {}}},
        {"language_sft": {"lottery": {"density": 0.0}, "dense": {}, "sparse": {}}},
    ],
)
def test_a_bad_experiment_file_is_one_paragraph(
    changes, capsys, experiment_file, world: Path, tmp_path: Path
) -> None:
    status, _, err = run(
        capsys, "batch", experiment_file(**changes), "--data", world, "--store", tmp_path / "store"
    )
    assert status == 2
    assert is_one_paragraph(err), err
    assert nothing_begun(tmp_path / "store")


def test_missing_folders_and_files_are_one_paragraph(
    capsys, experiment_file, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.delenv("BISTIL_DATA", raising=False)
    store = ("--store", tmp_path / "store")
    for arguments in (
        ("batch", tmp_path / "no.yaml"),
        ("batch", experiment_file()),
        ("batch", experiment_file(), "--data", "/no/such"),
    ):
        status, _, err = run(capsys, *arguments, *store)
        assert status == 2
        assert is_one_paragraph(err), err
    monkeypatch.setenv("BISTIL_DATA", str(tmp_path / "nowhere"))
    status, _, err = run(capsys, "batch", experiment_file(), *store)
    assert status == 2
    assert "nowhere" in err
    status, _, err = run(capsys, "info", tmp_path / "no.safetensors")
    assert status == 2
    assert is_one_paragraph(err), err


@pytest.mark.slow
def test_a_process_says_it_the_same_way(experiment_file, world: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bistil.cli",
        "batch",
        str(experiment_file(systems=["bistil-tf:4"])),
        "--store",
        str(tmp_path / "store"),
    ]
    ran = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "BISTIL_DATA": str(world)}
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert is_one_paragraph(ran.stderr), ran.stderr
    assert "4 does not divide 6" in ran.stderr


def test_a_dry_run_prints_the_plan_only(capsys, experiment_file, tmp_path: Path) -> None:
    status, out, err = run(capsys, "batch", experiment_file(), "--dry-run", "--store", tmp_path / "store")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert any("language-sft qac" in line for line in lines)
    assert any("evaluation bistil-tf ner qac lrf 2 seed 1" in line for line in lines)
    assert "estimate" in out
    assert nothing_begun(tmp_path / "store")


@pytest.mark.slow
def test_a_rehearsed_dry_run_tells_minutes_and_leaves_nothing(
    capsys, experiment_file, world: Path, tmp_path: Path
) -> None:
    file = experiment_file(systems=["teacher-ltsft", "floor"], targets={"parsing": ["qac"]})
    places = ("--data", world, "--store", tmp_path / "store", "--workers", "2")
    status, out, err = run(capsys, "batch", file, "--dry-run", "--rehearse", *places)
    assert (status, err) == (0, "")
    header, *_ = [line for line in out.splitlines() if "GPU h" in line]
    assert header.split()[-2:] == ["min", "after"]
    assert "min with 2 workers" in out
    assert nothing_begun(tmp_path / "store")


def test_a_rehearsal_goes_with_a_dry_run_only(capsys, experiment_file, world: Path, tmp_path: Path) -> None:
    status, _, err = run(
        capsys, "batch", experiment_file(), "--rehearse", "--data", world, "--store", tmp_path / "store"
    )
    assert status == 2
    assert is_one_paragraph(err)
    assert nothing_begun(tmp_path / "store")


PRETRAIN = """languages: [qaa, qab]
layers: 1
hidden: 16
heads: 1
vocabulary: 200
length: 16
batch_size: 4
schedule: {steps: 4, learning_rate: 1.0e-3, evaluations: 1}
"""


def test_pretrain_writes_a_teacher_and_info_describes(capsys, world: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(PRETRAIN, encoding="utf-8")
    status, out, err = run(
        capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / "teacher", "--half"
    )
    assert status == 0, err
    assert out.strip().endswith(str(tmp_path / "teacher"))
    assert (tmp_path / "teacher" / "model.safetensors").is_file()
    status, _, err = run(
        capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / "teacher"
    )
    assert status == 2
    assert "finished teacher" in err
    (tmp_path / "teacher" / "history.json").unlink()  # as after a kill while it was saved
    status, _, err = run(
        capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / "teacher"
    )
    assert status == 0, err


@pytest.mark.slow
def test_two_processes_train_one_teacher(capfd, world: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(PRETRAIN, encoding="utf-8")
    status = cli.main(
        [
            "pretrain",
            str(tmp_path / "teacher.yaml"),
            "--data",
            str(world),
            "--to",
            str(tmp_path / "teacher"),
            "--processes",
            "2",
        ]
    )
    out, err = capfd.readouterr()
    assert status == 0, err
    assert out.count(str(tmp_path / "teacher")) == 1  # one of the two saves
    assert load_teacher(tmp_path / "teacher").has_mlm_head
    history = json.loads((tmp_path / "teacher" / "history.json").read_text(encoding="utf-8"))
    assert history[-1]["step"] == 4
    assert not (tmp_path / "teacher.partial").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("languages: [qaa, qxx]", "'qxx' is not in it"),
        ("layer: 1", "unknown key 'layer'"),
        ("start: no_such_package:model", "neither"),
        ("length: 100000", "at least one block"),
    ],
)
def test_pretrain_refuses_bad_input(change: str, message: str, capsys, world: Path, tmp_path: Path) -> None:
    key = change.partition(":")[0]
    lines = [line for line in PRETRAIN.splitlines() if line.partition(":")[0] != key]
    (tmp_path / "teacher.yaml").write_text("\n".join([*lines, change]), encoding="utf-8")
    status, _, err = run(
        capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / "teacher"
    )
    assert status == 2
    assert is_one_paragraph(err), err
    assert message in err
    assert not (tmp_path / "teacher").exists()
    assert not (tmp_path / "teacher.partial").exists()


def test_a_full_disk_is_one_paragraph(capsys, world: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bistil.pretrain.save_teacher", full)
    (tmp_path / "teacher.yaml").write_text(PRETRAIN, encoding="utf-8")
    status, _, err = run(
        capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / "teacher"
    )
    assert status == 2
    assert "The disk is full" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_scores_are_on_disk_before_the_last_one_is_there(
    experiment_file, world: Path, tmp_path: Path, monkeypatch
) -> None:
    def cut_short(*arguments: object, on_score: Callable[[], None], **named: object) -> None:
        on_score()
        raise KeyboardInterrupt

    monkeypatch.setattr("bistil.batch.run", cut_short)
    monkeypatch.setattr("bistil.batch.rows", lambda reader: [])
    status = cli.main(
        [
            "batch",
            str(experiment_file()),
            "--data",
            str(world),
            "--store",
            str(tmp_path),
            "--reports",
            str(tmp_path),
        ]
    )
    assert status == 130
    assert list(tmp_path.glob("*/results.csv"))


def test_other_errors_are_not_swallowed(experiment_file, world: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("bistil.pipeline.Pipeline.check", broken)
    with pytest.raises(OSError, match="Input/output"):
        cli.main(["batch", str(experiment_file()), "--data", str(world), "--store", str(tmp_path / "store")])


def test_an_interrupt_says_how_to_go_on(
    capsys, experiment_file, world: Path, tmp_path: Path, monkeypatch
) -> None:
    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bistil.pipeline.Pipeline.check", interrupt)
    status, _, err = run(capsys, "batch", experiment_file(), "--data", world, "--store", tmp_path / "store")
    assert status == 130
    assert "goes on from the last checkpoint" in err


@pytest.mark.slow
def test_a_batch_of_what_is_there_only_reports(
    capsys, finished, experiment_file, world: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(finished.store.root, tmp_path / "store")
    where = ("--data", world, "--store", store, "--reports", tmp_path / "reports")
    path = experiment_file(targets={"ner": ["qac"]})
    status, out, err = run(capsys, "batch", path, *where, "--workers", 1, "--no-notebooks")
    assert status == 0, err
    assert not (tmp_path / "reports" / "tiny" / "notebooks").exists()
    assert (tmp_path / "reports" / "tiny" / "index.html").is_file()
    assert (tmp_path / "reports" / "tiny" / "results.csv").is_file()
    status, out, _ = run(capsys, "batch", path, *where, "--workers", 1, "--no-notebooks")
    assert status == 0
    assert "nothing to do" in out
    status, out, _ = run(capsys, "report", path, *where)
    assert status == 0
    assert out.strip().endswith("index.html")


@pytest.mark.slow
def test_info_describes_deltas_and_artefacts(capsys, finished) -> None:
    artefact = finished.task_sft(NER)
    status, out, _ = run(capsys, "info", artefact.folder)
    assert status == 0
    assert f'"id": "{artefact.id}"' in out
    status, out, _ = run(capsys, "info", artefact.path("delta.safetensors"))
    delta = SparseDelta.load(artefact.path("delta.safetensors"))
    assert out.splitlines()[:2] == [
        f"base {delta.base}",
        f"{delta.size} values in {len(delta.tensors)} tensors, {len(delta.full)} whole tensors",
    ]


def test_info_tells_the_density_of_each_tensor_and_layer(capsys, tmp_path: Path) -> None:
    name, values = "encoder.layer.3.output.dense.weight", torch.tensor([3.0, 4.0])
    tensors = {
        name: (torch.tensor([0, 7]), values),
        "embeddings.word_embeddings.weight": (torch.tensor([1]), values[:1]),
    }
    SparseDelta(tensors=tensors, base="b" * 64, shapes={name: (5, 8)}).save(tmp_path / "d.safetensors")
    status, out, _ = run(capsys, "info", tmp_path / "d.safetensors")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["base", "b" * 64],
        ["3", "values", "in", "2", "tensors,", "0", "whole", "tensors"],
        ["layer", "-", "1", "norm", "3.0000"],
        ["layer", "3", "2", "density", "5.0000", "%", "norm", "5.0000"],
        ["embeddings.word_embeddings.weight", "1", "norm", "3.0000"],
        [name, "2", "density", "5.0000", "%", "norm", "5.0000"],
    ]


def test_the_schema_is_printed_as_it_lies_beside_the_experiments(capsys) -> None:
    status, out, _ = run(capsys, "schema")
    assert status == 0
    assert out == (Path(__file__).parents[2] / "data" / "experiments" / "schema.json").read_text(
        encoding="utf-8"
    )


def test_a_stage_is_built_by_its_id(capsys, experiment_file, world: Path, tmp_path: Path) -> None:
    where = ("--data", world, "--store", tmp_path / "store", experiment_file(systems=["floor"]))
    status, out, _ = run(capsys, "stage", *where)
    assert status == 0
    [line] = [line for line in out.splitlines() if "evaluation floor ner" in line]
    name, there = line.split(maxsplit=1)
    assert there.startswith("not yet")
    status, out, _ = run(capsys, "stage", *where, name)
    assert (status, out.strip()) == (0, str(tmp_path / "store" / "evaluation" / name))
    status, out, _ = run(capsys, "stage", *where)
    assert f"{name}  there" in out
    status, _, err = run(capsys, "stage", *where, "f" * 16)
    assert status == 2
    assert is_one_paragraph(err), err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("batch", "x.yaml", "--workers", "0"), "--workers/--cores: should be at least 1"),
        (("batch", "x.yaml", "--retries", "-1"), "--retries: should be at least 0"),
        (("batch", "x.yaml", "--tflops", "0"), "--tflops: should be above 0"),
        (("batch", "x.yaml", "--tflops", "many"), "--tflops: should be a number, but is 'many'"),
        (("data", "get", "x", "--most", "1.5"), "--most: should be of type int, but is 1.5"),
        (("export", "x", "--seed", "-1"), "--seed: should be at least 0"),
        (("demo", "--workers", "-2"), "--workers: should be at least 1"),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_its_option(
    arguments: tuple[str, ...], told: str, capsys
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert told in capsys.readouterr().err
