"""Where a delta's entries sit: by tensor, by layer, by layer and module.

Notable: names alone say where a tensor stands, so BERT, XLM-R, DistilBERT, ModernBERT and Llama read alike;
what is in no layer (embeddings, final norms) has the layer "-"."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod, sqrt
from typing import TypeVar

import numpy as np

from bistil.errors import InputError
from bistil.sft.delta import SparseDelta

Key = TypeVar("Key", bound=Hashable)
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """One part of a delta: how many entries of how many (None where a shape is unknown), and the Euclidean
    norm of the values.
    """

    entries: int
    of: int | None
    norm: float

    @property
    def density(self) -> float | None:
        """entries / of."""
        return self.entries / self.of if self.of else None


def place(name: str) -> tuple[str, str]:
    """Return the layer ("0", "1" …, or "-") and the module within it of a tensor name, without `.weight` or
    `.bias`.
    """
    module = re.sub(r"\.(weight|bias)$", "", name)
    found = _LAYER.search(name)
    return (found[1], module[found.end() :]) if found else ("-", module)


def by_tensor(delta: SparseDelta) -> dict[str, Part]:
    """Return the part in each tensor that the delta names."""
    return _grouped(delta, lambda name: name)


def by_layer(delta: SparseDelta) -> dict[str, Part]:
    """Return the part in each layer, over the tensors that the delta names; layers in order, "-" first."""
    parts = _grouped(delta, lambda name: place(name)[0])
    return {layer: parts[layer] for layer in sorted(parts, key=_order)}


def densities(delta: SparseDelta) -> tuple[list[str], list[str], np.ndarray]:
    """Return layers, modules, and the density of each module of each layer, NaN where the delta names no such
    tensor or gives no shape.

    Shape: [layers, modules].
    """
    parts = _grouped(delta, place)
    layers = sorted({layer for layer, _ in parts}, key=_order)
    modules = list(dict.fromkeys(module for _, module in parts))
    shares = [
        [parts[layer, module].density if (layer, module) in parts else None for module in modules]
        for layer in layers
    ]
    return layers, modules, np.array(shares, dtype=float).reshape(len(layers), len(modules))


def overlap_by_chance(first: SparseDelta, second: SparseDelta) -> float:
    """Return the expected share of the smaller support in common, had each delta drawn as many entries of
    each tensor at random.

    Raises:
        InputError: a delta does not know the shape of a tensor that both name.
    """
    common = 0.0
    for name in sorted(first.tensors.keys() & second.tensors.keys()):
        if name not in first.shapes:
            raise InputError(
                f"The overlap by chance needs the shape of {name}, which the delta does not have: make it"
                " with shapes."
            )
        common += len(first.tensors[name][0]) * len(second.tensors[name][0]) / prod(first.shapes[name])
    return common / max(min(first.size, second.size), 1)


def common_to_all(deltas: Sequence[SparseDelta]) -> float:
    """Return the share of the smallest support that every delta has (thesis appendix E.6); 0 when one is
    empty.
    """
    names = set.intersection(*(set(one.tensors) for one in deltas))
    found = (reduce(np.intersect1d, (one.tensors[name][0].numpy() for one in deltas)) for name in names)
    return sum(map(len, found)) / max(min(one.size for one in deltas), 1)


def _order(layer: str) -> int:
    return -1 if layer == "-" else int(layer)


def _grouped(delta: SparseDelta, key: Callable[[str], Key]) -> dict[Key, Part]:
    members: dict[Key, list[str]] = defaultdict(list)
    for name in delta.tensors:
        members[key(name)].append(name)
    found = {}
    for group, names in members.items():
        known = all(name in delta.shapes for name in names)
        of = sum(prod(delta.shapes[name]) for name in names) if known else None
        square = sum(float(delta.tensors[name][1].double().square().sum()) for name in names)
        found[group] = Part(sum(len(delta.tensors[name][0]) for name in names), of, sqrt(square))
    return found
