"""Tuning an encoder and its head by the method that the settings name: LT-SFT and its baselines, SpIEL, LoRA,
(IA)^3 or a bottleneck adapter.

Notable: whatever the method, what comes back can be worn by the encoder and has the head in it. All but an
adapter are a SparseDelta, so they compose and are merged."""

import json

import numpy as np
from accelerate.utils import set_seed

from bistil.sft.bottleneck import Adapter, adapter_tuning
from bistil.sft.config import AdapterConfig, PeftSft, SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.lottery import LotteryConfig, set_trainable, snapshot
from bistil.sft.peers import peft_tuning
from bistil.sft.spiel import MovingSupport, spiel_optimizer
from bistil.sft.spiel.config import SpielSft
from bistil.sft.train_sft import lottery_ticket
from bistil.sft.tuning import Tuning
from bistil.training.loop import History, Run

AGES = "ages.json"


def fine_tune(tuning: Tuning, config: SftConfig, run: Run) -> tuple[SparseDelta | Adapter, History]:
    """Train the encoder by `config`'s method and the head in full; return the delta or the adapter, with the
    head's tensors as `full`, and the history.
    """
    match config.method:
        case LotteryConfig(select="all" | "none") as lottery:
            return _dense(tuning, config, lottery, run)
        case LotteryConfig() as lottery:
            return lottery_ticket(tuning, config, lottery, run)
        case SpielSft() as spiel:
            return _spiel(tuning, config, spiel, run)
        case PeftSft() as peft:
            return peft_tuning(tuning, config, peft, run)
        case AdapterConfig() as adapter:
            return adapter_tuning(tuning, config, adapter, run)


def _spiel(tuning: Tuning, config: SftConfig, spiel: SpielSft, run: Run) -> tuple[SparseDelta, History]:
    """SpIEL (thesis section 7.3) over the steps of the `sparse` schedule, whose weight decay pulls the delta
    towards 0.

    Beside the delta it leaves in the run's folder, as `ages.json`, how many entries of the support after the
    last step were last grown at which.
    """
    from bistil.sft.spiel.callback import SpielCallback

    encoder, schedule = tuning.encoder, config.sparse
    seed = int(np.random.SeedSequence([config.seed, *tuning.named.encode()]).generate_state(1)[0])
    set_seed(config.seed)
    with MovingSupport(encoder, spiel.for_run(tuning.parameters, steps=schedule.steps, seed=seed)) as support:
        optimizer = spiel_optimizer(
            support,
            tuning.head_parameters,
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            epsilon=schedule.epsilon,
        )
        if tuning.head_rate is not None:
            optimizer.param_groups[1]["lr"] = tuning.head_rate
        history = tuning.fit(
            schedule,
            run.phase("checkpoint-spiel", "SpIEL"),
            seed=config.seed,
            order=config.seed + 1,
            optimizer=optimizer,
            callbacks=[SpielCallback(optimizer)],
        )
        steps, counts = optimizer.born.unique(return_counts=True)
        ages = dict(zip(map(str, steps.tolist()), counts.tolist(), strict=True))
        (run.folder / AGES).write_text(json.dumps(ages), encoding="utf-8")
        return support.delta(tuning.base, full=tuning.head_tensors), history


def _dense(
    tuning: Tuning, config: SftConfig, lottery: LotteryConfig, run: Run
) -> tuple[SparseDelta, History]:
    """Full fine-tuning, or the head alone, over the steps of the `sparse` schedule; the delta is what has
    changed, to one rounding.
    """
    encoder = tuning.encoder
    theta0 = snapshot(encoder)
    set_trainable(encoder, **lottery.frozen)
    if lottery.select == "none":
        encoder.requires_grad_(False)
    set_seed(config.seed)
    history = tuning.fit(
        config.sparse, run.phase("checkpoint-dense"), seed=config.seed, order=config.seed + 1
    )
    found = SparseDelta.between(theta0, snapshot(encoder), base=tuning.base, full=tuning.head_tensors)
    return found, history
