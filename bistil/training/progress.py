"""Progress as events: library code reports, listeners decide what to show.

Notable: three listeners exist: `silent`, `Terminal` (tqdm) and the notebook's (in `bistil.workbench`).
Library code never prints."""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from tqdm import tqdm


@dataclass(frozen=True)
class Event:
    """Step `step` of `of` of a stage, with the newest of each number that the stage has.

    new: the names of the numbers that are of this step; the others are of a step before. An evaluation is
    told behind its step, in an event of its own.
    """

    stage: str
    step: int
    of: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    new: Collection[str] = ()

    @property
    def told(self) -> bool:
        """Whether its stage is something to be told in words, and no progress."""
        return self.stage.startswith((WARNING, NOTE))

    @property
    def evaluated(self) -> bool:
        """Whether it tells the evaluation of a step that was told before."""
        return any(name.startswith("eval_") for name in self.new)


WARNING, NOTE = "warning: ", "note: "
"""How the stage of an event begins that is no progress, but something to be told once in words."""
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Show nothing."""


class Terminal:
    """One tqdm bar for each stage, closed when the stage reaches its last step."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm] = {}

    def __call__(self, event: Event) -> None:
        """Move the stage's bar to the event's step, or write what is to be told."""
        if event.told:
            tqdm.write(event.stage, file=sys.stderr)
            return
        if event.evaluated:  # the next step has its numbers too; a bar that was closed stays so
            return
        bar = self._bars.get(event.stage)
        if bar is None:
            bar = self._bars[event.stage] = tqdm(
                total=event.of, desc=event.stage, dynamic_ncols=True, mininterval=1.0
            )
        bar.set_postfix({name: f"{value:.4g}" for name, value in event.metrics.items()}, refresh=False)
        bar.update(event.step - bar.n)
        if event.step >= event.of:
            bar.close()
            del self._bars[event.stage]
