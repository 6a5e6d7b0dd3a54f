"""Small panels for single questions: where to cut the vocabulary, and what a density means for overlap.

Notable: counting tokens takes seconds and is done once; moving a slider only looks numbers up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as w
import numpy as np

from bistil import vocab
from bistil.errors import InputError
from bistil.plots import vocabulary_curve
from bistil.sft.compose import trimmed
from bistil.sft.delta import SparseDelta
from bistil.workbench import html
from bistil.workbench.guard import Guard
from bistil.workbench.look import png

THRESHOLDS = tuple(float(f"{digit}e{power}") for power in range(-7, -2) for digit in (1, 2, 5))


class ThresholdModel:
    """How many tokens reach a threshold, over thresholds, and what is kept at the chosen one."""

    def __init__(self, tokenizer: Any, counts: Mapping[str, np.ndarray], *, threshold: float = 1e-6) -> None:
        if not counts:
            raise InputError("Token counts of at least one corpus were expected, but none came. Use vocab.count_tokens.")
        self._tokenizer, self._counts, self.threshold = tokenizer, dict(counts), threshold
        self.sizes = vocab.curve(list(self._counts.values()), THRESHOLDS)

    def kept(self) -> np.ndarray:
        """Return the ids kept at the chosen threshold, special tokens and spelling characters among them."""
        return vocab.choose(self._tokenizer, list(self._counts.values()), threshold=self.threshold)

    def lost(self, most: int = 12) -> list[str]:
        """Return the most frequent tokens that go, the most frequent first."""
        total = np.sum(list(self._counts.values()), axis=0)
        gone = np.setdiff1d(np.flatnonzero(total), self.kept())
        return self._tokenizer.convert_ids_to_tokens(gone[np.argsort(-total[gone], kind="stable")][:most].tolist())

    def text(self) -> str:
        """Return what the threshold does, in one sentence."""
        kept, whole = len(self.kept()), len(self._tokenizer)
        return f"At {self.threshold:g}, {kept:,} of {whole:,} tokens stay ({100 * kept / whole:.0f} %)."


class ThresholdPanel(w.VBox):
    """A slider over thresholds next to the curve."""

    def __init__(self, model: ThresholdModel) -> None:
        self.model = model
        self.words, self.error = w.HTML(), w.HTML()
        self.curve = w.Image(format="png", layout=w.Layout(max_width="560px"))
        near = min(THRESHOLDS, key=lambda value: abs(np.log(value / model.threshold)))
        self.slider = w.SelectionSlider(
            options=[(f"{value:g}", value) for value in THRESHOLDS], value=near, description="threshold", layout=w.Layout(width="480px")
        )
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.slider.observe(guard(lambda change: self._draw(change["new"])), names="value")
        super().__init__([self.slider, self.words, self.error, self.curve])
        guard(self._draw)(near)

    def _draw(self, threshold: float) -> None:
        self.model.threshold = threshold
        gone = ", ".join(self.model.lost()) or "none that occur in the texts"
        self.words.value = html.table(["", ""], [[self.model.text(), ""], [f"Gone first: {gone}", ""]])
        self.curve.value = png(vocabulary_curve(THRESHOLDS, self.model.sizes, threshold), dots=70)


def threshold_panel(tokenizer: Any, counts: Mapping[str, np.ndarray], *, threshold: float = 1e-6) -> ThresholdPanel:
    """Return the threshold slider for counts from `vocab.count_tokens`, by language."""
    return ThresholdPanel(ThresholdModel(tokenizer, counts, threshold=threshold))


class DensityModel:
    """The overlap of deltas when each keeps only its largest values, next to chance."""

    def __init__(self, deltas: Mapping[str, SparseDelta], n_parameters: int) -> None:
        if len(deltas) < 2:
            raise InputError(f"At least two deltas were expected, to compare them, but {len(deltas)} came.")
        self.deltas, self.n_parameters = dict(deltas), n_parameters

    def overlaps(self, share: float) -> list[tuple[str, float, float]]:
        """Return, for each pair, its name, the share of values in common, and the share by chance; all from 0 to 1."""
        names: Sequence[str] = list(self.deltas)
        chosen = {name: trimmed(delta, share) for name, delta in self.deltas.items()}
        found = []
        for place, first in enumerate(names):
            for second in names[place + 1 :]:
                large = max(chosen[first].size, chosen[second].size)
                found.append((f"{first} and {second}", chosen[first].overlap(chosen[second]), large / self.n_parameters))
        return found


class DensityPanel(w.VBox):
    """A slider over densities and a table of overlaps."""

    def __init__(self, model: DensityModel) -> None:
        self.model = model
        self.table, self.error = w.HTML(), w.HTML()
        self.slider = w.IntSlider(value=100, min=5, max=100, step=5, description="largest, %", continuous_update=False)
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.slider.observe(guard(lambda change: self._draw(change["new"])), names="value")
        super().__init__([self.slider, self.error, self.table])
        guard(self._draw)(100)

    def _draw(self, percent: int) -> None:
        rows = [[pair, f"{100 * share:.1f} %", f"{100 * chance:.1f} %"] for pair, share, chance in self.model.overlaps(percent / 100)]
        self.table.value = html.table(["pair", "in common", "by chance"], rows, numbers=(1, 2))


def density_panel(deltas: Mapping[str, SparseDelta], n_parameters: int) -> DensityPanel:
    """Return the overlap panel for deltas of one base, by name."""
    return DensityPanel(DensityModel(deltas, n_parameters))
