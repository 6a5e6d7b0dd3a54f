"""Training as it goes: the losses of a phase, and beside them those of each language or the scores on
held-out data.

Notable: what is drawn is decided by what the phase has told; a part that it does not have takes no room.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from bistil.evaluation.results import METRICS
from bistil.plots.style import PALETTE, figure, legend

Entries = Sequence[Mapping[str, float]]
MARKERS = "osD^v"
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


def training_curves(entries: Entries, *, title: str = "") -> Figure:
    """Draw what a phase has told so far: thin lines are training losses, lines with marks held-out ones.

    entries: with `step` and any of `loss`, its parts, `loss_<code>` of a language, the same held out
    (`eval_loss`), and scores `eval_<metric>` in percent. Left: the loss and its parts. Right: the loss by
    language where there are several, and else the scores."""
    names = list(dict.fromkeys(name for entry in entries for name in entry if name not in ("step", *NO_LOSS)))
    codes = sorted({name.rpartition("loss_")[2] for name in names if "loss_" in name})
    parts = [name for name in names if not name.startswith(("eval_", "loss_"))]
    scores = [name for name in names if name.removeprefix("eval_") in METRICS and name.startswith("eval_")]
    right = "languages" if len(codes) > 1 else "scores" if scores else ""
    made, axes = figure(10.0 if right else 6.2, 3.4, 2 if right else 1)
    for number, name in enumerate(parts):
        _pair(axes[0], entries, name, f"eval_{name}", number)
    axes[0].set(title=title, ylabel="loss, by part" if len(parts) > 1 else "loss")
    if right == "languages":
        for number, code in enumerate(codes):
            _pair(axes[1], entries, f"loss_{code}", f"eval_loss_{code}", number, label=code)
        axes[1].set(title="by language", ylabel="loss")
    elif right:
        for number, name in enumerate(scores):
            label = METRICS[name.removeprefix("eval_")]
            axes[1].plot(
                *series(entries, name),
                color=PALETTE[number],
                linewidth=2,
                marker=MARKERS[number % 5],
                markersize=4,
                label=label,
            )
        axes[1].set(title="on the source language's held-out data", ylabel="score (%)")
    for ax in axes:
        ax.set(xlabel="optimiser step (thin: training; marks: held out)")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        legend(ax)
    return made


def _pair(ax: Axes, entries: Entries, training: str, held_out: str, number: int, *, label: str = "") -> None:
    """Draw a training curve and its held-out one in one colour."""
    shade, mark = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    ax.plot(*series(entries, training), color=shade, linewidth=1.2, alpha=0.8, label=label or training)
    ax.plot(*series(entries, held_out), color=shade, linewidth=2, marker=mark, markersize=5)


def series(entries: Entries, key: str) -> tuple[list[float], list[float]]:
    """Return the steps at which a log has a number, and the numbers."""
    points = [(entry["step"], entry[key]) for entry in entries if key in entry and "step" in entry]
    return [x for x, _ in points], [y for _, y in points]
