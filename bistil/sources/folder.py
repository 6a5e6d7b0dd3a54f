"""Which data folder a run reads: an invented world's, or one that the user named."""

import os
from pathlib import Path

from bistil.errors import InputError
from bistil.settings.places import CACHE, world_file
from bistil.text.languages import DataFolder


def open_data(kind: str, named: str | None = None) -> DataFolder:
    """An invented world, written first where it is missing, or the folder named here or by BISTIL_DATA.

    Args:
        kind: what the experiment says under `data`, a world or `folder`; what is named here goes first.

    Raises:
        InputError: where a folder is needed and none is named, or it is not there.
    """
    world = kind if named is None else named
    if settings := world_file(world):
        from bistil.miniworld import ensure_world

        return DataFolder(ensure_world(CACHE / world, settings))
    chosen = named or os.environ.get("BISTIL_DATA")
    if not chosen:
        raise InputError(
            "A folder of real data is needed: give --data FOLDER or set BISTIL_DATA. docs/concepts/data.md"
            " says what is in one."
        )
    return DataFolder(Path(chosen).expanduser())
