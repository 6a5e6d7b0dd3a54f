"""LT-SFT as one call: dense phase, selection, rewind, sparse phase (Ansell et al. 2022, Alg. 1).

Notable: what is minimised is handed in, so a language SFT, a task SFT and a distilled task SFT are this same
procedure. The chosen support is written down when the dense phase ends, so an interrupted run never repeats
that phase."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import set_seed

from bistil.sft.config import BatchesFor, SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.lottery import (
    SparseTraining,
    l1_term,
    select_biases,
    select_random,
    select_top_k,
    set_trainable,
    snapshot,
)
from bistil.training.loop import Evaluate, History, Objective, fit
from bistil.training.progress import Listener, silent


class Penalised(Objective):
    """An objective plus the L1 term J(theta) = lambda / N * sum |theta - theta_0| (LT-SFT section 3)."""

    def __init__(self, inner: Objective, term: Any) -> None:
        super().__init__(inner.model)
        self._inner, self._term = (inner,), term

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The inner loss plus the term; parts gain `l1`."""
        loss, parts = self._inner[0](batch)
        penalty = self._term()
        return loss + penalty, {**parts, "l1": penalty}

    def train(self, mode: bool = True) -> "Penalised":
        """Switch the inner objective too."""
        self._inner[0].train(mode)
        return super().train(mode)


def lottery_ticket(
    objective: Objective,
    encoder: nn.Module,
    head: nn.Module | None,
    batches: BatchesFor,
    evaluate: Evaluate,
    *,
    config: SftConfig,
    base: str,
    select: str,
    folder: Path,
    stage: str,
    progress: Listener = silent,
    stop: threading.Event | None = None,
) -> tuple[SparseDelta, History]:
    """Train `encoder` sparsely and `head` in full; return the delta (with the head's tensors as `full`) and
    both phases' history.

    :param base: hash of the base model that the delta belongs to, before any language delta that `encoder`
    wears already. The encoder and the head are left in their trained state."""
    lottery = config.lottery
    assert lottery is not None
    theta0 = snapshot(encoder)
    head0 = {name: tensor.clone() for name, tensor in head.state_dict().items()} if head is not None else {}
    names = set_trainable(encoder, freeze_layer_norms=lottery.freeze_layer_norms)
    run: dict[str, Any] = {
        "evaluate": evaluate,
        "select": select,
        "seed": config.seed,
        "progress": progress,
        "stop": stop,
    }
    history: History = []
    chosen = folder / "support.safetensors"
    k = lottery.k(sum(tensor.numel() for tensor in theta0.values()))
    candidates = {name: theta0[name] for name in names}
    if lottery.select != "top-k":
        random = np.random.default_rng(
            [config.seed, *stage.encode()]
        )  # so that no two SFTs have the same support by accident
        _write_support(
            chosen,
            select_biases(encoder) if lottery.select == "biases" else select_random(candidates, k, random),
        )
    elif not chosen.exists():
        history = _dense_phase(
            objective, encoder, batches, theta0, config=config, folder=folder, stage=stage, run=run
        )
        _write_support(
            chosen, select_top_k(candidates, {name: encoder.get_parameter(name) for name in names}, k)
        )
    if head is not None:
        head.load_state_dict(head0)
    set_seed(config.seed)
    with SparseTraining(encoder, support=load_file(chosen), theta0=theta0) as sparse:
        del (
            theta0,
            candidates,
        )  # the encoder is at theta0 again: a copy of every weight less during the longer phase
        parameters = [sparse.values, *(head.parameters() if head is not None else ())]
        optimizer = torch.optim.AdamW(
            parameters, lr=config.sparse.learning_rate, weight_decay=config.sparse.weight_decay
        )
        sparse.attach(optimizer)
        l1 = lottery.l1
        phase = Penalised(objective, lambda: sparse.l1_term(l1)) if l1 else objective
        history += fit(
            phase,
            batches(config.sparse.steps, config.seed + 1),
            schedule=config.sparse,
            folder=folder / "checkpoint-sparse",
            stage=f"{stage}, sparse",
            optimizer=optimizer,
            **run,
        )
        return sparse.delta(base, full=head_tensors(head)), history


def _dense_phase(
    objective: Objective,
    encoder: nn.Module,
    batches: BatchesFor,
    theta0: dict[str, Tensor],
    *,
    config: SftConfig,
    folder: Path,
    stage: str,
    run: dict[str, Any],
) -> History:
    """Train what may train, all of it, under the L1 term (the first half of Alg. 1)."""
    assert config.lottery is not None
    assert config.dense is not None
    set_seed(config.seed)
    l1 = config.lottery.l1
    return fit(
        Penalised(objective, lambda: l1_term(encoder, theta0, l1)) if l1 else objective,
        batches(config.dense.steps, config.seed),
        schedule=config.dense,
        folder=folder / "checkpoint-dense",
        stage=f"{stage}, dense",
        **run,
    )


def head_tensors(head: nn.Module | None) -> dict[str, Tensor]:
    """A head's tensors under the names that a delta carries them by."""
    return {
        f"head.{name}": tensor for name, tensor in (head.state_dict() if head is not None else {}).items()
    }


def _write_support(path: Path, support: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(support, part)
    part.rename(path)
