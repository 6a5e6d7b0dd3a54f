"""Sparse fine-tuning: a step of the sparse phase of LT-SFT, and selecting its K entries."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertModel

from bistil.bench.measure import OURS, PUBLISHED, Row, Size, alternate, comparison
from bistil.bench.models import DENSITY, bert, support
from bistil.sft.lottery import SparseTraining, select_top_k, snapshot


def sft(size: Size) -> list[Row]:
    """A sparse step and a selection."""
    torch.manual_seed(1)
    return [sparse_step(size), top_k(size)]


def sparse_step(size: Size) -> Row:
    """One optimiser step of the sparse phase: O(K) optimiser state against dense AdamW with a masked dense gradient."""
    encoder = bert(size)
    other, theta0 = deepcopy(encoder), snapshot(encoder)
    places = support(theta0)
    batch = torch.randint(5, size.vocabulary, (size.batch, size.length))
    masks = {name: torch.zeros(tensor.numel()) for name, tensor in theta0.items()}
    for name, positions in places.items():
        masks[name][positions] = 1.0
    dense = torch.optim.AdamW(other.parameters())

    def backward(model: BertModel) -> None:
        model(input_ids=batch).last_hidden_state.square().mean().backward()

    def published() -> None:
        dense.zero_grad()
        backward(other)
        for name, parameter in other.named_parameters():
            if parameter.grad is not None:
                parameter.grad *= masks[name].view_as(parameter)
        dense.step()

    with SparseTraining(encoder, support=places, theta0=theta0) as sparse:
        optimizer = torch.optim.AdamW([sparse.values])
        sparse.attach(optimizer)

        def ours() -> None:
            optimizer.zero_grad()
            backward(encoder)
            optimizer.step()

        columns: dict[str, Any] = alternate(size.turns, {PUBLISHED: published, OURS: ours})
        columns[OURS] |= {"optimiser state, bytes": _state_bytes(optimizer), "gradient kept, bytes": _gradient_bytes(encoder)}
    columns[PUBLISHED] |= {"optimiser state, bytes": _state_bytes(dense), "gradient kept, bytes": _gradient_bytes(other)}
    note = "published: dense AdamW, every gradient multiplied by a 0/1 mask (as composable-sft does)"
    return comparison(f"sparse step, density {DENSITY}", note, columns)


def top_k(size: Size) -> Row:
    """Selecting the K entries that moved most, over all tensors together."""
    before = snapshot(bert(size))
    after = {name: tensor + torch.randn_like(tensor) for name, tensor in before.items()}
    k = round(DENSITY * sum(tensor.numel() for tensor in before.values()))

    def published() -> dict[str, Tensor]:
        moved: list[float] = []
        for name in before:
            moved.extend((after[name] - before[name]).abs().view(-1).tolist())
        threshold = np.partition(moved, len(moved) - k)[len(moved) - k]
        return {name: ((after[name] - before[name]).abs() >= threshold) for name in before}

    columns = alternate(1, {PUBLISHED: published, OURS: lambda: select_top_k(before, after, k)})
    note = "published: one Python list of all differences, then np.partition (as composable-sft does)"
    return comparison(f"top-k selection of {sum(tensor.numel() for tensor in before.values())} differences", note, columns)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    tensors = (item for state in optimizer.state.values() for item in state.values() if isinstance(item, Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _gradient_bytes(model: nn.Module) -> int:
    return sum(p.grad.numel() * p.grad.element_size() for p in model.parameters() if p.grad is not None)
