"""What a model costs: size on disk, FLOPs, latency and throughput.

Notable:
* FLOPs are those of matrix products, two for each multiply-add, of one forward pass; halve them to compare
  with counters of multiply-adds such as fvcore's. They are counted with eager attention, so that its products
  are seen;
* times are medians and include decoding, spanning trees for instance, since a user waits for that too; what
  is compared takes turns with a rest before each, and whether the machine was busy is kept;
* the head is counted apart: a large biaffine head is the same cost for teacher and student.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, mean, median, quantiles
from time import perf_counter, process_time, sleep
from typing import NamedTuple, TypeVar

import torch
from safetensors.torch import save_model
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from bistil.errors import InputError
from bistil.evaluation.score import to_device
from bistil.models.load import TaskModel, encode
from bistil.tasks.task import Row, Task

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Costs of a model with its head.

    `disk_bytes` is the size of its safetensors file. `flops_per_example` is the whole forward pass,
    `head_flops_per_example` the head's part of it, for the example of mean length. `latency_ms` is for a
    batch of 1; `examples_per_second` for the given batch."""

    parameters: int
    encoder_parameters: int
    head_parameters: int
    vocabulary: int
    disk_bytes: int
    flops_per_example: int
    head_flops_per_example: int
    latency_ms: float
    examples_per_second: float


class Turn(NamedTuple):
    """Seconds of one turn of a model: a batch of 1, of that the encoder alone, a batch of many; and of the
    whole turn by the clock and by the processors.
    """

    one: float
    encoder: float
    many: float
    clock: float
    processor: float


@dataclass(frozen=True)
class Times:
    """How fast a model is.

    Attributes:
        latency_ms: The median for a batch of 1.
        latency_spread_ms: Half of what lies between its quartiles.
        encoder_ms: The median of the encoder alone; the rest is head and decoding.
        examples_per_second: For the given batch.
        processor_share: The share of the time in which the process had a processor, 1 at most: less where
            the machine was busy. None on other devices.
    """

    latency_ms: float
    latency_spread_ms: float
    encoder_ms: float
    examples_per_second: float
    processor_share: float | None


def in_turns(turns: int, sides: Mapping[str, Callable[[], T]], *, rest: float = 0.0) -> dict[str, list[T]]:
    """Let the sides take turns, `rest` seconds before each; what every turn returned, without the first,
    which warms up.
    """
    found: dict[str, list[T]] = {name: [] for name in sides}
    for _ in range(turns + 1):
        for name, side in sides.items():
            sleep(rest)
            found[name].append(side())
    return {name: own[1:] for name, own in found.items()}


def typical(
    task: Task, rows: Sequence[Row], device: torch.device, *, batch_size: int, pad_id: int = 0
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A batch of the example whose length is nearest to the mean, and one of `batch_size` examples evenly
    spread over the sorted lengths, examples repeating where there are too few.
    """
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    middle = mean(len(row["input_ids"]) for row in ordered)
    one = min(ordered, key=lambda row: abs(len(row["input_ids"]) - middle))
    spread = [ordered[(2 * i + 1) * len(ordered) // (2 * batch_size)] for i in range(batch_size)]
    first, second = (to_device(task.collate(chosen, pad_id), device) for chosen in ([one], spread))
    return first, second


@torch.inference_mode()
def take_turn(
    model: TaskModel, task: Task, one: dict[str, torch.Tensor], many: dict[str, torch.Tensor]
) -> Turn:
    """Run a model in eval mode once on each of the batches that `typical` returns."""
    device, segments = one["input_ids"].device, one.get("token_type_ids")
    parts = (
        lambda: task.predict(model, one),
        lambda: encode(
            model.encoder, one["input_ids"], one["attention_mask"], states=False, token_type_ids=segments
        ),
        lambda: task.predict(model, many),
    )
    begun, spent = perf_counter(), process_time()
    one_took, encoder_took, many_took = (_clocked(part, device) for part in parts)
    return Turn(
        one_took, encoder_took, many_took, clock=perf_counter() - begun, processor=process_time() - spent
    )


def times(turns: Sequence[Turn], batch_size: int, device: torch.device) -> Times:
    """What several turns come to."""
    one = [turn.one for turn in turns]
    low, _, high = quantiles(one, n=4, method="inclusive") if len(one) > 1 else (one[0],) * 3
    had = min(1.0, fmean(min(1.0, turn.processor / turn.clock) for turn in turns))
    return Times(
        latency_ms=1000 * median(one),
        latency_spread_ms=1000 * (high - low) / 2,
        encoder_ms=1000 * median(turn.encoder for turn in turns),
        examples_per_second=batch_size / median(turn.many for turn in turns),
        processor_share=had if device.type == "cpu" else None,
    )


def measure(
    model: TaskModel, task: Task, rows: Sequence[Row], *, batch_size: int, repeats: int = 5, pad_id: int = 0
) -> Cost:
    """Costs of `model` on encoded examples of `task`.

    Raises:
        InputError: where there are no rows, or `batch_size` or `repeats` is below 1.
    """
    if not rows or batch_size < 1 or repeats < 1:
        raise InputError(
            f"At least one row, a batch size and repeats of at least 1 were expected, but got {len(rows)}"
            f" rows, batch size {batch_size} and {repeats} repeats."
        )
    device = next(model.parameters()).device
    one, many = typical(task, rows, device, batch_size=batch_size, pad_id=pad_id)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            flops, head_flops = count_flops(model, one)
            latency = _seconds(lambda: task.predict(model, one), repeats, device)
            batch_seconds = _seconds(lambda: task.predict(model, many), repeats, device)
    finally:
        model.train(training)
    encoder, head = (sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.head))
    return Cost(
        parameters=encoder + head,
        encoder_parameters=encoder,
        head_parameters=head,
        vocabulary=model.encoder.config.vocab_size,
        disk_bytes=disk_bytes(model),
        flops_per_example=flops,
        head_flops_per_example=head_flops,
        latency_ms=1000 * latency,
        examples_per_second=batch_size / batch_seconds,
    )


def count_flops(model: TaskModel, batch: dict[str, torch.Tensor]) -> tuple[int, int]:
    """FLOPs of one forward pass over the batch: of the whole model, and of the head alone."""
    counter = FlopCounterMode(display=False)
    # the counter hooks what has a gradient
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}
    with counter:
        functional_call(model, fixed, (batch,), {"states": True})
    head = sum(counter.get_flop_counts().get(f"{type(model).__name__}.head", {}).values())
    return counter.get_total_flops(), head


def disk_bytes(model: nn.Module) -> int:
    """Size of the model as one safetensors file, shared tensors once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, str(path))
        return path.stat().st_size


def _seconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median wall time of a run, after one that warms up."""
    return median([_clocked(run, device) for _ in range(repeats + 1)][1:])


def _clocked(run: Callable[[], object], device: torch.device) -> float:
    start = perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start
