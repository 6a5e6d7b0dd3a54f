"""A teacher that wears one language's sparse fine-tuning at a time.

Notable: changing languages touches only the values of the two deltas, in place, and the base comes back bit for bit.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bistil.models import Output, encode
from bistil.sft.delta import Applied, SparseDelta


class AdaptedTeacher:
    """A frozen encoder, the language SFTs it may wear, and the map from the student's token ids to its own.

    :param kept: the teacher's id of each student token. Shape: [V_student]; None where both use the same vocabulary.
    """

    def __init__(self, encoder: PreTrainedModel, deltas: Mapping[str, SparseDelta], kept: Tensor | None) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.deltas, self.kept = deltas, kept
        self._worn: tuple[str, Applied] | None = None

    def wear(self, language: str | None) -> None:
        """Apply that language's delta, taking off the one worn before; a language without a delta leaves the base as it is."""
        if self._worn is not None and self._worn[0] != language:
            self._worn[1].revert()
            self._worn = None
        if self._worn is None and language in self.deltas:
            self._worn = (str(language), self.deltas[str(language)].apply(self.encoder))

    def ids(self, input_ids: Tensor) -> Tensor:
        """Student token ids as the teacher's. Shape: [B, L]."""
        return input_ids if self.kept is None else self.kept.to(input_ids.device)[input_ids]

    @torch.inference_mode()
    def states(self, input_ids: Tensor, attention_mask: Tensor, *, maps: bool = True) -> Output:
        """All hidden states and attention distributions for a batch in the student's ids (see `encode`). Shape: [B, L] each."""
        return encode(self.encoder, self.ids(input_ids), attention_mask, states=True, maps=maps)
