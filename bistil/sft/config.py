"""Settings of a sparse fine-tuning: the method, how much may change, how long it trains.

Notable: `lottery` (LT-SFT and its baselines) and `spiel` stand in the same place, so an experiment changes its method in one line.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Protocol, Self

from torch.utils.data import Dataset

from bistil.errors import InputError
from bistil.sft.lottery import LotteryConfig, Selection
from bistil.sft.spiel.config import SpielSft
from bistil.train import Schedule


class BatchesFor(Protocol):
    """Makes the training batches of a phase: `steps` of them, from `seed`."""

    def __call__(self, steps: int, seed: int) -> Dataset:
        """A dataset whose item k is the batch of step k."""


@dataclass(frozen=True, kw_only=True)
class SftMethod:
    """What may change, and how long each phase runs; give either `lottery` or `spiel`.

    Attributes:
        lottery: LT-SFT, or a baseline of it by `lottery.select`; only "top-k" has a dense phase.
        dense: the dense phase of LT-SFT.
        sparse: its sparse phase; for SpIEL and the baselines the whole training.
        spiel: SpIEL instead of LT-SFT.

    Raises:
        InputError: both methods are given, or none, or LT-SFT without its dense phase.
    """

    lottery: LotteryConfig | None = None
    dense: Schedule | None = None
    sparse: Schedule
    spiel: SpielSft | None = field(default=None, metadata={"added_later": True})

    def __post_init__(self) -> None:
        if (self.lottery is None) == (self.spiel is None):
            raise InputError("A sparse fine-tuning is either by `lottery` or by `spiel`: give one of them, and not both.")
        if self.lottery is not None and self.lottery.select == "top-k" and self.dense is None:
            raise InputError("LT-SFT chooses what may change by a dense phase: give its schedule under `dense`.")
        if self.spiel is not None:
            self.spiel.check_steps(self.sparse.steps)

    @property
    def density(self) -> float:
        """Share of the encoder's parameters that may change."""
        return (self.lottery or self.spiel).density  # type: ignore[union-attr]

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases together."""
        two = self.lottery is not None and self.lottery.select == "top-k" and self.dense is not None
        return self.sparse.steps + (self.dense.steps if two and self.dense else 0)

    def at_density(self, density: float) -> Self:
        """The same method with another density."""
        name = "lottery" if self.lottery else "spiel"
        return dataclasses.replace(self, **{name: dataclasses.replace(getattr(self, name), density=density)})

    def selecting(self, select: Selection) -> Self:
        """A baseline of LT-SFT: what may change is chosen by `select`. Where this is SpIEL, only the density carries over."""
        chosen = dataclasses.replace(self.lottery or LotteryConfig(density=self.density), select=select)
        return dataclasses.replace(self, lottery=chosen, spiel=None)


@dataclass(frozen=True, kw_only=True)
class SftConfig(SftMethod):
    """A sparse fine-tuning and its seed."""

    seed: int = 1
