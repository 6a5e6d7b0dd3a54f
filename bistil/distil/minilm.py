"""MiniLMv2 (Wang et al. 2021): the student's last layer learns the self-attention relations of one layer of
the teacher.

Notable: nothing but queries, keys and values of that one layer is compared, so what comes after the values in
the student's last layer has no gradient and stays as it was initialised, here from the teacher."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.losses import relation_loss
from bistil.models.load import encode
from bistil.settings.ranges import Count, Layers, Settings
from bistil.training.loop import Objective

KINDS = ("query", "key", "value")
LAYOUTS = ("bert", "roberta", "xlm-roberta")


@dataclass(frozen=True, kw_only=True)
class MiniLMConfig(Settings):
    """What is MiniLMv2's own; how long and how fast is as in stage 1.

    Attributes:
        relation_heads: The number of heads into which the vectors are cut, None for the teacher's attention
            heads. The paper has 48 at 768 (16 each).
        teacher_layer: The layer to learn from, 1 being the first, None for the last. The paper takes the last
            of 12 layers, of 24 the 21st (BERT) or 19th (RoBERTa, XLM-R).
    """

    relation_heads: Count | None = None
    teacher_layer: Layers | None = None

    def check(self, config: Any) -> None:
        """Refuse what a teacher of this configuration cannot do.

        :raises InputError: for a layer it has not, relation heads that do not divide its hidden size, or
        another layout than BERT's."""
        layers, hidden = config.num_hidden_layers, config.hidden_size
        if config.model_type not in LAYOUTS:
            raise InputError(
                f"MiniLMv2 reads queries, keys and values where {', '.join(LAYOUTS)} have them, but the"
                f" teacher is a {config.model_type}."
            )
        layer = layers if self.teacher_layer is None else self.teacher_layer
        heads = 1 if self.relation_heads is None else self.relation_heads
        if layer > layers or hidden % heads:
            raise InputError(
                f"MiniLMv2 learns from one of the teacher's {layers} layers, in a number of relation heads"
                f" that divides its hidden size {hidden}, but the experiment asks for {self}."
            )


class MiniLMDistillation(Objective):
    """The relation loss of a student against a frozen teacher."""

    model: PreTrainedModel

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, config: MiniLMConfig) -> None:
        super().__init__(student)
        self._teacher = (teacher.eval().requires_grad_(False),)
        self._layer = config.teacher_layer or teacher.config.num_hidden_layers
        self._heads = config.relation_heads or teacher.config.num_attention_heads

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch; no further parts."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with torch.no_grad():
            theirs = attention_vectors(self._teacher[0], self._layer, ids, mask)
        own = attention_vectors(self.model, self.model.config.num_hidden_layers, ids, mask)
        return relation_loss(own, theirs, mask, heads=self._heads), {}


def attention_vectors(encoder: Any, layer: int, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """Queries, keys and values of one layer, all heads side by side; layer 1 is the first. Shape: three of
    [B, L, H].
    """
    block: Any = encoder.encoder.layer[layer - 1]
    with _noting([getattr(block.attention.self, kind) for kind in KINDS]) as found:
        encode(encoder, input_ids, attention_mask, states=False)
    return found


@contextmanager
def _noting(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what the modules return, in their order of being called."""
    found: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
        for module in modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
