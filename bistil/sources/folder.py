"""Which data folder a run reads: the miniworld's, or one that the user named."""

import os
from pathlib import Path

from bistil.errors import InputError
from bistil.settings.places import CACHE
from bistil.text.languages import DataFolder


def open_data(kind: str, named: str | None = None) -> DataFolder:
    """The miniworld, written first where it is missing, or the folder named here or by BISTIL_DATA.

    Args:
        kind: what the experiment says under `data`, `miniworld` or `folder`; a folder named here goes first.

    Raises:
        InputError: where a folder is needed and none is named, or it is not there.
    """
    if named == "miniworld" or (kind == "miniworld" and named is None):
        from bistil.miniworld import ensure_world

        return DataFolder(ensure_world(CACHE / "miniworld"))
    chosen = named or os.environ.get("BISTIL_DATA")
    if not chosen:
        raise InputError(
            "A folder of real data is needed: give --data FOLDER or set BISTIL_DATA. docs/concepts/data.md"
            " says what is in one."
        )
    return DataFolder(Path(chosen).expanduser())
