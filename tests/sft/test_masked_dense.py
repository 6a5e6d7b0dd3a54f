"""The sparse phase of LT-SFT, and SpIEL that replaces nothing, are 200 steps of dense training under a mask:
nothing else is trained.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sft_examples import encoder, random_delta
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from bistil.errors import InputError
from bistil.sft import sampled
from bistil.sft.lottery import SparseTraining, snapshot
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer
from bistil.sft.spiel.support import choose_tensors

STEPS, MICRO, LR, DECAY, CLIP = 200, 2, 2e-3, 0.1, 0.05
Support = dict[str, Tensor]


def support_of(model: nn.Module) -> Support:
    chosen = choose_tensors(model, embeddings=True)
    return {
        name: positions
        for name, (positions, _) in random_delta(model, 3, 0.05).tensors.items()
        if name in chosen
    }


def train(
    model: nn.Module,
    trained: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    after: Callable[[], None],
    bf16: bool,
) -> float:
    """Warm-up, linear decay, accumulation and clipping; returns how often the norm was clipped, as a
    share.
    """
    schedule = get_linear_schedule_with_warmup(optimizer, STEPS // 10, STEPS)
    random, clipped = torch.Generator().manual_seed(1), 0
    target = torch.randn(2, 6, 32, generator=random)
    for _ in range(STEPS):
        for _ in range(MICRO):
            ids = torch.randint(0, 60, (2, 6), generator=random)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                states = model(input_ids=ids).last_hidden_state
            ((states.float() - target).square().mean() / MICRO).backward()
        clipped += int(nn.utils.clip_grad_norm_(trained, CLIP) > CLIP)
        optimizer.step()
        after()
        schedule.step()
        optimizer.zero_grad()
    return clipped / STEPS


def masked_dense(support: Support, bf16: bool) -> dict[str, Tensor]:
    """Dense AdamW on a difference of every weight's size, whose gradient is the weight's under a 0/1 mask."""
    model = encoder()
    theta0 = snapshot(model)
    masks = {
        name: torch.zeros(theta0[name].numel()).index_fill_(0, support[name], 1.0).view_as(theta0[name])
        for name in support
    }
    deltas = {name: nn.Parameter(torch.zeros_like(theta0[name])) for name in support}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in support)
    for name in support:
        deltas[name].grad = torch.zeros_like(theta0[name])

        def collect(parameter: Tensor, name: str = name) -> None:
            gradient = parameter.grad * masks[name]  # type: ignore[operator]
            deltas[name].grad = gradient if deltas[name].grad is None else deltas[name].grad + gradient  # type: ignore[operator]
            parameter.grad = None

        model.get_parameter(name).register_post_accumulate_grad_hook(collect)

    @torch.no_grad()
    def merge() -> None:
        for name, delta in deltas.items():
            model.get_parameter(name).copy_(theta0[name] + delta)

    trained = list(deltas.values())
    assert train(model, trained, torch.optim.AdamW(trained, lr=LR, weight_decay=DECAY), merge, bf16) > 0.5
    return snapshot(model)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("way", ["gathered", "sampled", "spiel"])
def test_two_hundred_steps_end_in_the_same_weights(
    way: str, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled, "LEAST", 1 if way == "sampled" else sampled.LEAST)
    model = encoder()
    theta0, support = snapshot(model), support_of(model)
    settled = SpielConfig(steps=STEPS, density=0.1, rate=0.0, replace_all_first=False, embeddings=True)
    spiel = way == "spiel"
    context: Any = (
        MovingSupport(model, settled, support=support)
        if spiel
        else SparseTraining(model, support=support, theta0=theta0)
    )
    with context as training:
        if spiel:
            optimizer: torch.optim.Optimizer = spiel_optimizer(training, lr=LR, weight_decay=DECAY)
        else:
            optimizer = torch.optim.AdamW([training.values], lr=LR, weight_decay=DECAY)
            training.attach(optimizer)
        train(model, [training.values], optimizer, lambda: None, bf16)
        ours = {name: tensor for name, tensor in snapshot(model).items() if name != "sft_values"}
    expected = masked_dense(support, bf16)
    assert max(float((ours[name] - theta0[name]).abs().max()) for name in ours) > 0.05
    worst = max(float((ours[name] - expected[name]).abs().max()) for name in ours)
    assert worst <= (2e-3 if bf16 else 1e-6), worst


@pytest.mark.parametrize("when", [1, 3])
def test_a_gradient_that_is_not_finite_stops_the_step_and_keeps_the_last_state(when: int) -> None:
    model, head = encoder(), nn.Linear(32, 2)
    with SparseTraining(model, support=support_of(model), theta0=snapshot(model)) as training:
        optimizer = torch.optim.AdamW([training.values, *head.parameters()], lr=1e-2)
        training.attach(optimizer)
        ids = torch.randint(0, 60, (2, 6))

        def loss() -> Tensor:
            return head(model(input_ids=ids).last_hidden_state).square().mean()

        for _ in range(when - 1):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()
        before = snapshot(model)
        (loss() * float("nan")).backward()
        with pytest.raises(
            InputError, match=rf"step {when} are not finite \(first in e.*after step {when - 1}"
        ):
            optimizer.step()
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())
        optimizer.zero_grad()
        loss().backward()
        training.values.grad = None  # only the head's is left, and it is bad
        next(head.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        with pytest.raises(InputError, match=r"a dense parameter of shape \(2, 32\)"):
            optimizer.step()
