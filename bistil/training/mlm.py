"""Masked-language modelling: the objective that teachers, language SFTs and the scratch baseline share.

Notable: the head, with its projection onto the whole vocabulary, is evaluated at the masked positions only.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from bistil.models.architectures import mlm_logits
from bistil.text.corpora import IGNORED
from bistil.training.loop import Objective
from bistil.training.parallel import counted


def masked_lm_loss(mlm: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    """Mean cross-entropy over the predicted tokens of a batch, in nats; 0 where no token is predicted."""
    hidden = mlm.base_model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    predicted = batch["labels"] != IGNORED
    total = cross_entropy(
        mlm_logits(mlm, hidden[predicted]).float(), batch["labels"][predicted], reduction="sum"
    )
    return total / counted(predicted.sum())


class MaskedLM(Objective):
    """Minimises the masked-LM loss of `model`, a masked language model."""

    model: PreTrainedModel

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch; no further parts."""
        return masked_lm_loss(self.model, batch), {}


@torch.no_grad()
def evaluate_mlm(mlm: PreTrainedModel, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Held-out loss: `loss`, the mean over languages, and `loss_<code>` for each."""
    device = next(mlm.parameters()).device
    sums: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        moved = {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}
        sums[batch["language"]].append(float(masked_lm_loss(mlm, moved)))
    by_language = {f"loss_{code}": sum(values) / len(values) for code, values in sums.items()}
    return {"loss": sum(by_language.values()) / len(by_language), **by_language}
