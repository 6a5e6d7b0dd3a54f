"""A teacher that is followed, in what it wears for the language of a batch.

Notable: it is frozen, and the student's tokens are its own through `kept`, so that its vocabulary need not be
cut where what it wears belongs to the whole one."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bistil.adapt.wardrobe import Wardrobe
from bistil.adapt.worn import Worn
from bistil.distil.predictions import Predictions
from bistil.models.load import Output, encode


class AdaptedTeacher:
    """A frozen encoder, what it may wear by language, and the map from the student's token ids to its own.

    Args:
        kept: the teacher's id of each student token. Shape: [V_student]; None where both use the same
            vocabulary.
        mlm: the masked LM that `encoder` is of, where its predictions are wanted.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        deltas: Mapping[str, Worn],
        kept: Tensor | None,
        mlm: PreTrainedModel | None = None,
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.mlm = None if mlm is None else mlm.eval().requires_grad_(False)
        self.kept = kept
        self._wardrobe = Wardrobe(self.encoder, deltas)

    def wear(self, language: str | None) -> None:
        """Apply that language's delta, taking off the one worn before; a language without a delta leaves the
        base as it is.
        """
        self._wardrobe.wear(language)

    def ids(self, input_ids: Tensor) -> Tensor:
        """Student token ids as the teacher's. Shape: [B, L]."""
        return input_ids if self.kept is None else self.kept.to(input_ids.device)[input_ids]

    def predictions(self, hidden: Tensor) -> Predictions:
        """What the masked-LM head predicts of the student's tokens. Shape: [P, H]."""
        assert self.mlm is not None, "a teacher without a masked LM predicts nothing"
        return Predictions.of(self.mlm, hidden, self.kept)

    @torch.inference_mode()
    def states(self, input_ids: Tensor, attention_mask: Tensor, *, maps: bool = True) -> Output:
        """All hidden states and attention distributions for a batch in the student's ids (see `encode`).
        Shape: [B, L] each.
        """
        return encode(self.encoder, self.ids(input_ids), attention_mask, states=True, maps=maps)
