"""The figure of vocabularies that become one."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bistil.plots.style import PALETTE, figure, legend


def united(own: Mapping[str, int], shared: int) -> Figure:
    """Draw the union of vocabularies as a strip whose lengths are counts: for each teacher a bar over the
    tokens that it alone has, and the ones that several have in the middle of the first two.

    own: tokens that no other teacher has, by teacher. shared: tokens that several have.
    """
    made, [ax] = figure(8.4, 1.9)
    names = list(own)
    parts = [(names[0], own[names[0]], PALETTE[0]), ("shared", shared, "#c9ced6")]
    parts += [(name, own[name], PALETTE[1 + place]) for place, name in enumerate(names[1:])]
    start = 0
    for name, count, shade in parts:
        told = f"{name if name == 'shared' else f'only {name}'}: {count:,}"
        ax.add_patch(Rectangle((start, 0), count, 1, facecolor=shade, edgecolor="white", label=told))
        start += count
    ax.set(xlim=(0, start), ylim=(0, 1), xlabel="tokens of the union")
    ax.set_yticks([])
    ax.grid(False)
    legend(ax, above=True)
    return made
