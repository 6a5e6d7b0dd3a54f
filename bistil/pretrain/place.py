"""Where a teacher or translator is made: beside the folder that it goes into, under a name that says what it
is made from.

Notable: a run goes on only from checkpoints of the very same settings, text and start, and one process at a
time makes one of a name."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.pretrain import LAST
from bistil.store.artefacts import artefact_id, file_id
from bistil.store.locks import alone
from bistil.store.provenance import canonical_json
from bistil.store.whole import check_place
from bistil.text.written import check_named


def workplace(to: Path, config: Any, text: Any, start: Path | None) -> Path:
    """Return the folder of a run's checkpoints, `<to>.<id>.partial`.

    Args:
        config: the settings.
        text: what is trained on, a dataclass.
        start: the folder of the model that training starts from.

    Raises:
        InputError: where it cannot be made.
    """
    begun = {"start": file_id(start)} if start else {}
    made_from = {"config": config, "text": sha256(canonical_json(asdict(text)).encode()).hexdigest()}
    work = to.with_name(f"{to.name}.{artefact_id('teacher', made_from, begun)}.partial")
    check_place(work, "The checkpoints of a teacher")
    return work


@contextmanager
def claimed(to: Path, what: str = "teacher") -> Iterator[None]:
    """Keep the name of a teacher, or of `what` else is made, to this process.

    Raises:
        InputError: before anything is read, where nothing can be written there, a finished teacher or
            something else is there, or another process is making one.
    """
    check_named(to)
    _refuse_taken(to, what)
    check_place(to.parent, f"The {what} {to.name}")
    with alone(to.with_name(f".{to.name}.lock")):
        _refuse_taken(to, what)
        yield


def _refuse_taken(to: Path, made: str) -> None:
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        what = f"a finished {made}" if (to / LAST).is_file() else "something else"
        raise InputError(
            f"A new folder was expected at {to}, but there is {what} already. Move it away, or name another"
            " folder with --to."
        )
