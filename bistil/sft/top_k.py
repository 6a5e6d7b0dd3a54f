"""The k entries of largest magnitude over many tensors, without a copy of them (LT-SFT Alg. 1, mu).

Notable: a random sample tells a number that is most likely a little below the k-th largest, so one pass finds
few enough candidates to rank them in memory. Where it does not, because of ties say, two histograms find the
k-th largest: non-negative floats are ordered as their bits are, the upper and then the lower 16 of them. Both
are exact; what is held at a time is one block of differences and the candidates."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from bistil.errors import InputError

BLOCK = 2**22  # entries; a block and its difference stay in the processor's cache, or nearly
HALF = 2**16
SAMPLE = 2**18  # entries: the candidates are then 5 % more than k at a density of 4 %
NOT_FINITE = (
    "Some parameters are not finite after the dense phase: the training diverged, lower its learning rate."
)


def moved(before: Tensor, after: Tensor) -> Iterator[Tensor]:
    """Yield |after - before| in float32, block by block of the flat tensors. Shape: [at most BLOCK] each."""
    old, new = before.detach().reshape(-1), after.detach().reshape(-1)
    for start in range(0, len(old), BLOCK):
        part = slice(start, start + BLOCK)
        yield (new[part].float() - old[part].to(new.device).float()).abs_()


def entries_from(
    bound: float, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the flat positions and the values of all |after - before| >= bound, by name and in order. Shape:
    [n], int64, and [n].

    Raises:
        InputError: an entry is not finite.
    """
    for name in sorted(before):
        start = 0
        for block in moved(before[name], after[name]):
            if not bool(block.max().isfinite()):
                raise InputError(NOT_FINITE)
            places = (block >= bound).nonzero().squeeze(1)
            yield name, places.cpu() + start, block[places].cpu()
            start += len(block)


def likely_bound(before: Mapping[str, Tensor], after: Mapping[str, Tensor], k: int) -> float:
    """Return what is most likely a little below the k-th largest |after - before|, from SAMPLE random
    entries; 0 where they cannot tell.
    """
    total, random = sum(tensor.numel() for tensor in before.values()), torch.Generator().manual_seed(1)
    parts = []
    for name, tensor in before.items():
        places = torch.randint(
            max(1, tensor.numel()), (round(min(SAMPLE, total) * tensor.numel() / total),), generator=random
        )
        old, new = (one.detach().reshape(-1)[places.to(one.device)] for one in (tensor, after[name]))
        parts += [part.cpu() for part in moved(old, new)]
    sample = torch.cat(parts)
    expected = k / total * len(sample)
    rank = round(expected + 5 * expected**0.5 + 5)  # five standard deviations more than k's share
    if rank > len(sample) // 2:
        return 0.0
    bound = sample.kthvalue(len(sample) - rank + 1).values
    # many ties would be many candidates
    return float(bound) if int((sample >= bound).sum()) < 2 * rank else 0.0


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
        raise InputError(NOT_FINITE)
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
    """The bucket, counted from the top, that the k-th entry falls into, and how many entries lie in higher
    ones.
    """
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, k))
    bucket = len(counts) - 1 - place
    return bucket, int(from_top[place] - counts[bucket])
