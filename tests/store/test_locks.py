"""Locks say who holds them, and where there are none."""

import errno
import json
import os
import socket
from pathlib import Path

import filelock
import pytest

from bistil.errors import InputError
from bistil.store import locks
from bistil.store.locks import alone


def test_nobody_waits_where_nobody_shall(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "lock"),
        pytest.raises(InputError, match=f"held by process {os.getpid()} on this machine"),
        alone(tmp_path / "lock"),
    ):
        pass
    with alone(tmp_path / "lock"):
        pass


def test_a_lock_of_another_machine_says_what_to_do_where_that_is_gone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    path, told = tmp_path / "lock", list[str]()
    dead = filelock.FileLock(path)
    dead.acquire()
    (tmp_path / "locked-by").write_text(json.dumps({"host": f"not-{socket.gethostname()}", "process": 7}))

    def waiting(holder: str, seconds: float) -> None:
        told.append(holder)
        dead.release()

    with alone(path, waiting):
        pass
    assert told == [f"process 7 on not-{socket.gethostname()}; if that machine is gone, delete {path}"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")]
)
def test_a_file_system_without_locks_is_said(error: Exception, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(InputError, match="its file system has no locks"), alone(tmp_path / "lock"):
        pass
