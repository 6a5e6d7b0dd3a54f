"""Attention distributions that are compared without any of them being kept (BiStil eq. 5.1).

Notable: a layer's distributions are a function of its queries and keys, which the fast attention has at hand
anyway. So models run with `scaled_dot_product_attention`, an attention registered with transformers notes
queries and keys on the way, and the loss evaluates both sides' softmax block by block. The gradient is found
in the same pass, so that nothing of size L x L waits for the backward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NOTING = "bistil-noting"
"""The name of the attention that notes queries and keys."""
BLOCK = {"cpu": 2**18, "cuda": 2**24}
"""How many probabilities are evaluated at once: few enough for a cache, on a GPU enough to fill it."""
CANCELS = 1e-8
"""The share of both sides' squares below which the difference of scores is taken pair by pair: in float64 its
moments are exact to about 1e-16 of those squares.
"""


@dataclass(frozen=True)
class Attention:
    """The attention distributions of one layer, not evaluated: softmax(query key^T * scaling) over the
    allowed keys, without dropout.

    Shape: query and key are [B, heads, L, d]; allowed, True where a query may see a key, is [B, 1, L, L], or
    None where all may.
    """

    query: Tensor
    key: Tensor
    scaling: float
    allowed: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape of the maps: [B, heads, L, L]."""
        return torch.Size((*self.query.shape[:3], self.key.shape[2]))

    @property
    def dtype(self) -> torch.dtype:
        """The type of queries and keys; softmax is taken in float32 or wider."""
        return self.query.dtype

    @property
    def device(self) -> torch.device:
        """Where queries and keys are."""
        return self.query.device

    def maps(self) -> Tensor:
        """The distributions themselves, in float32 or wider, under autocast too. Shape: [B, heads, L, L]."""
        wide = torch.promote_types(self.dtype, torch.float32)
        with torch.autocast(self.device.type, enabled=False):
            scores = (self.query.to(wide) * self.scaling) @ self.key.to(wide).mT
            if self.allowed is not None:
                scores = scores.masked_fill_(~self.allowed, torch.finfo(wide).min)
            return scores.softmax(dim=-1)

    def heads(self, kept: Tensor) -> "Attention":
        """The distributions of some heads. Shape: kept is [heads']."""
        return replace(self, query=self.query[:, kept], key=self.key[:, kept])

    def block(self, examples: slice, heads: slice) -> "Attention":
        """The distributions of some examples and heads."""
        allowed = None if self.allowed is None else self.allowed[examples]
        return Attention(self.query[examples, heads], self.key[examples, heads], self.scaling, allowed)


def can_note(kind: type[PreTrainedModel]) -> bool:
    """Whether the class takes its attention from transformers' interface: all but DeBERTa do."""
    return kind._supports_sdpa and bool(getattr(kind, "_supports_attention_backend", False))


@contextmanager
def watched(modules: Sequence[nn.Module]) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """What goes into each module and what comes out, by its number, filled in as the modules are called.

    Only a module's first call counts: DeBERTa maps its positions by the same modules as its states, after
    them.
    """
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def watch(number: int) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.setdefault(number, (inputs[0], output))

        return note

    handles = [module.register_forward_hook(watch(number)) for number, module in enumerate(modules)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def squared_distance(student: Attention, teacher: Attention, real: Tensor) -> Tensor:
    """Sum of squared differences of two layers' distributions over heads, keys and real queries.

    Keys that are not allowed have probability 0 on both sides. Only the student's queries and keys get a
    gradient. Shape: real is [B, L], 1 = real token, in float32 or wider; the result is a scalar of its type.
    """
    distance: Tensor = _SquaredDistance.apply(student.query, student.key, student, teacher, real)
    return distance


class _SquaredDistance(torch.autograd.Function):
    """With S = scaling Q K^T, P = softmax(S) and D = P^T - P: dS = -2 w P (D - sum_k D P), dQ = scaling dS K,
    dK = scaling dS^T Q.

    The weights w of queries and the constant factors are multiplied into the thin matrices rather than into
    the maps.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, student: Attention, teacher: Attention, real: Tensor
    ) -> Tensor:
        total, wanted = real.new_zeros(()), any(ctx.needs_input_grad)
        gradients = [torch.empty_like(one) if wanted else None for one in (query, key)]
        examples, heads, length, _ = student.shape
        for part in _blocks(examples, heads, length, BLOCK.get(student.device.type, 2**20)):
            # one block of maps at a time, for the loss and for its gradient: neither pass keeps a map
            own, weight = student.block(*part), real[part[0], None, :, None]
            mine = own.maps()
            difference = teacher.block(*part).maps().sub_(mine)
            total += (torch.linalg.vector_norm(difference, dim=-1, keepdim=True).square() * weight).sum()
            if gradients[0] is None or gradients[1] is None:
                continue
            slope = difference.mul_(mine)
            slope = slope.addcmul_(mine, slope.sum(dim=-1, keepdim=True), value=-1).to(query.dtype)
            weight = weight.to(query.dtype)
            gradients[0][part], gradients[1][part] = (
                (slope @ own.key) * weight,
                slope.mT @ (own.query * weight),
            )
        # the gradients themselves wait for the backward pass, [B, heads, L, d] each, in place of what they
        # would be computed from
        if wanted:
            ctx.factor = -2 * student.scaling
            ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        query, key = (gradient * (ctx.factor * outer[0]).to(gradient.dtype) for gradient in ctx.saved_tensors)
        return query, key, None, None, None


def scores_distance(student: Attention, teacher: Attention, real: Tensor) -> Tensor:
    """Sum of squared differences of two layers' scores, scaling query key^T before the softmax, over heads
    and real (query, key) pairs.

    Which keys are allowed plays no part. Head sizes may differ. Only the student's queries and keys get a
    gradient. Shape: real is [B, L], 1 = real token; the result is a scalar of its type.
    """
    distance: Tensor = _ScoresDistance.apply(student.query, student.key, student, teacher, real)
    return distance


class _ScoresDistance(torch.autograd.Function):
    """With Q = [scaling Q^S, -scaling Q^T] and K = [K^S, K^T] side by side, padding 0, the difference is
    Q K^T, its square <Q^T Q, K^T K>, dQ = 2 Q K^T K and dK = 2 K Q^T Q: linear in the length.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, student: Attention, teacher: Attention, real: Tensor
    ) -> Tensor:
        weight, own = real[:, None, :, None].double(), query.shape[-1]
        both = ((student.scaling, student), (-teacher.scaling, teacher))
        queries = torch.cat([one.query.double() * by for by, one in both], dim=-1) * weight
        keys = torch.cat([one.key.double() for _, one in both], dim=-1) * weight
        of_queries, of_keys = queries.mT @ queries, keys.mT @ keys
        squares = of_queries * of_keys
        total = squares.sum()
        if total < CANCELS * (squares[..., :own, :own].sum() + squares[..., own:, own:].sum()):
            rows = max(1, BLOCK.get(query.device.type, 2**20) // (keys.shape[:3].numel()))
            total = sum(
                ((some @ keys.mT).square().sum() for some in queries.split(rows, dim=2)), total.new_zeros(())
            )
        if any(ctx.needs_input_grad):
            slopes = 2 * student.scaling * (queries @ of_keys[..., :own]), 2 * (keys @ of_queries[..., :own])
            ctx.save_for_backward(*(slope.to(query.dtype) for slope in slopes))
        return total.to(real.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        query, key = (slope * outer[0].to(slope.dtype) for slope in ctx.saved_tensors)
        return query, key, None, None, None


def _blocks(examples: int, heads: int, length: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Parts of [B, heads, L, L] with about `most` entries: some heads of one example, or all heads of some
    examples.
    """
    side = max(1, min(heads, most // length**2))
    rows = max(1, most // (heads * length**2)) if side == heads else 1
    for row in range(0, examples, rows):
        for head in range(0, heads, side):
            yield slice(row, row + rows), slice(head, head + side)


def _noting(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,
) -> Any:
    """transformers' sdpa; queries, keys and mask go into the list `noted` that the model was called with."""
    # a model stays on this attention after `encode`, and whoever calls it directly has no such list
    noted: list[Attention] | None = settings.pop("noted", None)
    if noted is not None:
        noted.append(Attention(query, key, settings["scaling"], attention_mask))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(NOTING, _noting)
AttentionMaskInterface.register(NOTING, sdpa_mask)
