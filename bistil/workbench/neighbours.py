"""The sentences that an encoder takes for a sentence's translation: one layer, one measure, the nearest ones.

Notable: the states of a layer are computed when it is first looked at, and kept.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import ipywidgets as w
from torch import Tensor

from bistil.tasks.retrieval import SIMILARITIES, Side, token_states
from bistil.workbench import html
from bistil.workbench.guard import Guard

MEASURES = ("cosine", "bertscore")


class Neighbour(NamedTuple):
    """A sentence of the target, how similar it is, and whether it is the translation."""

    text: str
    similarity: float
    right: bool


class Neighbours:
    """The sentences of the target that lie nearest to one of the source."""

    def __init__(self, source: Side, target: Side, pairs: Sequence[tuple[str, str]]) -> None:
        self.sides, self.pairs = (source, target), pairs
        self.layers = min(side.encoder.config.num_hidden_layers for side in self.sides)

    def nearest(self, number: int, *, layer: int, by: str = "cosine", most: int = 10) -> list[Neighbour]:
        """The sentences most similar to that of pair `number` (from 0), the nearest first.

        Args:
            layer: 0 is the embedding layer, 1 the first layer.
            by: `cosine` or `bertscore`.
        """
        source, target = self._states(layer)
        similarity = SIMILARITIES[by]([source[number]], target)[0]
        right = self.pairs[number][1]
        best = similarity.argsort(descending=True)[:most].tolist()
        return [
            Neighbour(self.pairs[one][1], float(similarity[one]), self.pairs[one][1] == right) for one in best
        ]

    @cache  # noqa: B019 - as long as its panel
    def _states(self, layer: int) -> tuple[list[Tensor], list[Tensor]]:
        source, target = (
            token_states(side, lines, layers=(layer,), batch_size=64, max_length=128)[0]
            for side, lines in zip(self.sides, zip(*self.pairs, strict=True), strict=True)
        )
        return source, target


class NeighboursPanel(w.VBox):
    """A sentence, a layer and a measure above the table of the nearest sentences."""

    def __init__(self, model: Neighbours) -> None:
        self.model = model
        self.table, self.error = w.HTML(), w.HTML()
        self.number = w.Dropdown(
            options=[(left, number) for number, (left, _) in enumerate(model.pairs)], description="sentence"
        )
        self.layer = w.IntSlider(value=model.layers // 2, min=0, max=model.layers, description="layer")
        self.by = w.Dropdown(options=MEASURES, description="measure")
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        for choice in (self.number, self.layer, self.by):
            choice.observe(guard(lambda change: self._draw()), names="value")
        super().__init__([self.number, self.layer, self.by, self.error, self.table])
        guard(self._draw)()

    def _draw(self) -> None:
        found = self.model.nearest(self.number.value, layer=self.layer.value, by=self.by.value)
        self.table.value = html.table(
            ["", "nearest first", "similarity"],
            [["✓" if one.right else "", one.text, f"{one.similarity:.3f}"] for one in found],
        )


def neighbours_panel(source: Side, target: Side, pairs: Sequence[tuple[str, str]]) -> NeighboursPanel:
    """Return the panel over pairs of sentences, read by an encoder for each language."""
    return NeighboursPanel(Neighbours(source, target, pairs))
