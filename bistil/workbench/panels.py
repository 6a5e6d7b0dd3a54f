"""A small panel for a single question: where to cut the vocabulary.

Notable: counting tokens takes seconds and is done once; moving a slider only looks numbers up.
"""

from collections.abc import Mapping
from typing import Any

import ipywidgets as w
import numpy as np

from bistil import vocab
from bistil.errors import InputError
from bistil.plots import vocabulary_curve
from bistil.workbench import html
from bistil.workbench.guard import Guard

THRESHOLDS = tuple(float(f"{digit}e{power}") for power in range(-7, -2) for digit in (1, 2, 5))


class ThresholdModel:
    """How many tokens reach a threshold, over thresholds, and what is kept at the chosen one."""

    def __init__(self, tokenizer: Any, counts: Mapping[str, np.ndarray], *, threshold: float = 1e-6) -> None:
        if not counts:
            raise InputError(
                "Token counts of at least one corpus were expected, but none came. Use vocab.count_tokens."
            )
        self._tokenizer, self._counts, self.threshold = tokenizer, dict(counts), threshold
        self.sizes = vocab.curve(list(self._counts.values()), THRESHOLDS)

    def kept(self) -> np.ndarray:
        """Return the ids kept at the chosen threshold, special tokens and spelling characters among them."""
        return vocab.choose(self._tokenizer, list(self._counts.values()), threshold=self.threshold)

    def lost(self, most: int = 12) -> list[str]:
        """Return the most frequent tokens that go, the most frequent first."""
        total = np.sum(list(self._counts.values()), axis=0)
        gone = np.setdiff1d(np.flatnonzero(total), self.kept())
        return self._tokenizer.convert_ids_to_tokens(
            gone[np.argsort(-total[gone], kind="stable")][:most].tolist()
        )

    def text(self) -> str:
        """Return what the threshold does, in one sentence."""
        kept, whole = len(self.kept()), len(self._tokenizer)
        [reach] = vocab.curve(list(self._counts.values()), [self.threshold])
        return (
            f"At {self.threshold:g}, {kept:,} of {whole:,} tokens stay ({100 * kept / whole:.0f} %):"
            f" {reach:,} reach the threshold, the others are special or needed to spell."
        )


class ThresholdPanel(w.VBox):
    """A slider over thresholds next to the curve."""

    def __init__(self, model: ThresholdModel) -> None:
        self.model = model
        self.words, self.error, self.curve = w.HTML(), w.HTML(), w.HTML()
        near = min(THRESHOLDS, key=lambda value: abs(np.log(value / model.threshold)))
        self.slider = w.SelectionSlider(
            options=[(f"{value:g}", value) for value in THRESHOLDS],
            value=near,
            description="threshold",
            layout=w.Layout(width="480px"),
        )
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.slider.observe(guard(lambda change: self._draw(change["new"])), names="value")
        super().__init__([self.slider, self.words, self.error, self.curve])
        guard(self._draw)(near)

    def _draw(self, threshold: float) -> None:
        self.model.threshold = threshold
        gone = ", ".join(self.model.lost()) or "none that occur in the texts"
        self.words.value = html.table(["", ""], [[self.model.text(), ""], [f"Gone first: {gone}", ""]])
        self.curve.value = html.picture(
            vocabulary_curve(THRESHOLDS, self.model.sizes, threshold), "tokens-by-threshold"
        )


def threshold_panel(
    tokenizer: Any, counts: Mapping[str, np.ndarray], *, threshold: float = 1e-6
) -> ThresholdPanel:
    """Return the threshold slider for counts from `vocab.count_tokens`, by language."""
    return ThresholdPanel(ThresholdModel(tokenizer, counts, threshold=threshold))
