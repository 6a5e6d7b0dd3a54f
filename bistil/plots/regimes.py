"""From which examples a task is learnt, beside what came of it."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bistil.plots.style import GRID, INK, PALETTE, PAPER, figure, legend

PATTERNS: Mapping[str, str] = {"own": "", "shots": "////", "translated": ".."}
"""How kinds of examples are told apart."""
OTHER = "xx"
"""The pattern of every other kind."""


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
    kinds = dict.fromkeys(kind for parts in examples.values() for kind in parts)
    _stack(bars, examples, {kind: (PALETTE[number], "") for number, kind in enumerate(kinds)})
    scored = [(row, scores[name]) for row, name in enumerate(examples) if name in scores]
    for row, score in scored:
        points.plot([min(scores.values()), score], [row, row], color=GRID, linewidth=2, zorder=1)
        points.annotate(
            f"{score:.1f}", (score, row), (6, 0), textcoords="offset points", va="center", color=INK
        )
    points.scatter([score for _, score in scored], [row for row, _ in scored], color=INK, zorder=2)
    points.set_yticks(range(len(examples)), [])
    points.set_ylim(len(examples) - 0.5, -0.5)
    points.grid(False, axis="y")
    points.set_xlabel(label)
    points.margins(x=0.2)
    return made


def examples_by_language(examples: Mapping[str, Mapping[tuple[str, str], int]]) -> Figure:
    """Draw the examples of an epoch as one bar a regime: a colour for each language, a pattern for each kind.

    Args:
        examples: by regime, and by language and kind (`own`, `shots`, `translated` or any other), how many
            there are after upsampling.
    """
    named = {
        name: {f"{code} {kind}".removesuffix(" own"): one for (code, kind), one in parts.items()}
        for name, parts in examples.items()
    }
    codes = list(dict.fromkeys(code for parts in examples.values() for code, _ in parts))
    kinds = dict.fromkeys([*PATTERNS, *(kind for parts in examples.values() for _, kind in parts)])
    looks = {
        f"{code} {kind}".removesuffix(" own"): (PALETTE[number % len(PALETTE)], PATTERNS.get(kind, OTHER))
        for number, code in enumerate(codes)
        for kind in kinds
        if any((code, kind) in parts for parts in examples.values())
    }
    made, [bars] = figure(9.0, 1.3 + 0.45 * len(examples))
    _stack(bars, named, looks)
    for row, parts in enumerate(named.values()):
        total = sum(parts.values())
        bars.annotate(f"{total:,}", (total, row), (6, 0), textcoords="offset points", va="center", color=INK)
    bars.margins(x=0.1)
    return made


def _stack(
    bars: Axes, examples: Mapping[str, Mapping[str, int]], looks: Mapping[str, tuple[str, str]]
) -> None:
    """Draw one bar a regime, in parts by kind, each with its colour and pattern."""
    left = [0] * len(examples)
    for kind, (shade, pattern) in looks.items():
        widths = [parts.get(kind, 0) for parts in examples.values()]
        look: dict[str, Any] = {"color": shade, "hatch": pattern, "edgecolor": PAPER, "label": kind}
        bars.barh(range(len(examples)), widths, left=left, height=0.6, **look)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    bars.set_yticks(range(len(examples)), list(examples))
    bars.set_ylim(len(examples) - 0.5, -0.5)
    bars.grid(False, axis="y")
    bars.set_xlabel("examples in an epoch")
    legend(bars, above=True)
