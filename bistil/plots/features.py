"""What a generator of adapters makes of typological features: how far each moves an adapter, what changes
where one is flipped, and which are alike.

Notable: of many features those with the largest norms have a bar, or a name.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from bistil.plots.labels import Spot, label_points
from bistil.plots.style import INK, PALETTE, figure, style_colour_bar

MOST = 40
"""Features that have a bar, or a name on the map."""


def leaning(norms: Mapping[str, float], changes: Mapping[str, Sequence[tuple[str, float]]]) -> Figure:
    """Draw features (rows), the largest norm on top, and beside it what changes where one is flipped: a dot a
    measurement, a bar to their mean.

    changes: features and numbers, by the label of their axis.
    """
    order = sorted(norms, key=lambda name: -norms[name])[:MOST]
    made, axes = figure(2.6 + 3.2 * (1 + len(changes)), 1.2 + 0.23 * len(order), 1 + len(changes))
    axes[0].barh(range(len(order)), [norms[name] for name in order], 0.7, color=PALETTE[0])
    axes[0].set_xlabel("norm of the feature's column of W V")
    for ax, (label, found) in zip(axes[1:], changes.items(), strict=True):
        for place, name in enumerate(order):
            if values := [value for one, value in found if one == name]:
                ax.barh(place, fmean(values), 0.7, color=PALETTE[1])
                ax.scatter(values, [place] * len(values), s=9, color=INK, alpha=0.6, linewidth=0, zorder=3)
        ax.axvline(0, color=INK, linewidth=1)
        ax.set_xlabel(label)
        ax.spines["left"].set_visible(False)
    for ax in axes:
        ax.locator_params(axis="x", nbins=5)
        ax.set_ylim(len(order) - 0.4, -0.6)
        ax.set_yticks(range(len(order)), order if ax is axes[0] else [""] * len(order))
        ax.grid(False, axis="y")
    return made


def feature_map(vectors: Mapping[str, np.ndarray], norms: Mapping[str, float]) -> Figure:
    """Draw features in the plane of the first two principal components of their vectors, coloured by their
    norms.

    vectors: by feature, at least two of at least two values. Shape: [d] each.
    """
    centred = np.stack(list(vectors.values())) - np.mean(list(vectors.values()), axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * sizes[:2]
    places *= np.sign(places[np.abs(places).argmax(0), [0, 1]])  # an axis has no direction of its own
    made, [ax] = figure(9.6, 6.6)
    xs, ys = places.T
    shades = [norms[name] for name in vectors]
    drawn = ax.scatter(xs, ys, s=40, c=shades, cmap="cividis", edgecolor=INK, linewidth=0.5, zorder=3)
    first, second = 100 * sizes[:2] ** 2 / (sizes**2).sum()
    ax.set(xlabel=f"first component ({first:.0f} %)", ylabel=f"second component ({second:.0f} %)")
    style_colour_bar(made.colorbar(drawn, ax=ax), "norm of the feature's column of W V")
    ax.margins(0.12, 0.08)
    spots = {name: Spot(x, y, name) for name, (x, y) in zip(vectors, places.tolist(), strict=True)}
    label_points(ax, [spots[name] for name in sorted(spots, key=lambda name: -norms[name])[:MOST]])
    return made
