"""Signals that end a process: what it began ends with it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """The process was told to end by another signal than that of Ctrl-C."""


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what runs inside as Ctrl-C does, so that it can end its own processes.

    One that is ignored (nohup) or has a handler already is left alone, and so are threads, which get none."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.getsignal(one) for one in ENDING if signal.getsignal(one) is signal.SIG_DFL}
    for one in before:
        signal.signal(one, _raise)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Ended(signal.Signals(number).name)
