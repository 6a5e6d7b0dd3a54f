"""Algebra on deltas of one base: difference, scaling, trimming, supports, merging (`+` is SparseDelta's own;
TIES: Yadav et al. 2023).

Notable: every result is a delta of the same base; values are summed in float64 and rounded once, so the order
of deltas does not matter beyond that rounding. Whole head tensors cannot be averaged entry by entry between
tasks, so they follow the rule each function states.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from bistil.errors import InputError
from bistil.sft.checks import check_base
from bistil.sft.delta import SparseDelta

Support = Mapping[str, Tensor]


def scaled(delta: SparseDelta, factor: float) -> SparseDelta:
    """Return the delta with every value times `factor`, support and heads unchanged.

    Raises:
        InputError: a product is not finite.
    """
    return _with(
        delta, {name: (positions, values * factor) for name, (positions, values) in delta.tensors.items()}
    )


def difference(left: SparseDelta, right: SparseDelta) -> SparseDelta:
    """Return left - right with left's heads; an entry of right's that comes to 0 leaves the support, so (a +
    b) - b has a's.

    Raises:
        InputError: the bases differ, or a shape.
    """
    negative = _with(
        right, {name: (positions, -values) for name, (positions, values) in right.tensors.items()}, full={}
    )
    result = dict((left + negative).tensors)
    for name, (taken, _) in right.tensors.items():
        positions, values = result[name]
        kept = (values != 0) | ~torch.isin(positions, taken)
        result[name] = (positions[kept], values[kept])
    return _with(left, result, shapes={**right.shapes, **left.shapes})


def union(*deltas: SparseDelta) -> dict[str, Tensor]:
    """Return the support that any of the deltas has, as sorted flat positions by name. Shape: [K_n]."""
    return _supports(deltas, lambda counts: counts >= 1)


def intersection(*deltas: SparseDelta) -> dict[str, Tensor]:
    """Return the support that all of the deltas have, as sorted flat positions by name. Shape: [K_n]."""
    return _supports(deltas, lambda counts: counts == len(deltas))


def restricted(delta: SparseDelta, support: Support) -> SparseDelta:
    """Return the delta's entries that are within `support`, heads unchanged."""
    kept = {}
    for name, (positions, values) in delta.tensors.items():
        inside = torch.isin(positions, support.get(name, positions[:0]))
        kept[name] = (positions[inside], values[inside])
    return _with(delta, kept)


def trimmed(delta: SparseDelta, share: float) -> SparseDelta:
    """Return the delta's largest `share` of values, ranked over all tensors together, heads unchanged (the
    trimming of TIES).

    At least one entry stays; ties go to the first tensor name and then the first position.

    Raises:
        InputError: share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"The share of values to keep was expected in (0, 1], but is {share}.")
    sizes = (
        torch.cat([values.abs() for _, values in delta.tensors.values()]) if delta.tensors else torch.empty(0)
    )
    kept = torch.zeros(len(sizes), dtype=torch.bool)
    kept[sizes.argsort(descending=True, stable=True)[: max(1, round(share * len(sizes)))]] = True
    parts = kept.split([len(positions) for positions, _ in delta.tensors.values()])
    inside = zip(delta.tensors.items(), parts, strict=True)
    return _with(
        delta, {name: (positions[part], values[part]) for (name, (positions, values)), part in inside}
    )


def merged(*deltas: SparseDelta, how: Literal["mean", "sign"] = "mean") -> SparseDelta:
    """Merge deltas of one base into one over the union of their supports; heads as in a sum (only equal ones
    may share a name).

    how: "mean" divides the sum of the values by the number of deltas. "sign" elects for each entry the sign
        of the sum and takes the mean of the values that have it (TIES without its trimming, which a delta's
        top k has done already); a sum of 0 leaves no entry.

    Raises:
        InputError: there is no delta, `how` is unknown, the bases differ, or a shape, or a head of the same
            name.
    """
    if not deltas or how not in ("mean", "sign"):
        raise InputError(
            f"Expected at least one delta and how = 'mean' or 'sign', got {len(deltas)} delta(s) and {how!r}."
        )
    everything = deltas[0]
    for delta in deltas[1:]:
        everything = everything + delta  # checks bases, shapes and heads
    tensors = {}
    for name in everything.tensors:
        present = [delta.tensors[name] for delta in deltas if name in delta.tensors]
        positions, slot = torch.cat([part for part, _ in present]).unique(sorted=True, return_inverse=True)
        values = torch.cat([part.double() for _, part in present])
        total = torch.zeros(len(positions), dtype=torch.float64).index_add_(0, slot, values)
        if how == "mean":
            tensors[name] = (positions, (total / len(deltas)).float())
            continue
        agree = torch.sign(values) == torch.sign(total)[slot]
        count = torch.zeros_like(total).index_add_(0, slot, agree.double())
        mean = torch.zeros_like(total).index_add_(0, slot, values * agree) / count
        tensors[name] = (positions[total != 0], mean[total != 0].float())
    return _with(everything, tensors)


def _with(delta: SparseDelta, tensors: Mapping[str, tuple[Tensor, Tensor]], **changes: Any) -> SparseDelta:
    """The delta with other entries; tensors left without any are gone."""
    kept = {name: pair for name, pair in tensors.items() if len(pair[0])}
    return dataclasses.replace(delta, tensors=kept, **changes)


def _supports(deltas: tuple[SparseDelta, ...], chosen: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    for delta in deltas[1:]:
        check_base(delta.base, deltas[0].base, "a delta beside others")
    found = {}
    for name in sorted({name for delta in deltas for name in delta.tensors}):
        everything = torch.cat([delta.tensors[name][0] for delta in deltas if name in delta.tensors])
        positions, counts = everything.unique(sorted=True, return_counts=True)
        if len(kept := positions[chosen(counts)]):
            found[name] = kept
    return found
