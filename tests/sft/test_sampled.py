"""Gradients of the support alone: the same numbers as the dense gradient gathered, through every kind of
layer, and no dense one.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sft_examples import encoder, random_delta
from test_sparse_training import losses, train
from torch import Tensor, nn
from torch.nn import functional

from bistil.sft import sampled
from bistil.sft.lottery import SparseTraining, snapshot
from bistil.sft.sampled import embedding_entries, linear_entries, pays
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small weights take the way of large ones."""
    monkeypatch.setattr(sampled, "LEAST", 1)
    monkeypatch.setattr(sampled, "MOST", 1.0)


sizes = st.integers(1, 9)


def some_of(numel: int, data: Any) -> Tensor:
    return torch.tensor(sorted(data.draw(st.sets(st.integers(0, numel - 1), min_size=1))))


@given(sizes, sizes, sizes, st.data())
def test_a_linear_layers_entries_are_those_of_its_dense_gradient(
    count: int, inputs: int, outputs: int, data: Any
) -> None:
    states, gradient, positions = (
        torch.randn(count, inputs),
        torch.randn(count, outputs),
        some_of(inputs * outputs, data),
    )
    torch.testing.assert_close(
        linear_entries(positions, gradient, states), (gradient.t() @ states).take(positions)
    )


@given(sizes, sizes, sizes, st.data())
def test_an_embeddings_entries_are_the_bits_of_its_dense_gradient(
    count: int, rows: int, width: int, data: Any
) -> None:
    table, ids, gradient = (
        nn.Embedding(rows, width),
        torch.randint(0, rows, (count,)),
        torch.randn(count, width),
    )
    positions = some_of(rows * width, data)
    table(ids).backward(gradient)
    found, values = embedding_entries(positions, gradient, ids)
    assert torch.equal(
        torch.zeros(len(positions)).index_put((found,), values), table.weight.grad.take(positions)
    )
    assert len(found.unique()) == len(found)


class Odd(nn.Module):
    """A padded embedding tied to an output layer, a weight used in a call of its own, and an embedding that
    rescales its gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table, self.rescaled = (
            nn.Embedding(9, 4, padding_idx=2),
            nn.Embedding(9, 4, scale_grad_by_freq=True),
        )
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        states = torch.tanh(self.layer(self.table(ids) + self.rescaled(ids)))
        return self.out(functional.linear(states, self.layer.weight))


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("make", [encoder, Odd])
@pytest.mark.parametrize("bf16", [False, True])
def test_both_ways_collect_the_same_gradient(make: Any, bf16: bool) -> None:
    found = []
    for dense in (False, True):
        torch.manual_seed(0)
        model = make()
        support = {
            n: p
            for n, (p, _) in random_delta(model, 3, 0.4).tensors.items()
            if n in dict(model.named_parameters())
        }
        ids = torch.randint(0, 9, (3, 5), generator=torch.Generator().manual_seed(4))
        with SparseTraining(
            model, support=support, theta0=snapshot(model), dense_gradients=dense
        ) as training:
            for _ in range(2):  # two micro-batches add up
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    states = model(ids)
                (
                    states if torch.is_tensor(states) else states.last_hidden_state
                ).float().square().sum().backward()
            assert all(
                parameter.grad is None for name, parameter in model.named_parameters() if name != "sft_values"
            )
            found.append(training.values.grad)
        assert not any("forward" in vars(module) for module in model.modules())
    assert found[0].abs().max() > 0.1
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("any_size")
def test_no_dense_gradient_of_a_linear_layer_or_an_embedding_comes_into_being() -> None:
    model, seen = encoder(), list[str]()
    support = {n: p for n, (p, _) in random_delta(model, 3, 0.1).tensors.items() if len(p)}
    with SparseTraining(model, support=support, theta0=snapshot(model)):
        for name in support:
            model.get_parameter(name).register_hook(
                lambda gradient, name=name: seen.append(name) if gradient is not None else None
            )
        next(losses(model, 1)).backward()
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim == 2}
    assert seen
    assert not matrices & set(seen)


@pytest.mark.usefixtures("any_size")
def test_a_copy_of_the_encoder_is_on_its_own() -> None:
    import copy

    model = encoder()
    support = {n: p for n, (p, _) in random_delta(model, 3, 0.1).tensors.items() if len(p)}
    with SparseTraining(model, support=support, theta0=snapshot(model)) as training:
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.get_parameter("embeddings.word_embeddings.weight").zero_()
        ids = torch.arange(6)[None]
        assert not torch.equal(twin(input_ids=ids).last_hidden_state, model(input_ids=ids).last_hidden_state)
        twin(input_ids=ids).last_hidden_state.square().sum().backward()
        assert training.values.grad is None
        assert twin.get_parameter("embeddings.word_embeddings.weight").grad is not None


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("method", ["ag", "ma"])
def test_spiel_moves_the_same_support_either_way(method: str) -> None:
    found = []
    for dense in (False, True):
        model, config = (
            encoder(),
            SpielConfig(
                method=method, steps=12, interval=4, estimation=2, density=0.05, rate=0.5, embeddings=True
            ),
        )  # type: ignore[arg-type]
        with MovingSupport(model, config, dense_gradients=dense) as support:
            train(model, spiel_optimizer(support, lr=1e-3), 12)
            found.append((support.keys.clone(), support.values.detach().clone()))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_it_pays_for_large_float32_weights_at_low_density_only() -> None:
    large = torch.empty(512, 512)
    assert pays(large, 26_214)
    assert not pays(large, 26_215)
    assert not pays(torch.empty(512, 511), 10)
    assert not pays(large.bfloat16(), 10)
    assert not pays(large.to("meta"), 10)
