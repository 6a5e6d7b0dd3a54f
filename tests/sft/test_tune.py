"""Every method of tuning from one setting: what it may change, that it resumes, and how many values it
changes.
"""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from sft_examples import bits, same_bits
from test_train_sft import CONFIG, PHASE, Classifier, Parity, Sentences, model

from bistil.errors import InputError
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.lottery import LotteryConfig
from bistil.sft.spiel.config import SpielSft
from bistil.sft.tune import fine_tune
from bistil.sft.tuning import Tuning, by_decay
from bistil.training.loop import Run, Stopped
from bistil.training.progress import Event

AG = SpielSft(density=0.05, interval=2, estimation=1, rate=0.5)
SPIEL = SftConfig(spiel=AG, sparse=PHASE, seed=4)
METHODS = {
    "spiel-ag": SPIEL,
    "spiel-ma": dataclasses.replace(SPIEL, spiel=dataclasses.replace(AG, method="ma")),
    "all": CONFIG.by("all"),
    "none": CONFIG.by("none"),
}


def tuned(
    net: Classifier, folder: Path, config: SftConfig, head_rate: float | None = None, **watched: Any
) -> SparseDelta:
    held, objective = Sentences(1, 99)[0], Parity(net)
    tuning = Tuning(
        objective=objective,
        encoder=net.encoder,
        head=net.head,
        batches=Sentences,
        evaluate=lambda: {"loss": float(objective(held)[0])},
        select="loss",
        base=base_hash(net.encoder),
        head_rate=head_rate,
    )
    delta, history = fine_tune(tuning, config, Run(folder, "SFT", **watched))
    assert isinstance(delta, SparseDelta)
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [2, 4, 6] * len(config.phases)
    return delta


@pytest.mark.parametrize("name", METHODS)
def test_the_base_with_the_delta_is_the_trained_encoder_and_the_head_is_in_it(
    name: str, tmp_path: Path
) -> None:
    net, start = model(), model()
    delta = tuned(net, tmp_path, METHODS[name])
    fresh = model().encoder
    with deltas_applied(fresh, delta):
        pairs = zip(bits(fresh).values(), bits(net.encoder).values(), strict=True)
        assert all(torch.allclose(mine, theirs, atol=1e-7) for mine, theirs in pairs)
    assert torch.equal(delta.full["head.weight"], net.head.weight)
    assert not torch.equal(net.head.weight, start.head.weight)
    total = sum(parameter.numel() for parameter in net.encoder.parameters())
    assert delta.size == {"none": 0}.get(name, delta.size)
    if name == "none":
        assert same_bits(bits(net.encoder), bits(start.encoder))
    elif name == "all":
        assert (
            delta.size > 0.5 * total
        )  # CONFIG freezes layer norms; embeddings of words that never came stay too
        assert not any("LayerNorm" in tensor for tensor in delta.tensors)
    else:
        assert delta.size == CONFIG.lottery.k(total)
        assert all(
            ".weight" in tensor and "LayerNorm" not in tensor and "embeddings" not in tensor
            for tensor in delta.tensors
        )


@pytest.mark.parametrize("name", [*METHODS, "top-k"])
def test_the_head_can_have_a_rate_of_its_own(name: str, tmp_path: Path) -> None:
    config, start, rate = METHODS.get(name, CONFIG), model(), 10 * PHASE.learning_rate
    moved = {}
    for head_rate in (None, rate):
        net = model()
        tuned(net, tmp_path / str(head_rate), config, head_rate)
        moved[head_rate] = float((net.head.weight - start.head.weight).detach().abs().max())
        encoder = max(
            float((mine - theirs).abs().max())
            for mine, theirs in zip(bits(net.encoder).values(), bits(start.encoder).values(), strict=True)
        )
        # a step of Adam moves a value by about its rate at most, and the rate falls to 0 over the run
        assert encoder <= PHASE.learning_rate * PHASE.steps
        assert moved[head_rate] <= 1.01 * (head_rate or PHASE.learning_rate) * (PHASE.steps + 1) / 2
    assert moved[rate] > 5 * moved[None]


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_ends_in_the_same_delta(name: str, tmp_path: Path) -> None:
    whole, stop = tuned(model(), tmp_path / "whole", METHODS[name]), threading.Event()

    def watch(event: Event) -> None:
        if event.step == 3:
            stop.set()

    with pytest.raises(Stopped):
        tuned(model(), tmp_path / "halves", METHODS[name], progress=watch, stop=stop)
    assert tuned(model(), tmp_path / "halves", METHODS[name]) == whole


def test_a_method_is_one_of_two_and_has_the_phases_that_it_needs() -> None:
    with pytest.raises(InputError, match="one of them, and one only"):
        SftConfig(sparse=PHASE)
    with pytest.raises(InputError, match="one of them, and one only"):
        dataclasses.replace(CONFIG, spiel=SPIEL.spiel)
    with pytest.raises(InputError, match="under `dense`"):
        SftConfig(lottery=LotteryConfig(density=0.1), sparse=PHASE)
    with pytest.raises(InputError, match=r"at step 20 \(S\), but the run has only 6"):
        SftConfig(spiel=SpielSft(density=0.1), sparse=PHASE)
    with pytest.raises(InputError, match=r"density should be above 0 and at most 1, but is 0\.0"):
        SpielSft(density=0.0)


def test_density_and_baselines_carry_over_between_methods() -> None:
    assert CONFIG.density == SPIEL.density == 0.05
    assert SPIEL.at_density(0.2).spiel.density == CONFIG.at_density(0.2).lottery.density == 0.2
    assert CONFIG.by("random").lottery == dataclasses.replace(CONFIG.lottery, select="random")
    assert SPIEL.by("biases").lottery == LotteryConfig(density=0.05, select="biases")
    assert SPIEL.by("biases").spiel is None


def test_biases_and_norms_do_not_decay_whatever_rate_the_head_has() -> None:
    net = model()
    for head_rate in (None, 0.5):
        objective = Parity(net)
        tuning = Tuning(
            objective=objective,
            encoder=net.encoder,
            head=net.head,
            batches=Sentences,
            evaluate=dict,
            select="loss",
            base="",
            head_rate=head_rate,
        )
        schedule = dataclasses.replace(PHASE, weight_decay=0.1)
        made = tuning.adamw(*by_decay(list(net.encoder.parameters())), schedule)
        decays = {id(one): group["weight_decay"] for group in made.param_groups for one in group["params"]}
        rates = {id(one): group["lr"] for group in made.param_groups for one in group["params"]}
        every = list(net.parameters())
        assert [decays[id(one)] for one in every] == [0.1 if one.ndim > 1 else 0.0 for one in every]
        assert rates[id(net.head.weight)] == (head_rate or schedule.learning_rate)
        values = torch.nn.Parameter(torch.zeros(7))  # the chosen entries, whatever tensors they are of
        assert tuning.adamw([values], [], schedule).param_groups[0]["weight_decay"] == 0.1
