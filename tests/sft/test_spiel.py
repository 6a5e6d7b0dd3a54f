"""SpIEL's cycle: it is the plain-loop reference under every reading, keeps its invariants, and stops cleanly
at bad gradients.
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sft_examples import bits, encoder, random_delta, same_bits
from spiel_reference import LR, Blocks, Reference, loss, run
from torch import nn

from bistil.errors import InputError
from bistil.sft.delta import base_hash, deltas_applied
from bistil.sft.lottery import snapshot
from bistil.sft.sparse_training import SparseTraining
from bistil.sft.spiel import MovingSupport, SpielAG, SpielConfig, SpielMA, spiel_optimizer
from bistil.sft.spiel.support import choose_tensors

READINGS: list[dict[str, Any]] = [
    {},
    {"drop": "change"},
    {"estimation": 4},
    {"candidates": "inactive"},
    {"candidates": "inactive", "density": 0.7},
    {"regrow": False},
    {"moments": "means"},
    {"schedule": "cosine"},
    {"replace_all_first": False},
    {"method": "ma"},
    {"method": "ma", "accumulator": "max"},
    {"method": "ma", "regrow": False, "drop": "change"},
]


def config(**changes: Any) -> SpielConfig:
    return SpielConfig(
        **{"steps": 20, "interval": 4, "estimation": 2, "density": 0.3, "rate": 0.5, **changes}
    )


@pytest.mark.parametrize(
    "reading",
    READINGS,
    ids=lambda reading: ",".join(f"{key}={value}" for key, value in reading.items()) or "text",
)
def test_it_is_the_plain_loops_under_every_reading(reading: dict[str, Any]) -> None:
    settled, model, twin = config(**reading), Blocks(), Blocks()
    references: dict[str, Reference] = {}
    with MovingSupport(model, settled) as start:
        references = {
            name: Reference(twin.get_parameter(name), start.positions(name), settled) for name in start.parts
        }
    for step, support, optimizer in run(model, settled):
        for name, reference in references.items():
            twin.get_parameter(name).data.copy_(torch.from_numpy(reference.weights()))
        twin.zero_grad()
        loss(twin, step).backward()
        for name, reference in references.items():
            reference.step(step, twin.get_parameter(name).grad.numpy())
            positions = support.positions(name)
            assert positions.tolist() == np.flatnonzero(reference.active).tolist(), (step, name)
            torch.testing.assert_close(
                model.get_parameter(name).double().detach().numpy(), reference.weights(), rtol=0.0, atol=2e-6
            )
            assert optimizer.born[support.parts[name]].tolist() == reference.born[positions].tolist()


def test_the_readings_differ_where_they_should() -> None:
    def support(**changes: Any) -> list[int]:
        return next(s.keys.tolist() for step, s, _ in run(Blocks(), config(**changes)) if step == 20)

    supports = [support(**reading) for reading in READINGS if "density" not in reading]
    assert len({tuple(keys) for keys in supports}) >= len(supports) - 1


@pytest.mark.parametrize("share", [0.2, 1.5])
def test_an_update_waits_while_its_candidates_are_in_doubt(share: float) -> None:
    """Adaptive gamma (thesis section 7.5) is the plain loops."""
    settled = config(steps=60, interval=8, estimation=2, density=0.3, doubtful=share)
    model, twin, waited = Blocks(), Blocks(), list[int]()
    with MovingSupport(model, settled) as start:
        references = {
            name: Reference(twin.get_parameter(name), start.positions(name), settled) for name in start.parts
        }
    for step, support, optimizer in run(model, settled):
        for name, reference in references.items():
            twin.get_parameter(name).data.copy_(torch.from_numpy(reference.weights()))
        twin.zero_grad()
        loss(twin, step).backward()
        for name, reference in references.items():
            reference.step(step, twin.get_parameter(name).grad.numpy())
        due = next(iter(references.values())).due
        if due:
            doubts, counts = zip(*(one.doubts() for one in references.values()), strict=True)
            if sum(doubts) <= share * sum(counts) or step - due >= 6:
                for reference in references.values():
                    reference.renew(step)
                waited.append(step - due)
        for name, reference in references.items():
            positions = support.positions(name).tolist()
            assert positions == np.flatnonzero(reference.active).tolist(), (step, name)
            assert optimizer.born[support.parts[name]].tolist() == reference.born[positions].tolist()
    assert waited[0] == 0
    assert max(waited) > 0


def test_a_run_that_waits_resumes_to_the_bit() -> None:
    settled = config(steps=30, interval=8, estimation=2, doubtful=0.1)
    whole = {step: (s.keys.clone(), s.values.detach().clone()) for step, s, _ in run(Blocks(), settled)}
    model = Blocks()
    with MovingSupport(model, settled) as support:
        optimizer = spiel_optimizer(support, lr=LR)
        for step in range(1, 19):
            loss(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert optimizer.due == 16, "the run is stopped while an update waits"
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    model = Blocks()
    with MovingSupport(model, settled) as support:
        optimizer = spiel_optimizer(support, lr=LR)
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        for step in range(19, 31):
            loss(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert support.keys.equal(whole[step][0])
            assert support.values.equal(whole[step][1])


def test_candidate_averages_are_the_dense_ones_over_micro_batches() -> None:
    model, settled, seen = Blocks(), config(), []
    name = "blocks.0.weight"
    with MovingSupport(model, settled) as support:
        optimizer = SpielAG(support, lr=0.01)
        model.get_parameter(name).register_hook(lambda gradient: seen.append(gradient.clone().view(-1)))
        for step in range(1, 4):
            for micro in range(3):
                (loss(model, step, micro) / 3).backward()
            assert all(
                parameter.grad is None for key, parameter in model.named_parameters() if key != "sft_values"
            )
            optimizer.step()
            optimizer.zero_grad()
        estimate = optimizer.estimates[name]
        batch = sum(seen[6:])
        assert set(estimate.positions.tolist()) == set(seen[6].abs().topk(13).indices.tolist())
        torch.testing.assert_close(estimate.total, batch[estimate.positions])
        torch.testing.assert_close(estimate.squares, batch[estimate.positions].square())
        loss(model, 4).backward()
        mean = (batch + seen[-1]) / 2
        before = set(estimate.positions.tolist())
        optimizer.step()
    grown = support.positions(name)
    assert set(grown.tolist()) == before
    moments = optimizer.state[support.values]
    torch.testing.assert_close(moments["exp_avg"][support.parts[name]], mean[grown] * (1 - 0.9**2))
    assert moments["age"].tolist() == [2.0] * len(support.keys)


def test_a_fixed_support_is_the_sparse_phase_of_lt_sft() -> None:
    settled = config(rate=0.0, replace_all_first=False)
    left, right = encoder(), encoder()
    support = {
        name: p
        for name, (p, _) in random_delta(left, 3, 0.05).tensors.items()
        if name in choose_tensors(left) and len(p)
    }
    ids, target = torch.randint(0, 60, (20, 2, 6)), torch.randn(2, 6, 32)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for batch in ids:
            (model(input_ids=batch).last_hidden_state - target).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    with MovingSupport(left, settled, support=support) as moving:
        train(left, spiel_optimizer(moving, lr=1e-2, weight_decay=0.1))
    with SparseTraining(right, support=support, theta0=snapshot(right)) as fixed:
        optimizer = torch.optim.AdamW([fixed.values], lr=1e-2, weight_decay=0.1)
        fixed.attach(optimizer)
        train(right, optimizer)
    assert moving.values.abs().max() > 0.05
    for name, parameter in left.named_parameters():
        torch.testing.assert_close(parameter, right.get_parameter(name), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("method", ["ag", "ma"])
def test_recomputed_activations_change_nothing(method: str) -> None:
    """Gradient checkpointing: supports are the same, values up to the order of sums."""
    found = []
    for recomputes in (False, True):
        model = encoder().train()
        if recomputes:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with MovingSupport(model, config(steps=12, density=0.05, method=method)) as support:
            optimizer = spiel_optimizer(support, lr=LR)
            for step in range(12):
                ids = torch.randint(0, 30, (4, 7), generator=torch.Generator().manual_seed(step))
                model(input_ids=ids).last_hidden_state.square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
            found.append((support.keys.clone(), support.values.detach().clone()))
    assert found[0][0].equal(found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_a_dense_head_trains_as_with_adamw() -> None:
    settled, models = config(rate=0.0, replace_all_first=False, size=1, density=None), [Blocks(), Blocks()]
    for model, spiel in zip(models, (True, False), strict=True):
        with MovingSupport(model, settled) as support:
            values, head = [support.values], list(model.out.parameters())
            model.out.requires_grad_(True)
            optimizer = (
                spiel_optimizer(support, head, lr=0.01)
                if spiel
                else torch.optim.AdamW(values + head, lr=0.01, weight_decay=0.0)
            )
            if not spiel:
                support.attach(optimizer)
            for step in range(8):
                loss(model, step).backward()
                optimizer.step()
                optimizer.zero_grad()
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("accumulator", ["sum", "max"])
def test_a_dense_vector_trains_as_with_adagrad_under_sm3(accumulator: str) -> None:
    model = Blocks()
    with MovingSupport(model, config(method="ma", accumulator=accumulator)) as support:
        optimizer = spiel_optimizer(support, [model.out.bias.requires_grad_(True)], lr=0.01)
        expected, squares = model.out.bias.detach().clone(), torch.zeros(2)
        for step in range(5):
            loss(model, step).backward()
            squares += model.out.bias.grad.square()
            expected -= 0.01 * model.out.bias.grad / squares.sqrt()
            optimizer.step()
            optimizer.zero_grad()
            torch.testing.assert_close(model.out.bias.detach(), expected)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["ag", "ma"]),
            "drop": st.sampled_from(["magnitude", "change"]),
            "candidates": st.sampled_from(["all", "inactive"]),
            "regrow": st.booleans(),
            "replace_all_first": st.booleans(),
            "tensors": st.sampled_from(["per-tensor", "global"]),
            "embeddings": st.booleans(),
            "rate": st.sampled_from([0.0, 0.3, 1.0]),
            "density": st.sampled_from([0.01, 0.3, 0.7, 1.0]),
            "seed": st.integers(0, 5),
        }
    )
)
def test_the_support_stays_sorted_unique_and_of_constant_size(changes: dict[str, Any]) -> None:
    model, settled = Blocks(), config(steps=9, interval=2, estimation=1, **changes)
    before, theta = bits(model), snapshot(model)
    counts: dict[str, int] = {}
    for _, support, optimizer in run(model, settled):
        keys = support.keys
        counts = counts or {name: part.stop - part.start for name, part in support.parts.items()}
        assert len(keys) == sum(support.quotas.values())
        assert bool((keys[1:] > keys[:-1]).all())
        if changes["tensors"] == "per-tensor":
            assert (
                counts
                == support.quotas
                == {name: part.stop - part.start for name, part in support.parts.items()}
            )
        for name in support.parts:
            outside = torch.ones(theta[name].numel(), dtype=torch.bool)
            outside[support.positions(name)] = False
            assert torch.equal(model.get_parameter(name).view(-1)[outside], theta[name].view(-1)[outside])
        assert optimizer.born.shape == keys.shape
    delta, trained = (
        support.delta(base_hash(Blocks())),
        {name: tensor.clone() for name, tensor in model.named_parameters()},
    )
    support.rewind()
    assert same_bits(bits(model), before)
    with deltas_applied(model, delta):
        assert all(torch.equal(tensor, trained[name]) for name, tensor in model.named_parameters())


@pytest.mark.parametrize("method", ["ag", "ma"])
def test_half_precision_weights_come_back_bit_for_bit_and_ages_count_on(method: str) -> None:
    model = Blocks().bfloat16()
    before = bits(model)
    *_, (_, support, optimizer) = run(
        model, config(method=method, steps=300, interval=299, replace_all_first=False, rate=0.0)
    )
    assert support.values.dtype == torch.float32
    if method == "ag":
        assert optimizer.state[support.values]["age"].unique().tolist() == [300.0]
    delta, trained = support.delta("b"), bits(model)
    support.rewind()
    assert same_bits(bits(model), before)
    with deltas_applied(model, delta):
        assert same_bits(bits(model), trained)


def test_global_growth_moves_entries_between_tensors() -> None:
    for method in ("ag", "ma"):
        *_, (_, support, _) = run(Blocks(), config(tensors="global", method=method))
        assert {name: part.stop - part.start for name, part in support.parts.items()} != support.quotas


@pytest.mark.parametrize("method", ["ag", "ma"])
@pytest.mark.parametrize("when", [2, 3, 4, 7])
def test_gradients_that_are_not_finite_stop_it_and_change_nothing(method: str, when: int) -> None:
    model, settled = Blocks(), config(method=method)
    expected = [bits(model) for _ in run(model, settled)]
    model = Blocks()
    with MovingSupport(model, settled) as support:
        optimizer = spiel_optimizer(support, lr=0.01)
        for step in range(1, settled.steps + 1):
            if step == when:
                before = copy.deepcopy((bits(model), optimizer.state_dict()))
                (loss(model, step) * float("nan")).backward()
                with pytest.raises(
                    InputError, match=rf"step {when} are not finite.*blocks.*after step {when - 1}"
                ):
                    optimizer.step()
                optimizer.zero_grad()
                torch.testing.assert_close((bits(model), optimizer.state_dict()), before, rtol=0.0, atol=0.0)
            loss(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert same_bits(bits(model), expected[step - 1])


def test_state_is_of_the_size_of_the_support() -> None:
    for method, most in (("ag", 4 + 3), ("ma", 1)):
        *_, (_, support, optimizer) = run(encoder_blocks(), config(method=method, density=0.05, steps=7))
        entries, sides = len(support.keys), sum(sum(support.shape(name)) for name in support.parts)
        saved = optimizer.state_dict()
        assert isinstance(optimizer, SpielAG if method == "ag" else SpielMA)
        assert floats(saved) <= most * entries + (sides if method == "ma" else 0)


def encoder_blocks() -> nn.Module:
    model = Blocks()
    model.blocks = nn.ModuleList([nn.Linear(7, 40), nn.Linear(40, 5)])
    return model


def floats(value: Any) -> int:
    if isinstance(value, dict):
        return sum(floats(item) for item in value.values())
    return value.numel() if isinstance(value, torch.Tensor) else 0


def test_only_linear_layers_of_blocks_and_embeddings_if_asked() -> None:
    assert choose_tensors(Blocks()) == ["blocks.0.weight", "blocks.1.weight"]
    assert choose_tensors(Blocks(), embeddings=True) == [
        "blocks.0.weight",
        "blocks.1.weight",
        "embedding.weight",
    ]
    assert len(choose_tensors(encoder())) == 2 * 6
    with pytest.raises(InputError, match="ModuleList"):
        choose_tensors(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 0.0}, "density"),
        ({"density": 1.1}, "density"),
        ({"density": None}, "either density"),
        ({"size": 3}, "either density"),
        ({"density": None, "size": 0}, "at least 1"),
        ({"interval": 1}, "estimation"),
        ({"estimation": 0}, "estimation"),
        ({"estimation": 4, "doubtful": 0.5}, "below the interval"),
        ({"method": "ma", "doubtful": 0.5}, "got ma"),
        ({"doubtful": 0.0}, "doubtful"),
        ({"steps": 4}, "lengthen"),
        ({"rate": 1.5}, "rate"),
        ({"drop": "random"}, "magnitude, change"),
        ({"method": "rigl"}, "ag, ma"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_more_entries_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="73 entries, but the chosen tensors have only 72"):
        MovingSupport(Blocks(), config(density=None, size=73))
    assert sum(MovingSupport(Blocks(), config(density=None, size=72)).quotas.values()) == 72


def test_the_schedule_is_the_thesis_table_of_chance() -> None:
    """The shares that a random drop leaves of each update, for T = 782, S = 20, xi = 0.2 (thesis Figure 7.4's
    null).
    """
    settled = SpielConfig(steps=782, density=0.02)
    steps, shares = settled.ages_by_chance()
    assert steps[:3] == [0, 20, 40]
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(0.021, abs=5e-4)
    assert max(shares) == pytest.approx(0.044, abs=5e-4)
    assert abs(steps[int(np.argmax(shares))] - 500) <= 40
    assert sum(settled.share(step) for step in steps[1:]) == pytest.approx(4.6, abs=0.1)
    cosine = SpielConfig(steps=782, density=0.02, schedule="cosine").ages_by_chance()[1]
    assert cosine[1] == pytest.approx(0.020, abs=5e-4)
    assert settled.replaced(1000, 400) == round(0.2 * 382 / 782 * 1000)


def test_an_epsilon_is_adams_and_sm3_has_none() -> None:
    with MovingSupport(encoder(), config(method="ag")) as support:
        made = spiel_optimizer(support, lr=LR, epsilon=1e-3)
        assert {group["eps"] for group in made.param_groups} == {1e-3}
    with (
        MovingSupport(encoder(), config(method="ma")) as support,
        pytest.raises(InputError, match="SM3, which has no epsilon"),
    ):
        spiel_optimizer(support, lr=LR, epsilon=1e-3)
