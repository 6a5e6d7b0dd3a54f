"""Several processes as one (torchrun): they share out each step's batch, and together take the very step that
one process would take.

Notable: a loss is a sum over tokens divided by their count in the whole batch, so the mean of the processes'
gradients is the whole batch's gradient, however the padding falls (the states of translations, of which each
process takes the mean and variance of its own, are the exception). What is exchanged is what the optimiser
sees: for sparse fine-tuning the K values' gradient, never a dense one."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from bistil.errors import InputError


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def counted(count: Tensor) -> Tensor:
    """What a process divides its sum by: the count in the whole batch for each process, and at least 1 in
    all. Shape: [] -> [].
    """
    return over_processes(count if processes() == 1 else count.float()).clamp(min=1 / processes())


def over_processes(value: Tensor) -> Tensor:
    """The mean over processes, without gradient; the value itself in one process. Every process must ask for
    it.
    """
    if processes() == 1:
        return value
    mean = value.detach().clone()
    dist.all_reduce(mean)
    return mean / processes()


def exchange(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient that there is by its mean over processes; nothing happens in one process."""
    if processes() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= processes()


class Shared(Dataset):
    """A dataset whose item k is the batch of step k, shared out over `n` processes: its item n * k + p is
    process p's rows of that batch.

    Asking for a batch whose rows `n` does not divide is an `InputError`.
    """

    def __init__(self, batches: Any, n: int) -> None:
        self._batches, self._n = batches, n

    def __len__(self) -> int:
        return len(self._batches) * self._n

    def __getitem__(self, item: int) -> dict[str, Any]:
        step, process = divmod(item, self._n)
        batch: Mapping[str, Any] = self._batches[step]
        uneven = {
            name: len(value)
            for name, value in batch.items()
            if isinstance(value, Tensor) and len(value) % self._n
        }
        if uneven:
            raise InputError(
                f"A batch size that {self._n} processes can share was expected, a multiple of {self._n}, but"
                f" a batch has {uneven} rows. Change the batch size or the number of processes."
            )
        return {
            name: value[process :: self._n] if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
