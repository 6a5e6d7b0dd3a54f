"""Checks of what a sparse delta is made from; each raises InputError before anything is changed.

Notable: a base is compared by hash only; computing the hash is the caller's choice, since it reads every
weight."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bistil.errors import InputError


def check_base(found: str, expected: str, what: str) -> None:
    """Raise InputError naming both hashes unless they are the same."""
    if found != expected:
        raise InputError(
            f"The base of {what} is {found}, expected {expected}: its differences mean nothing on another"
            " base model."
        )


def check_same_layout(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Raise InputError unless both mappings have the same names and shapes."""
    different = sorted(before.keys() ^ after.keys())
    if different:
        raise InputError(
            f"Expected the same tensor names before and after; only one side has {', '.join(different[:5])}."
        )
    for name in before:
        if before[name].shape != after[name].shape:
            raise InputError(
                f"{name} has shape {tuple(before[name].shape)} before and {tuple(after[name].shape)} after."
            )


def checked(
    name: str, positions: Tensor, values: Tensor, shape: tuple[int, ...] | None
) -> tuple[Tensor, Tensor]:
    """Return own copies on the CPU, int64 and float32, of one tensor's positions and values. Shape: [K], [K].

    Raises:
        InputError: positions are unsorted, repeated or outside `shape` (when given), lengths differ, or a
            value is not finite.
    """
    positions = positions.detach().to("cpu", torch.int64, copy=True)
    values = values.detach().to("cpu", torch.float32, copy=True)
    if positions.dim() != 1 or positions.shape != values.shape:
        raise InputError(
            f"{name}: expected positions [K] and values [K], got {tuple(positions.shape)} and"
            f" {tuple(values.shape)}."
        )
    if not bool((positions[1:] > positions[:-1]).all()):
        raise InputError(f"{name}: positions must be strictly increasing (sorted, none twice).")
    end = int(np.prod(shape, dtype=np.int64)) if shape is not None else torch.iinfo(torch.int64).max
    if len(positions) and (int(positions[0]) < 0 or int(positions[-1]) >= end):
        raise InputError(
            f"{name}: positions run from {int(positions[0])} to {int(positions[-1])}, outside a tensor of"
            f" shape {shape}."
        )
    if not bool(values.isfinite().all()):
        raise InputError(f"{name}: some values are not finite; did the training diverge?")
    return positions, values


def check_gradients(
    groups: Iterable[Mapping[str, Any]],
    phi: Tensor,
    parts: Mapping[str, slice],
    done: int,
    *,
    broken: Sequence[str] = (),
) -> None:
    """Refuse a step with gradients that are not finite, before anything has changed.

    Args:
        groups: the optimiser's parameter groups. phi: the sparse values among them.
        parts: where in phi each tensor's entries are.
        done: optimiser steps so far.
        broken: what else the caller found not to be finite.

    Raises:
        InputError: it names the step, the first such tensor, and the state that is kept.
    """
    found = list(broken)
    for parameter in (parameter for group in groups for parameter in group["params"]):
        if parameter.grad is None or bool(parameter.grad.isfinite().all()):
            continue
        if parameter is phi:
            found += [
                name for name, place in parts.items() if not bool(parameter.grad[place].isfinite().all())
            ]
        else:
            found.append(f"a dense parameter of shape {tuple(parameter.shape)}")
    if found:
        raise InputError(
            f"Gradients of step {done + 1} are not finite (first in {found[0]}): the training diverged or the"
            f" batch is bad. Weights, support and optimiser are as after step {done}; lower the learning rate"
            " or clip the gradients."
        )
