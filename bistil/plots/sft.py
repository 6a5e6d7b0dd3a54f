"""The figures of sparse fine-tuning: which parameters deltas share, where they sit, how old they are, what
density and method buy.

Notable: like all figures of `bistil.plots`, functions from plain data to a matplotlib `Figure`, labels with
units, nothing kept. Each figure of the thesis shows its null beside it: the overlap by chance and with
another seed, the ages that random drops would leave.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    EngFormatter,
    FixedFormatter,
    FixedLocator,
    LogLocator,
    NullLocator,
    StrMethodFormatter,
)

from bistil.plots.labels import Spot, label_points
from bistil.plots.style import (
    GRID,
    HALF,
    INK,
    PALETTE,
    PAPER,
    colours,
    figure,
    heat_map,
    legend,
    style_colour_bar,
)


class Tuning(NamedTuple):
    """What tuning by one system costs and scores: percent, seconds an optimiser step, bytes beyond the
    model's own weights.
    """

    system: str
    score: float
    seconds: float
    memory: float


def overlap(
    matrix: Any,
    labels: Sequence[str],
    *,
    chance: float,
    control: Sequence[float] | None = None,
    families: Sequence[str] | None = None,
) -> Figure:
    """Draw the share of parameters that two sparse fine-tunings have in common (0-1), as percent (LT-SFT,
    thesis Figure 4.4).

    matrix: shape [N, N]. chance: the share that two random selections of the same density have in common.
    control: for each language the share that two seeds of it have in common, framed on the diagonal, which is
    empty without; shape [N]. families: of each language, equal ones side by side; lines part them. Colours
    end at the largest share of two languages, since two seeds of one share far more, unless those shares are
    nearly equal.
    """
    made, [ax] = figure(2.4 + 0.72 * len(labels), 1.9 + 0.58 * len(labels))
    shares = np.array(matrix, dtype=float) * 100
    between = shares[~np.eye(len(labels), dtype=bool) & np.isfinite(shares)]
    np.fill_diagonal(shares, np.nan if control is None else 100 * np.asarray(control, dtype=float))
    # equal shares would all be as bright as the control
    highest = float(between.max()) if len(between) and np.ptp(between) > 0.1 * between.max() else None
    heat_map(ax, shares, labels, labels, "parameters shared (%)", lowest=100 * chance, highest=highest)
    for place in range(len(labels)) if control is not None else ():
        if np.isfinite(shares[place, place]):
            ax.add_patch(
                Rectangle(
                    (place - 0.46, place - 0.46), 0.92, 0.92, fill=False, edgecolor=PALETTE[3], linewidth=2
                )
            )
    for place, (first, second) in enumerate(pairwise(families or ())):
        if first != second:
            ax.axhline(place + 0.5, color=PAPER, linewidth=3)
            ax.axvline(place + 0.5, color=PAPER, linewidth=3)
    if families:
        ax.set_yticks(
            range(len(labels)), [f"{family}  {label}" for family, label in zip(families, labels, strict=True)]
        )
    framed = "" if control is None else "\nframed: one language, two seeds"
    ax.set_title(f"by chance: {100 * chance:.3g} %{framed}", fontsize=10, color=INK)
    return made


def delta_map(layers: Sequence[str], modules: Sequence[str], densities: Any) -> Figure:
    """Draw where a delta's entries sit: layers (rows) by modules (columns), density in percent; NaN, no such
    tensor, is left empty.

    The arguments are what `bistil.sft.anatomy.densities` returns. densities: shape [layers, modules], 0 to 1.
    """
    made, [ax] = figure(3.0 + 0.75 * len(modules), 2.2 + 0.36 * len(layers))
    heat_map(ax, 100 * np.asarray(densities, dtype=float), layers, modules, "density (%)")
    ax.set_xticks(range(len(modules)), modules, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(xlabel="module", ylabel="layer (-: in none)")
    return made


def shared_entries(
    densities: Sequence[float], shares: Mapping[str, Sequence[float]], *, chance: Sequence[float]
) -> Figure:
    """Draw how many entries two supports share as both grow (percent of the smaller one), one line a label;
    dashed, two random choices.

    densities: of both, 0 to 1, rising. Shape of shares and chance: [N] each, in percent.
    """
    made, [ax] = figure(*HALF)
    percent = [100 * one for one in densities]
    for number, (label, values) in enumerate(shares.items()):
        ax.plot(percent, values, marker="o", color=PALETTE[number % len(PALETTE)], label=label)
    ax.plot(percent, chance, color=INK, linestyle="--", linewidth=1, label="by chance")
    ax.set(xlabel="density of both (%)", ylabel="entries shared (%)", ylim=(0, None))
    legend(ax)
    return made


def parameter_ages(
    born: Mapping[str, Any], *, steps: int, chance: tuple[Sequence[int], Sequence[float]] | None = None
) -> Figure:
    """Draw when the entries of finished SpIEL deltas were last grown (thesis Figure 7.4), one line of shares
    for each label.

    born: the step at which each entry was last grown (`SpielOptimizer.born`), 0 for the first support. Shape:
    [K]. Or counts by step. steps: of the run. chance: steps of updates and expected shares if drops were
    random (`SpielConfig.ages_by_chance`), dashed.
    """
    made, [ax] = figure(*HALF)
    for number, (label, grown) in enumerate(born.items()):
        updates, counts = _counted(grown)
        shares = 100 * counts / counts.sum()
        ax.plot(
            updates,
            shares,
            color=PALETTE[number % len(PALETTE)],
            linewidth=1.5,
            marker="o",
            markersize=3.5,
            label=label,
        )
    if chance is not None:
        first = 0 if chance[1][0] else 1  # nothing is left of a first support that is replaced as a whole
        expected = 100 * np.asarray(chance[1])[first:]
        ax.plot(
            chance[0][first:],
            expected,
            color=INK,
            linewidth=1.5,
            linestyle="--",
            label="random drops (expected)",
        )
    ax.set(
        xlabel="optimiser step at which an entry was last grown",
        ylabel="entries (%), logarithmic",
        xlim=(0, steps),
    )
    ax.set_yscale("log", nonpositive="mask")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    legend(ax, above=True)
    return made


def support_over_time(births: Sequence[Any], updates: Sequence[int]) -> Figure:
    """Draw of which updates the support consists, after each update: one band for the entries that each
    update grew (SpIEL).

    births: after each update the step at which each entry was last grown. Shape of each: [K]. updates: the
    steps of updates.
    """
    made, [ax] = figure(8.0, 4.2)
    origins = sorted({int(step) for born in births for step in np.unique(np.asarray(born))})
    shares = np.array(
        [[100 * float(np.mean(np.asarray(born) == origin)) for born in births] for origin in origins]
    )
    shades = matplotlib.colormaps["cividis"](np.linspace(0, 1, len(origins)))
    ax.stackplot(np.asarray(updates), shares, colors=list(shades), edgecolor=PAPER, linewidth=0.4)
    ax.set(
        xlabel="optimiser step (after the update)",
        ylabel="entries of the support (%)",
        xlim=(updates[0], updates[-1]),
        ylim=(0, 100),
    )
    ax.grid(False)
    scale = matplotlib.cm.ScalarMappable(
        matplotlib.colors.Normalize(origins[0], max(origins[-1], origins[0] + 1)), "cividis"
    )
    style_colour_bar(made.colorbar(scale, ax=ax), "step at which they were grown")
    return made


def entries_over_time(supports: Sequence[Any], updates: Sequence[int], *, most: int = 60) -> Figure:
    """Draw which of a few entries are in the support after each update: a filled cell is in it (SpIEL).

    supports: after each update the sorted positions of the support in one tensor. Shape of each: [K].
    updates: their steps. most: the entries that are drawn, evenly spread over all that ever were in the
    support, in the order of their coming."""
    ever = np.unique(np.concatenate([np.asarray(support) for support in supports]))
    inside = np.array([np.isin(ever, np.asarray(support)) for support in supports])
    order = np.lexsort((ever, inside.sum(0), inside.argmax(0)))
    rows = order[np.linspace(0, len(order) - 1, min(most, len(order))).astype(int)]
    made, [ax] = figure(7.2, 4.6)
    shades = matplotlib.colors.ListedColormap([PAPER, PALETTE[0]])
    ax.pcolormesh(inside[:, rows].T, cmap=shades, vmin=0, vmax=1, edgecolors=GRID, linewidth=0.3)
    ax.set_xticks(np.arange(len(updates)) + 0.5, [str(step) for step in updates])
    ax.set(
        xlabel="optimiser step (after the update)",
        ylabel=f"{len(rows)} of {len(ever)} entries that were ever active",
        yticks=[],
    )
    ax.grid(False)
    return made


def loss_by_scale(factors: Sequence[float], losses: Mapping[str, Sequence[float]]) -> Figure:
    """Draw held-out loss over the factor that a delta is scaled by, one line for each label; 0 is the base, 1
    the delta as trained.
    """
    made, ax = _losses(factors, losses, "factor of the delta (0: base, 1: as trained)")
    ax.axvline(1.0, color=INK, linewidth=1, linestyle="--")
    return made


def loss_by_interval(
    intervals: Sequence[int], losses: Mapping[str, Sequence[float]], *, still: float
) -> Figure:
    """Draw held-out loss over the steps S between two updates of SpIEL's support, one line for each label.

    still: the loss with a support that never moves, a dashed line.
    """
    made, ax = _losses(intervals, losses, "steps between two updates (S)")
    ax.axhline(still, color=INK, linewidth=1, linestyle="--", label="support that never moves")
    ax.set_xticks(list(intervals))
    legend(ax)
    return made


def _losses(xs: Sequence[float], losses: Mapping[str, Sequence[float]], told: str) -> tuple[Figure, Axes]:
    made, [ax] = figure(7.2, 4.0)
    for number, (label, found) in enumerate(losses.items()):
        colour_of = PALETTE[number % len(PALETTE)]
        ax.plot(xs, found, color=colour_of, linewidth=2, marker="o", markersize=4, label=label)
    ax.set(xlabel=told, ylabel="held-out loss (nats a masked token)")
    legend(ax)
    return made, ax


def score_by_densities(
    language: Sequence[float], task: Sequence[float], scores: Any, *, label: str
) -> Figure:
    """Draw a score over the densities of language and task SFTs as contours (thesis Figure 4.3); the best
    measured point has a star.

    language, task: densities in (0, 1], rising, at least two of each. scores: percent, NaN where not
    measured. Shape: [language, task].
    """
    made, [ax] = figure(7.2, 5.0)
    values = np.ma.masked_invalid(np.asarray(scores, dtype=float))
    xs, ys = np.meshgrid(100 * np.asarray(language), 100 * np.asarray(task), indexing="ij")
    filled = ax.contourf(xs, ys, values, levels=12, cmap="cividis")
    ax.contour(xs, ys, values, levels=12, colors=[PAPER], linewidths=0.5)
    ax.plot(
        xs[~values.mask],
        ys[~values.mask],
        linestyle="",
        marker="o",
        markersize=3.5,
        color=PAPER,
        markeredgecolor=INK,
        clip_on=False,
    )
    best = np.unravel_index(int(values.filled(-np.inf).argmax()), values.shape)
    ax.plot(
        xs[best], ys[best], marker="*", markersize=17, color=PALETTE[3], markeredgecolor=PAPER, clip_on=False
    )
    for axis, places, name in ((ax.xaxis, language, "language"), (ax.yaxis, task, "task")):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(FixedLocator([100 * place for place in places]))
        axis.set_major_formatter(FixedFormatter([f"{100 * place:g}" for place in places]))
        axis.set_minor_locator(NullLocator())
        axis.set_label_text(f"density of the {name} SFT (%)")
    ax.grid(False)
    ax.set_title(f"dots: measured; star: best, {values[best]:.1f}", fontsize=10, color=INK)
    style_colour_bar(made.colorbar(filled, ax=ax, format="%.1f"), label)
    return made


def score_by_values(curves: Mapping[str, Sequence[tuple[int, float, float]]], *, label: str) -> Figure:
    """Draw a score over the number of trained values, one line a system (thesis Figure 4.2), with bands.

    curves: by system, trained values, the score, and the width of the band on either side. label: of the
    score.
    """
    made, [ax] = figure(7.2, 4.2)
    shades = colours(curves)
    for number, (system, points) in enumerate(curves.items()):
        values, scores, widths = (np.array(one) for one in zip(*points, strict=True))
        shade = shades[system]
        ax.plot(values, scores, color=shade, linewidth=2, marker="osD^v"[number % 5], label=system)
        ax.fill_between(values, scores - widths, scores + widths, color=shade, alpha=0.15, linewidth=0)
    ax.set(xscale="log", xlabel="values trained for the task, logarithmic", ylabel=label)
    places = sorted({values for points in curves.values() for values, *_ in points})
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_major_formatter(
        FixedFormatter([EngFormatter(sep="")(float(f"{one:.3g}")) for one in places])
    )
    ax.xaxis.set_minor_locator(NullLocator())
    legend(ax, above=True)
    return made


def by_seed(values: Mapping[str, Sequence[float]], *, label: str) -> Figure:
    """Draw a number of every seed for each of several methods: a dot a seed, a bar at their mean, the largest
    mean on top.
    """
    ordered = sorted(values, key=lambda name: float(np.mean(values[name])))
    made, [ax] = figure(7.2, 1.2 + 0.5 * len(ordered))
    for place, name in enumerate(ordered):
        ax.plot(
            values[name],
            [place] * len(values[name]),
            linestyle="",
            marker="o",
            color=PALETTE[0],
            alpha=0.7,
            markeredgewidth=0,
            zorder=3,
        )
        ax.plot([np.mean(values[name])] * 2, [place - 0.25, place + 0.25], color=INK, linewidth=1.5)
    ax.set(xlabel=label, ylim=(-0.6, len(ordered) - 0.4))
    ax.set_yticks(range(len(ordered)), ordered)
    return made


def costs_of_tuning(tunings: Sequence[Tuning], *, label: str) -> Figure:
    """Draw score against time (left) and memory (right) of tuning by several systems (thesis Figure 7.3).
    label: of the score.
    """
    made, [left, right] = figure(11.0, 4.4, 2)
    shades = colours(tuning.system for tuning in tunings)
    sides = (
        (left, "seconds an optimiser step", [one.seconds for one in tunings]),
        (right, "MiB beyond the weights", [one.memory / 2**20 for one in tunings]),
    )
    for ax, unit, places in sides:
        for x, tuning in zip(places, tunings, strict=True):
            ax.scatter(
                x, tuning.score, s=70, color=shades[tuning.system], edgecolor=PAPER, alpha=0.8, zorder=3
            )
        ax.set(xlabel=unit, ylabel=label)
        ax.margins(0.2, 0.16)
    for ax, _, places in sides:
        label_points(
            ax, [Spot(x, one.score, one.system, 4.5) for x, one in zip(places, tunings, strict=True)]
        )
    return made


def _counted(grown: Any) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which entries were grown, rising, and how many at each, from one step for each entry or
    from counts by step.
    """
    if isinstance(grown, Mapping):
        steps = sorted(grown)
        return np.array(steps), np.array([grown[step] for step in steps], dtype=float)
    return np.unique(np.asarray(grown), return_counts=True)
