"""Masked-language modelling: the objective that teachers, language SFTs and the scratch baseline share.

Notable: the head, with its projection onto the whole vocabulary, is evaluated at the masked positions only.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
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


def evaluate_mlm(mlm: PreTrainedModel, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Held-out masked-LM loss, as `by_language` tells it, of the batches in which a token is predicted."""
    predicting = (batch for batch in batches if (batch["labels"] != IGNORED).any())
    return by_language(predicting, lambda batch: masked_lm_loss(mlm, batch), next(mlm.parameters()).device)


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


@torch.no_grad()
def by_language(
    batches: Iterable[Mapping[str, Any]],
    loss: Callable[[Mapping[str, Any]], Tensor],
    device: torch.device,
) -> dict[str, float]:
    """The loss of held-out batches of one language each: `loss_<code>`, the mean over a language's batches,
    and `loss`, the mean over languages.
    """
    losses: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        losses[batch["language"]].append(float(loss(on_device(batch, device))))
    found = {f"loss_{code}": sum(values) / len(values) for code, values in losses.items()}
    return {"loss": sum(found.values()) / len(found), **found}
