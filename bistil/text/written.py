"""What is written beside other people's files: in folders that nobody else has, and readable for whom the
umask lets read.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bistil.errors import InputError


def check_named(path: Path) -> None:
    """Refuse a path without a name of its own, beside which nothing can be written.

    Raises:
        InputError: for such a path.
    """
    if not path.name:
        raise InputError(f"A file or folder with a name was expected, not {str(path)!r}. Name one.")


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, to be filled and renamed to it; it is removed where that has not come to
    pass.

    Raises:
        InputError: where `path` has no name, or the system has no folders there, as under /proc.
    """
    check_named(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".bistil-", dir=path.parent))
    except FileNotFoundError as error:
        raise InputError(
            f"A folder was to be made at {path}, but the system makes none in {path.parent}. Name another"
            " place."
        ) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `to` once all is written; nothing stays of a failure.

    Raises:
        InputError: where `to` is there already.
    """
    if to.exists():
        raise InputError(
            f"A new folder was expected at {to}, but it is there already. Move it away, or name another."
        )
    with aside(to) as made:
        yield made
        open_to_others(made)
        made.rename(to)


@contextmanager
def filled_folder(to: Path, names: Iterable[str]) -> Iterator[Path]:
    """Give a folder to fill whose files go into `to` once all are written; nothing stays of a failure.

    Args:
        to: a new folder, or one that has none of the names.
        names: of the files that will be written.

    Raises:
        InputError: where `to` is no folder, or has one of the names already.
    """
    if to.exists() and not to.is_dir():
        raise InputError(f"A folder was expected at {to}, but there is a file. Name another.")
    if there := [name for name in names if (to / name).exists()]:
        raise InputError(
            f"A folder without {there[0]} was expected at {to}, but it has one. Name another folder, or move"
            " that file away."
        )
    with aside(to) as made:
        yield made
        open_to_others(made)
        to.mkdir(exist_ok=True)
        for one in made.iterdir():
            one.rename(to / one.name)


def open_to_others(path: Path) -> None:
    """Give a file, or a folder and all in it, at least the mode that the umask leaves: libraries write
    weights for their owner alone.
    """
    mask = _umask()
    for one in (path, *path.rglob("*")):
        if not one.is_symlink():
            one.chmod(one.stat().st_mode & 0o7777 | (0o777 if one.is_dir() else 0o666) & ~mask)


def _umask() -> int:
    """The umask of this process, read where the system tells it: setting it for a moment would be seen by
    other threads.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
