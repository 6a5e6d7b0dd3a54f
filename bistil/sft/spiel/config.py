"""Settings of one SpIEL run, and its replacement schedule (thesis section 7.3, eq. 7.6, E.1).

Notable: where the thesis contradicts itself or is silent, there is a field; each default is the reading of
its running text."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from bistil.errors import InputError
from bistil.settings.ranges import Count, Density, Positive, Seed, Settings, Share


@dataclass(frozen=True, kw_only=True)
class SpielSettings(Settings):
    """How the support moves.

    Attributes:
        method: "ag" grows by averaged gradients and trains with Adam; "ma" grows by, and trains with, SM3's
            accumulators.
        interval: S, optimiser steps between updates of the support.
        estimation: gamma, the last steps of each interval, over which "ag" averages gradients. The thesis'
            algorithm boxes have gamma = S.
        doubtful: An adaptive gamma (thesis section 7.5, an outlook without an algorithm): "ag" goes on
            averaging, and its update waits, while more candidates than this multiple of those it grows could
            belong to them, by the 95 % interval of their mean gradients; until the next estimation phase at
            the latest. None updates at every S-th step.
        rate: xi, the peak share of the support that an update replaces; it falls with `schedule` to 0.
        schedule: "linear" (eq. 7.6) or "cosine" (eq. E.1).
        replace_all_first: Whether the first update replaces the whole (random) support.
        drop: "magnitude" drops the smallest |phi|; "change" the smallest change of phi since the last update
            (the algorithm boxes).
        candidates: "all" takes "ag"'s candidates from every entry, the active ones being passed over when
            growing; "inactive" takes them from the entries outside the support only.
        regrow: Whether an update may grow an entry that it drops; such an entry starts again at 0.
        moments: How "ag" seeds a grown entry's Adam state: "matched" as if the estimation phase had been Adam
            steps (means times 1 - beta^gamma, age gamma), of gradients as they are before clipping; "means"
            takes the means themselves and age 0.
        accumulator: "sum" adds each row's and column's largest squared gradient (SM3-I); "max" is SM3-II.
        tensors: "per-tensor" keeps the number of entries of each tensor; "global" grows the best candidates
            of all tensors together, at most a tensor's first share of them in one update.
        embeddings: Whether embedding matrices change too; otherwise only weights of linear layers in the
            Transformer's blocks do.

    Raises:
        InputError: a value is outside its range or not among its choices.
    """

    method: Literal["ag", "ma"] = "ag"
    interval: Count = 20
    estimation: Count = 5
    doubtful: Positive | None = field(default=None, metadata={"added_later": True})
    rate: Share = 0.2
    schedule: Literal["linear", "cosine"] = "linear"
    replace_all_first: bool = True
    drop: Literal["magnitude", "change"] = "magnitude"
    candidates: Literal["all", "inactive"] = "all"
    regrow: bool = True
    moments: Literal["matched", "means"] = "matched"
    accumulator: Literal["sum", "max"] = "sum"
    tensors: Literal["per-tensor", "global"] = "per-tensor"
    embeddings: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimation > self.interval:
            told = (
                "Gradients are averaged over the last steps of an interval: expected estimation (gamma) from"
                f" 1 to the interval (S) of {self.interval} steps, got {self.estimation}."
            )
            raise InputError(told, at=("estimation",))
        if self.doubtful is not None and not (self.method == "ag" and 1 < self.estimation < self.interval):
            told = (
                'An update can wait for surer gradients (`doubtful`) where `method` is "ag" and estimation'
                f" (gamma) from 2 to below the interval (S), but got {self.method}, gamma"
                f" {self.estimation}, S {self.interval}."
            )
            raise InputError(told, at=("doubtful",))

    def check_steps(self, steps: int, *at: str) -> None:
        """Refuse a run of so many optimiser steps, which stand at `at`, where the support would never move.

        Raises:
            InputError: the run ends with, or before, the first update.
        """
        if steps <= self.interval:
            told = (
                f"Expected steps (T) after the first update of the support, which is at step {self.interval}"
                f" (S), but the run has only {steps}: lengthen the run or shorten the interval."
            )
            raise InputError(told, at=at)


@dataclass(frozen=True, kw_only=True)
class SpielConfig(SpielSettings):
    """What may change, and how the support moves.

    Attributes:
        steps: T, the optimiser steps of the whole run, at which the replacement rate reaches 0.
        density: The share of the chosen tensors' entries that the delta may change, the same in each tensor;
            or give `size`.
        size: K, the number of entries that the delta may change, instead of `density`.
        seed: The seed of the random support at the start.

    Raises:
        InputError: a value is outside its range or not among its choices.
    """

    steps: Count
    density: Density | None = None
    size: Count | None = None
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.density is None) == (self.size is None):
            raise InputError(
                "Give either density, the share of entries that may change, or size, their number, and not"
                " both."
            )
        self.check_steps(self.steps, "steps")

    def quotas(self, numels: list[int]) -> list[int]:
        """Return how many entries of each tensor may change, in proportion to its size; they sum to K
        exactly.

        Raises:
            InputError: K is larger than the number of entries.
        """
        total = sum(numels)
        size = self.size if self.size is not None else max(1, round((self.density or 0.0) * total))
        if size > total:
            raise InputError(
                f"The delta may change {size} entries, but the chosen tensors have only {total}: lower size"
                " to at most that."
            )
        ends = [0]
        for numel in numels:
            ends.append(ends[-1] + numel)
        marks = [(end * size + total // 2) // total for end in ends]
        return [after - before for before, after in pairwise(marks)]

    def share(self, step: int) -> float:
        """Return the share of the support that the update at `step` replaces, k(t) / K."""
        if step == self.interval and self.replace_all_first:
            return 1.0
        done = min(step / self.steps, 1.0)
        return self.rate * (1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2)

    def replaced(self, count: int, step: int) -> int:
        """Return how many of `count` entries the update at `step` replaces, k(i, t)."""
        return round(self.share(step) * count)

    def ages_by_chance(self) -> tuple[list[int], list[float]]:
        """Return the steps of updates, 0 first, and the expected share of the final support last grown at
        each, were drops random.

        The null of the thesis' Figure 7.4; the shares sum to 1.
        """
        updates, shares, surviving = (
            list(range(self.interval, self.steps + 1, self.interval)),
            list[float](),
            1.0,
        )
        for step in reversed(updates):
            shares.append(self.share(step) * surviving)
            surviving *= 1 - self.share(step)
        return [0, *updates], [surviving, *reversed(shares)]


@dataclass(frozen=True, kw_only=True)
class SpielSft(SpielSettings):
    """SpIEL as an experiment asks for it: the run gives steps and seed.

    Attributes:
        density: The share of *all* the encoder's parameters that the delta may change, as
            `LotteryConfig.density`, so that both methods change as many values at equal density.
    """

    density: Density

    def for_run(self, n_parameters: int, *, steps: int, seed: int) -> SpielConfig:
        """The settings of a run on an encoder of `n_parameters`."""
        moving = {name: value for name, value in vars(self).items() if name != "density"}
        return SpielConfig(**moving, size=max(1, round(self.density * n_parameters)), steps=steps, seed=seed)
