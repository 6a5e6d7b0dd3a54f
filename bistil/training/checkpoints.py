"""Checkpoints that count: written to their end, and still what was written.

Notable: a checkpoint's marker `complete` comes last and names every file with size and hash, so a kill in
the middle of saving or of deleting, a power cut and a damaged disk cost an interval, never the run. The one
before the newest is kept for that."""

import json
import os
import shutil
from hashlib import file_digest
from pathlib import Path

MARKER = "complete"
STATE = "trainer_state.json"
KEPT = 2


def mark(checkpoint: Path) -> None:
    """Make a checkpoint's files durable, then write the marker that vouches for them."""
    files = {path.name: _content(path) for path in sorted(checkpoint.iterdir()) if path.is_file()}
    growing = checkpoint / f"{MARKER}.tmp"
    with growing.open("w", encoding="utf-8") as file:
        json.dump(files, file)
        file.flush()
        os.fsync(file.fileno())
    growing.replace(checkpoint / MARKER)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, and whose best one so far is whole too; those that are not whole
    are deleted.
    """
    whole = {}
    for checkpoint in folder.glob("checkpoint-*"):
        if _is_whole(checkpoint):
            whole[checkpoint.name] = checkpoint
        else:
            _delete(checkpoint)
    usable = [checkpoint for checkpoint in whole.values() if _best(checkpoint) in {None, *whole}]
    return max(usable, key=_step, default=None)


def start(folder: Path) -> Path | None:
    """The checkpoint to go on from, `newest`. It names the best one by where that is now: its folder may have
    been moved since, or called by another name, and transformers looks nowhere else.
    """
    checkpoint = newest(folder)
    if checkpoint is not None and _settle(checkpoint):
        mark(checkpoint)
    return checkpoint


def keep(folder: Path, best: str | None) -> None:
    """Delete all but the newest checkpoints and the best ones that they and the run name."""
    found = sorted(folder.glob("checkpoint-*"), key=_step)
    names = {best, *(checkpoint.name for checkpoint in found[-KEPT:]), *map(_best, found[-KEPT:])}
    for checkpoint in found:
        if checkpoint.name not in names:
            _delete(checkpoint)


def hand_on(folder: Path, to: Path) -> None:
    """Copy the newest checkpoint of a folder, and before it the best one, to another folder, where an earlier
    try may have left them.
    """
    last = newest(folder)
    if last is None:
        return
    best = _best(last)
    for name in dict.fromkeys((best or last.name, last.name)):
        _delete(to / name)
        shutil.copytree(folder / name, to / name, ignore=shutil.ignore_patterns(MARKER))
        _settle(to / name)
        mark(to / name)


def _settle(checkpoint: Path) -> bool:
    """Let a checkpoint's state name the best one beside it; say whether that changed the state."""
    state, best = json.loads((checkpoint / STATE).read_text(encoding="utf-8")), _best(checkpoint)
    here = str(checkpoint.parent / best) if best else None
    if state["best_model_checkpoint"] == here:
        return False
    (checkpoint / STATE).write_text(json.dumps({**state, "best_model_checkpoint": here}), encoding="utf-8")
    return True


def _delete(checkpoint: Path) -> None:
    """The marker goes first: a kill in between must not leave half a checkpoint that counts."""
    (checkpoint / MARKER).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
        return bool(files) and all(_content(checkpoint / name) == told for name, told in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def _best(checkpoint: Path) -> str | None:
    """The name of the best checkpoint when this one was written, wherever the folder was then."""
    found = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["best_model_checkpoint"]
    return Path(found).name if found else None


def _content(path: Path) -> list[int | str]:
    """Size and hash of a file, after it has reached the disk."""
    with path.open("rb") as file:
        if os.name == "posix":
            os.fsync(file.fileno())
        return [path.stat().st_size, file_digest(file, "sha256").hexdigest()]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])
