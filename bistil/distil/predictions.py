"""The terms of a student's objective that compare predictions over a whole vocabulary, all in one pass.

Notable: logits are never there for all tokens at once. Some rows at a time are predicted, compared, and
turned into gradients of what made them, so that beside the gradients themselves a few blocks of `NUMBERS`
numbers, or of `ROWS` tokens, are needed, whatever a batch holds. Softmaxes and sums are in float32 or
better; under autocast the products are in its type, and gradients of the output embedding are summed up in
float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel

from bistil.models.architectures import before_logits
from bistil.systems.recipe import Term
from bistil.text.corpora import IGNORED
from bistil.training.parallel import counted

NUMBERS = 2**23
"""How many logits of one side are there at a time,"""
ROWS = 64
"""but at least those of so many tokens: products with fewer take far longer for each."""
FEW = 128
"""From so many tokens on the output embedding's gradient is a product in autocast's type, too; below, adding
up whole matrices takes longer than that saves."""


@dataclass(frozen=True)
class Predictions:
    """Logits that are not computed yet.

    Attributes:
        states: what the head gives to its output embedding, of each predicted token. Shape: [P, H].
        weight: the output embedding. Shape: [V, H].
        bias: its bias, if any. Shape: [V].
    """

    states: Tensor
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, mlm: PreTrainedModel, hidden: Tensor, kept: Tensor | None = None) -> "Predictions":
        """Those of a masked LM on last hidden states, for the tokens `kept` where they are given. Shape: [P,
        H]; kept is [V].
        """
        output: Any = mlm.get_output_embeddings()
        parts = [output.weight, output.bias]
        if kept is not None:
            parts = [part if part is None else part[kept.to(part.device)] for part in parts]
        return cls(before_logits(mlm, hidden), *parts)

    def to(self, kind: torch.dtype) -> "Predictions":
        """The same in that type, without gradient."""
        bias = None if self.bias is None else self.bias.detach().to(kind)
        return Predictions(self.states.detach().to(kind), self.weight.detach().to(kind), bias)

    def logits(self, rows: slice) -> Tensor:
        """Those of some rows. Shape: [R, V]."""
        return linear(self.states[rows], self.weight, self.bias)


def compare_predictions(
    terms: Mapping[str, Term],
    own: Predictions,
    theirs: Predictions | None,
    labels: Tensor | None,
    mask: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of terms of predictions, and each of them before its weight, detached.

    Args:
        theirs: the teacher's; None where no term follows one.
        labels: the masked tokens, -100 at other rows. Shape: [P].
        mask: of the batch that the rows are of, 1 = real token. Shape: [B, L].
    """
    scales, chosen = [], []
    for term in terms.values():
        rows = torch.ones(len(own.states), dtype=torch.bool, device=own.states.device)
        if labels is not None and (term.by == "ce" or term.positions == "masked"):
            rows = labels != IGNORED
        per = mask.any(dim=1) if term.per == "sentence" and term.by == "kl" else rows
        scales.append(1 / counted(per.sum()))
        chosen.append(rows)
    means = torch.stack(scales).to(torch.promote_types(own.states.dtype, torch.float32))
    with_gradient = torch.is_grad_enabled()
    total, parts = _Compared.apply(  # type: ignore[no-untyped-call]
        own.states, own.weight, own.bias, theirs, labels, tuple(terms.values()), chosen, means, with_gradient
    )
    return total, dict(zip(terms, parts, strict=True))


class _Compared(torch.autograd.Function):
    """The weighted sum, and the terms; gradients are taken on the way there."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        theirs: Predictions | None,
        labels: Tensor | None,
        terms: Sequence[Term],
        chosen: Sequence[Tensor],
        means: Tensor,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        kind = states.device.type
        product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        with torch.autocast(kind, enabled=False):
            mine = Predictions(states, weight, bias).to(product)
            goal = None if theirs is None else theirs.to(product)
            parts = torch.zeros_like(means)
            wanted = [with_gradient and one for one in ctx.needs_input_grad[:3]]
            gradients = [
                torch.zeros_like(one, dtype=means.dtype) if one is not None and needed else None
                for one, needed in zip((states, weight, bias), wanted, strict=True)
            ]
            each = max(ROWS, NUMBERS // len(weight))
            for start in range(0, len(states), each):
                rows = slice(start, start + each)
                logits = mine.logits(rows).to(means.dtype)
                target = None if goal is None else goal.logits(rows).to(means.dtype)
                gold = labels[rows] if labels is not None else None
                slope: Tensor | None = None
                for at, (term, used) in enumerate(zip(terms, chosen, strict=True)):
                    value, own = _value(term, logits, target, gold, used[rows])
                    parts[at] += value * means[at]
                    if any(wanted):
                        own *= term.weight * means[at]
                        slope = own if slope is None else slope.add_(own)
                if slope is not None:
                    _add(gradients, slope, rows, states, mine.weight)
        ctx.save_for_backward(*gradients)
        total = sum(term.weight * part for term, part in zip(terms, parts, strict=True))
        ctx.mark_non_differentiable(parts)
        return torch.as_tensor(total), parts

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        found = [None if one is None else one.mul_(upstream) for one in ctx.saved_tensors]
        return (*found, *[None] * 6)


def _add(
    gradients: Sequence[Tensor | None], slope: Tensor, rows: slice, states: Tensor, weight: Tensor
) -> None:
    """Add to the gradients of states, weight and bias what some rows' logits give. Shape: slope [R, V]."""
    of_states, of_weight, of_bias = gradients
    if of_states is not None:
        of_states[rows] = (slope.to(weight.dtype) @ weight).to(of_states.dtype)
    if of_weight is not None and (len(slope) < FEW or weight.dtype == of_weight.dtype):
        of_weight.addmm_(slope.T, states[rows].to(of_weight.dtype))
    elif of_weight is not None:
        of_weight += slope.to(weight.dtype).T @ states[rows].to(weight.dtype)
    if of_bias is not None:
        of_bias += slope.sum(dim=0)


def _value(
    term: Term, logits: Tensor, goal: Tensor | None, labels: Tensor | None, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum of a term over the rows that it uses, and its gradient. Shape: logits and goal [R, V]; labels
    and rows [R].
    """
    weights = rows.to(logits.dtype)
    if term.by == "ce":
        assert labels is not None
        gold = labels.clamp(min=0)[:, None]
        logs = logits.log_softmax(dim=-1)
        value = -(logs.gather(1, gold)[:, 0] * weights).sum()
        slope = logs.exp_()
        slope.scatter_add_(1, gold, -torch.ones_like(weights)[:, None])
        return value, slope.mul_(weights[:, None])
    assert goal is not None
    if term.by == "cosine":
        lengths = [one.norm(dim=-1, keepdim=True).clamp(min=1e-8) for one in (logits, goal)]
        cosine = (logits * goal).sum(dim=-1, keepdim=True) / (lengths[0] * lengths[1])
        slope = logits * (cosine / lengths[0].square()) - goal / (lengths[0] * lengths[1])
        return ((1 - cosine[:, 0]) * weights).sum(), slope.mul_(weights[:, None])
    own, wanted = ((one / term.temperature).log_softmax(dim=-1) for one in (logits, goal))
    shares = wanted.exp()
    value = term.temperature**2 * (wanted.sub_(own).mul_(shares).sum(dim=-1) * weights).sum()
    return value, own.exp_().sub_(shares).mul_(term.temperature * weights[:, None])
