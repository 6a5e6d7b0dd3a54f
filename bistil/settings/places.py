"""Where the project keeps things, what may be the name of a folder, and how many processors there are."""

import os
import re
from pathlib import Path

from bistil.errors import InputError

PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "shipped"
"""What travels in a wheel; in a checkout it stands beside the package."""
ROOT = SHIPPED if SHIPPED.is_dir() else PACKAGE.parent
"""Where what comes with bistil is read from: data and notebooks."""
WORK = Path.cwd() if SHIPPED.is_dir() else ROOT
"""Where things are written: the checkout, or the folder that an installed bistil is called in."""
DATA = ROOT / "data"
CACHE = WORK / "data" / "cache"
REPORTS = WORK / "reports"


def processors() -> int:
    """How many processors this process may use, which on a cluster are its job's, not the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def world_file(data: str) -> Path | None:
    """The settings of an invented world of the project, `miniworld` or `miniworld-NAME`; None for others."""
    path = DATA / f"{data}.yaml"
    return path if re.fullmatch("miniworld(-[a-z0-9]+)*", data) and path.is_file() else None


def worlds() -> list[str]:
    """The names of the project's invented worlds."""
    return sorted(path.stem for path in DATA.glob("miniworld*.yaml"))


def given(text: str) -> Path:
    """A path that a user gives: from the folder at hand, else what comes with bistil under that name."""
    path = Path(text).expanduser()
    return path if path.exists() or not (ROOT / path).exists() else ROOT / path


def check_name(name: str) -> None:
    """Refuse the name of an experiment or a study that is no plain folder name, since reports and runs have
    folders of that name.

    Raises:
        InputError: for anything but 1 to 80 letters, digits, '.', '_' and '-', what begins with a mark, and
            what ends as file names do (LOG.md).
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or re.search(r"\.([A-Za-z]\w*)?$", name):
        told = (
            "A name of at most 80 letters, digits, '.', '_' and '-' was expected, beginning with a letter or"
            f" digit and not ending as file names do, but {name!r:.100} came."
        )
        raise InputError(f"{told} Folders get that name.", at=("name",))
