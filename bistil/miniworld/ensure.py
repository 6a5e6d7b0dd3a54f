"""The miniworld folder on demand: written once, whole or not at all, and again when its settings change.

Notable: the world grows in a sibling folder and is renamed into place; a marker names the settings and the
format it came from; one process writes.
"""

from hashlib import sha256
from pathlib import Path

from bistil.errors import InputError
from bistil.miniworld.settings import load_settings
from bistil.miniworld.write import write_world
from bistil.store.locks import alone
from bistil.store.provenance import canonical_json
from bistil.text.languages import DATA
from bistil.text.written import aside, check_named, open_to_others
from bistil.training.progress import Listener, silent

MARKER = ".settings.sha256"
FORMAT = 3
"""Counts the changes of what is written from equal settings: 2 names the NLI, QA and parallel files in
languages.csv, 3 adds topics and candidates.
"""


def ensure_world(folder: Path, settings: Path | None = None, listener: Listener = silent) -> Path:
    """Return `folder` with the miniworld in it, written now unless it is there with these settings.

    Args:
        settings: the settings file; by default the project's data/miniworld.yaml.

    Raises:
        InputError: where the settings are not valid, `folder` holds something else, or its file system has no
            locks; nothing is written then.
    """
    check_named(folder)
    wanted = load_settings(settings or DATA / "miniworld.yaml")
    mark = f"{sha256(canonical_json(wanted).encode()).hexdigest()} {FORMAT}\n"
    if _mark(folder) == mark:
        return folder
    if folder.exists() and not (folder / MARKER).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(
            f"A miniworld, or nothing yet, was expected at {folder}, but there is something else. Name"
            " another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock"), lambda who, seconds: None):
        if _mark(folder) == mark:  # another process was faster
            return folder
        with aside(folder) as made:
            write_world(made / "new", wanted, listener)
            (made / "new" / MARKER).write_text(mark, encoding="utf-8")
            open_to_others(made)
            if folder.exists():
                folder.rename(made / "old")
            (made / "new").rename(folder)
    return folder


def _mark(folder: Path) -> str:
    path = folder / MARKER
    return path.read_text(encoding="utf-8") if path.is_file() else ""
