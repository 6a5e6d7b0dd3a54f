"""What is measured of an exported folder, whatever is in it: its size, and how long one example takes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import torch

T = TypeVar("T")
COMPARED, TIMED = 64, 30
"""Examples whose outputs are compared, and those that are timed one by one."""


@torch.inference_mode()
def latencies(ways: Sequence[Callable[[T], object]], examples: Sequence[T]) -> list[float]:
    """Median milliseconds of one example for each way to run it, in turns; the first example warms up."""
    times: list[list[float]] = [[] for _ in ways]
    for example in [examples[0], *examples]:
        for own, run in zip(times, ways, strict=True):
            start = perf_counter()
            run(example)
            own.append(1000 * (perf_counter() - start))
    return [median(own[1:]) for own in times]


def megabytes(folder: Path) -> float:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
