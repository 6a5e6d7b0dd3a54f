"""How the cost of stage 1 grows with length, batch, depth and width, and how well one measured step predicts
the others.

Notable: the prediction is that of a dry run's GPU hours: FLOPs of a forward pass of the teacher and three of
the student, at the rate of one calibrating step. What it leaves out (softmax, norms, optimiser, memory) is
what makes it wrong, and by how much is told here.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from bistil.bench.measure import OURS, Row, Size, Turn, alternate, comparison
from bistil.bench.models import config
from bistil.bench.step import losses, whole_step
from bistil.plan.estimate import TRAINING, forward_flops

LONGEST = 2048
STEP = "a step, cpu seconds"


def scaling(size: Size) -> list[Row]:
    """One of our stage-1 steps in float32 at each of `settings`, measured and predicted from the first of
    them.
    """
    return [_row(name, *_seconds(size, other), flops(other) / flops(size)) for name, other in settings(size)]


def settings(size: Size) -> Iterator[tuple[str, Size]]:
    """What is measured, by name: one thing at a time is other than in `size`; a batch has as many tokens at
    every length.
    """
    tokens, length = size.batch * size.length, size.length // 2
    while length <= max(LONGEST, size.length) and length <= tokens:
        if length != size.length:
            yield (
                f"{tokens // length} x {length} tokens",
                replace(size, length=length, batch=tokens // length),
            )
        length *= 2
    yield f"batch {2 * size.batch}", replace(size, batch=2 * size.batch)
    if size.layers % (2 * size.lrf) == 0:
        yield f"{size.layers // 2} layers", replace(size, layers=size.layers // 2)
    if size.hidden % 128 == 0:
        yield f"width {size.hidden // 2}", replace(size, hidden=size.hidden // 2)
    if size.layers % (size.lrf + 1) == 0:
        yield f"lrf {size.lrf + 1}", replace(size, lrf=size.lrf + 1)


def flops(size: Size) -> float:
    """FLOPs of a stage-1 step, as a dry run counts them."""
    teacher = forward_flops(config(size), size.length)
    return size.batch * teacher * (1 + TRAINING / size.lrf)


def _seconds(base: Size, other: Size) -> tuple[float, float]:
    """Processor seconds of a step at both sizes, which take turns."""
    found = alternate(base.turns, {"base": _step(base), "other": _step(other)})
    return found["base"]["cpu seconds"], found["other"]["cpu seconds"]


def _step(size: Size) -> Turn:
    """One whole step on random models of a size."""
    torch.manual_seed(1)
    sides, student = losses(size)
    return partial(whole_step, sides[OURS], torch.optim.AdamW(student.parameters(), lr=1e-6, fused=True))


def _row(name: str, base: float, measured: float, times: float) -> Row:
    note = "predicted: the base step's seconds times the ratio of FLOPs"
    columns = {"predicted": {STEP: base * times}, "measured": {STEP: measured}, "base": {STEP: base}}
    return comparison(f"stage-1 step, {name}", note, columns, ours="predicted")
