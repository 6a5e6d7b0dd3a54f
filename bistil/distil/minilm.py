"""MiniLMv2 (Wang et al. 2021): the student's last layer learns the self-attention relations of one layer of
the teacher.

Notable: nothing but queries, keys and values of that one layer is compared, so what comes after the values in
the student's last layer has no gradient and stays as it was initialised, here from the teacher."""

from dataclasses import dataclass
from typing import Any

from bistil.errors import InputError
from bistil.models.architectures import architecture
from bistil.settings.ranges import Count, Layers, Settings


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

        Raises:
            InputError: for a layer it has not, relation heads that do not divide its hidden size, or queries,
                keys and values from one map.
        """
        layers, hidden = config.num_hidden_layers, config.hidden_size
        if (block := architecture(config).block).query == block.key:
            raise InputError(
                "MiniLMv2 compares queries, keys and values, each of a map of its own, but one map gives all"
                f" three in a {config.model_type}."
            )
        layer = layers if self.teacher_layer is None else self.teacher_layer
        heads = 1 if self.relation_heads is None else self.relation_heads
        if layer > layers or hidden % heads:
            raise InputError(
                f"MiniLMv2 learns from one of the teacher's {layers} layers, in a number of relation heads"
                f" that divides its hidden size {hidden}, but the experiment asks for {self}."
            )
