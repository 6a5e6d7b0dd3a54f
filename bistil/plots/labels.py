"""Labels of points that touch nothing: no other label, no point, no line, and not the edge of their axes.

Notable: sizes of texts are those that will be drawn, so a label is placed once everything else stands.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from bistil.plots.style import GRID, INK

PAD = 2.5
"""Points (1/72 inch) between a label and what it stands beside."""
REACHES = (0, 5, 10, 16, 24, 34, 46, 60, 76, 94, 114)
"""How far off its point a label may be, in points; the nearest free place is taken."""
ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)


class Spot(NamedTuple):
    """A point in data coordinates, what is written beside it, and the radius of its marker in points."""

    x: float
    y: float
    text: str
    radius: float = 4.0


def label_points(ax: Axes, spots: Sequence[Spot]) -> None:
    """Write each label in the nearest free place beside its point; where that is further off, a line ties
    the two.

    Call it last: what is drawn in the axes by then is kept clear of.
    """
    made: Any = ax.figure
    made.draw_without_rendering()  # settles where the axes are
    renderer, dot = made.canvas.get_renderer(), made.dpi / 72
    places = [np.asarray(ax.transData.transform((spot.x, spot.y))) for spot in spots]
    taken = [text.get_window_extent(renderer) for text in ax.texts]
    taken += [
        Bbox([place - spot.radius * dot, place + spot.radius * dot])
        for place, spot in zip(places, spots, strict=True)
    ]
    strokes = _drawn(ax)
    for place, spot in sorted(zip(places, spots, strict=True), key=lambda pair: -pair[1].y):
        note = ax.annotate(spot.text, (spot.x, spot.y), fontsize=9, color=INK, va="center", ha="center")
        note.set_in_layout(False)
        size = note.get_window_extent(renderer)
        found, line = min(
            _candidates(place, (size.width, size.height), spot.radius * dot, dot),
            key=lambda one: _trouble(one[0], one[1], taken, strokes, ax.bbox),
        )
        middle = (found.p0 + found.p1) / 2
        note.set_position(tuple((middle - place) / dot))
        note.set_anncoords("offset points")
        if len(line):
            start, end = ax.transData.inverted().transform(line[[0, -1]])
            ax.plot(
                *zip(start, end, strict=True), color=GRID, linewidth=1, zorder=2.5, scalex=False, scaley=False
            )
        taken.append(found)
        strokes = np.concatenate([strokes, line])


def _drawn(ax: Axes) -> np.ndarray:
    """Points along the lines of the axes, in dots. Shape: [P, 2]."""
    found = [np.empty((0, 2))]
    for line in ax.lines:
        corners = line.get_transform().transform(np.asarray(line.get_xydata(), dtype=float))
        found += [np.linspace(first, last, 50) for first, last in pairwise(corners)]
    return np.concatenate(found)


def _candidates(
    place: np.ndarray, size: tuple[float, float], radius: float, dot: float
) -> Iterator[tuple[Bbox, np.ndarray]]:
    """Boxes around a point, the nearest first, each with the line to its point. Shape: [P, 2]."""
    half = np.array(size) / 2
    for reach in REACHES:
        for angle in np.deg2rad(ANGLES):
            way = np.array([np.cos(angle), np.sin(angle)]).round(6)
            edge = place + (radius + (PAD + reach) * dot) * way
            middle = edge + half * np.sign(way)
            start = place + radius * way
            line = np.linspace(start, edge - PAD * dot * way, 20) if reach > 10 else np.empty((0, 2))
            yield Bbox([middle - half, middle + half]), line


def _trouble(box: Bbox, line: np.ndarray, taken: Sequence[Bbox], strokes: np.ndarray, frame: Any) -> float:
    """How much a label would touch there; 0: nothing."""
    wide = box.padded(1.5)
    outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    crossed = _inside(strokes, wide)
    hit = sum(wide.overlaps(other) + 0.5 * bool(_inside(line[2:], other)) for other in taken)
    return 100 * outside + 10 * hit + crossed


def _inside(points: np.ndarray, box: Bbox) -> int:
    return int(np.all((points > box.p0) & (points < box.p1), axis=1).sum()) if len(points) else 0
