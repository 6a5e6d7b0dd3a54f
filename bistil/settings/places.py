"""Where the project keeps things, and what may be the name of a folder."""

import re
from pathlib import Path

from bistil.errors import InputError

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data"
CACHE = DATA / "cache"


def check_name(name: str) -> None:
    """Refuse the name of an experiment or a study that is no plain folder name, since reports and runs have
    folders of that name.

    :raises InputError: for anything but letters, digits, '.', '_' and '-', or what begins with a mark.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        told = (
            "A name of letters, digits, '.', '_' and '-' was expected, beginning with a letter or digit, but"
            f" {name!r} came."
        )
        raise InputError(f"{told} Folders get that name.", at=("name",))
