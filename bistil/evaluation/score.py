"""Scores of a model on a task.

Notable: sentences are batched by length, the longest in small batches, so little is padding; predictions come
back in the order of the examples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.models.architectures import longest_sequence
from bistil.models.load import TaskModel
from bistil.tasks.task import Row, Task
from bistil.training.progress import Event, Listener, silent

TOKENS = 2048
"""Tokens of a batch, padding included: the longest sentences, few and far apart in length, then waste little
on it.
"""


def evaluate(
    model: TaskModel,
    task: Task,
    examples: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 64,
    max_length: int = 256,
    progress: Listener = silent,
) -> dict[str, float]:
    """The task's metrics in percent, and `n_examples`.

    Raises:
        InputError: where there are no examples.
    """
    predictions = predict_all(
        model, task, examples, tokenizer, batch_size=batch_size, max_length=max_length, progress=progress
    )
    return {**task.score(examples, predictions), "n_examples": len(examples)}


def predict_all(
    model: TaskModel,
    task: Task,
    examples: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 64,
    max_length: int = 256,
    progress: Listener = silent,
) -> list[Any]:
    """One prediction for each example, in the order of the examples. The model's train or eval mode is as
    before afterwards.

    Args:
        max_length: the tokens that an example is cut to, or fewer where the encoder has positions for fewer.

    Raises:
        InputError: where there are no examples.
    """
    if not examples or batch_size < 1:
        raise InputError(
            f"Examples and a batch size of at least 1 were expected, but got {len(examples)} examples and"
            f" {batch_size}."
        )
    config = getattr(getattr(model, "encoder", None), "config", None)  # a graph has none
    most = max_length if config is None else min(max_length, longest_sequence(config))
    rows = task.encode(examples, tokenizer, max_length=most)
    return predict_rows(
        model, task, rows, pad_id=int(tokenizer.pad_token_id), batch_size=batch_size, progress=progress
    )


def predict_rows(
    model: TaskModel,
    task: Task,
    rows: Sequence[Row],
    *,
    pad_id: int,
    batch_size: int,
    progress: Listener = silent,
) -> list[Any]:
    """As `predict_all`, for examples that are encoded already."""
    # a graph has none
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    predictions: list[Any] = [None] * len(rows)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            done = 0
            for chosen in by_length(rows, batch_size):
                batch = to_device(task.collate([rows[i] for i in chosen], pad_id), device)
                for i, prediction in zip(chosen, task.predict(model, batch), strict=True):
                    predictions[i] = prediction
                progress(Event("evaluate", done := done + len(chosen), len(rows)))
    finally:
        model.train(training)
    return predictions


def by_length(rows: Sequence[Row], batch_size: int) -> Iterator[list[int]]:
    """Indices of the rows of each batch, the longest first: at most `batch_size` rows, and TOKENS tokens
    where more than one row.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]), reverse=True)
    while order:
        size = max(1, min(batch_size, TOKENS // max(1, len(rows[order[0]]["input_ids"]))))
        yield order[:size]
        del order[:size]


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on that device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
