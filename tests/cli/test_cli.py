"""The command line: what it prints, and that bad input is one paragraph and status 2."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from test_pipeline import BAD_DATA, BAD_SETTINGS, NER, copy, nothing_begun

from bistil import cli
from bistil.models.load import load_teacher
from bistil.pretrain import save_teacher
from bistil.pretrain.place import claimed
from bistil.sft.delta import SparseDelta
from bistil.systems.table import SYSTEMS

__all__ = ["copy"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def is_one_paragraph(text: str) -> bool:
    return text.startswith("bistil: ") and text.count("\n") == 1 and "Traceback" not in text


HEAVY = {"torch", "transformers", "numpy", "scipy", "matplotlib", "datasets", "pandas", "jinja2"}
LOADED = """
import contextlib, io, sys
from bistil.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize(
    ("command", "heavy"),
    [("--help", set()), ("batch --help", set()), ("data list", set()), ("doctor", {"torch", "numpy"})],
)
def test_what_answers_at_once_imports_nothing_heavy(command: str, heavy: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command.split()], capture_output=True, text=True, timeout=300
    )
    assert HEAVY & set(done.stdout.split()) <= heavy, done.stderr


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
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"teacher", "teacher.yaml"}


def test_pretrain_goes_on_only_from_what_was_asked_the_same(
    capsys, world: Path, tmp_path: Path, monkeypatch
) -> None:
    file, to, steps = tmp_path / "teacher.yaml", tmp_path / "teacher", list[int]()
    arguments = ("pretrain", file, "--data", world, "--to", to)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def first_step(text: str) -> int:
        file.write_text(text, encoding="utf-8")
        steps.clear()
        assert run(capsys, *arguments)[0] == 0
        shutil.rmtree(to)
        return steps[0]

    longer = PRETRAIN.replace("evaluations: 1", "evaluations: 2")
    file.write_text(longer, encoding="utf-8")
    monkeypatch.setattr("bistil.training.progress.Terminal", lambda: lambda event: steps.append(event.step))
    monkeypatch.setattr("bistil.pretrain.save_teacher", interrupted)
    assert run(capsys, *arguments)[0] == 130
    (left,) = tmp_path.glob("teacher.*.partial")
    shutil.rmtree(left / "checkpoint-4")
    monkeypatch.setattr("bistil.pretrain.save_teacher", save_teacher)
    mine = tmp_path / "teacher.partial"
    mine.mkdir()
    assert first_step(longer.replace("1.0e-3", "2.0e-3")) == 1
    assert first_step(longer.replace("[qaa, qab]", "[qab, qaa]")) == 1
    assert first_step(longer.replace("vocabulary: 200", "vocabulary: 210")) == 1
    assert first_step(longer) == 3, "not from its own checkpoint"
    assert list(tmp_path.glob("*.partial")) == [mine], "the user's own folder"


def test_one_process_at_a_time_makes_a_teacher_of_one_name(capsys, world: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(PRETRAIN, encoding="utf-8")
    with claimed(tmp_path / "teacher"):
        status, _, err = run(
            capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / "teacher"
        )
    assert status == 2
    assert f"held by process {os.getpid()}" in err


def test_pretrain_refuses_a_place_that_cannot_be_written_before_it_trains(
    capsys, world: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "teacher.yaml").write_text(PRETRAIN, encoding="utf-8")
    (tmp_path / "file").touch()
    monkeypatch.setattr("bistil.pretrain.pretrain", lambda *_, **__: pytest.fail("it trained"))
    for to in (tmp_path / "file", tmp_path / "file" / "inside", tmp_path / ("n" * 235)):
        status, _, err = run(capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", to)
        assert status == 2, err
        assert is_one_paragraph(err), err
        assert "nothing can be written there" in err or "there is something else already" in err


def test_options_that_would_have_no_effect_are_refused(capsys, tmp_path: Path) -> None:
    teacher = ("pretrain", "data/teachers/teacher-small.yaml", "--to", tmp_path / "teacher")
    for words in (
        (*teacher, "--processes", "2", "--device", "cuda"),
        ("batch", "data/experiments/small.yaml", "--tflops", "3"),
    ):
        status, _, err = run(capsys, *words)
        assert status == 2
        assert is_one_paragraph(err), err
    with pytest.raises(SystemExit):
        cli.main(["data", "get", "squad", "--languages", ",", "--to", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_the_bench_refuses_its_folder_before_it_measures(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bistil.bench.run_bench", lambda *_, **__: pytest.fail("it measured"))
    (tmp_path / "file").touch()
    status, _, err = run(capsys, "bench", "switch", "--to", tmp_path / "file")
    assert status == 2
    assert "nothing can be written there" in err


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
    assert not list(tmp_path.glob("*.partial"))


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
    assert not list(tmp_path.glob("*.partial"))


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
    one = {"system": "floor", "task": "ner", "target": "qac", "metric": "f1", "value": 1.0}
    found: list[dict[str, object]] = [one]
    monkeypatch.setattr("bistil.batch.rows", lambda reader: found)
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
    [told] = tmp_path.glob("*/results.csv")
    assert told.read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (OSError(errno.EIO, "Input/output error", "/here"), 2, "Input/output error: /here"),
        (PermissionError(errno.EACCES, "Permission denied", "/there"), 2, "Permission denied: /there"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), 2, "File name too long: /x"),
        (OSError(errno.ENOSPC, "No space"), 2, "Free some space and give the same command again.\n"),
        (SafetensorError("No space left on device (os error 28)"), 2, "The disk is full (No space"),
        (Exception("Permission denied (os error 13)"), 2, "refused a file or folder: Permission denied"),
        (SafetensorError("Error while deserializing header"), 70, "a fault of bistil (SafetensorError"),
        (MemoryError("no more"), 2, "The memory is full (no more)"),
        (torch.OutOfMemoryError("no more of it"), 2, "The memory is full (no more of it)"),
        (ModuleNotFoundError("No module", name="matplotlib.pyplot"), 2, "pip install -e '.[batch]'"),
        (ModuleNotFoundError("No module", name="onnxruntime"), 2, "pip install -e '.[onnx]'"),
        (ModuleNotFoundError("No module", name="bistil.gone"), 70, "a fault of bistil (ModuleNotFoundError"),
        (KeyError("lost"), 70, "a fault of bistil (KeyError: 'lost')"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/own"), 70, "fault of bistil (FileNotFoundError"),
        (BrokenPipeError(errno.EPIPE, "of a worker"), 70, "fault of bistil (BrokenPipeError"),
        (ValueError("first\nsecond"), 70, "(ValueError: first)"),
    ],
)
def test_whatever_happens_is_one_line_and_a_fault_keeps_its_traceback(
    error: Exception, status: int, told: str, capsys, tmp_path: Path, monkeypatch
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("bistil.sft.delta.SparseDelta.load", broken)
    found, out, err = run(capsys, "info", tmp_path / "delta.safetensors")
    assert (found, out) == (status, "")
    assert is_one_paragraph(err), err
    assert told in err
    kept = list(tmp_path.iterdir())
    if status == 2:
        assert not kept
    else:
        assert str(kept[0]) in err
        assert "in broken\n    raise error" in kept[0].read_text(encoding="utf-8")


def test_a_reader_that_goes_away_ends_a_command_in_silence() -> None:
    command = f"{sys.executable} -m bistil.cli data list"
    code = "import os, time; os.close(0); time.sleep(8)"
    found = subprocess.run(
        ["bash", "-c", f"{command} | {sys.executable} -c '{code}'; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        check=True,
    )
    assert (found.stdout, found.stderr) == ("141\n", "")


@pytest.mark.parametrize("content", [None, b"\xff\xfe{}"])
def test_info_of_a_folder_that_is_no_artefact_says_what_it_wants(
    content: bytes | None, capsys, tmp_path: Path
) -> None:
    if content:
        (tmp_path / "manifest.json").write_bytes(content)
        assert run(capsys, "info", tmp_path)[0] == 0
    else:
        status, _, err = run(capsys, "info", tmp_path)
        assert status == 2
        assert is_one_paragraph(err), err
        assert "manifest.json" in err


@pytest.mark.parametrize("to", ["teacher", "teacher/file"])
def test_pretrain_touches_nothing_that_was_there(to: str, capsys, world: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "teacher.yaml").write_text(PRETRAIN, encoding="utf-8")
    status, _, err = run(
        capsys, "pretrain", tmp_path / "teacher.yaml", "--data", world, "--to", tmp_path / to
    )
    assert status == 2
    assert "there is something else already" in err
    assert (tmp_path / "teacher" / "file").read_text(encoding="utf-8") == "mine"


def test_a_stage_is_named_by_its_id_only(capsys, experiment_file, world: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    place = ["--data", world, "--store", tmp_path / "store", "--run", tmp_path / "run"]
    status, _, err = run(capsys, "stage", experiment_file(), "../../outside", *place)
    assert status == 2
    assert "16 digits" in err
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "run").iterdir())


def test_an_interrupt_says_how_to_go_on(
    capsys, experiment_file, world: Path, tmp_path: Path, monkeypatch
) -> None:
    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bistil.pipeline.Pipeline.check", interrupt)
    status, _, err = run(capsys, "batch", experiment_file(), "--data", world, "--store", tmp_path / "store")
    assert status == 130
    assert "goes on from the last checkpoint" in err
    monkeypatch.setattr("bistil.sft.delta.SparseDelta.load", interrupt)
    status, _, err = run(capsys, "info", tmp_path / "delta.safetensors")
    assert (status, err) == (130, "bistil: interrupted.\n")


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_batch_of_what_is_there_only_reports(
    capsys, finished, experiment_file, world: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(finished.store.root, tmp_path / "store")
    where = ("--data", world, "--store", store, "--reports", tmp_path / "reports")
    path = experiment_file(targets={"ner": ["qac"]}, systems=["teacher-ltsft", "bistil-tf:2", "floor"])
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


def test_a_report_without_rows_says_why_there_are_none(
    capsys, experiment_file, world: Path, tmp_path: Path
) -> None:
    where = ("--data", world, "--store", tmp_path / "store", "--reports", tmp_path / "reports")
    status, _, err = run(capsys, "report", experiment_file(teacher=str(tmp_path / "gone")), *where)
    assert status != 0
    assert f"could be read from '{tmp_path / 'gone'}'" in err
    status, _, err = run(capsys, "report", experiment_file(), *where)
    assert status != 0
    assert "none came. Run an experiment first" in err


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


def test_info_tells_what_a_system_is_made_of(capsys) -> None:
    status, out, _ = run(capsys, "info", "monoshot:2")
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert ["term", "of", "by", "weight", "over", "per", "temperature"] in rows
    assert ["scores", "scores", "mse", "0.333", "sum", "token", "1"] in rows
    assert ["share:", "embeddings,", "head"] in rows
    assert ["select:", "all"] in rows
    for name in SYSTEMS:
        assert run(capsys, "info", name)[0] == 0
    status, _, err = run(capsys, "info", "bistil-tff")
    assert status != 0
    assert "Did you mean bistil-tf?" in err
    assert run(capsys, "info", "bistil-tf:2x2@in-language")[0] == 0
    status, _, err = run(capsys, "info", "bistil-tf:nonsense")
    assert status == 2
    assert "bistil-tf:2" in err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("nosuch", "lists them) or, with --data FOLDER, the code of a language"),
        ("data/experiments/demo.yaml", "`bistil batch data/experiments/demo.yaml --dry-run`"),
        ("data/students/miniworld-ner", "`bistil predict` runs a student"),
        ("data/teachers/miniworld", "but this folder has none.\n"),
    ],
)
def test_info_says_where_else_to_look(asked: str, told: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BISTIL_DATA", raising=False)
    monkeypatch.chdir(Path(__file__).parents[2])
    status, _, err = run(capsys, "info", asked)
    assert status == 2
    assert told in err


def test_info_tells_a_languages_features_and_its_nearest(capsys, world: Path) -> None:
    status, out, _ = run(capsys, "info", "qac", "--data", world)
    first, features, _, *near = out.splitlines()
    assert (status, first.startswith("qac Arvish: 15 of")) == (0, True)
    assert {"order=SVO", "capitals=nouns", "article=true"} <= set(features.split(", "))
    assert [line.split()[1] for line in near] == ["qaa", "qab"]
    assert float(near[0].split()[0]) > float(near[1].split()[0])
    status, _, err = run(capsys, "info", "qax", "--data", world)
    assert status == 2
    assert "'qax' is not in it" in err


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


def test_a_power_of_ten_may_have_a_capital_e() -> None:
    command = ["trim", "x", "--to", "y", "--threshold", "1E-9"]
    assert cli.parser().parse_args(command).threshold == 1e-9


def test_a_sign_that_the_terminal_lacks_ends_no_command(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "manifest.json").write_text('"→"', encoding="utf-8")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written := io.BytesIO(), encoding="ascii"))
    assert cli.main(["info", str(tmp_path)]) == 0
    assert written.getvalue() == b'"\\u2192"\n'
