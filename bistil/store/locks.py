"""Locks between processes, which say who holds them.

Notable: the lock is the operating system's, so it goes with the process that held it. On a file system of
several machines a node that died may hold one still, and some file systems have none: both are said."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from warnings import catch_warnings, simplefilter

from filelock import FileLock, Timeout

from bistil.errors import InputError

POLL_SECONDS = 0.5


@contextmanager
def alone(path: Path, waiting: Callable[[str, float], None] | None = None) -> Iterator[None]:
    """Hold the lock file at `path`.

    Args:
        waiting: told once in a while who holds it and how many seconds it has been waited for; without it
            nobody waits.

    Raises:
        InputError: where another process holds the lock and nobody waits, or the file system has no locks.
    """
    lock, started = FileLock(path), time.perf_counter()
    while not lock.is_locked:
        try:
            with catch_warnings():
                simplefilter("ignore")  # a file system without flock gets a lock of another make
                lock.acquire(timeout=POLL_SECONDS if waiting else 0)
        except Timeout as error:
            if waiting is None:
                raise InputError(
                    f"{path} is held by {holder(path)}. Wait until it is done, or end it."
                ) from error
            waiting(holder(path), time.perf_counter() - started)
        except (OSError, NotImplementedError) as error:
            raise InputError(
                f"A lock was to be taken at {path}, but there is none to be had ({error}): the folder may not"
                " be written, or its file system has no locks. Name another one."
            ) from error
    try:
        with suppress(OSError):
            _by(path).write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        yield
    finally:
        with suppress(OSError):
            _by(path).unlink()
        lock.release()


def holder(path: Path) -> str:
    """Say who holds a lock, and what to do where that one is gone."""
    try:
        by = json.loads(_by(path).read_text(encoding="utf-8"))
        host, process = str(by["host"]), int(by["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process; if there is none, delete {path}"
    if host != socket.gethostname():
        return f"process {process} on {host}; if that machine is gone, delete {path}"
    return f"process {process} on this machine"


def _by(path: Path) -> Path:
    return path.with_name(f"{path.name}ed-by")
