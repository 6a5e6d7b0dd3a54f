"""Random numbers that are the same on every platform: raw PCG64 words, keyed by the sha256 of a readable
string.

Notable: only integers are used, so no rounding and no change of a numpy sampling routine can alter a world.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 1024


class Weighted:
    """A list of items with positive integer weights, drawn by `Stream.weighted`."""

    __slots__ = ("bounds", "items", "total")

    def __init__(self, items: Sequence[str], weights: Sequence[int]) -> None:
        self.items = tuple(items)
        self.bounds: list[int] = []
        self.total = 0
        for weight in weights:
            self.total += weight
            self.bounds.append(self.total)


class Stream:
    """One named sequence of random integers; two streams with different names are independent."""

    __slots__ = ("_bits", "_buffer", "_size")

    def __init__(self, name: str) -> None:
        digest = hashlib.sha256(name.encode("utf-8")).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))
        self._buffer: list[int] = []
        self._size = 8

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        if not self._buffer:
            self._buffer = self._bits.random_raw(self._size).tolist()
            self._size = min(_BLOCK, self._size * 4)
        return self._buffer.pop() % n

    def chance(self, percent: int) -> bool:
        """Return True in `percent` of 100 draws."""
        return self.below(100) < percent

    def share(self, share: float) -> bool:
        """Return True with probability `share`, resolved to one millionth."""
        return self.below(1_000_000) < round(share * 1_000_000)

    def pick(self, items: Sequence[T]) -> T:
        """Return one item, each equally likely."""
        return items[self.below(len(items))]

    def weighted(self, table: Weighted) -> str:
        """Return one item of the table, by weight."""
        return table.items[bisect_right(table.bounds, self.below(table.total))]
