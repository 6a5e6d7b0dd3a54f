"""Gradients of a few entries of a weight without its dense gradient (thesis appendix E.4: g_i = X[:, r_i]ᵀ
∂L/∂Y[:, c_i]).

Notable: a linear layer computes only the inner products of its support, an embedding only the rows of the
batch's tokens, so a step needs no tensor of a weight's size beside the weight. Where that does not pay (see
`pays`) layers run as they are and the dense gradient is gathered; both ways meet in one vector, so a weight
that two modules share may use both.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

LEAST = 2**18  # entries of a weight from which on it pays; below, the detour costs more than the product
# density up to which it pays: `bistil bench sft` measures about 0.5 of the dense time there, 1.0 at 0.2
MOST = 0.1

Take = Callable[[Tensor, Tensor], None]


def pays(weight: Tensor, entries: int) -> bool:
    """Whether this way is the faster one for `entries` of a weight: large float32 weights on the CPU at a low
    density, by measurement.
    """
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= LEAST
        and entries <= MOST * weight.numel()
    )


def linear_entries(positions: Tensor, gradient: Tensor, states: Tensor) -> Tensor:
    """Return the entries of gradientᵀ · states at sorted flat positions. Shape: [K], [N, outputs], [N,
    inputs] -> [K].
    """
    _quiet()
    height, width = gradient.shape[1], states.shape[1]
    first = torch.searchsorted(
        positions, torch.arange(0, (height + 1) * width, width, device=positions.device)
    )
    where = torch.sparse_csr_tensor(
        first.int(),
        (positions % width).int(),
        gradient.new_zeros(len(positions)),
        (height, width),
        check_invariants=False,
    )
    return torch.sparse.sampled_addmm(where, gradient.t(), states, beta=0.0).values()


def embedding_entries(positions: Tensor, gradient: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of the sorted flat positions lie in rows of `ids`, and their gradient. Shape: [K], [N,
    width], [N] -> [k], [k].
    """
    width = gradient.shape[1]
    rows, inverse = ids.unique(return_inverse=True)
    sums = gradient.new_zeros(len(rows), width).index_add_(0, inverse, gradient)
    first, end = (
        torch.searchsorted(positions, rows * width),
        torch.searchsorted(positions, (rows + 1) * width),
    )
    counts = end - first
    row = torch.arange(len(rows), device=rows.device).repeat_interleave(counts)
    found = first[row] + torch.arange(len(row), device=rows.device) - (counts.cumsum(0) - counts)[row]
    return found, sums[row, positions[found] % width]


def reroute(
    encoder: nn.Module, takers: Mapping[nn.Parameter, Take], ready: Callable[[], bool]
) -> list[nn.Module]:
    """Make linear layers and embeddings hand what their gradient is computed from to a function, instead of
    computing it.

    Args:
        encoder: the modules are looked for in it; subclasses of nn.Linear and nn.Embedding are left as they
            are.
        takers: by weight, what takes (gradient, input). Shape: [N, outputs], and [N, inputs] or token ids
            [N].
        ready: asked at each forward pass whether to do so.

    Returns:
        the changed modules, for `restore`.
    """
    functions: dict[type[nn.Module], Any] = {nn.Linear: _linear, nn.Embedding: _embedding}
    changed = []
    for module in encoder.modules():
        plain = not getattr(module, "scale_grad_by_freq", False) and getattr(module, "max_norm", None) is None
        if type(module) in functions and module.weight in takers and plain and "forward" not in vars(module):
            forward = functions[type(module)](module.weight, takers[module.weight], ready)  # type: ignore[index]
            module.forward = MethodType(forward, module)
            changed.append(module)
    return changed


def restore(modules: list[nn.Module]) -> None:
    """Undo `reroute`."""
    for module in modules:
        del module.forward


def _linear(weight: nn.Parameter, take: Take, ready: Callable[[], bool]) -> Callable[[Any, Tensor], Tensor]:
    def forward(module: Any, states: Tensor) -> Tensor:
        usual = (
            module.weight is not weight
            or states.dtype != weight.dtype
            or torch.is_autocast_enabled(states.device.type)
        )
        if usual or not torch.is_grad_enabled() or not ready():
            return nn.Linear.forward(module, states)
        found: Tensor = _Linear.apply(states, module.weight, module.bias, take)
        return found

    return forward


def _embedding(
    weight: nn.Parameter, take: Take, ready: Callable[[], bool]
) -> Callable[[Any, Tensor], Tensor]:
    def forward(module: Any, ids: Tensor) -> Tensor:
        if module.weight is not weight or not torch.is_grad_enabled() or not ready():
            return nn.Embedding.forward(module, ids)
        found: Tensor = _Embedding.apply(module.weight, ids, module.padding_idx, take)
        return found

    return forward


class _Linear(torch.autograd.Function):
    """A linear layer whose weight's gradient is taken elsewhere."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, take: Take) -> Tensor:
        ctx.save_for_backward(states, weight)
        ctx.take = take
        return functional.linear(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:  # type: ignore[override]
        states, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        ctx.take(flat, states.reshape(-1, states.shape[-1]))
        below = gradient @ weight if ctx.needs_input_grad[0] else None
        return below, None, flat.sum(0) if ctx.needs_input_grad[2] else None, None


class _Embedding(torch.autograd.Function):
    """An embedding whose gradient is taken elsewhere."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None, take: Take) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.take = padding, take
        return functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:  # type: ignore[override]
        (ids,) = ctx.saved_tensors
        if ctx.padding is not None:
            gradient = gradient.masked_fill((ids == ctx.padding).unsqueeze(-1), 0.0)
        ctx.take(gradient.reshape(-1, gradient.shape[-1]), ids.reshape(-1))
        return None, None, None, None


@cache
def _quiet() -> None:
    """Let torch say once, unheard, that its sparse matrices are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(
            torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), (1, 1)
        )
