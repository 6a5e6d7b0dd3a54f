"""Artefacts: content-addressed folders that are either whole or not there.

Notable: an artefact's id is the hash of what it is made from (kind, config, ids of its inputs), so no work is
done twice, nor by two processes at once. A build works in `<kind>/<id>.partial`; its manifest is written last
and one rename makes it an artefact. Whatever ends a build early (a bug, Ctrl-C, kill, a full disk) leaves the
partial folder with its checkpoints for the next try. The manifest holds the size and hash of every file, and
a file is held against them before it is first used."""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.settings.files import parse_json
from bistil.store.locks import alone
from bistil.store.provenance import canonical_json, file_id, git_state, peak_memory_bytes, plain, versions
from bistil.store.whole import write_whole
from bistil.text.written import open_to_others
from bistil.training.progress import Event, Listener, silent

__all__ = ["Artefact", "Build", "NotBuilt", "Store", "StoreError", "artefact_id", "file_id"]

MANIFEST = "manifest.json"
FAILED = "failed.json"
TRIED = "checkpoint.json"
"""When a try of a build began and what earlier ones took; it goes when the checkpoints go."""
Build = Callable[[Path], Mapping[str, Any]]


class NotBuilt(LookupError):  # noqa: N818
    """A read-only store was asked for an artefact that is not there."""


class StoreError(OSError):
    """The disk is full: says which folder, how much is free, what to do, and that the partial work is
    kept.
    """


@dataclass(frozen=True)
class Artefact:
    """A finished folder and its manifest (config, inputs, seed, versions, git, device, wall time, peak
    memory, metrics).
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The 16 hex digits that name what this was made from."""
        return str(self.manifest["id"])

    @property
    def kind(self) -> str:
        """What sort of thing this is, for example `student` or `language-sft`."""
        return str(self.manifest["kind"])

    @property
    def metrics(self) -> dict[str, Any]:
        """What the build function reported."""
        return dict(self.manifest["metrics"])

    def path(self, name: str) -> Path:
        """Return the path of a file or folder of this artefact, which need not exist where the manifest does
        not name it.

        Raises:
            InputError: for a name that leads outside, and for a file that is no longer what was written.
        """
        folder = self.folder.resolve()
        path = (folder / name).resolve()
        if (
            path == folder
            or not path.is_relative_to(folder)
            or Path(name).is_absolute()
            or ".." in Path(name).parts
        ):
            raise InputError(
                f"A name inside the artefact {self.kind}/{self.id} was expected, but {name!r} leads outside"
                " of it. Use a relative name without '..'."
            )
        inside = Path(name).as_posix()
        for file in self.manifest.get("files", {}):
            if file == inside or file.startswith(f"{inside}/"):
                self._check(file)
        return self.folder / name

    def check(self) -> None:
        """Hold every file against the manifest; manifests of before there were hashes in them pass.

        Raises:
            InputError: at the first file that is no longer what was written.
        """
        for file in self.manifest.get("files", {}):
            self._check(file)

    def _check(self, file: str) -> None:
        path, written = self.folder / file, self.manifest["files"][file]
        found = path.stat().st_size if path.is_file() else None
        if found != written["bytes"] or file_id(path) != written["hash"]:
            told = (
                "is gone"
                if found is None
                else f"has {found} bytes"
                if found != written["bytes"]
                else "has other content"
            )
            raise InputError(
                f"{path} {told}, but it should be as it was written, {written['bytes']} bytes of"
                f" {written['hash']}. The artefact was damaged from outside: delete the folder {self.folder},"
                " and the next run builds it again."
            )


def artefact_id(kind: str, config: Any, inputs: Mapping[str, Artefact | str]) -> str:
    """Return the id: the first 16 hex digits of the sha256 of the canonical JSON of kind, config and input
    ids.

    `config` is a dataclass or a mapping; an input is an `Artefact` or the id of something outside (see
    `file_id`).
    """
    if not re.fullmatch(r"[a-z0-9-]+", kind):
        raise InputError(f"An artefact kind is made of a-z, 0-9 and '-', but {kind!r} was given. Rename it.")
    return sha256(
        canonical_json({"kind": kind, "config": config, "inputs": _ids(inputs)}).encode()
    ).hexdigest()[:16]


class Store:
    """A folder of artefacts: `root/<kind>/<id>/`."""

    def __init__(self, root: Path | str, progress: Listener = silent, *, read_only: bool = False) -> None:
        self.root = Path(root)
        self.progress = progress
        self.read_only = read_only
        self.built: set[str] = set()
        """The ids of what this store object has built, not found."""

    def find(self, kind: str, config: Any, inputs: Mapping[str, Artefact | str]) -> Artefact | None:
        """Return the finished artefact, or None; a folder whose manifest cannot be read is an `InputError`
        that names it.
        """
        folder = self.root / kind / artefact_id(kind, config, inputs)
        return _read(folder) if folder.is_dir() else None

    def all(self, kind: str) -> list[Artefact]:
        """Return every finished artefact of a kind, sorted by id; damaged ones, which may be of any
        experiment, are left out.
        """
        artefact_id(kind, {}, {})  # refuses a kind that is not a plain name
        found = []
        for folder in sorted((self.root / kind).glob("*")):
            if re.fullmatch(r"[0-9a-f]{16}", folder.name):
                with suppress(InputError):
                    found.append(_read(folder))
        return found

    def run(self, kind: str, config: Any, inputs: Mapping[str, Artefact | str], build: Build) -> Artefact:
        """Return the artefact, building it first when it is not there.

        `build(folder)` fills the partial folder (which holds the files and checkpoints of an earlier try, if
        there was one) and returns a JSON-able mapping of metrics; `device`, `device_reason` and `bfloat16` in
        it move to the manifest's own fields. Names in the folder that begin with `checkpoint` are deleted
        after success. While another process builds the same id, this call waits and reports `waiting for
        <kind>, which is built by <whom>`. Raises `StoreError` when the disk is full; any other error of
        `build` passes through unchanged, with its text in the partial folder's `failed.json`."""
        found = self.find(kind, config, inputs)
        if found is not None:
            return found
        folder = self.root / kind / artefact_id(kind, config, inputs)
        if self.read_only:
            raise NotBuilt(f"{kind}/{folder.name} has not been built yet.")
        with _clear_when_full(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            told: list[str] = []

            def waiting(holder: str, seconds: float) -> None:
                told.append(f"waiting for {kind}, which is built by {holder}")
                self.progress(Event(told[0], 0, 1, {"seconds": seconds}))

            with alone(folder.with_name(folder.name + ".lock"), waiting):
                if told:
                    self.progress(Event(told[0], 1, 1))
                if not folder.is_dir():
                    _build(folder, {"kind": kind, "config": plain(config), "inputs": _ids(inputs)}, build)
                    self.built.add(folder.name)
                return _read(folder)


def _ids(inputs: Mapping[str, Artefact | str]) -> dict[str, str]:
    for name, item in inputs.items():
        if not (isinstance(item, Artefact) or (isinstance(item, str) and item)):
            raise InputError(
                f"Input {name!r} should be an Artefact or an id, but is {item!r}. For a file or folder use"
                " bistil.store.artefacts.file_id."
            )
    return {name: item.id if isinstance(item, Artefact) else item for name, item in inputs.items()}


def _read(folder: Path) -> Artefact:
    try:
        manifest = _manifest(folder)
        if manifest["id"] != folder.name or manifest["kind"] != folder.parent.name:
            raise ValueError("it does not describe this folder")
        for part in ("config", "inputs", "metrics"):
            if not isinstance(manifest[part], dict):
                raise ValueError(f"its `{part}` is no mapping")
        for name, written in manifest.get("files", {}).items():
            if not (isinstance(written["bytes"], int) and isinstance(written["hash"], str)):
                raise ValueError(f"it does not say what the file {name} was")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"A complete artefact with its {MANIFEST} was expected in {folder}, but the manifest cannot be"
            f" used ({error}). The folder was changed from outside: delete it, and the next run builds it"
            " again."
        ) from error
    return Artefact(folder, manifest)


def _manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest; one of before there were checksums passes without.

    Raises:
        ValueError: for one that was not finished, or is not what was written; a `KeyError` or `TypeError` for
            what is no manifest at all.
    """
    manifest: dict[str, Any] = parse_json((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["status"] != "complete":
        raise ValueError("it was not finished")
    if "checksum" in manifest and manifest["checksum"] != _checksum(manifest):
        raise ValueError("it is not what was written, by its checksum")
    return manifest


def _checksum(manifest: Mapping[str, Any]) -> str:
    """The hash of all that a manifest says, as it is read back."""
    told = {name: value for name, value in manifest.items() if name != "checksum"}
    return f"sha256:{sha256(canonical_json(told).encode()).hexdigest()}"


def _build(folder: Path, made_from: Mapping[str, Any], build: Build) -> None:
    """Fill the partial folder, write its manifest last, and rename it to `folder`."""
    partial = folder.with_name(folder.name + ".partial")
    resumed = partial.is_dir()
    partial.mkdir(exist_ok=True)
    for left in partial.glob(".*.tmp"):  # of a write that was killed
        left.unlink()
    if not _is_finished(partial, folder.name):
        (partial / FAILED).unlink(missing_ok=True)
        started = time.perf_counter() - _seconds_before(partial)
        try:
            metrics = plain(build(partial), lenient=True)
        except Exception as error:
            with suppress(OSError):
                _write_json(
                    partial / FAILED,
                    {"error": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - started},
                )
            raise
        open_to_others(partial)
        files = _sync_files(partial)
        manifest = {
            "id": folder.name,
            **made_from,
            "seed": made_from["config"].get("seed"),
            "status": "complete",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "resumed": resumed,
            "wall_seconds": time.perf_counter() - started,
            "peak_memory_bytes": peak_memory_bytes(),
            "device": metrics.pop("device", None),
            "device_reason": metrics.pop("device_reason", None),
            "bfloat16": metrics.pop("bfloat16", None),
            "versions": versions(),
            "git": git_state(),
            "metrics": metrics,
            "files": files,
        }
        _write_json(partial / MANIFEST, {**manifest, "checksum": _checksum(manifest)})
    for path in partial.glob("checkpoint*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    partial.rename(folder)
    _sync(folder.parent)


def _seconds_before(partial: Path) -> float:
    """What earlier tries took, each up to the last file that it left, so that a resumed artefact's time is
    that of the work in it.
    """
    seconds = 0.0
    with suppress(OSError, ValueError, KeyError, TypeError):  # no earlier try, or one that was killed early
        tried = parse_json((partial / TRIED).read_text(encoding="utf-8"))
        last = max(path.stat().st_mtime for path in partial.rglob("*") if path.is_file())
        began = (partial / TRIED).stat().st_mtime  # by the same clock, and copied along with it or not
        seconds = float(tried["seconds"]) + max(0.0, last - began)
    _write_json(partial / TRIED, {"seconds": seconds})
    return seconds


def _is_finished(partial: Path, name: str) -> bool:
    """Say whether an earlier try was ended between its manifest and the rename, so that only the rename is
    missing.
    """
    try:
        return bool(_manifest(partial)["id"] == name)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _sync_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Make the contents durable before the manifest that vouches for them, and return size and hash of each
    file by its name.

    Checkpoints are about to go, and the manifest does not vouch for itself.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(("checkpoint", MANIFEST)):
            _sync(path)
            files[name] = {"bytes": path.stat().st_size, "hash": file_id(path)}
    return files


def _sync(path: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _clear_when_full(folder: Path) -> Iterator[None]:
    """Turn 'no space left', in whatever wrapping it comes, into a `StoreError` that says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, StoreError) or not _is_full(error):
            raise
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / 2**20
        raise StoreError(
            errno.ENOSPC,
            f"The disk is full: {folder} could not be finished, with {free:,.0f} MiB free. Free some space,"
            " or choose another store folder, and run the same command again. What was done is kept in"
            f" {folder.name}.partial and will be continued from its last checkpoint",
            str(folder),
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Look for ENOSPC or EDQUOT along the chain of causes (safetensors reports it as text only)."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
