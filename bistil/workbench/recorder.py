"""What a run has reported so far, for whoever wants to draw it.

Notable: a recorder is written by the working thread and read by the view, and hands out copies only.
"""

import threading
import time
from collections.abc import Callable

from bistil.progress import Event


class Recorder:
    """A progress listener that keeps, for each stage, its newest event and its loss entries, and calls `on_change` now and then."""

    def __init__(self, on_change: Callable[[], None] = lambda: None, *, seconds: float = 0.5) -> None:
        self.on_change, self._seconds = on_change, seconds
        self._lock = threading.Lock()
        self._told = 0.0
        self._newest: Event | None = None
        self._curves: dict[str, list[dict[str, float]]] = {}

    def __call__(self, event: Event) -> None:
        """Take an event; `on_change` is called at most once every `seconds`, and at the end of a stage."""
        with self._lock:
            self._newest = event
            known = {name: event.metrics[name] for name in ("loss", "eval_loss") if name in event.metrics}
            curve = self._curves.setdefault(event.stage, [])
            if known and (not curve or any(curve[-1].get(name) != value for name, value in known.items())):
                curve.append({"step": event.step, **known})
            due = event.step >= event.of or time.monotonic() - self._told >= self._seconds
            if due:
                self._told = time.monotonic()
        if due:
            self.on_change()

    @property
    def newest(self) -> Event | None:
        """The last event, None before the first."""
        return self._newest

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """For each stage that reported a loss: entries with `step`, and `loss` or `eval_loss` where it is new at that step."""
        with self._lock:
            return {stage: _changes(curve) for stage, curve in self._curves.items() if curve}

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._newest, self._curves = None, {}


def _changes(curve: list[dict[str, float]]) -> list[dict[str, float]]:
    """The entries with only what differs from the entry before: an event repeats the newest value of each number."""
    before: dict[str, float] = {}
    kept = []
    for entry in curve:
        kept.append({name: value for name, value in entry.items() if name == "step" or before.get(name) != value})
        before = entry
    return kept
