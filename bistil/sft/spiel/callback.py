"""SpIEL in transformers.Trainer: a callback that watches over its optimiser.

Notable: the optimiser does all the work; the callback only insists that the right one runs for as long as its
schedule says, and counts. It is imported by itself, since transformers' callbacks bring its Trainer along.
"""

from typing import Any

from transformers import TrainerCallback

from bistil.errors import InputError
from bistil.sft.spiel.optimizer import SpielOptimizer


class SpielCallback(TrainerCallback):
    """Give it to a Trainer together with the optimiser: `Trainer(…, optimizers=(optimizer, None),
    callbacks=[SpielCallback(optimizer)])`.

    Attributes:
        updates: for each update of the support in this process its step and how many entries it replaced.
    """

    def __init__(self, optimizer: SpielOptimizer) -> None:
        self.optimizer = optimizer
        self.updates: list[dict[str, int]] = []

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Check the optimiser and the number of steps.

        Raises:
            InputError: the Trainer has another optimiser, or another number of steps than the config.
        """
        if getattr(optimizer, "optimizer", optimizer) is not self.optimizer:
            raise InputError(
                "The Trainer does not train with the SpIEL optimiser: give it as optimizers=(optimizer,"
                " None)."
            )
        if state.max_steps != self.optimizer.config.steps:
            raise InputError(
                f"The replacement rate falls to 0 over {self.optimizer.config.steps} steps, but the Trainer"
                f" takes {state.max_steps}: set SpielConfig.steps to the Trainer's number of optimiser steps."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note an update of the support."""
        if self.optimizer.last_replaced:
            self.updates.append({"step": self.optimizer.finished, "replaced": self.optimizer.last_replaced})
