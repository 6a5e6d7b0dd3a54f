"""Files and folders that others can rely on: there whole or not at all, in a place that was tried
before long work.
"""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from bistil.errors import InputError

TRIES = 20
"""Of a folder that others try at the same time."""


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


def check_place(folder: Path, what: str) -> None:
    """Try to write into a folder, which need not be there yet and is left as it was; folders above it stay
    where they had to be made. Several may try the same one: a folder that another takes away again is made
    anew, and what is left then is an empty folder at most.

    Args:
        what: what is to be written there, as the subject of a sentence.

    Raises:
        InputError: where that cannot be, with the reason.
    """
    probe = folder / f".{uuid4().hex}.tmp"
    try:
        new = not folder.exists()
        for left in reversed(range(TRIES)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe.touch()
                break
            except (FileNotFoundError, FileExistsError):
                if not left:
                    raise
        probe.unlink()
        if new:
            with suppress(OSError):  # gone, or in use by another one meanwhile
                folder.rmdir()
    except OSError as error:
        raise InputError(
            f"{what} should go into the folder {folder}, but nothing can be written there"
            f" ({error.strerror}: {error.filename}). Name another folder, or make room for this one."
        ) from error
