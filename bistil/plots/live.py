"""Training as it goes, as data for a view that draws it: the loss and each of its parts, the languages, the
scores on held-out data.

Notable: each part has axes of its own, because parts differ by orders of magnitude and on common axes the
small ones are flat lines; what a phase has not told takes no room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from bistil.evaluation.results import METRICS
from bistil.plots.style import PALETTE

Entries = Sequence[Mapping[str, float]]
Points = Sequence[tuple[float, float]]
NO_LOSS = (
    "learning_rate",
    "grad_norm",
    "epoch",
    "tokens_per_second",
    "seconds_left",
    "seconds",
    "eval_n_examples",
)
"""What a log or an event tells besides losses and scores."""
DECADE = 10
"""How many times the smallest value the largest is, from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Line:
    """A quantity of training batches and the same on held-out data, as (step, value), in one colour."""

    name: str
    colour: str
    training: Points
    held_out: Points


@dataclass(frozen=True)
class Facet:
    """Axes with what shares their scale. log: whether that is logarithmic."""

    title: str
    log: bool
    lines: tuple[Line, ...]


def facets(curves: Mapping[str, Points]) -> list[Facet]:
    """Return what a phase has told so far, axes by axes: the loss, its parts, the loss by language where
    there are several, the scores.

    curves: (step, value) by name: any of `loss`, its parts, `loss_<code>` of a language, the same held out
    (`eval_loss`), and scores `eval_<metric>` in percent.
    """
    names = [name for name in curves if name not in NO_LOSS]
    codes = sorted({name.rpartition("loss_")[2] for name in names if "loss_" in name})
    scores = [name for name in names if name.startswith("eval_") and name.removeprefix("eval_") in METRICS]
    parts = dict.fromkeys(
        name.removeprefix("eval_") for name in names if "loss_" not in name and name not in scores
    )
    shown = {name: [_line(curves, name, name, 0)] for name in parts}
    if len(codes) > 1:
        shown["loss by language"] = [
            _line(curves, code, f"loss_{code}", number) for number, code in enumerate(codes)
        ]
    if scores:
        metrics = [name.removeprefix("eval_") for name in scores]
        shown["held-out score (%)"] = [
            _line(curves, METRICS[metric], metric, number) for number, metric in enumerate(metrics)
        ]
    return [Facet(title, _wide(lines), tuple(lines)) for title, lines in shown.items()]


def _line(curves: Mapping[str, Points], name: str, key: str, number: int) -> Line:
    training, held_out = (
        [(x, y) for x, y in curves.get(own, ()) if isfinite(y)] for own in (key, f"eval_{key}")
    )
    return Line(name, PALETTE[number % len(PALETTE)], training, held_out)


def _wide(lines: Sequence[Line]) -> bool:
    """Whether the values of lines are positive and differ by a decade or more."""
    values = [value for line in lines for _, value in (*line.training, *line.held_out)]
    return bool(values) and min(values) > 0 and max(values) >= DECADE * min(values)


def series(entries: Entries, key: str) -> tuple[list[float], list[float]]:
    """Return the steps at which a log has a number, and the numbers."""
    points = [(entry["step"], entry[key]) for entry in entries if key in entry and "step" in entry]
    return [x for x, _ in points], [y for _, y in points]
