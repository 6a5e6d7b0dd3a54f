"""How the bench measures: sides take turns, the fastest of several turns counts, and ratios are what is meant
to be read.

Notable: processor seconds of the measuring process are kept beside those of the clock. On a machine that does
other work as well, the former are what can be compared; on a quiet one the two say the same where one thread
is used.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from bistil.evaluation.cost import in_turns
from bistil.settings.ranges import LARGEST, Count, Factor, Layers, Length, Range, Settings

Turn = Callable[[], Any]
Column = Mapping[str, float]
Found = dict[str, float]
Row = dict[str, Any]
"""One comparison: `name`, `note`, `columns` by name, each {unit: number}, and `ratios` by unit, ours against
each other column.
"""
OURS, PUBLISHED, LEAST = "ours", "published", "least"
"""The columns; reports of before 2026-11-28 call the last `floor`."""


Vocabulary = Annotated[int, Range(least=100, most=LARGEST)]
"""A number of tokens with room for special ones and words."""


@dataclass(frozen=True, kw_only=True)
class Size(Settings):
    """What is measured: a random BERT of mBERT's size unless told otherwise, and how often each side takes
    its turn.

    Attributes:
        layers: The teacher's layers.
        hidden: The teacher's hidden size.
        vocabulary: The teacher's vocabulary.
        kept: The tokens that the student keeps of it.
        lrf: How many times fewer layers the student has.
        batch: Sequences in a training batch.
        length: Tokens of each.
        lines: Lines of text to tokenise.
        turns: Turns of each side, after one that warms up.
    """

    layers: Layers = 12
    hidden: Annotated[int, Range(least=64, most=LARGEST, multiple=64)] = 768
    vocabulary: Vocabulary = 119547
    kept: Vocabulary = 31000
    lrf: Factor = 2
    batch: Count = 8
    length: Length = 256
    lines: Count = 100000
    turns: Count = 3


def alternate(turns: int, sides: Mapping[str, Turn], *, rest: float = 0.0) -> dict[str, dict[str, float]]:
    """Let the sides take turns after one turn to warm up; seconds of each side's fastest turn, by processor
    and clock, and the median.

    Args:
        rest: seconds before each turn. Threads that the last side's library left waiting in a loop go to
            sleep in the meantime.
    """
    found = in_turns(turns, {name: partial(_timed, side) for name, side in sides.items()}, rest=rest)
    return {
        name: {
            "cpu seconds": min(processor for processor, _ in own),
            "seconds": min(clock for _, clock in own),
            "median seconds": statistics.median(clock for _, clock in own),
        }
        for name, own in found.items()
    }


def _timed(side: Turn) -> tuple[float, float]:
    """Seconds of a turn, by processor and clock."""
    start, spent = time.perf_counter(), time.process_time()
    side()
    return time.process_time() - spent, time.perf_counter() - start


def comparison(name: str, note: str, columns: Mapping[str, Column], *, ours: str = OURS) -> Row:
    """A row; ratios are ours divided by each other column, for every unit that both have."""
    units = [
        unit
        for unit in columns[ours]
        if any(unit in column for other, column in columns.items() if other != ours)
    ]
    ratios = {
        unit: {
            other: columns[ours][unit] / column[unit]
            for other, column in columns.items()
            if other != ours and column.get(unit)
        }
        for unit in units
    }
    return {
        "name": name,
        "note": note,
        "columns": {key: dict(column) for key, column in columns.items()},
        "ratios": ratios,
    }


def sentence(row: Row) -> str:
    """A row as a line of text, seconds being those of the processor."""
    parts = []
    for unit in dict.fromkeys(unit for column in row["columns"].values() for unit in column):
        found = {name: column[unit] for name, column in row["columns"].items() if unit in column}
        ratios = [f"{ratio:.2f}x {other}" for other, ratio in row["ratios"].get(unit, {}).items()]
        if unit not in ("seconds", "median seconds"):
            told = ", ".join(f"{value:.4g} {name}" for name, value in found.items())
            parts.append(f"{unit}: {told}" + (f" (ours {', '.join(ratios)})" if ratios else ""))
    return f"{row['name']}: {'; '.join(parts)}"


def in_process(measure: Callable[..., Found], *arguments: Any, apart: bool) -> Found:
    """What a measurement finds of its arguments, in a new process where `apart`: its peak of memory is then
    its own.
    """
    if not apart:
        return measure(*arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


class Kept:
    """Counts what a forward pass keeps for the backward pass, in bytes: every storage once, parameters left
    out.

    Use it as a context around the forward pass.
    """

    def __init__(self, parameters: Any) -> None:
        self._own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self._sizes: dict[int, int] = {}
        self._alive: list[Tensor] = []  # a freed storage's address could come again
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def __enter__(self) -> "Kept":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    @property
    def bytes(self) -> int:
        """What was kept so far."""
        return sum(self._sizes.values())

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own and storage.data_ptr() not in self._sizes:
            self._sizes[storage.data_ptr()] = storage.nbytes()
            self._alive.append(tensor.detach())
        return tensor
