"""What training does right now: means of its numbers since they were last read, and its pace.

Notable: numbers are added up where they are, on the device, and become Python floats only when they are read,
so that watching a run does not make the processor wait for the device at every step."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from torch import Tensor

Number = Tensor | float
SECONDS = 0.5
"""How much training lies between two readings."""


class Meter:
    """Sums of named numbers. A name need not come at every step: its mean is over the steps at which it
    came.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Number] = {}
        self._counts: Counter[str] = Counter()

    def add(self, values: Mapping[str, Number]) -> None:
        """Add the numbers of one step; tensors of Shape: []."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + (
                value.detach() if isinstance(value, Tensor) else value
            )
        self._counts.update(values.keys())

    def take(self) -> dict[str, float]:
        """Return the means and start anew; nothing where nothing was added."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, Counter()
        return means


def of_step(loss: Tensor, parts: Mapping[str, Tensor], batch: Any) -> dict[str, Number]:
    """What is worth watching of one step: `loss`, its parts, `loss_<code>` of a batch of one language, and
    real `tokens` where known.
    """
    found: dict[str, Number] = {"loss": loss, **parts}
    if isinstance(batch, Mapping) and "language" in batch:
        found[f"loss_{batch['language']}"] = loss
    if isinstance(batch, Mapping) and "attention_mask" in batch:
        found["tokens"] = batch["attention_mask"].sum()
    return found


class Pace:
    """How fast the steps are: `busy` seconds are spent on steps, the whole of them with evaluations and
    checkpoints, without listeners.
    """

    def __init__(self, first: int = 0) -> None:
        self._first = self._step = self._read = first
        self._begun = self._mark = perf_counter()
        self._aside, self._busy = 0.0, 0.0

    def stepped(self, step: int) -> None:
        """Note that a step is done."""
        self._step, self._busy = step, self._busy + perf_counter() - self._mark
        self.rested()

    def rested(self) -> None:
        """Note that what came since the last step was none."""
        self._mark = perf_counter()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave out the time that is spent here."""
        begun = perf_counter()
        yield
        self._aside += perf_counter() - begun
        self.rested()

    @property
    def due(self) -> bool:
        """Whether the numbers should be read: after the first step, then every half second of training."""
        return self._read == self._first or self._busy >= SECONDS

    def read(self, means: dict[str, float], of: int) -> dict[str, float]:
        """Return the means with `tokens_per_second` for the `tokens` of a step, and `seconds_left` until step
        `of`.
        """
        tokens = means.pop("tokens", None)
        rate = (
            {}
            if tokens is None
            else {"tokens_per_second": tokens * (self._step - self._read) / max(self._busy, 1e-9)}
        )
        each = (perf_counter() - self._begun - self._aside) / max(self._step - self._first, 1)
        self._read, self._busy = self._step, 0.0
        return {**means, **rate, "seconds_left": each * (of - self._step)}
