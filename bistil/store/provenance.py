"""Where things come from: canonical JSON, content hashes of outside files, software versions, the git commit,
peak memory.

Notable: nothing here imports torch or transformers (versions are read from package metadata), and nothing
fails for want of git.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version
from typing import Any

import numpy as np

import bistil
from bistil.errors import InputError
from bistil.settings.ranges import key


def plain(value: Any, *, lenient: bool = False) -> Any:
    """Return `value` made of dict, list, str, int, float, bool and None only.

    Dataclasses become dicts, tuples lists, numpy scalars Python numbers. A field with the metadata
    `added_later` is left out while it has its default, so that what was made before there was such a field
    keeps its id. Anything else is an `InputError`: a `Path`, because the same work would have another id on
    another machine; a set, because it has no order; a number that is not finite, unless `lenient` (then
    None)."""
    if is_dataclass(value) and not isinstance(value, type):
        told = (
            f
            for f in fields(value)
            if not f.metadata.get("added_later") or getattr(value, f.name) != _usual(f)
        )
        return {key(f.name): plain(getattr(value, f.name), lenient=lenient) for f in told}
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise InputError(
                f"Names (strings) were expected as keys, but {list(value)[:5]} came. Write the keys as"
                " strings."
            )
        return {str(name): plain(item, lenient=lenient) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, lenient=lenient) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item(), lenient=lenient)
    if isinstance(value, float) and not math.isfinite(value):
        if lenient:
            return None
        raise InputError(f"A finite number was expected, but {value} came. Use None for 'no value'.")
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(
        "Only mappings, lists, strings, finite numbers, booleans and None can be part of an artefact's id"
        f" and manifest, but {value!r} of type {type(value).__name__} came. Give files by content"
        " (bistil.store.artefacts.file_id), not by path."
    )


def _usual(one: Field[Any]) -> Any:
    """The default of a field, also where it is made anew each time."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def by_name(what: str, paths: Iterable[Path], root: Path) -> dict[str, str]:
    """Files as inputs of a stage, each under its name after `what`, or under its place below `root` where
    several have that name; of those that are elsewhere, under the names of its folders that tell them apart.
    """
    files = sorted(set(paths))
    names = Counter(path.name for path in files)

    def called(path: Path) -> str:
        if names[path.name] == 1:
            return path.name
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
        others = [one.parts for one in files if one != path]
        parts = path.parts
        few = next(n for n in range(1, len(parts) + 1) if all(parts[-n:] != one[-n:] for one in others))
        return "/".join(parts[-few:])

    return {f"{what} {called(path)}": file_id(path) for path in files}


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no blanks, floats by `repr`."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


_digests: dict[tuple[str, int, int], str] = {}


def file_id(path: Path | str) -> str:
    """Return `sha256:<hex>` of a file's content, or of a folder's file names and contents (hidden files left
    out).

    The hash of a file is kept for the life of the process, by (path, size, mtime). A missing path is an
    `InputError`.
    """
    path = Path(path).resolve()
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        lines = (
            f"{name} {file_id(files[name])}\n"
            for name in sorted(files)
            if not any(part.startswith(".") for part in name.split("/"))
        )
        return "sha256:" + sha256("".join(lines).encode()).hexdigest()
    if not path.is_file():
        raise InputError(f"A file or folder was expected at {path}, but there is none. Check the path.")
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = file_digest(file, "sha256").hexdigest()
    return "sha256:" + _digests[key]


@cache
def versions() -> dict[str, str]:
    """Return the versions of python, torch, transformers, numpy and bistil, and the platform."""
    found = {"python": python_version(), "platform": platform(), "bistil": bistil.__version__}
    for package in ("torch", "transformers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def git_state() -> dict[str, Any]:
    """Return {commit, dirty} of the library's own folder as it was when first asked, or None for both without
    git.

    `dirty` speaks of the library folder alone: results and notebooks written beside it do not change what the
    code does.
    """
    folder = Path(bistil.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            run = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return run.stdout.strip()

    if not git("ls-files", "__init__.py"):
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "--", ".")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def peak_memory_bytes() -> int | None:
    """Return the largest resident size of this process since it started, in bytes (the whole process, not one
    stage alone).

    Linux tells `getrusage` the peak of the process that started this one, where that is larger; its own is in
    /proc.
    """
    if os.name != "posix":
        return None
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("ascii")) if status.is_file() else None
    if own:
        return 1024 * int(own[1])
    import resource  # POSIX only, so it cannot be imported at the top

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
