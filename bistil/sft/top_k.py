"""The k entries of largest magnitude over many tensors, without a copy of them (LT-SFT Alg. 1, mu).

Notable: non-negative floats are ordered as their bits are, so two histograms, of the upper and then of the lower 16 bits, find the k-th
largest exactly; what is held at a time is one block of differences.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from bistil.errors import InputError

BLOCK = 2**22  # entries; a block and its difference stay in the processor's cache, or nearly
HALF = 2**16


def moved(before: Tensor, after: Tensor) -> Iterator[Tensor]:
    """Yield |after - before| in float32, block by block of the flat tensors. Shape: [at most BLOCK] each."""
    old, new = before.detach().reshape(-1), after.detach().reshape(-1)
    for start in range(0, len(old), BLOCK):
        part = slice(start, start + BLOCK)
        yield (new[part].float() - old[part].to(new.device).float()).abs_()


def kth_largest(blocks: Callable[[], Iterable[Tensor]], k: int) -> tuple[float, int]:
    """Return the k-th largest of all entries, and how many are larger.

    Args:
        blocks: yields all entries, non-negative float32; called twice.
        k: from 1 to the number of entries.

    Raises:
        InputError: an entry is not finite.
    """
    upper = _histogram(bits(block) >> 16 for block in blocks())
    if bool(upper[0x7F80:].any()):  # the bits of infinity and of what is no number
        raise InputError("Some parameters are not finite after the dense phase: the training diverged, lower its learning rate.")
    high, larger = _bucket(upper, k)
    lower = _histogram(_low(block, high) for block in blocks())
    low, larger_within = _bucket(lower, k - larger)
    threshold = torch.tensor((high << 16) | low, dtype=torch.int32).view(torch.float32)
    return float(threshold), larger + larger_within


def bits(block: Tensor) -> Tensor:
    """The bits of non-negative float32 entries as integers of the same order. Shape: [n] -> [n], int32."""
    return block.view(torch.int32)


def _low(block: Tensor, high: int) -> Tensor:
    found = bits(block)
    return found[(found >> 16) == high] & (HALF - 1)


def _histogram(parts: Iterable[Tensor]) -> Tensor:
    counts = torch.zeros(HALF, dtype=torch.int64)
    for part in parts:
        counts += torch.bincount(part, minlength=HALF).cpu()
    return counts


def _bucket(counts: Tensor, k: int) -> tuple[int, int]:
    """The bucket, counted from the top, that the k-th entry falls into, and how many entries lie in higher ones."""
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, k))
    bucket = len(counts) - 1 - place
    return bucket, int(from_top[place] - counts[bucket])
