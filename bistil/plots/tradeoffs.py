"""What is paid for a smaller student: longer sentences, lower scores; and the same student over several
tasks.

Notable: as in the rest of the room, from plain data to a `Figure`, and every label names its unit.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from bistil.evaluation.results import (
    Row,
    front,
    metric_label,
    over_all,
    primary_metric,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.plots.labels import Spot, label_points
from bistil.plots.style import INK, PALETTE, PAPER, colours, figure, legend
from bistil.tasks import title


def length_curves(curves: Mapping[str, Sequence[tuple[int, float]]], *, chosen: int | None = None) -> Figure:
    """Draw tokens a line over tokens in the vocabulary, one line for each label; the points that `chosen`
    numbers have a ring.
    """
    made, [ax] = figure(7.4, 4.2)
    for number, (label, points) in enumerate(curves.items()):
        shade, [xs, ys] = PALETTE[number % len(PALETTE)], zip(*sorted(points), strict=True)
        ax.plot(xs, ys, color=shade, linewidth=2, marker="osD^"[number % 4], markersize=4.5, label=label)
        if chosen is not None:
            ax.plot(*points[chosen], color=INK, marker="o", markersize=11, fillstyle="none", linestyle="")
    ax.set(xscale="log", xlabel="tokens in the vocabulary", ylabel="tokens a line, mean")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    legend(ax)
    return made


def scores_by_task(rows: Sequence[Row]) -> Figure:
    """Draw grouped bars: one group for each task, under it its metric, one bar for each system, its number
    above it; means over targets. A system that misses a target of a task has no bar there.
    """
    order = list(dict.fromkeys(row["task"] for row in rows))
    found = sorted(settings(rows), key=lambda setting: order.index(setting.task))
    made, [ax] = figure(max(7.0, 2.2 * len(found)), 4.2)
    systems, by_task = variants(rows), [rows_of(rows, setting) for setting in found]
    width, shades = 0.84 / max(len(systems), 3), colours(variant.system for variant in systems)
    for number, variant in enumerate(systems):
        means = [over_all(select(own, variant), {row["target"] for row in own}) for own in by_task]
        places = [place + (number - (len(systems) - 1) / 2) * width for place in range(len(found))]
        shown = [(place, mean.mean) for place, mean in zip(places, means, strict=True) if mean]
        ax.bar(
            [x for x, _ in shown],
            [y for _, y in shown],
            width * 0.92,
            color=shades[variant.system],
            label=variant.label,
        )
        for x, y in shown:
            ax.annotate(f"{y:.0f}", (x, y), ha="center", va="bottom", fontsize=8.5, color=INK)
    names = [f"{title(one.task)}\n{metric_label(primary_metric(rows, one.task))}" for one in found]
    ax.set_xticks(range(len(found)), names)
    ax.set(ylabel="score (%)", ylim=(0, 105))
    ax.grid(False, axis="x")
    legend(ax, above=True)
    return made


def pareto(options: Mapping[str, tuple[float, float, float]], *, metric: str) -> Figure:
    """Draw score over parameters and score over FLOPs; the Pareto front of each is joined by a line, what is
    not on it is hollow.

    options: by label, parameters, FLOPs an example, and score in percent.
    """
    made, axes = figure(11.0, 4.6, 2)
    for column, (ax, label) in enumerate(zip(axes, ("parameters", "FLOPs an example"), strict=True)):
        points = [(option[column], option[2]) for option in options.values()]
        best = front(points)
        ax.plot(
            *zip(*(points[i] for i in best), strict=True),
            color=PALETTE[0],
            linewidth=1.5,
            label="Pareto front",
            zorder=2,
        )
        for number, (x, y) in enumerate(points):
            face = PALETTE[0] if number in best else PAPER
            ax.scatter(
                x,
                y,
                s=60,
                color=face,
                edgecolor=PALETTE[0] if number in best else PALETTE[3],
                linewidth=1.5,
                zorder=3,
            )
        ax.margins(0.16, 0.16)
        ax.set(xlabel=label, ylabel=metric_label(metric))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        legend(ax, above=True)
    for column, ax in enumerate(axes):
        label_points(ax, [Spot(one[column], one[2], name, 5) for name, one in options.items()])
    return made
