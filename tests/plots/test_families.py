"""Figures of families say what they are given."""

import pytest
from matplotlib.patches import Rectangle

from bistil.plots.families import layer_maps, shares, sharing
from bistil.systems.layers import layer_pairs


def test_what_is_shared_is_one_box() -> None:
    [ax] = sharing({"embeddings": True, "layer 1": False, "head": True}, ["qaa", "qac"]).axes
    boxes = [(box.get_y(), round(box.get_width(), 2)) for box in ax.patches if isinstance(box, Rectangle)]
    assert boxes == [(0.1, 1.92), (1.1, 0.92), (1.1, 0.92), (2.1, 1.92)]
    assert [text.get_text() for text in ax.texts] == [
        "embeddings, one for all", "layer 1", "layer 1", "head, one for all",
    ]  # fmt: skip


def test_a_line_for_each_pair_of_layers() -> None:
    maps = {name: layer_pairs(name, 12, 6) for name in ("uniform", "last")}
    first, last = layer_maps(maps, 12, 6).axes
    assert (len(first.lines), len(last.lines)) == (6, 1)
    assert list(last.lines[0].get_ydata()) == [1.0, 1.0]
    assert list(first.lines[0].get_ydata()) == pytest.approx([0.0, 1 / 11])
    assert (first.get_title(), last.get_title()) == ("uniform", "last")


def test_shares_add_up_to_the_whole() -> None:
    [ax] = shares({"a": {"loss": 1.0, "gradient": 3.0}, "b": {"loss": 3.0, "gradient": 3.0}}).axes
    widths = [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)]
    assert widths == pytest.approx([25.0, 75.0, 50.0, 50.0])
    assert ax.get_xlabel() == "share of the whole (%)"
