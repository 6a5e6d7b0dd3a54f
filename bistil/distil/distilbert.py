"""DistilBERT's recipe as published (Sanh et al. 2019): 5 * CE + 1 * cos + 2 * MLM with temperature 2.

Notable: unlike BiStil's stage 1 it compares distributions over the whole vocabulary, at every real token, and
so is the slower the larger that is. Our students start from every lrf-th layer and train without dropout, as
all others here do."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from bistil.distil.start import initialise
from bistil.losses import cosine_loss, tempered_loss
from bistil.models.architectures import mlm_logits, with_encoder
from bistil.models.load import encode
from bistil.text.corpora import IGNORED
from bistil.training.loop import Objective
from bistil.training.parallel import counted

SOFT, COSINE, MASKED, TEMPERATURE = 5.0, 1.0, 2.0, 2.0


class DistilBertDistillation(Objective):
    """5 * L_ce + 1 * L_cos + 2 * L_mlm of a student and its head against a frozen teacher in the same
    vocabulary.

    L_ce is the tempered divergence of the predictions at real tokens, L_cos the cosine distance of the last
    states at real tokens, L_mlm the cross-entropy of the masked tokens (0 where a batch has none)."""

    model: PreTrainedModel

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel) -> None:
        super().__init__(student)
        self._teacher = (teacher.eval().requires_grad_(False),)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch with `labels`; parts `soft`, `cosine` and `masked`."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        real = mask == 1
        with torch.no_grad():
            theirs = encode(self._teacher[0].base_model, ids, mask, states=False).last
            their_logits = mlm_logits(self._teacher[0], theirs[real])
        student: Any = self.model.base_model
        own = encode(student, ids, mask, states=False).last
        logits = mlm_logits(self.model, own[real]).float()
        labels = batch["labels"][real]
        parts = {
            "soft": tempered_loss(logits, their_logits, torch.ones_like(labels), temperature=TEMPERATURE),
            "cosine": cosine_loss(own, theirs, mask),
            "masked": (
                cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
                / counted((labels != IGNORED).sum())
            ),
        }
        loss = SOFT * parts["soft"] + COSINE * parts["cosine"] + MASKED * parts["masked"]
        return loss, {name: value.detach() for name, value in parts.items()}


def with_head(teacher: PreTrainedModel, lrf: int) -> PreTrainedModel:
    """A student with every `lrf`-th layer of the teacher and a copy of its masked-LM head, tied to the
    student's own embeddings.
    """
    whole: Any = teacher.base_model
    encoder = initialise(whole, lrf)
    student: Any = with_encoder(copy.deepcopy(teacher), encoder)
    student.get_output_embeddings().weight = encoder.get_input_embeddings().weight
    student.train(encoder.training)
    return student  # type: ignore[no-any-return]
