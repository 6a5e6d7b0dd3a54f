"""Flat positions in tensors: read, write and hash, whatever the memory layout.

Notable: `add_at` is the only place where a base value and a difference meet, so that a delta applied to the
base gives the very bits that its training ended with. Positions count in logical row-major order, so
non-contiguous tensors need no copy."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def read_at(tensor: Tensor, positions: Tensor) -> Tensor:
    """Return a copy of the entries of `tensor` at flat row-major `positions`. Shape: any, [K] -> [K]."""
    return tensor.detach().take(positions)


def write_at(tensor: Tensor, positions: Tensor, entries: Tensor) -> None:
    """Overwrite the entries of `tensor` at flat row-major `positions`, in place. Shape: any, [K], [K]."""
    tensor.detach().put_(positions, entries)


def add_at(entries: Tensor, values: Tensor) -> Tensor:
    """Return `entries + values` in the type of `entries`, added in float32 or wider and rounded once. Shape:
    [K], [K] -> [K].
    """
    wide = torch.promote_types(entries.dtype, torch.float32)
    return (entries.to(wide) + values.to(wide)).to(entries.dtype)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hex) over the sorted names with type, shape and bytes of each tensor."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
