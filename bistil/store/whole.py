"""Files and folders that others can rely on: there whole or not at all, readable by whom the umask allows, in
a place that was tried before long work.
"""

import os
import stat
from pathlib import Path
from uuid import uuid4

from bistil.errors import InputError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut, and whoever else writes
    it. Text is UTF-8, its line ends as they are.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with growing.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        growing.replace(path)
    finally:
        growing.unlink(missing_ok=True)


def share(folder: Path) -> None:
    """Give a folder and all in it the permissions that this process's umask gives new files.

    Some libraries write by way of temporary files, which nobody else may read."""
    if os.name != "posix":
        return
    probe = folder / f".{uuid4().hex}.tmp"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            own = stat.S_IMODE(path.stat().st_mode)
            search = (mode & 0o444) >> 2 if path.is_dir() else 0
            if own | mode | search != own:
                path.chmod(own | mode | search)


def check_place(folder: Path, what: str) -> None:
    """Try to write into a folder, which need not be there yet and is left as it was.

    :param what: what is to be written there, as the subject of a sentence.
    :raises InputError: where that cannot be, with the reason.
    """
    probe = folder / f".{uuid4().hex}.tmp"
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        if new:
            folder.rmdir()
    except OSError as error:
        raise InputError(
            f"{what} should go into the folder {folder}, but nothing can be written there"
            f" ({error.strerror}: {error.filename}). Name another folder, or make room for this one."
        ) from error
