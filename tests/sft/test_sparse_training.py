import contextlib
import copy
from collections.abc import Iterator

import pytest
import torch
from sft_examples import bits, encoder, masked_lm, random_delta, same_bits
from torch import Tensor, nn
from transformers import BertModel

from bistil.errors import InputError
from bistil.sft.delta import base_hash, deltas_applied
from bistil.sft.lottery import (
    SparseTraining,
    decouple_output_embedding,
    l1_term,
    select_top_k,
    set_trainable,
    snapshot,
)


def support_of(model: nn.Module, share: float = 0.05, seed: int = 3) -> dict[str, Tensor]:
    delta = random_delta(model, seed, share)
    return {
        name: positions
        for name, (positions, _) in delta.tensors.items()
        if len(positions) and "LayerNorm" not in name
    }


def losses(model: BertModel, micro_steps: int) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(1)
    target = torch.randn(2, 6, 32, generator=random)
    for _ in range(micro_steps):
        ids = torch.randint(0, 60, (2, 6), generator=random)
        yield (model(input_ids=ids).last_hidden_state - target).square().mean()


def train(
    model: BertModel, optimizer: torch.optim.Optimizer, steps: int, accumulate: int = 1, skip: int = 0
) -> None:
    for number, loss in enumerate(losses(model, steps * accumulate), start=1):
        if number <= skip * accumulate:
            continue
        (loss / accumulate).backward()
        if number % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_equals_adamw_with_a_masked_dense_gradient(accumulate: int) -> None:
    sparse_model, dense_model = encoder(), encoder()
    theta0, support = snapshot(sparse_model), support_of(sparse_model)
    for name in [name for name in support if name.endswith("key.bias")]:
        del support[name]  # attention does not depend on it: its gradient is noise, which Adam scales up
    dense = torch.optim.AdamW(dense_model.parameters(), lr=1e-2, weight_decay=0.0)
    for name, parameter in dense_model.named_parameters():
        mask = (
            torch.zeros(parameter.numel())
            .index_fill_(0, support.get(name, torch.tensor([], dtype=torch.int64)), 1.0)
            .view_as(parameter)
        )
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
    train(dense_model, dense, 20, accumulate)
    with SparseTraining(sparse_model, support=support, theta0=theta0) as sparse:
        optimizer = torch.optim.AdamW([sparse.values], lr=1e-2, weight_decay=0.0)
        sparse.attach(optimizer)
        train(sparse_model, optimizer, 20, accumulate)
    assert sparse.values.abs().max() > 0.05
    for name, parameter in sparse_model.named_parameters():
        torch.testing.assert_close(parameter, dense_model.get_parameter(name), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_the_support_moves_and_the_delta_reproduces_the_bits(dtype: torch.dtype) -> None:
    model = encoder().to(dtype)
    theta0, before, base, support = snapshot(model), bits(model), base_hash(model), support_of(model)
    with SparseTraining(model, support=support, theta0=theta0) as sparse:
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1
        )
        sparse.attach(optimizer)
        train(model, optimizer, 3)
        assert all(
            parameter.grad is None for name, parameter in model.named_parameters() if name != "sft_values"
        )
        delta = sparse.delta(base, full={"head.bias": torch.ones(2)})
    trained = bits(model)
    for name, tensor in trained.items():
        untouched = torch.ones(tensor.numel(), dtype=torch.bool)
        untouched[support.get(name, torch.tensor([], dtype=torch.int64))] = False
        assert torch.equal(tensor.view(-1)[untouched], before[name].view(-1)[untouched])
    assert delta.size == sum(len(positions) for positions in support.values())
    sparse.rewind()
    assert same_bits(bits(model), before)
    assert base_hash(model) == delta.base
    with deltas_applied(model, delta):
        assert same_bits(bits(model), trained)


def test_optimiser_state_is_of_the_size_of_the_support() -> None:
    model = encoder()
    support = support_of(model, 0.01)
    with SparseTraining(model, support=support, theta0=snapshot(model)) as sparse:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
        sparse.attach(optimizer)
        train(model, optimizer, 2)
        state = [
            tensor for entry in optimizer.state.values() for tensor in entry.values() if tensor.numel() > 1
        ]
        assert sum(tensor.numel() for tensor in state) == 2 * sum(
            len(positions) for positions in support.values()
        )


def test_a_checkpoint_continues_in_the_same_weights() -> None:
    theta0, support = snapshot(encoder()), support_of(encoder())

    def run(
        model: BertModel, steps: int, *, skip: int = 0, start: tuple[dict, dict] | None = None
    ) -> tuple[dict, dict]:
        with SparseTraining(model, support=support, theta0=theta0) as sparse:
            optimizer = torch.optim.AdamW([sparse.values], lr=1e-2)
            sparse.attach(optimizer)
            if start:
                model.load_state_dict(start[0])
                optimizer.load_state_dict(start[1])
            train(model, optimizer, steps, skip=skip)
            return copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())

    uninterrupted, half = run(encoder(), 5), run(encoder(), 2)
    assert "sft_values" in half[0]
    resumed = run(encoder(seed=5), 5, skip=2, start=half)
    assert same_bits(resumed[0], uninterrupted[0])


def test_loading_values_alone_makes_the_tensors_consistent() -> None:
    model, outer = encoder(), nn.ModuleDict()
    theta0, support = snapshot(model), support_of(model)
    outer["encoder"] = model
    with SparseTraining(model, support=support, theta0=theta0) as sparse:
        outer.load_state_dict({"encoder.sft_values": torch.ones_like(sparse.values)}, strict=False)
        delta = sparse.delta("b")
    trained = bits(model)
    sparse.rewind()
    with deltas_applied(model, delta):
        assert same_bits(bits(model), trained)


def test_leaving_cleans_up_also_after_an_error() -> None:
    model = encoder()
    set_trainable(model, freeze_layer_norms=True)
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    support = dict(list(support_of(model).items())[:2])
    with SparseTraining(model, support=support, theta0=snapshot(model)):
        assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
            *support,
            "sft_values",
        }
    with contextlib.suppress(RuntimeError), SparseTraining(model, support=support, theta0=snapshot(model)):
        raise RuntimeError
    assert "sft_values" not in model.state_dict()
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == required
    next(losses(model, 1)).backward()
    assert all(model.get_parameter(name).grad is not None for name in support)


def test_an_accelerate_wrapper_is_looked_through_and_a_stranger_refused() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = encoder()
    with SparseTraining(model, support=support_of(model), theta0=snapshot(model)) as sparse:
        with pytest.raises(InputError, match="inside the context"):
            sparse.attach(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1))
        optimizer = accelerate.Accelerator(cpu=True).prepare_optimizer(
            torch.optim.SGD([sparse.values], lr=0.1)
        )
        sparse.attach(optimizer)
        train(model, optimizer, 1)
        name, positions = next(iter(sparse.delta("b").tensors.items()))
        moved = bits(model)[name].view(-1)[positions[0]]
    sparse.rewind()
    assert not torch.equal(bits(model)[name].view(-1)[positions[0]], moved)


def test_the_l1_term_of_phi_is_that_of_the_dense_weights() -> None:
    model = encoder()
    theta0 = snapshot(model)
    with SparseTraining(model, support=support_of(model), theta0=theta0) as sparse:
        with torch.no_grad():
            sparse.values.copy_(torch.randn(sparse.values.shape))
        sparse.write_back()
        term, total = sparse.l1_term(10.0), sum(tensor.numel() for tensor in theta0.values())
        (term + next(losses(model, 1))).backward()
        with_term = sparse.values.grad.clone()
        sparse.values.grad = None
        next(losses(model, 1)).backward()
        torch.testing.assert_close(
            with_term - sparse.values.grad, sparse.values.detach().sign() * 10.0 / total, rtol=0.0, atol=1e-6
        )
    assert l1_term(model, theta0, 10.0).item() == pytest.approx(term.item(), rel=1e-5)


def test_bad_supports_and_starting_points_are_refused() -> None:
    model = encoder()
    theta0, name = snapshot(model), "embeddings.word_embeddings.weight"
    for support in ({}, {name: torch.tensor([], dtype=torch.int64)}, {"nowhere": torch.tensor([0])}):
        with pytest.raises(InputError, match="support"):
            SparseTraining(model, support=support, theta0=theta0)
    for positions in ([-1], [60 * 32], [2, 1], [1, 1]):
        with pytest.raises(InputError, match="strictly increasing"):
            SparseTraining(model, support={name: torch.tensor(positions)}, theta0=theta0)
    with pytest.raises(InputError, match="theta0"):
        SparseTraining(model, support={name: torch.tensor([0])}, theta0={})
    with (
        SparseTraining(model, support={name: torch.tensor([0])}, theta0=theta0) as training,
        pytest.raises(InputError, match="already"),
        training,
    ):
        pass


def test_a_whole_language_sft() -> None:
    """LT-SFT Alg. 1 with plain loops: the loss falls in both phases and all that is learned is in the
    delta.
    """
    mlm = masked_lm()
    decouple_output_embedding(mlm)
    base, theta0, ids = base_hash(mlm.bert), snapshot(mlm.bert), torch.randint(5, 60, (4, 8))
    names = set_trainable(mlm.bert, freeze_layer_norms=True)
    dense = torch.optim.AdamW([p for p in mlm.parameters() if p.requires_grad], lr=5e-3)
    start = mlm(input_ids=ids, labels=ids).loss.item()
    for _ in range(5):
        (mlm(input_ids=ids, labels=ids).loss + l1_term(mlm.bert, theta0, 0.1)).backward()
        dense.step()
        dense.zero_grad()
    after = snapshot(mlm.bert)
    support = select_top_k(
        {name: theta0[name] for name in names}, {name: after[name] for name in names}, 2000
    )
    with SparseTraining(mlm.bert, support=support, theta0=theta0) as sparse:
        optimizer = torch.optim.AdamW([sparse.values], lr=5e-3)
        sparse.attach(optimizer)
        for _ in range(5):
            (mlm(input_ids=ids, labels=ids).loss + sparse.l1_term(0.1)).backward()
            optimizer.step()
            optimizer.zero_grad()
        delta, learned = sparse.delta(base), mlm(input_ids=ids, labels=ids).loss.item()
        sparse.rewind()
    assert learned < start - 0.1
    assert base_hash(mlm.bert) == base
    with deltas_applied(mlm.bert, delta):
        assert mlm(input_ids=ids, labels=ids).loss.item() == learned
    assert delta.size == 2000
