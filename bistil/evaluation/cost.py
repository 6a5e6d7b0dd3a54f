"""What a model costs: size on disk, FLOPs, latency and throughput.

Notable:
* FLOPs are those of matrix products, two for each multiply-add, of one forward pass; halve them to compare
  with counters of multiply-adds such as fvcore's. They are counted with eager attention, so that its products
  are seen;
* times are medians and include decoding, spanning trees for instance, since a user waits for that too;
* the head is counted apart: a large biaffine head is the same cost for teacher and student.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import torch
from safetensors.torch import save_model
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from bistil.errors import InputError
from bistil.evaluation.score import to_device
from bistil.models.load import TaskModel
from bistil.tasks.task import Row, Task


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


def measure(
    model: TaskModel, task: Task, rows: Sequence[Row], *, batch_size: int, repeats: int = 5, pad_id: int = 0
) -> Cost:
    """Costs of `model` on encoded examples of `task`.

    The single example is the one whose length is nearest to the mean; the batch has `batch_size` examples
    evenly spread over the sorted lengths, examples repeating where there are too few.

    Raises:
        InputError: where there are no rows, or `batch_size` or `repeats` is below 1.
    """
    if not rows or batch_size < 1 or repeats < 1:
        raise InputError(
            f"At least one row, a batch size and repeats of at least 1 were expected, but got {len(rows)}"
            f" rows, batch size {batch_size} and {repeats} repeats."
        )
    device = next(model.parameters()).device
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    middle = mean(len(row["input_ids"]) for row in ordered)
    typical = min(ordered, key=lambda row: abs(len(row["input_ids"]) - middle))
    spread = [ordered[(2 * i + 1) * len(ordered) // (2 * batch_size)] for i in range(batch_size)]
    one, many = (to_device(task.collate(chosen, pad_id), device) for chosen in ([typical], spread))
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
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(perf_counter() - start)
    return median(times[1:])
