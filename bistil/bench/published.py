"""What is published, as plain references: written here after what the public implementations do, none of
their code.

Notable: tests keep each of them honest by comparing its results with ours, where the two should agree.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import PreTrainedModel


def stage_one_loss(
    student: PreTrainedModel, teacher: PreTrainedModel, ids: Tensor, mask: Tensor, layers: Sequence[int]
) -> Tensor:
    """L_attn + L_hidden of two masked language models, heads and all, as the code published with BiStil
    computes them.

    Both give every hidden state and, through eager attention, every attention map; padding is what the
    teacher gives no attention, found by comparing with 0 and taken away by boolean selection. Queries and
    states of padding count, so it is our loss on full batches only.
    """
    wanted: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "output_hidden_states": True,
        "output_attentions": True,
    }
    encoders: list[Any] = [student.base_model, teacher.base_model]
    for encoder in encoders:
        encoder.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = teacher(**wanted)
    own = student(**wanted)
    attention = hidden = torch.zeros((), device=ids.device)
    for mine, layer in zip(own.attentions, layers, strict=True):
        other = theirs.attentions[layer - 1].view(-1)
        padded = other == 0.0
        attention = attention + mse_loss(mine.view(-1)[~padded], other[~padded])
    for mine, layer in zip(own.hidden_states, (0, *layers), strict=True):
        hidden = hidden + mse_loss(mine, theirs.hidden_states[layer])
    return attention / len(layers) + hidden / (len(layers) + 1)


@torch.no_grad()
def add_sparse(model: nn.Module, differences: Mapping[str, Tensor], sign: float) -> None:
    """Add a sparse fine-tuning to a model or take it off, as composable-sft does: torch's sparse tensors,
    added to whole parameters.
    """
    parameters = dict(model.named_parameters())
    for name, difference in differences.items():
        parameters[name].add_(difference, alpha=sign)


@torch.no_grad()
def top_k_of_list(before: Mapping[str, Tensor], after: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """The k entries that moved most, as composable-sft chooses them: a Python list of every |after - before|,
    partly sorted by NumPy.

    All entries at the threshold are taken, so ties can make it more than k. An entry takes 40 bytes in the
    list and 16 in the arrays made of it: 10 GB at mBERT's size.

    Returns:
        for each tensor with a chosen entry its sorted flat positions, int64. Shape: [K_n].
    """
    differences: list[float] = []
    for name, tensor in before.items():
        differences.extend((after[name] - tensor).abs().view(-1).tolist())
    threshold = float(np.partition(differences, len(differences) - k)[len(differences) - k])
    del differences
    masks = {name: (after[name] - tensor).abs() >= threshold for name, tensor in before.items()}
    return {name: mask.view(-1).nonzero().squeeze(1) for name, mask in masks.items() if bool(mask.any())}
