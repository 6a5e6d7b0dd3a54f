"""A student's size while it is still a wish: depth, width and vocabulary as sliders, parameters and FLOPs at
once.
"""

from functools import cache

import ipywidgets as w
from transformers import PreTrainedConfig

from bistil.errors import InputError
from bistil.plan.sizes import Size, depths, student_size, widths
from bistil.workbench import html
from bistil.workbench.guard import Guard


class SizeModel:
    """Sizes of students of one teacher, each counted once. length: tokens in the sequence whose FLOPs are
    counted.
    """

    def __init__(self, teacher: PreTrainedConfig, *, length: int) -> None:
        self.teacher, self.length = teacher, length
        self.whole = student_size(teacher, lrf=1, length=length)

    @cache  # noqa: B019 - as long as its panel
    def size(self, lrf: int, drf: int, tokens: int) -> Size:
        """Return the size of one student."""
        return student_size(self.teacher, lrf=lrf, drf=drf, tokens=tokens, length=self.length)

    def text(self, lrf: int, drf: int, tokens: int) -> str:
        """Return one student's size beside its teacher's, in one sentence."""
        size = self.size(lrf, drf, tokens)
        shares = [
            100 * own / whole
            for own, whole in ((size.parameters, self.whole.parameters), (size.flops, self.whole.flops))
        ]
        return (
            f"{size.parameters:,} parameters ({shares[0]:.0f} % of the teacher), {size.flops:,} FLOPs for"
            f" {self.length} tokens ({shares[1]:.0f} %)."
        )


class SizePanel(w.VBox):
    """Three choices above the sentence."""

    def __init__(self, model: SizeModel, *, tokens: int) -> None:
        if not 0 < tokens <= model.teacher.vocab_size:
            raise InputError(
                f"A vocabulary of 1 to {model.teacher.vocab_size} tokens was expected, but {tokens} were"
                " asked for."
            )
        self.model = model
        self.words, self.error = w.HTML(), w.HTML()
        self.lrf = w.SelectionSlider(options=depths(model.teacher), description="lrf")
        self.drf = w.SelectionSlider(options=widths(model.teacher), description="drf")
        self.tokens = w.IntSlider(
            value=tokens, min=1, max=model.teacher.vocab_size, step=10, description="tokens"
        )
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        for choice in (self.lrf, self.drf, self.tokens):
            choice.observe(guard(lambda change: self._draw()), names="value")
        super().__init__([self.lrf, self.drf, self.tokens, self.error, self.words])
        guard(self._draw)()

    def _draw(self) -> None:
        self.words.value = html.table(
            ["the student would have"], [[self.model.text(self.lrf.value, self.drf.value, self.tokens.value)]]
        )


def size_panel(teacher: PreTrainedConfig, *, tokens: int, length: int = 64) -> SizePanel:
    """Return the panel over students of a teacher of this configuration; it starts at `tokens` tokens of
    vocabulary.
    """
    return SizePanel(SizeModel(teacher, length=length), tokens=tokens)
