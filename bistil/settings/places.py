"""Where the project keeps things, and which data folder a run reads."""

import os
import re
from pathlib import Path

from bistil.errors import InputError
from bistil.text.languages import DATA, DataFolder

ROOT, CACHE = DATA.parent, DATA / "cache"


def check_name(name: str) -> None:
    """Refuse the name of an experiment or a study that is no plain folder name, since reports and runs have
    folders of that name.

    :raises InputError: for anything but 1 to 80 letters, digits, '.', '_' and '-', what begins with a mark,
        and what ends as file names do (LOG.md).
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or re.search(r"\.([A-Za-z]\w*)?$", name):
        told = (
            "A name of at most 80 letters, digits, '.', '_' and '-' was expected, beginning with a letter or"
            f" digit and not ending as file names do, but {name!r:.100} came."
        )
        raise InputError(f"{told} Folders get that name.", at=("name",))


def open_data(kind: str, named: str | None = None) -> DataFolder:
    """The miniworld, written first where it is missing, or the folder named here or by BISTIL_DATA.

    :param kind: what the experiment says under `data`, `miniworld` or `folder`; a folder named here goes
        first.
    :raises InputError: where a folder is needed and none is named, or it is not there.
    """
    if named == "miniworld" or (kind == "miniworld" and named is None):
        from bistil.miniworld import ensure_world

        return DataFolder(ensure_world(CACHE / "miniworld"))
    chosen = named or os.environ.get("BISTIL_DATA")
    if not chosen:
        raise InputError(
            "A folder of real data is needed: give --data FOLDER or set BISTIL_DATA. The README says what is"
            " in one."
        )
    return DataFolder(Path(chosen).expanduser())
