"""Tuning an encoder and its head by the method that the settings name: LT-SFT and its baselines, SpIEL, LoRA
or (IA)^3.

Notable: whatever the method, what comes back is a SparseDelta of the encoder with the head in it, so every
method composes, is stored and is deployed in the same way."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import set_seed

from bistil.sft.config import BatchesFor, SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.lottery import set_trainable, snapshot
from bistil.sft.peers import peft_tuning
from bistil.sft.spiel import MovingSupport, SpielCallback, spiel_optimizer
from bistil.sft.train_sft import head_tensors, lottery_ticket
from bistil.training.loop import Evaluate, History, Objective, fit
from bistil.training.progress import Listener, silent

AGES = "ages.json"


def fine_tune(
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
    """Train `encoder` by `config`'s method and `head` in full; return the delta (with the head's tensors as
    `full`) and the history.

    :param base: hash of the base model that the delta belongs to, before any language delta that `encoder`
    wears already. The encoder and the head are left in their trained state."""
    if config.lottery is not None:
        method: Any = _dense if config.lottery.select in ("all", "none") else lottery_ticket
    else:
        method = _spiel if config.spiel is not None else peft_tuning
    run = {
        "config": config,
        "base": base,
        "select": select,
        "folder": folder,
        "stage": stage,
        "progress": progress,
        "stop": stop,
    }
    found: tuple[SparseDelta, History] = method(objective, encoder, head, batches, evaluate, **run)
    return found


def _spiel(
    objective: Objective,
    encoder: nn.Module,
    head: nn.Module | None,
    batches: BatchesFor,
    evaluate: Evaluate,
    *,
    config: SftConfig,
    base: str,
    folder: Path,
    stage: str,
    **run: Any,
) -> tuple[SparseDelta, History]:
    """SpIEL (thesis section 7.3) over the steps of the `sparse` schedule, whose weight decay pulls the delta
    towards 0.

    Beside the delta it leaves in `folder`, as `ages.json`, how many entries of the support after the last
    step were last grown at which.
    """
    assert config.spiel is not None
    schedule, count = config.sparse, sum(parameter.numel() for parameter in encoder.parameters())
    own_seed = int(
        np.random.SeedSequence([config.seed, *stage.encode()]).generate_state(1)[0]
    )  # no two SFTs start from the same support
    set_seed(config.seed)
    with MovingSupport(encoder, config.spiel.for_run(count, steps=schedule.steps, seed=own_seed)) as support:
        parameters = head.parameters() if head is not None else ()
        optimizer = spiel_optimizer(
            support, parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        history = fit(
            objective,
            batches(schedule.steps, config.seed + 1),
            evaluate,
            schedule=schedule,
            folder=folder / "checkpoint-spiel",
            seed=config.seed,
            stage=f"{stage}, SpIEL",
            optimizer=optimizer,
            callbacks=[SpielCallback(optimizer)],
            **run,
        )
        steps, counts = optimizer.born.unique(return_counts=True)
        ages = dict(zip(map(str, steps.tolist()), counts.tolist(), strict=True))
        (folder / AGES).write_text(json.dumps(ages), encoding="utf-8")
        return support.delta(base, full=head_tensors(head)), history


def _dense(
    objective: Objective,
    encoder: nn.Module,
    head: nn.Module | None,
    batches: BatchesFor,
    evaluate: Evaluate,
    *,
    config: SftConfig,
    base: str,
    folder: Path,
    stage: str,
    **run: Any,
) -> tuple[SparseDelta, History]:
    """Full fine-tuning, or the head alone, over the steps of the `sparse` schedule; the delta is what has
    changed, to one rounding.
    """
    assert config.lottery is not None
    theta0 = snapshot(encoder)
    set_trainable(encoder, freeze_layer_norms=config.lottery.freeze_layer_norms)
    if config.lottery.select == "none":
        encoder.requires_grad_(False)
    set_seed(config.seed)
    history = fit(
        objective,
        batches(config.sparse.steps, config.seed + 1),
        evaluate,
        schedule=config.sparse,
        folder=folder / "checkpoint-dense",
        seed=config.seed,
        stage=stage,
        **run,
    )
    return SparseDelta.between(theta0, snapshot(encoder), base=base, full=head_tensors(head)), history
