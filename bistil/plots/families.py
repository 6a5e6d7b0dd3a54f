"""Figures of families: what students have in common, which layers belong together, what a loss is made of."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bistil.plots.style import GRID, INK, PALETTE, figure, legend
from bistil.systems.layers import Pairs


def sharing(parts: Mapping[str, bool], members: Sequence[str]) -> Figure:
    """Draw students side by side, the part that is read first at the bottom; a part that they have in common
    is one box across all of them.

    parts: whether each part is shared, in the order of reading.
    """
    made, [ax] = figure(6.4, 0.8 + 0.42 * len(parts))
    for row, (name, shared) in enumerate(parts.items()):
        for column in range(1 if shared else len(members)):
            width = len(members) if shared else 1
            shade = "#c9ced6" if shared else PALETTE[column % len(PALETTE)]
            box = Rectangle((column + 0.04, row + 0.1), width - 0.08, 0.8, facecolor=shade)
            ax.add_patch(box)
            told = f"{name}, one for all" if shared else name
            middle = (column + width / 2, row + 0.5)
            ax.annotate(told, middle, ha="center", va="center", fontsize=9, color=INK if shared else "white")
    ax.set(xlim=(0, len(members)), ylim=(0, len(parts)), yticks=[])
    ax.set_xticks([column + 0.5 for column in range(len(members))], members)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    return made


def layer_maps(maps: Mapping[str, Pairs], teacher: int, student: int) -> Figure:
    """Draw which teacher layers belong to a student's: a panel a map, the student's layers on the left."""
    made, axes = figure(1.5 * len(maps), 3.4, len(maps))
    for ax, (name, pairs) in zip(axes, maps.items(), strict=True):
        for column, (depth, which) in enumerate(((student, 0), (teacher, 1))):
            named = {pair[which] for pair in pairs}
            heights = [_height(layer, depth) for layer in range(1, depth + 1)]
            shades = [PALETTE[column] if layer in named else GRID for layer in range(1, depth + 1)]
            ax.scatter([column] * depth, heights, s=34, c=shades, zorder=3)
        for own, whole in pairs:
            ax.plot([0, 1], [_height(own, student), _height(whole, teacher)], color=INK, linewidth=1.0)
        ax.set(title=name, xlim=(-0.4, 1.4), ylim=(-0.05, 1.05), yticks=[])
        ax.set_xticks([0, 1], ["student", "teacher"], fontsize=8)
        ax.grid(False)
        ax.spines[["left", "bottom"]].set_visible(False)
    return made


def _height(layer: int, depth: int) -> float:
    """Where a layer is drawn: the first ones of both models at the bottom, the last ones at the top."""
    return (layer - 1) / max(1, depth - 1)


def shares(terms: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw what share each term has, a bar for each quantity, in percent.

    terms: by term, the value of each quantity, such as the loss or a gradient's norm.
    """
    made, [ax] = figure(8.0, 1.1 + 0.45 * len(terms))
    quantities = list(next(iter(terms.values())))
    height = 0.8 / len(quantities)
    for number, quantity in enumerate(quantities):
        values = [term[quantity] for term in terms.values()]
        whole = sum(values) or 1.0
        at = [row + (number - (len(quantities) - 1) / 2) * height for row in range(len(terms))]
        found = [100 * value / whole for value in values]
        ax.barh(at, found, height=0.9 * height, color=PALETTE[number], label=quantity)
        for place, share in zip(at, found, strict=True):
            ax.annotate(f" {share:.1f}", (share, place), va="center", fontsize=8.5, color=INK)
    ax.set_yticks(range(len(terms)), list(terms))
    ax.invert_yaxis()
    ax.set(xlabel="share of the whole (%)", xlim=(0, 108))
    legend(ax, above=True)
    return made


def beside_published(own: Mapping[str, float], published: Mapping[str, float], *, label: str) -> Figure:
    """Draw scores as bars, best first, each before a paler one of what a paper prints for the same name.

    Both scales are percent, and differ in their tasks: what can be compared is the order.
    """
    names = sorted(own, key=lambda name: own[name], reverse=True)
    made, [ax] = figure(8.0, 1.0 + 0.32 * len(names))
    rows = range(len(names))
    printed = [published.get(name, 0.0) for name in names]
    ax.barh(rows, printed, height=0.82, color=GRID, label="printed in the paper")
    ax.barh(rows, [own[name] for name in names], height=0.42, color=PALETTE[0], label="here")
    for row, name in enumerate(names):
        ax.annotate(f" {own[name]:.1f}", (own[name], row), va="center", fontsize=8.5, color=INK)
    ax.set_yticks(rows, names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set(xlabel=label, xlim=(0, 1.12 * max(*own.values(), *printed)))
    legend(ax, above=True)
    return made
