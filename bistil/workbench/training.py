"""A run without its widgets: work in a thread that can be watched, paused, resumed and stopped.

Notable: everything acts through the progress listener, which training waits for after every step. Pause holds
the run there, in memory; Stop lets the step's own stage write a checkpoint, and ends whatever reports again
without having done so (scoring, or waiting for another process), so both act within a step. An evaluation is
no such report: the checkpoint of its step comes after it."""

import threading
from collections.abc import Callable

from bistil.errors import InputError
from bistil.training.loop import Stopped
from bistil.training.progress import Event, Listener
from bistil.workbench.guard import in_words
from bistil.workbench.recorder import Recorder

Work = Callable[[Listener, threading.Event], None]
"""Something long: takes the listener and the stop event that pipelines and stages take."""


class Training:
    """The view-model: every method but `join` returns at once. One run at a time; running again goes on where
    the last one was stopped.
    """

    def __init__(self, work: Work, *, cost: str = "") -> None:
        """Keep the work for later. `cost` says what exists and what a click on Run will take."""
        self.work, self.cost = work, cost
        self.recorder = Recorder()
        self.message, self.error, self.job = "", "", ""
        self.on_change: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.recorder.on_change = lambda: self.on_change()
        self._stop, self._going = threading.Event(), threading.Event()
        self._going.set()
        self._warned = self._held = False
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a run is under way, a held one among them."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._stop.is_set()

    @property
    def pausing(self) -> bool:
        """Whether the run is held, or will be after this step."""
        return self.running and not self._going.is_set()

    @property
    def status(self) -> str:
        """What is going on, in words."""
        if self.running and self.stopping:
            return "stopping after this step"
        if self.pausing:
            return f"paused: {self.message}" if self._held else "pausing after this step"
        return self.message

    @staticmethod
    def under_way() -> list["Training"]:
        """Every run that is under way in this process, so that a page that was loaded again finds its own."""
        runs = [thread.training for thread in threading.enumerate() if isinstance(thread, _Thread)]
        return [run for run in runs if run.running]

    def run(self) -> None:
        """Start the work in a thread; `on_end` is called when it ends.

        Raises:
            InputError: where a run is under way already.
        """
        if self.running:
            raise InputError("A run is under way. Wait for it, or press Stop first.")
        self._stop.clear()
        self._going.set()
        self._warned = self._held = False
        self.recorder.clear()
        self.error, self.message = "", "starting"
        self._thread = _Thread(self)
        self._thread.start()

    def pause(self) -> None:
        """Hold the run after the step it is in. What it has learnt stays in memory; Stop writes it down."""
        self._going.clear()

    def resume(self) -> None:
        """Let a held run go on."""
        self._going.set()

    def stop(self) -> None:
        """Ask the run to stop: a stage that trains writes a checkpoint after the step it is in; the next run
        goes on from there.
        """
        self._stop.set()
        self._going.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the run's end, at most `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def tell(self, message: str) -> None:
        """Say what the run is at, beside `job`, which says what it is for. For the work itself; between two
        stages is a place to stop and to pause, too.
        """
        if self._stop.is_set():
            raise Stopped("stopped between two stages; Run goes on from there")
        self.message = message
        self.on_change()

    def __call__(self, event: Event) -> None:
        """Take a progress event: note it, hold the run while it is paused, end what does not stop by
        itself.
        """
        self.recorder(event)
        if event.evaluated:
            return
        if not self._going.is_set():
            self._hold()
        if self._stop.is_set():
            if self._warned:
                raise Stopped(f"stopped in {event.stage}; Run does this stage again")
            self._warned = True

    def _hold(self) -> None:
        self._held = True
        self.on_change()
        self._going.wait()
        self._held = False
        self.on_change()

    def perform(self) -> None:
        """Do the work, in the thread that `run` starts."""
        try:
            self.work(self, self._stop)
            self.message = "finished"
        except Stopped as stopped:
            self.message = str(stopped)
        except BaseException as error:
            self.error, self.message = in_words(error), "ended by an error"
        finally:
            self._thread = None
            self.on_end()


class _Thread(threading.Thread):
    """The thread of a run, which knows whose it is."""

    def __init__(self, training: Training) -> None:
        super().__init__(target=training.perform, name="training", daemon=True)
        self.training = training
