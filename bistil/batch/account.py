"""Where a run reads and writes, what became of its stages so far, and the scores that its store holds by
now.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Job
from bistil.store.artefacts import NotBuilt, Store
from bistil.text.languages import DataFolder

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
            self.on_score()

    def failed(self, job: Job, error: str) -> None:
        """A stage has failed for good."""
        self.errors.append(f"{job}: {error}")
        self.say(f"FAILED {self.errors[-1]}")


def reader(experiment: Experiment, place: Place) -> Pipeline:
    """A pipeline that builds nothing."""
    return Pipeline(experiment, DataFolder(place.data), Store(place.store, read_only=True))


def rows(reader: Pipeline) -> list[dict[str, Any]]:
    """The result rows of every cell whose evaluation is in the store by now."""
    found: list[dict[str, Any]] = []
    for cell in reader.experiment.cells():
        with suppress(NotBuilt):
            found += reader.rows(cell)
    return found
