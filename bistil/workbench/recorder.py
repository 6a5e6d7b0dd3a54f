"""What a run has reported so far, for whoever wants to draw it.

Notable: a recorder is written by the working thread and read by the view, and hands out copies only. What is
not told at once is told by a timer, so a view is never further behind than that, however long the next event
takes. Of a number that comes with training batches it keeps at most some hundreds of points, by leaving out
every other one of the older when there are more; of evaluations it keeps all."""

import threading
import time
from collections.abc import Callable

from bistil.plots.live import NO_LOSS, Points
from bistil.training.progress import Event

MOST = 400


class Recorder:
    """A progress listener that keeps, for each stage, its newest event and its curves, and calls `on_change`
    now and then.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None, *, seconds: float = 0.25) -> None:
        self.on_change, self._seconds = on_change, seconds
        self._lock = threading.Lock()
        self._told = self._at = 0.0
        self._late: threading.Timer | None = None
        self._newest: Event | None = None
        self._curves: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def __call__(self, event: Event) -> None:
        """Take an event; `on_change` is called at most once every `seconds`, and at the end of a stage.
        What is told in words is no curve.
        """
        if event.told:
            return
        with self._lock:
            self._newest = event
            new = [name for name in event.metrics if name in event.new and name not in NO_LOSS]
            for name in new:
                curve = self._curves.setdefault(event.stage, {}).setdefault(name, [])
                curve.append((event.step, event.metrics[name]))
                if len(curve) > MOST and not event.evaluated:
                    del curve[1 : MOST // 2 : 2]
            if new:
                self._at = time.time()
            wait = self._told + self._seconds - time.monotonic()
            due = event.step >= event.of or wait <= 0
            if not due and self._late is None:
                self._late = threading.Timer(wait, self._tell)
                self._late.daemon = True
                self._late.start()
        if due:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            self._told = time.monotonic()
            if self._late is not None:
                self._late.cancel()
                self._late = None
        self.on_change()

    @property
    def newest(self) -> Event | None:
        """The last event, None before the first."""
        return self._newest

    @property
    def at(self) -> float:
        """When the newest numbers came, in seconds since 1970."""
        return self._at

    def curves(self) -> dict[str, dict[str, Points]]:
        """For each stage, the numbers worth a curve by name, each as (step, value) where it was new."""
        with self._lock:
            return {
                stage: {name: list(points) for name, points in curves.items()}
                for stage, curves in self._curves.items()
            }

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._newest, self._curves = None, {}
