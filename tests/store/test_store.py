"""The store: stable ids, one build, crash and resume, full disks, names that try to escape."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bistil.errors import InputError
from bistil.store import artefacts as store
from bistil.store import locks, provenance
from bistil.store.artefacts import Artefact, Store, StoreError, artefact_id, file_id
from bistil.store.provenance import by_name
from bistil.training.progress import Event


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 10
    rate: float = 1e-4
    layers: tuple[int, ...] = (2, 4)
    seed: int = 7


def build(folder: Path) -> dict[str, object]:
    (folder / "weights.txt").write_text("1 2 3")
    (folder / "checkpoint-5").mkdir()
    place = {"device": "cpu", "device_reason": "no GPU here", "bfloat16": False}
    return {"loss": 0.5, **place, "broken": float("nan")}


def test_ids_do_not_depend_on_order_type_of_sequence_or_process() -> None:
    as_mapping = {"seed": 7, "layers": [2, 4], "rate": 0.0001, "steps": np.int64(10)}
    assert artefact_id("student", Config(), {"a": "x", "b": "y"}) == artefact_id(
        "student", as_mapping, {"b": "y", "a": "x"}
    )
    config = '{"layers":[2,4],"rate":0.0001,"seed":7,"steps":10}'
    text = '{"config":' + config + ',"inputs":{"a":"sha256:0"},"kind":"student"}'
    assert (
        artefact_id("student", Config(), {"a": "sha256:0"}) == hashlib.sha256(text.encode()).hexdigest()[:16]
    )


def test_a_field_added_later_keeps_the_ids_of_what_was_made_before() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(Config):
        select: str = field(default="top-k", metadata={"added_later": True})
        made_anew: dict[str, str] = field(default_factory=dict, metadata={"added_later": True})

    assert artefact_id("student", Later(), {}) == artefact_id("student", Config(), {})
    assert artefact_id("student", Later(select="random"), {}) != artefact_id("student", Config(), {})
    assert artefact_id("student", Later(made_anew={"a": "b"}), {}) != artefact_id("student", Config(), {})
    assert artefact_id("student", {"in": [Later()]}, {}) == artefact_id("student", {"in": [Config()]}, {})


@pytest.mark.parametrize(
    "other",
    [
        ("teacher", Config(), {}),
        ("student", Config(rate=1.0000000001e-4), {}),
        ("student", Config(), {"a": "x"}),
    ],
)
def test_ids_change_with_everything_the_artefact_is_made_from(
    other: tuple[str, Config, dict[str, Artefact | str]],
) -> None:
    assert artefact_id(*other) != artefact_id("student", Config(), {})


@pytest.mark.parametrize("value", [Path("/tmp/x"), {1, 2}, float("nan"), {3: 4}, object(), b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(InputError):
        artefact_id("student", {"value": value}, {})


@pytest.mark.parametrize("kind", ["", "Student", "a/b", "..", "a b", "student\n"])
def test_kinds_are_plain_names(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind"):
        Store(tmp_path).run(kind, {}, {}, build)
    with pytest.raises(InputError, match="kind"):
        Store(tmp_path).all(kind)


def test_a_finished_artefact_is_found_and_not_built_again(tmp_path: Path) -> None:
    artefacts, calls = Store(tmp_path), list[Path]()

    def noted(folder: Path) -> dict[str, object]:
        calls.append(folder)
        return build(folder)

    first = artefacts.run("student", Config(), {"teacher": "sha256:0"}, noted)
    again = artefacts.run(
        "student", Config(), {"teacher": "sha256:0"}, lambda folder: pytest.fail("built twice")
    )
    assert len(calls) == 1
    assert (first.id, first.kind, first.folder) == (again.id, "student", tmp_path / "student" / first.id)
    assert again == artefacts.find("student", Config(), {"teacher": "sha256:0"})
    assert artefacts.all("student") == [again]
    assert artefacts.find("student", Config(seed=8), {"teacher": "sha256:0"}) is None
    assert artefacts.all("nothing-yet") == []
    assert sorted(path.name for path in first.folder.iterdir()) == ["manifest.json", "weights.txt"]


def test_a_peak_of_memory_is_not_that_of_the_process_that_started_this_one() -> None:
    large = b"1" * 400_000_000
    program = "from bistil.store.provenance import peak_memory_bytes; print(peak_memory_bytes())"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 2**20 < int(told.stdout) < len(large)


def test_the_manifest_says_where_the_artefact_comes_from(tmp_path: Path) -> None:
    source = Store(tmp_path).run("corpus", {}, {}, build)
    manifest = Store(tmp_path).run("student", Config(), {"source": source}, build).manifest
    assert manifest["config"] == {"steps": 10, "rate": 1e-4, "layers": [2, 4], "seed": 7}
    assert manifest["inputs"] == {"source": source.id}
    assert manifest["seed"] == 7
    assert manifest["status"] == "complete"
    place = [manifest[name] for name in ("device", "device_reason", "bfloat16")]
    assert place == ["cpu", "no GPU here", False]
    assert manifest["metrics"] == {"loss": 0.5, "broken": None}
    assert {"python", "torch", "transformers", "numpy", "bistil"} <= set(manifest["versions"])
    assert manifest["peak_memory_bytes"] > 2**20
    assert set(manifest["git"]) == {"commit", "dirty"}
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_crash_leaves_the_partial_folder_and_the_next_try_gets_it(tmp_path: Path) -> None:
    artefacts = Store(tmp_path)

    def crash(folder: Path) -> dict[str, object]:
        (folder / "checkpoint-1").mkdir()
        raise RuntimeError("loss is not a number")

    def resume(folder: Path) -> dict[str, object]:
        assert (folder / "checkpoint-1").is_dir()
        assert not (folder / "failed.json").exists()
        return {"steps": 2}

    with pytest.raises(RuntimeError, match="not a number"):
        artefacts.run("student", Config(), {}, crash)
    assert artefacts.find("student", Config(), {}) is None
    assert artefacts.all("student") == []
    [failed] = tmp_path.glob("student/*.partial/failed.json")
    assert "loss is not a number" in json.loads(failed.read_text())["error"]
    artefact = artefacts.run("student", Config(), {}, resume)
    assert artefact.manifest["resumed"] is True
    assert [path.name for path in artefact.folder.iterdir()] == ["manifest.json"]
    assert list(tmp_path.glob("student/*.partial")) == []


def test_an_interrupt_keeps_the_partial_folder_and_frees_the_lock(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> dict[str, object]:
        (folder / "checkpoint-1").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).run("student", {}, {}, interrupt)
    assert (next(tmp_path.glob("student/*.partial")) / "checkpoint-1").is_dir()
    assert Store(tmp_path).run("student", {}, {}, lambda folder: {}).metrics == {}


def test_the_time_of_a_resumed_artefact_counts_what_earlier_tries_left(tmp_path: Path) -> None:
    def killed(folder: Path, after: int) -> dict[str, object]:
        (folder / "checkpoint-1").mkdir(exist_ok=True)
        (folder / "checkpoint-1" / "state").write_text("weights")
        later = time.time() + after
        os.utime(folder / "checkpoint-1" / "state", (later, later))
        raise KeyboardInterrupt

    for seconds in (1000, 2000):
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).run("student", {}, {}, partial(killed, after=seconds))
    seconds = Store(tmp_path).run("student", {}, {}, lambda folder: {}).manifest["wall_seconds"]
    assert 3000 <= seconds < 3010
    assert Store(tmp_path).run("student", {"other": 1}, {}, lambda folder: {}).manifest["wall_seconds"] < 10


def test_a_try_that_died_before_the_rename_is_only_renamed(tmp_path: Path) -> None:
    artefact = Store(tmp_path).run("student", {}, {}, build)
    (artefact.folder / "checkpoint-9").mkdir()
    artefact.folder.rename(artefact.folder.with_name(artefact.id + ".partial"))
    again = Store(tmp_path).run("student", {}, {}, lambda folder: pytest.fail("built twice"))
    assert again == artefact
    assert not again.path("checkpoint-9").exists()


def slow_build(folder: Path) -> dict[str, object]:
    with (folder.parent / "builds.log").open("a") as log:
        log.write("built\n")
    time.sleep(0.4)
    return {}


def run_in_a_process(root: Path, gate: object, events: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    locks.POLL_SECONDS = 0.1
    Store(root, progress=events.put).run("student", Config(), {}, slow_build)  # type: ignore[attr-defined]


def test_two_processes_build_once_and_the_other_says_that_it_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate, events = context.Barrier(2), context.Queue()
    processes = [context.Process(target=run_in_a_process, args=(tmp_path, gate, events)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "student" / "builds.log").read_text() == "built\n"
    first: Event = events.get(timeout=30)
    assert re.fullmatch(r"waiting for student, which is built by process \d+ on this machine", first.stage)
    assert (first.step, first.of) == (0, 1)
    assert sorted(path.name for path in (tmp_path / "student").glob("*.lock*"))[0].endswith(".lock")
    assert not list(tmp_path.glob("student/*.locked-by"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_says_what_to_do_and_keeps_the_work(error: Exception, tmp_path: Path) -> None:
    def fill(folder: Path) -> dict[str, object]:
        (folder / "checkpoint-1").mkdir()
        raise RuntimeError("could not save") from error

    with pytest.raises(StoreError, match=r"MiB free.*run the same command again.*\.partial") as caught:
        Store(tmp_path).run("student", {}, {}, fill)
    assert caught.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.glob("student/*.partial/checkpoint-1"))


def test_a_disk_that_fills_up_while_the_manifest_is_written_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if list(tmp_path.glob("student/*.partial/weights.txt")):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        with pytest.raises(StoreError):
            Store(tmp_path).run("student", {}, {}, build)
    assert Store(tmp_path).find("student", {}, {}) is None
    assert Store(tmp_path).run(
        "student", {}, {}, lambda folder: {"read": (folder / "weights.txt").read_text()}
    ).metrics == {"read": "1 2 3"}


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "", ".", "a/../../b", "a/../b"])
def test_names_that_lead_outside_are_refused(name: str, tmp_path: Path) -> None:
    artefact = Store(tmp_path).run("student", {}, {}, build)
    with pytest.raises(InputError, match="leads outside"):
        artefact.path(name)
    assert artefact.path("weights.txt").read_text() == "1 2 3"


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    artefact = Store(tmp_path).run("student", {}, {}, build)
    artefact.folder.joinpath("link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads outside"):
        artefact.path("link/secret")


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "complete"}', '{"status": "half"}'])
def test_a_damaged_manifest_is_an_error_that_names_the_folder(text: str, tmp_path: Path) -> None:
    artefact = Store(tmp_path).run("student", {}, {}, build)
    artefact.path("manifest.json").write_text(text)
    with pytest.raises(InputError, match=artefact.id):
        Store(tmp_path).run("student", {}, {}, build)


def test_an_input_that_is_neither_artefact_nor_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="teacher"):
        Store(tmp_path).run("student", {}, {"teacher": tmp_path}, build)  # type: ignore[dict-item]


def test_file_ids_follow_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.txt").write_text("hello")
    assert (
        file_id(tmp_path / "a.txt")
        == file_id(tmp_path / "b.txt")
        == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )
    whole = file_id(tmp_path)
    (tmp_path / ".hidden").write_text("not counted")
    assert file_id(tmp_path) == whole
    (tmp_path / "b.txt").write_text("hello there")
    assert file_id(tmp_path / "b.txt") != file_id(tmp_path / "a.txt")
    assert file_id(tmp_path) != whole
    with pytest.raises(InputError, match="none"):
        file_id(tmp_path / "missing")


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("git")

    provenance.git_state.cache_clear()
    monkeypatch.setattr(provenance.subprocess, "run", missing)
    assert provenance.git_state() == {"commit": None, "dirty": None}
    provenance.git_state.cache_clear()


def test_the_manifest_has_size_and_hash_of_every_file(tmp_path: Path) -> None:
    def nested(folder: Path) -> dict[str, object]:
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(b"123")
        return build(folder)

    artefact = Store(tmp_path).run("student", {}, {}, nested)
    assert artefact.manifest["files"] == {
        name: {"bytes": len(text), "hash": f"sha256:{hashlib.sha256(text).hexdigest()}"}
        for name, text in {"model/weights.bin": b"123", "weights.txt": b"1 2 3"}.items()
    }
    artefact.check()


@pytest.mark.parametrize(
    ("text", "told"), [("1 2 4", "other content"), ("1 2", "has 3 bytes"), (None, "is gone")]
)
def test_a_damaged_file_is_found_when_it_is_used_and_its_artefact_can_be_built_again(
    text: str | None, told: str, tmp_path: Path
) -> None:
    path = Store(tmp_path).run("student", {}, {}, build).path("weights.txt")
    path.unlink() if text is None else path.write_text(text)
    artefact = Store(tmp_path).run("student", {}, {}, lambda folder: pytest.fail("built, though it is there"))
    for use in (artefact.check, lambda: artefact.path("weights.txt"), lambda: artefact.path("./weights.txt")):
        with pytest.raises(InputError, match=rf"{told}.*delete the folder .*{artefact.id}"):
            use()
    shutil.rmtree(artefact.folder)
    Store(tmp_path).run("student", {}, {}, build).check()


def test_an_artefact_of_before_there_were_hashes_is_as_good_as_ever(tmp_path: Path) -> None:
    artefact = Store(tmp_path).run("student", {}, {}, build)
    manifest = {name: value for name, value in artefact.manifest.items() if name not in ("files", "checksum")}
    (artefact.folder / "manifest.json").write_text(json.dumps(manifest))
    again = Store(tmp_path).run("student", {}, {}, lambda folder: pytest.fail("built twice"))
    again.check()
    assert (again.id, again.path("weights.txt").read_text()) == (artefact.id, "1 2 3")


def test_a_clock_that_jumps_back_changes_nothing_but_what_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Store(tmp_path).run("corpus", {}, {}, build)
    monkeypatch.setattr(store.time, "gmtime", lambda: time.struct_time((1999, 1, 1, 0, 0, 0, 4, 1, 0)))
    second = Store(tmp_path).run("student", {}, {"corpus": first}, build)
    os.utime(first.folder / "manifest.json", (4e9, 4e9))  # what it is made from is newer than itself
    artefacts = Store(tmp_path)
    again = artefacts.run(
        "student",
        {},
        {"corpus": artefacts.run("corpus", {}, {}, build)},
        lambda folder: pytest.fail("built twice"),
    )
    assert second.manifest["finished"].startswith("1999")
    assert 0 <= again.manifest["wall_seconds"] < 60
    assert artefacts.built == set()


def test_no_flipped_bit_of_a_manifest_changes_a_score(tmp_path: Path) -> None:
    score = {"accuracy": 71.25, "las": 0.5, "n_examples": 800}
    artefact = Store(tmp_path).run("evaluation", {"task": "ner"}, {}, lambda folder: score)
    path = artefact.path("manifest.json")
    whole = path.read_bytes()
    start = whole.index(b'"metrics"')
    for place in range(start, whole.index(b"}", start) + 1):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with suppress(InputError):
                found = Store(tmp_path).find("evaluation", {"task": "ner"}, {})
                assert found is not None
                assert found.metrics == score


def test_a_damaged_artefact_of_somebody_else_is_left_out_of_all(tmp_path: Path) -> None:
    one, other = (Store(tmp_path).run("student", {"seed": seed}, {}, build) for seed in (1, 2))
    (other.folder / "manifest.json").write_text("{")
    assert [found.id for found in Store(tmp_path).all("student")] == [one.id]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_what_a_library_kept_to_itself_is_as_readable_as_the_umask_says(
    mask: int, file: int, folder: int, tmp_path: Path
) -> None:
    def private(partial: Path) -> dict[str, object]:
        (partial / "model").mkdir(mode=0o700)
        (partial / "model" / "weights").touch(0o600)
        (partial / "tool").touch(0o700)
        return {}

    before = os.umask(mask)
    try:
        artefact = Store(tmp_path).run("student", {}, {}, private)
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (artefact.folder, *artefact.folder.rglob("*"))
    }
    expected = {artefact.id: folder, "model": folder, "weights": file, "manifest.json": file}
    assert {name: modes[name] for name in expected} == expected
    assert modes["tool"] == file | 0o700


def test_files_are_inputs_by_name_and_by_place_where_names_are_alike(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("a/test.txt", "b/test.txt", "b/other.txt")]
    for number, path in enumerate(places):
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number), encoding="utf-8")
    found = by_name("without", [*places, places[0]], tmp_path)
    assert set(found) == {"without a/test.txt", "without b/test.txt", "without other.txt"}
    assert found["without other.txt"] == file_id(places[2])
    assert len(set(found.values())) == 3
    elsewhere = by_name("without", places[:2], tmp_path / "data")  # as absolute paths in a language table are
    assert set(elsewhere) == {"without a/test.txt", "without b/test.txt"}
