"""Alignment of languages in an encoder: layer by layer, and beside the score of a task.

Notable: encoders of different depths share an axis, the share of their layers.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from bistil.plots.labels import Spot, label_points
from bistil.plots.style import PALETTE, figure, legend


def alignment_by_layer(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Draw translations found over depth, one line a system; points are layers, counted from 1."""
    made, [ax] = figure(8.0, 4.6)
    for number, (label, points) in enumerate(curves.items()):
        deepest = max(layer for layer, _ in points)
        xs, ys = [100 * layer / deepest for layer, _ in points], [share for _, share in points]
        line = "-" if number < len(PALETTE) else "--"
        ax.plot(
            xs,
            ys,
            line,
            color=PALETTE[number % len(PALETTE)],
            marker="osD^v"[number % 5],
            markersize=4.5,
            linewidth=1.8,
            label=label,
        )
    ax.set(xlabel="depth of the layer (% of the layers)", ylabel="translations found (%)", ylim=(0, None))
    legend(ax, above=True)
    return made


def alignment_and_score(points: Mapping[str, tuple[float, float]], *, score: str) -> Figure:
    """Draw a task's score over alignment, one point a system.

    points: by system, translations found and score, both in percent.
    """
    made, [ax] = figure(8.0, 4.6)
    for number, (x, y) in enumerate(points.values()):
        ax.scatter(x, y, s=42, color=PALETTE[number % len(PALETTE)], zorder=3)
    ax.margins(0.14, 0.14)
    ax.set(xlabel="translations found, all layers together (%)", ylabel=score)
    label_points(ax, [Spot(x, y, name, 5) for name, (x, y) in points.items()])
    return made
