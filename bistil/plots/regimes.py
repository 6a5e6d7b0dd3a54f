"""From which examples a task is learnt, beside what came of it."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from bistil.plots.style import GRID, INK, PALETTE, PAPER, figure, legend


def examples_and_scores(
    examples: Mapping[str, Mapping[str, int]], scores: Mapping[str, float], *, label: str
) -> Figure:
    """Draw the examples of an epoch as one bar a regime, in parts by kind, and its score beside it.

    Args:
        examples: by regime and kind, how many there are after upsampling.
        scores: by regime, in percent; one that is missing has no point.
        label: of the scores' axis.
    """
    made, [bars, points] = figure(9.0, 0.9 + 0.5 * len(examples), panels=2)
    kinds = list(dict.fromkeys(kind for parts in examples.values() for kind in parts))
    rows = range(len(examples))
    left = [0] * len(examples)
    for number, kind in enumerate(kinds):
        widths = [parts.get(kind, 0) for parts in examples.values()]
        bars.barh(rows, widths, left=left, color=PALETTE[number], edgecolor=PAPER, height=0.6, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    scored = [(row, scores[name]) for row, name in enumerate(examples) if name in scores]
    for row, score in scored:
        points.plot([min(scores.values()), score], [row, row], color=GRID, linewidth=2, zorder=1)
        points.annotate(
            f"{score:.1f}", (score, row), (6, 0), textcoords="offset points", va="center", color=INK
        )
    points.scatter([score for _, score in scored], [row for row, _ in scored], color=INK, zorder=2)
    for axis in (bars, points):
        axis.set_yticks(rows, list(examples) if axis is bars else [])
        axis.set_ylim(len(examples) - 0.5, -0.5)
        axis.grid(False, axis="y")
    bars.set_xlabel("examples in an epoch")
    points.set_xlabel(label)
    points.margins(x=0.2)
    legend(bars, above=True)
    return made
