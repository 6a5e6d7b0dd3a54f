"""The figures of languages before anything is trained: their typology, and how a vocabulary covers them.

Notable: as in the rest of the room, from plain data to a `Figure`, and every label names its unit.
"""

from collections.abc import Collection, Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bistil.plots.style import INK, PALETTE, figure


def coverage(
    found: Mapping[str, tuple[float, float]], *, seen: Collection[str] = (), marked: Collection[str] = ()
) -> Figure:
    """Draw into how many tokens a vocabulary cuts the words of each language (left), and which share of them
    it cannot spell (right).

    found: by language, tokens a word and the share of unknown words, 0 to 1 (`vocab.coverage`); those with
    fewest tokens come first. seen: the languages that the teacher saw, in another colour and shape. marked:
    those whose names are bold.
    """
    order = sorted(found, key=lambda code: (found[code], code))
    made, axes = figure(8.4, 1.6 + 0.27 * len(order), 2)
    sides = (
        ("tokens a word, mean", 1.0, lambda code: found[code][0]),
        ("unknown words (%)", 0.0, lambda code: 100 * found[code][1]),
    )
    kinds = {True: ("seen by the teacher", PALETTE[0], "o"), False: ("unseen", PALETTE[3], "D")}
    for ax, (label, least, value) in zip(axes, sides, strict=True):
        for kind in dict.fromkeys(code in seen for code in order):
            name, shade, marker = kinds[kind]
            rows, values = zip(
                *((row, value(code)) for row, code in enumerate(order) if (code in seen) == kind), strict=True
            )
            ax.hlines(rows, least, values, color=shade, linewidth=2, alpha=0.45)
            ax.plot(
                values,
                rows,
                color=shade,
                linestyle="",
                marker=marker,
                markersize=6,
                label=name,
                clip_on=False,
            )
        ax.set(
            xlabel=label,
            xlim=(least, 1.04 * max(least + 1, *map(value, order))),
            ylim=(len(order) - 0.4, -0.6),
        )
        ax.set_yticks(range(len(order)), order if ax is axes[0] else [""] * len(order))
        ax.grid(False, axis="y")
    for tick in axes[0].get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in marked else "normal")
    if seen:
        axes[0].legend(
            frameon=False, fontsize=9, labelcolor=INK, ncols=2, loc="lower left", bbox_to_anchor=(0, 1)
        )
    return made


def typology(table: Mapping[str, Mapping[str, object]]) -> Figure:
    """Draw languages (rows) by features (columns): each cell shows its value, equal values of a feature have
    one colour.
    """
    features = list(dict.fromkeys(name for values in table.values() for name in values))
    made, [ax] = figure(max(6.0, 1.5 + 1.15 * len(features)), 1.2 + 0.36 * len(table))
    seen: dict[str, list[str]] = {
        name: sorted({str(row.get(name, "")) for row in table.values()}) for name in features
    }
    for y, values in enumerate(table.values()):
        for x, name in enumerate(features):
            text = str(values.get(name, ""))
            shade = PALETTE[seen[name].index(text) % len(PALETTE)]
            ax.add_patch(
                Rectangle((x - 0.47, y - 0.43), 0.94, 0.86, facecolor=shade, alpha=0.35, linewidth=0)
            )
            ax.text(x, y, text, ha="center", va="center", fontsize=8.5, color=INK)
    ax.set(xlim=(-0.5, len(features) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.set_xticks(range(len(features)), features, rotation=20, ha="left")
    ax.set_yticks(range(len(table)), list(table))
    ax.xaxis.tick_top()
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return made
