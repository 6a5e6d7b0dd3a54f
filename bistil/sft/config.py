"""Settings of a sparse fine-tuning: the method, how much may change, how long it trains.

Notable: `lottery` (LT-SFT and its baselines), `spiel`, `peft` and `adapter` stand in the same place, so an
experiment changes its method in one line."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from bistil.errors import InputError
from bistil.settings.ranges import Density, Dropout, Factor, Positive, Seed, Settings
from bistil.sft.lottery import LotteryConfig, Selection
from bistil.sft.spiel.config import SpielSft
from bistil.systems.layers import Part
from bistil.training.loop import Schedule

Peer = Literal["lora", "ia3"]
Way = Selection | Literal["ag", "ma"] | Peer
"""Every method in one word: what LT-SFT or a baseline of it selects, how SpIEL grows, or a peer."""


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
    method: Peer = "lora"
    alpha: Positive = 16.0
    dropout: Dropout = 0.1


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(Settings):
    """A bottleneck adapter (thesis sections 1.4 and 3.1); the defaults are those of a task's.

    Attributes:
        reduction: The encoder's hidden size as a multiple of the bottleneck's. The thesis has 2 for a
            language and 1 to 32 for a task.
        last_layer: Whether the last layer has one too, as in chapter 3; in chapters 4 and 6 it has none.
        invertible: The invertible map at the embeddings, for languages: half the hidden size as a multiple of
            its bottleneck (2 in MAD-X), None for none.
        start: Random weights of deviation 0.02 ("normal"), or such that the adapter changes nothing at first
            ("zero").
    """

    reduction: Factor = 16
    last_layer: bool = False
    invertible: Factor | None = None
    start: Literal["normal", "zero"] = "normal"


@dataclass(frozen=True, kw_only=True)
class SftMethod(Settings):
    """What may change, and how long each phase runs; give one of `lottery`, `spiel`, `peft` and `adapter`.

    Attributes:
        lottery: LT-SFT, or a baseline of it by `lottery.select`; only "top-k" has a dense phase.
        dense: The dense phase of LT-SFT.
        sparse: The sparse phase of LT-SFT; for every other method the whole training.
        spiel: SpIEL instead of LT-SFT.
        peft: LoRA or (IA)^3 instead of it.
        adapter: A bottleneck adapter instead of it.

    Raises:
        InputError: several methods are given, or none, or LT-SFT without its dense phase.
    """

    lottery: LotteryConfig | None = None
    dense: Schedule | None = None
    sparse: Schedule
    spiel: SpielSft | None = field(default=None, metadata={"added_later": True})
    peft: PeftSft | None = field(default=None, metadata={"added_later": True})
    adapter: AdapterConfig | None = field(default=None, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if [self.lottery, self.spiel, self.peft, self.adapter].count(None) != 3:
            raise InputError(
                "A fine-tuning is by `lottery`, by `spiel`, by `peft` or by `adapter`: give one of them, and"
                " one only."
            )
        if self.lottery is not None and self.lottery.select == "top-k" and self.dense is None:
            raise InputError(
                "LT-SFT chooses what may change by a dense phase: give its schedule under `dense`."
            )
        if self.spiel is not None and self.sparse.steps:
            self.spiel.check_steps(self.sparse.steps, "sparse", "steps")

    @property
    def method(self) -> LotteryConfig | SpielSft | PeftSft | AdapterConfig:
        """The settings of the one method that is given."""
        found = self.lottery or self.spiel or self.peft or self.adapter
        assert found is not None
        return found

    @property
    def phases(self) -> tuple[Schedule, ...]:
        """The schedules that are run, one after the other."""
        two = self.lottery is not None and self.lottery.select == "top-k"
        return (self.dense, self.sparse) if two and self.dense is not None else (self.sparse,)

    @property
    def density(self) -> float:
        """Share of the encoder's parameters that may change.

        Raises:
            InputError: an adapter has none.
        """
        return self._sparse.density

    @property
    def _sparse(self) -> LotteryConfig | SpielSft | PeftSft:
        """The method of one that has a density."""
        if isinstance(self.method, AdapterConfig):
            raise InputError("An adapter has no density; its size is its `reduction`.")
        return self.method

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    def counted(self, examples: int, batch_size: int) -> Self:
        """The same with the epochs of its schedules as steps."""
        dense = self.dense and self.dense.counted(examples, batch_size)
        return dataclasses.replace(self, dense=dense, sparse=self.sparse.counted(examples, batch_size))

    def at_density(self, density: float) -> Self:
        """The same method with another density."""
        return self._with(dataclasses.replace(self._sparse, density=density))

    def by(self, way: Way, **moves: Any) -> Self:
        """Another method over the same schedules, or the same one by another `select` or `method`.

        Where the settings are of another method, only the density carries over, and the rest is that method's
        defaults; `moves` are settings of SpIEL's support.
        """
        match way:
            case "ag" | "ma":
                spiel = self.spiel or SpielSft(density=self.density)
                return self._with(dataclasses.replace(spiel, method=way, **moves))
            case "lora" | "ia3":
                peft = self.peft or PeftSft(density=self.density)
                return self._with(dataclasses.replace(peft, method=way))
            case _:
                lottery = self.lottery or LotteryConfig(density=self.density)
                return self._with(dataclasses.replace(lottery, select=way))

    def within(self, *, part: Part | None = None, only: tuple[str, ...] = ()) -> Self:
        """The same where entries of a part of the encoder alone may change, as `LotteryConfig` says it.

        Raises:
            InputError: for another method than LT-SFT or a baseline of it.
        """
        if self.lottery is None:
            raise InputError(
                f"`part: {part or 'shared'}` is for LT-SFT and its baselines, but the settings have no"
                " `lottery`."
            )
        return self._with(dataclasses.replace(self.lottery, part=part, only=only))

    def _with(self, method: LotteryConfig | SpielSft | PeftSft) -> Self:
        return dataclasses.replace(
            self,
            lottery=method if isinstance(method, LotteryConfig) else None,
            spiel=method if isinstance(method, SpielSft) else None,
            peft=method if isinstance(method, PeftSft) else None,
            adapter=None,
        )


@dataclass(frozen=True, kw_only=True)
class SftConfig(SftMethod):
    """A sparse fine-tuning and its seed.

    Attributes:
        seed: The seed of batches, masks and random supports.
    """

    seed: Seed = 1
