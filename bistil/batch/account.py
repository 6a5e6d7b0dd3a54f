"""Where a run reads and writes, what became of its stages so far, and the scores that its store holds by
now.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Job
from bistil.store.artefacts import NotBuilt, Store
from bistil.text.languages import DataFolder
from bistil.training.progress import Event

SCORED = ("evaluation", "timing")
"""The stages after which there is more to report."""


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes."""

    data: Path
    store: Path


@dataclass
class Account:
    """What became of a run's stages so far, told as it happens; `errors` has a line for each that failed."""

    total: int
    say: Callable[[str], None]
    on_score: Callable[[], None] = lambda: None
    done: set[Job] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def finished(self, job: Job, seconds: float, *, new: bool) -> None:
        """A stage is there; one that was there before goes without saying."""
        self.done.add(job)
        if new:
            self.say(f"[{len(self.done)}/{self.total}] {job}: {seconds:.0f} s")
        if new and job.stage in SCORED:
            try:
                self.on_score()
            except (OSError, InputError) as error:  # scores are in the store, whoever reads them meanwhile
                self.say(f"the scores so far could not be told: {error}")

    def failed(self, job: Job, error: str) -> None:
        """A stage has failed for good."""
        self.errors.append(f"{job}: {error}")
        self.say(f"FAILED {self.errors[-1]}")


def reader(experiment: Experiment, place: Place) -> Pipeline:
    """A pipeline that builds nothing."""
    return Pipeline(experiment, DataFolder(place.data), Store(place.store, read_only=True))


def rows(reader: Pipeline) -> list[dict[str, Any]]:
    """The result rows of every cell whose evaluation is in the store by now; a score that is none (null in
    its manifest) is as good as missing, and so is a damaged artefact, of which the run that meets it tells.
    """
    found: list[dict[str, Any]] = []
    for cell in reader.experiment.cells():
        with suppress(NotBuilt, InputError):
            found += (row for row in reader.rows(cell) if row["value"] is not None)
    return found


def seldom(act: Callable[[], Any], share: float = 0.1) -> Callable[[], None]:
    """Return what calls `act` the first time, and later unless that would be for more than a share of the
    time: looking up every score takes the longer the more there are.
    """
    due = 0.0

    def call() -> None:
        nonlocal due
        if (begun := time.monotonic()) >= due:
            act()
            ended = time.monotonic()
            due = ended + (ended - begun) * (1 / share - 1)

    return call


@dataclass
class Waits:
    """What the processes of a run say in a file, of waiting for another run and of what is told in words:
    they write, the one that began them reads.
    """

    file: Path
    _said: set[str] = field(default_factory=set)
    _read: int = 0

    def __call__(self, event: Event) -> None:
        """Write once that a stage waits, and what it tells; other events go by."""
        if (event.told or event.stage.startswith("waiting for ")) and event.stage not in self._said:
            self._said.add(event.stage)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{event.stage}\n")

    def tell(self, say: Callable[[str], None]) -> None:
        """Say whatever has been written since the last call."""
        written = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        for line in written[self._read :]:
            say(line)
        self._read = len(written)
