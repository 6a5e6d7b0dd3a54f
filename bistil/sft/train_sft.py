"""LT-SFT as one call: dense phase, selection, rewind, sparse phase (Ansell et al. 2022, Alg. 1).

Notable: what is minimised is handed in, so a language SFT, a task SFT and a distilled task SFT are this same
procedure. The chosen support is written down when the dense phase ends, so an interrupted run never repeats
that phase."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import Tensor

from bistil.errors import InputError
from bistil.settings.files import read_json
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.lottery import (
    LotteryConfig,
    l1_term,
    select_biases,
    select_random,
    select_top_k,
    set_trainable,
    snapshot,
)
from bistil.sft.sparse_training import SparseTraining
from bistil.sft.tuning import Tuning
from bistil.store.whole import write_whole
from bistil.training.loop import History, Objective, Run

SUPPORT = "support.safetensors"
"""Which entries the sparse phase trains, once they are chosen."""


class Penalised(Objective):
    """An objective plus the L1 term J(theta) = lambda / N * sum |theta - theta_0| (LT-SFT section 3).

    Args:
        undress: takes off what the encoder still wears of the batch before, where the objective dresses it:
            the term is of theta itself.
    """

    def __init__(
        self, inner: Objective, term: Callable[[], Tensor], *, undress: Callable[[], None] | None = None
    ) -> None:
        super().__init__(inner.model)
        self._inner, self._term, self._undress = (inner,), term, undress

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The inner loss plus the term; parts gain `l1`."""
        bare = None
        if self._undress is not None:
            self._undress()
            bare = self._term()
        loss, parts = self._inner[0](batch)
        penalty = self._term() if bare is None else bare
        return loss + penalty, {**parts, "l1": penalty.detach()}

    def train(self, mode: bool = True) -> "Penalised":
        """Switch the inner objective too."""
        self._inner[0].train(mode)
        return super().train(mode)


DENSE_HISTORY = "dense.json"
"""What the dense phase logged, beside the support that came of it."""


def lottery_ticket(
    tuning: Tuning, config: SftConfig, lottery: LotteryConfig, run: Run
) -> tuple[SparseDelta, History]:
    """Train the encoder sparsely and the head in full; return the delta, with the head's tensors as `full`,
    and the history of both phases.
    """
    head, schedule = tuning.head, config.sparse
    lottery = replace(lottery, l1=lottery.l1 * (tuning.own / tuning.parameters))
    theta0 = snapshot(tuning.encoder)
    head0 = {name: tensor.clone() for name, tensor in head.state_dict().items()} if head is not None else {}
    chosen = run.folder / SUPPORT
    history = _choose(chosen, tuning, config, lottery, run, theta0)
    if head is not None:
        head.load_state_dict(head0)
    set_seed(config.seed)
    with SparseTraining(tuning.encoder, support=load_file(chosen), theta0=theta0) as sparse:
        del theta0  # the encoder is there again, so the longer phase does without a copy of every weight
        optimizer = tuning.adamw([sparse.values], [], schedule)
        sparse.attach(optimizer)
        history += _with_l1(tuning, lottery.l1, lambda: sparse.l1_term(lottery.l1)).fit(
            schedule,
            run.phase("checkpoint-sparse", "sparse"),
            seed=config.seed,
            order=config.seed + 1,
            optimizer=optimizer,
        )
        return sparse.delta(tuning.base, full=tuning.head_tensors), history


def _choose(
    chosen: Path,
    tuning: Tuning,
    config: SftConfig,
    lottery: LotteryConfig,
    run: Run,
    theta0: Mapping[str, Tensor],
) -> History:
    """Write down what may change in the sparse phase; LT-SFT trains all that may train first, under the L1
    term, unless that was done before an interruption.
    """
    encoder, seed, before = tuning.encoder, config.seed, chosen.with_name(DENSE_HISTORY)
    names = set_trainable(encoder, **lottery.frozen)
    candidates = {name: theta0[name] for name in names}
    history: History = []
    if lottery.select in ("biases", "all-biases"):
        biases = select_biases(encoder, norms=lottery.select == "all-biases")
        write_support(chosen, {name: one for name, one in biases.items() if name in candidates})
    elif lottery.select == "random":
        random = np.random.default_rng([seed, *tuning.named.encode()])
        # of a draw among all parameters, those that were cut would change nothing
        write_support(chosen, select_random(candidates, lottery.k(tuning.own), random))
    elif lottery.select == "given":
        if not chosen.exists():
            raise InputError("`select: given` is for a delta that is tuned further, and there is none.")
    elif not chosen.exists():
        dense, _ = config.phases
        set_seed(seed)
        pulled = _with_l1(tuning, lottery.l1, lambda: l1_term(encoder, theta0, lottery.l1))
        history = pulled.fit(dense, run.phase("checkpoint-dense", "dense"), seed=seed, order=seed)
        write_whole(before, json.dumps(history))
        trained = {name: encoder.get_parameter(name) for name in names}
        write_support(chosen, select_top_k(candidates, trained, lottery.k(tuning.parameters)))
    elif before.exists():
        history = read_json(before, list)
    return history


def _with_l1(tuning: Tuning, weight: float, term: Callable[[], Tensor]) -> Tuning:
    """The same tuning with a term added to its objective, where the term has any weight."""
    if not weight:
        return tuning
    return replace(tuning, objective=Penalised(tuning.objective, term, undress=tuning.undress))


def phases(history: History) -> list[History]:
    """The phases of a history: one begins where the count of steps does so again, where it goes on behind the
    phase's end, or where more is told of a step that was evaluated, which is the last that a phase tells of
    it.
    """
    starts = [i for i in range(1, len(history)) if _begins(history[i - 1], history[i])]
    return [history[start:end] for start, end in pairwise([0, *starts, len(history)])]


def _begins(before: Mapping[str, float], entry: Mapping[str, float]) -> bool:
    done, now = before.get("epoch", 0.0), entry.get("epoch", 1.0)  # shares of a phase's steps
    behind = done >= 1.0 and entry["step"] > before["step"]
    again = entry["step"] == before["step"] and any(name.startswith("eval_") for name in before)
    return entry["step"] < before["step"] or now < done or behind or again


def write_support(path: Path, support: Mapping[str, Tensor]) -> None:
    """Write down which entries the sparse phase trains, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(dict(support), part)
    part.rename(path)
