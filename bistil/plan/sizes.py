"""How large a student would be, before anything runs.

Notable: a size is counted over the very model that the pipeline would make, on the meta device, without
weights and without memory."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from bistil.distil.width import check_drf, narrowed
from bistil.models.architectures import architecture, student_config
from bistil.plan.estimate import encoder_flops
from bistil.systems.layers import start_layers


@dataclass(frozen=True)
class Size:
    """An encoder's parameters, and the FLOPs (two a multiply-add) of one sequence of the length that was
    asked for.
    """

    parameters: int
    flops: int


def depths(teacher: PreTrainedConfig) -> list[int]:
    """Return the layer reduction factors that divide a teacher's layers, 1 among them."""
    layers = teacher.num_hidden_layers
    return [lrf for lrf in range(1, layers + 1) if layers % lrf == 0]


def widths(teacher: PreTrainedConfig) -> list[int]:
    """Return the hidden reduction factors that keep a teacher's heads whole; 1 alone for what is no BERT."""
    heads = teacher.num_attention_heads if teacher.model_type == "bert" else 1
    return [drf for drf in range(1, heads + 1) if heads % drf == 0]


def student_size(
    teacher: PreTrainedConfig, *, lrf: int, drf: int = 1, tokens: int | None = None, length: int
) -> Size:
    """Return the size of a student's encoder, without pooler and task head.

    Args:
        tokens: of its vocabulary; None: the teacher's.
        length: tokens in the sequence whose FLOPs are counted.

    Raises:
        InputError: where the factors do not divide the teacher, or it cannot be made narrower.
    """
    check_drf(teacher, drf)
    config = narrowed(student_config(teacher, start_layers("uniform", teacher.num_hidden_layers, lrf)), drf)
    config.vocab_size = teacher.vocab_size if tokens is None else tokens
    kind = architecture(config)
    with torch.device("meta"):
        encoder = kind.encoder(config, **kind.settings).eval()
    encoder.set_attn_implementation("eager")
    return Size(encoder.num_parameters(), encoder_flops(encoder, length))
