"""What an encoder wears for the language that it reads, one at a time.

Notable: changing languages writes only the values of two deltas, in place, or hangs another adapter, and the
base comes back bit for bit. What a delta changes is read once and kept, 8 bytes a value.
"""

from collections.abc import Mapping

from transformers import PreTrainedModel

from bistil.adapt.worn import Handle, Worn


class Wardrobe:
    """An encoder, and what it may wear by language.

    Args:
        trained: whether the encoder itself is trained while it wears nothing.
    """

    def __init__(self, encoder: PreTrainedModel, worn: Mapping[str, Worn], *, trained: bool = False) -> None:
        self.encoder, self.clothes, self._trained = encoder, worn, trained
        self._worn: str | None = None
        self._applied: dict[str, Handle] = {}

    def wear(self, language: str | None) -> None:
        """Put on what is that language's, taking off what was worn before; a language without anything leaves
        the base as it is.
        """
        if language == self._worn:
            return
        if self._worn is not None:
            self._applied[self._worn].revert()
            self._worn = None
        if language is None or language not in self.clothes:
            return
        if language in self._applied:
            self._applied[language].again(trained=self._trained)
        else:
            self._applied[language] = self.clothes[language].apply(self.encoder)
        self._worn = language
