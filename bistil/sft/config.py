"""Settings of a sparse fine-tuning: the method, how much may change, how long it trains.

Notable: `lottery` (LT-SFT and its baselines), `spiel` and `peft` stand in the same place, so an experiment
changes its method in one line."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from torch.utils.data import Dataset

from bistil.errors import InputError
from bistil.settings.ranges import Density, Dropout, Positive, Seed, Settings
from bistil.sft.lottery import LotteryConfig, Selection
from bistil.sft.spiel.config import SpielSft
from bistil.training.loop import Schedule

Method = Literal["lora", "ia3"]


class BatchesFor(Protocol):
    """Makes the training batches of a phase: `steps` of them, from `seed`."""

    def __call__(self, steps: int, seed: int) -> Dataset:
        """A dataset whose item k is the batch of step k."""


@dataclass(frozen=True, kw_only=True)
class PeftSft(Settings):
    """A tuning by `peft`; the thesis' settings of chapter 7 are the defaults.

    Attributes:
        density: Trainable values as a share of the encoder's parameters. LoRA takes the rank that comes
            nearest (at least 1); (IA)^3 has a fixed number of values, far below, and does not heed it.
        method: "lora" on every linear layer of the Transformer's blocks, or "ia3" on keys, values and
            feed-forward activations.
        alpha: LoRA's update is scaled by alpha / rank.
        dropout: The dropout of LoRA's input.
    """

    density: Density
    method: Method = "lora"
    alpha: Positive = 16.0
    dropout: Dropout = 0.1


@dataclass(frozen=True, kw_only=True)
class SftMethod(Settings):
    """What may change, and how long each phase runs; give one of `lottery`, `spiel` and `peft`.

    Attributes:
        lottery: LT-SFT, or a baseline of it by `lottery.select`; only "top-k" has a dense phase.
        dense: The dense phase of LT-SFT.
        sparse: The sparse phase of LT-SFT; for every other method the whole training.
        spiel: SpIEL instead of LT-SFT.
        peft: LoRA or (IA)^3 instead of it.

    Raises:
        InputError: several methods are given, or none, or LT-SFT without its dense phase.
    """

    lottery: LotteryConfig | None = None
    dense: Schedule | None = None
    sparse: Schedule
    spiel: SpielSft | None = field(default=None, metadata={"added_later": True})
    peft: PeftSft | None = field(default=None, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if [self.lottery, self.spiel, self.peft].count(None) != 2:
            raise InputError(
                "A fine-tuning is by `lottery`, by `spiel` or by `peft`: give one of them, and one only."
            )
        if self.lottery is not None and self.lottery.select == "top-k" and self.dense is None:
            raise InputError(
                "LT-SFT chooses what may change by a dense phase: give its schedule under `dense`."
            )
        if self.spiel is not None:
            self.spiel.check_steps(self.sparse.steps, "sparse", "steps")

    @property
    def density(self) -> float:
        """Share of the encoder's parameters that may change."""
        return (self.lottery or self.spiel or self.peft).density  # type: ignore[union-attr]

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases together."""
        two = self.lottery is not None and self.lottery.select == "top-k" and self.dense is not None
        return self.sparse.steps + (self.dense.steps if two and self.dense else 0)

    def at_density(self, density: float) -> Self:
        """The same method with another density."""
        name = "lottery" if self.lottery else "spiel" if self.spiel else "peft"
        return dataclasses.replace(self, **{name: dataclasses.replace(getattr(self, name), density=density)})

    def selecting(self, select: Selection) -> Self:
        """A baseline of LT-SFT: what may change is chosen by `select`. Where this is another method, only the
        density carries over.
        """
        chosen = dataclasses.replace(self.lottery or LotteryConfig(density=self.density), select=select)
        return dataclasses.replace(self, lottery=chosen, spiel=None, peft=None)

    def by_spiel(self, method: Literal["ag", "ma"]) -> Self:
        """SpIEL instead, with the settings under `spiel` where there are any and otherwise the thesis' at
        this density.
        """
        chosen = dataclasses.replace(self.spiel or SpielSft(density=self.density), method=method)
        return dataclasses.replace(self, lottery=None, spiel=chosen, peft=None)

    def by_peft(self, method: Method) -> Self:
        """LoRA or (IA)^3 instead, with the settings under `peft` where there are any and otherwise at this
        density.
        """
        chosen = dataclasses.replace(self.peft or PeftSft(density=self.density), method=method)
        return dataclasses.replace(self, lottery=None, spiel=None, peft=chosen)


@dataclass(frozen=True, kw_only=True)
class SftConfig(SftMethod):
    """A sparse fine-tuning and its seed.

    Attributes:
        seed: The seed of batches, masks and random supports.
    """

    seed: Seed = 1
