"""How figures look, and how one becomes SVG that follows a page's light or dark theme.

Notable: no pyplot and so no global state; colours are Okabe and Ito's, safe for colour-blind eyes, and a
system of the table keeps its colour in every figure; ink, paper and grid are three fixed colours, so that
`svg()` can hand them to the page's CSS variables."""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from bistil.systems.table import SYSTEMS

INK, PAPER, GRID = "#1f2933", "#fffffe", "#d9dee4"
HALF = (5.6, 3.7)
"""Width and height of a figure that has half a page, in inches."""
INCH = 96
"""Pixels of a page for an inch of a figure."""
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#999999", "#b8a900")
FURTHER = (*PALETTE[:6], PALETTE[7], "#332288", "#882255", "#44aa99", "#7f7f00", "#cc6677")
"""What variants choose from; after the palette some of Tol's muted colours. Greys are left to floors."""


def colours(systems: Iterable[str]) -> dict[str, str]:
    """The colour of each system of a figure: the table's, the same in every figure; a variant's is chosen by
    its name, and is the next one where another system of the figure has it, while there are others.
    """
    names = list(dict.fromkeys(systems))
    found = {name: SYSTEMS[name].colour for name in names if name in SYSTEMS and SYSTEMS[name].colour}
    for name in names:
        start = crc32(name.encode()) % len(FURTHER)
        choices = (*FURTHER[start:], *FURTHER[:start])
        taken = set(found.values())
        found.setdefault(name, next((one for one in choices if one not in taken), choices[0]))
    return found


class _Plain(Figure):
    """A figure whose texts are what they say: a `$` in a name begins no formula. The numbers of a logarithmic
    axis are one.
    """

    def draw(self, renderer: Any) -> None:
        axes = [axis for ax in self.axes for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log"]
        numbers = {label for axis in axes for label in axis.get_ticklabels(which="both")}
        for text in self.findobj(Text):
            text.set_parse_math(text in numbers)
        super().draw(renderer)


def figure(width: float = 8.0, height: float = 4.5, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty styled figure (inches, 160 dots per inch: 1280 pixels at the default width) and its
    axes, side by side.
    """
    made = _Plain(figsize=(width, height), dpi=160, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(made)
    axes = list(made.subplots(1, panels, squeeze=False)[0])
    for ax in axes:
        ax.set_facecolor(PAPER)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(GRID)
        ax.tick_params(colors=INK, labelsize=9.5, length=0, pad=5)
        ax.grid(True, color=GRID, linewidth=0.7)
        ax.set_axisbelow(True)
        for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
            text.set(color=INK, fontsize=10.5)
    return made, axes


def svg(made: Figure, name: str) -> str:
    """Return a figure as SVG text without dates."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "hatch.linewidth": 0.8}):
        made.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return buffer.getvalue()


def inches(text: str) -> float:
    """The width of what `svg` returned."""
    found = re.search(r'<svg[^>]*?\swidth="([\d.]+)pt"', text)
    assert found, "svg() writes points"
    return float(found[1]) / 72


def themed(text: str, made: Figure | float, name: str) -> str:
    """Fit what `svg` returned of a figure into an HTML page: no links, names of its own, colours from the
    page's CSS variables.

    made: the figure, or its width in inches.
    """
    width = made.get_figwidth() if isinstance(made, Figure) else made
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(
        r'(<svg[^>]*?)\swidth="[^"]*"',
        rf'\1 style="max-width: {width * INCH:.0f}px"',
        text,
        count=1,
    )
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r'\1 role="img" aria-label="' + name + '"', text, count=1)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for fixed, variable in ((INK, "--ink"), (PAPER, "--card"), (GRID, "--line")):
        text = text.replace(fixed, f"var({variable})")
    return text


def legend(ax: Axes, *, above: bool = False) -> None:
    """Add a frameless legend, if anything has a label; `above` puts it over the axes, in as many columns as
    fit.
    """
    if labels := ax.get_legend_handles_labels()[1]:
        whole: Any = ax.figure
        # letters of 9 points, side by side, beside an axis' own labels; a line and its gaps are worth 8
        letters = (whole.get_figwidth() / len(whole.axes) - 0.7) * 14
        columns = int(max(1, letters // (max(map(len, labels)) + 8)))
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": columns}
        ax.legend(frameon=False, fontsize=9, labelcolor=INK, **(place if above else {}))


def heat_map(
    ax: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    *,
    lowest: float = float("inf"),
    highest: float | None = None,
) -> None:
    """Draw a matrix as a heat map with its numbers in the cells, NaN left empty. Shape of values: [rows,
    columns].

    lowest: a value that the darkest colour is not above, besides the smallest of the matrix. highest: what
    the brightest colour stands for, and all above it; default: the largest of the matrix. Colours span at
    least a tenth of that, around the middle, so that rounding shows no pattern.
    """
    low, most = (
        (min(np.nanmin(values), lowest), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    )
    high = max(most if highest is None else highest, low + 1e-9)
    if high - low < 0.1 * high:
        low, high = (low + high) / 2 - 0.05 * high, (low + high) / 2 + 0.05 * high
    image = ax.imshow(values, cmap="cividis", aspect="auto", vmin=low, vmax=high)
    middle, digits = (low + high) / 2, ".1f" if most >= 10 else ".3g"
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.text(
                x,
                y,
                f"{value:{digits}}",
                ha="center",
                va="center",
                fontsize=9,
                color="#ffffff" if value < middle else "#000000",
            )
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.grid(False)
    style_colour_bar(
        ax.figure.colorbar(image, ax=ax, extend="max" if most > high + 1e-9 else "neither"), label
    )


def style_colour_bar(bar: Any, label: str) -> None:
    """Give a colour bar its label and the figure's colours."""
    bar.set_label(label, color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=9, length=0)
    bar.outline.set_visible(False)
