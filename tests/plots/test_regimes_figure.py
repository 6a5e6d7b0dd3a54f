"""The figure of examples and scores: a bar's length is its examples, a point its score."""

from typing import Any

from bistil.plots import PALETTE, examples_and_scores, examples_by_language


def test_bars_are_as_long_as_their_examples_and_points_stand_at_their_scores() -> None:
    examples = {"zero-shot": {"source": 600}, "fs": {"source": 600, "shots": 1000}, "tt": {"translated": 600}}
    made = examples_and_scores(examples, {"zero-shot": 40.0, "fs": 50.5}, label="accuracy (%)")
    bars, points = made.axes
    drawn: list[Any] = list(bars.patches)
    ends = {(bar.get_y() + 0.3, bar.get_x(), bar.get_width()) for bar in drawn if bar.get_width()}
    assert sorted(ends) == [(0.0, 0, 600), (1.0, 0, 600), (1.0, 600, 1000), (2.0, 0, 600)]
    assert [label.get_text() for label in bars.get_yticklabels()] == list(examples)
    [dots] = points.collections
    assert dots.get_offsets().tolist() == [[40.0, 0.0], [50.5, 1.0]]
    assert {text.get_text() for text in points.texts} == {"40.0", "50.5"}
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["source", "shots", "translated"]


def test_a_language_has_its_colour_and_a_kind_its_pattern() -> None:
    examples = {
        "zero-shot": {("eng", "own"): 600},
        "both": {("eng", "own"): 600, ("swa", "shots"): 200, ("swa", "translated"): 600},
    }
    [bars] = examples_by_language(examples).axes
    patches: list[Any] = list(bars.patches)
    drawn = [bar for bar in patches if bar.get_width()]
    looks = {(bar.get_y() + 0.3, bar.get_x(), bar.get_width()): bar.get_hatch() for bar in drawn}
    assert looks == {(0, 0, 600): "", (1, 0, 600): "", (1, 600, 200): "////", (1, 800, 600): ".."}
    assert len({bar.get_facecolor() for bar in drawn}) == 2
    assert [text.get_text() for text in bars.texts] == ["600", "1,400"]
    told = [text.get_text() for text in bars.get_legend().get_texts()]
    assert told == ["eng", "swa shots", "swa translated"]
    [bars] = examples_by_language({"all": {("eng", "own"): 10, ("swa", "pseudo"): 5}}).axes
    assert [(bar.get_x(), bar.get_width()) for bar in bars.patches] == [(0, 10), (10, 5)]  # type: ignore[attr-defined]
    many = {"all": {(f"q{number}", "own"): 1 for number in range(len(PALETTE) + 1)}}
    assert len(examples_by_language(many).axes[0].patches) == len(PALETTE) + 1
