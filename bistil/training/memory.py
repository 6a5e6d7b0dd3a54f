"""Memory of the processor that a training gives back to the system while it runs."""

import ctypes
import sys
import time
from typing import Any

from transformers import TrainerCallback

EVERY = 10.0
"""Seconds between two times."""


def give_back() -> None:
    """Have glibc give freed memory back to the system; elsewhere nothing happens.

    It keeps freed tensors of up to 32 MB for the next ones, but batches differ in shape, so that few fit: a
    training on sentences grew from one to eight gigabytes within some hundred steps.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class GivingBack(TrainerCallback):
    """Gives memory back now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After a step."""
        if time.monotonic() - self._last >= EVERY:
            give_back()
            self._last = time.monotonic()
