import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sft_examples import bits, encoder, masked_lm, random_delta, same_bits
from torch import Tensor, nn
from transformers import BertModel

from bistil.errors import InputError
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied

BASE = "0" * 64


def delta_of(entries: dict[int, float], base: str = BASE, name: str = "weight") -> SparseDelta:
    positions = sorted(entries)
    return SparseDelta(
        tensors={
            name: (torch.tensor(positions, dtype=torch.int64), torch.tensor([entries[p] for p in positions]))
        },
        base=base,
    )


numbers = st.integers(-1000, 1000).map(float)
entries = st.dictionaries(st.integers(0, 19), numbers, max_size=20)


def as_dict(delta: SparseDelta) -> dict[int, float]:
    positions, values = delta.tensors["weight"]
    return dict(zip(positions.tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_thousand_overlapping_cycles_leave_every_bit(dtype: torch.dtype) -> None:
    model = nn.Linear(20, 10).to(dtype)
    before, first, second = bits(model), random_delta(model, 1, 0.5), random_delta(model, 2, 0.5)
    assert first.overlap(second) > 0.2
    for _ in range(1000 if dtype == torch.float32 else 50):
        with deltas_applied(model, first, second):
            pass
    assert same_bits(bits(model), before)


def test_apply_adds_and_agrees_with_the_dense_sum() -> None:
    model = encoder()
    before, delta = bits(model), random_delta(model, 3)
    with deltas_applied(model, delta):
        for name, tensor in model.state_dict().items():
            dense = before[name].clone().view(-1)
            positions, values = delta.tensors[name]
            dense[positions] += values
            assert torch.equal(tensor.view(-1), dense)
    assert same_bits(bits(model), before)


def test_non_contiguous_weights_are_indexed_in_logical_order() -> None:
    plain = nn.Linear(5, 4)
    strided = copy.deepcopy(plain)
    strided.weight = nn.Parameter(plain.weight.detach().t().contiguous().t())
    assert not strided.weight.is_contiguous()
    assert base_hash(plain) == base_hash(strided)
    delta = random_delta(plain, 1)
    delta.apply(plain)
    handle = delta.apply(strided)
    assert torch.equal(plain.weight, strided.weight)
    handle.revert()
    assert base_hash(strided) == delta.base


def test_the_encoder_is_restored_when_the_block_or_a_later_delta_fails() -> None:
    model = nn.Linear(4, 4)
    before, good = bits(model), random_delta(model, 1)
    with pytest.raises(RuntimeError, match="stop"), deltas_applied(model, good):
        raise RuntimeError("stop")
    with (
        pytest.raises(InputError, match="does not have"),
        deltas_applied(model, good, delta_of({0: 1.0}, name="nowhere")),
    ):
        pass
    assert same_bits(bits(model), before)


def test_reverting_twice_or_out_of_order_is_refused() -> None:
    model = nn.Linear(4, 4)
    before = bits(model)
    first, second = random_delta(model, 1).apply(model), random_delta(model, 2).apply(model)
    with pytest.raises(InputError, match=r"1 delta\(s\) applied later"):
        first.revert()
    second.revert()
    with pytest.raises(InputError, match="reverted already"):
        second.revert()
    first.revert()
    assert same_bits(bits(model), before)


def test_what_was_changed_meanwhile_is_told() -> None:
    model = encoder()
    before, delta = bits(model), random_delta(model, 1, 0.2)
    handle, name = delta.apply(model), "embeddings.word_embeddings.weight"
    assert handle.changed() == []
    with torch.no_grad():
        outside = torch.ones(60 * 32, dtype=torch.bool)
        outside[delta.tensors[name][0]] = False
        model.get_parameter(name).view(-1)[outside] += 1.0  # elsewhere than the delta
        assert handle.changed() == []
        model.get_parameter(name).view(-1)[delta.tensors[name][0][0]] += 1.0
    assert handle.changed() == [name]
    handle.revert()  # the entries at the delta's positions come back, whatever was done to them
    assert torch.equal(model.get_parameter(name).view(-1)[~outside], before[name].view(-1)[~outside])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: setattr(model, "weight", nn.Parameter(torch.zeros(5, 4))),
            r"was \(4, 4\), torch.float32.* now \(5, 4\)",
        ),
        (lambda model: model.bfloat16(), r"now \(4, 4\), torch.bfloat16"),
        (lambda model: delattr(model, "weight"), "now gone"),
    ],
)
def test_an_encoder_of_another_make_is_not_reverted(change, message: str) -> None:
    model = nn.Linear(4, 4)
    handle = delta_of({0: 1.0}).apply(model)
    change(model)
    worn = bits(model)
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            handle.revert()
    assert same_bits(bits(model), worn)


def test_a_delta_for_another_vocabulary_is_refused() -> None:
    model, other = encoder(), encoder()
    delta = random_delta(other, 1, 0.1)
    other.resize_token_embeddings(70)
    before = bits(other)
    with pytest.raises(
        InputError,
        match=r"word_embeddings.weight has shape \(70, 32\) in the encoder, the delta is for \(60, 32\)",
    ):
        delta.apply(other)
    assert same_bits(bits(other), before)
    delta.apply(model).revert()


def test_a_delta_comes_on_again_with_the_same_bits_and_only_where_it_was() -> None:
    model = nn.Linear(4, 4)
    before, delta, other = bits(model), random_delta(model, 1), random_delta(model, 2)
    applied = delta.apply(model)
    worn = bits(model)
    with pytest.raises(InputError, match="only after its `revert`"):
        applied.again()
    for _ in range(2):
        applied.revert()
        assert same_bits(bits(model), before)
        applied.again()
        assert same_bits(bits(model), worn)
    applied.revert()
    with deltas_applied(model, other), pytest.raises(InputError, match="over the same deltas"):
        applied.again()
    assert same_bits(bits(model), before)


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (delta_of({0: 1.0}, name="bert.weight"), "does not have"),
        (delta_of({16: 1.0}), "position 16"),
        (SparseDelta(tensors=delta_of({0: 1.0}).tensors, base=BASE, shapes={"weight": (2, 8)}), "shape"),
    ],
)
def test_a_delta_that_does_not_fit_is_refused_and_nothing_changes(delta: SparseDelta, message: str) -> None:
    model = nn.Linear(4, 4)
    before = bits(model)
    with pytest.raises(InputError, match=message):
        delta.apply(model)
    assert same_bits(bits(model), before)


def test_two_names_of_one_tied_tensor_are_refused() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    tied = SparseDelta(
        tensors={f"{key}.weight": (torch.tensor([0]), torch.tensor([1.0])) for key in "ab"}, base=BASE
    )
    with pytest.raises(InputError, match="tied"):
        tied.apply(model)


@pytest.mark.parametrize(
    ("positions", "values"),
    [
        ([1, 0], [1.0, 1.0]),
        ([1, 1], [1.0, 1.0]),
        ([-1], [1.0]),
        ([0], [1.0, 2.0]),
        ([0], [float("nan")]),
        ([4], [1.0]),
    ],
)
def test_a_malformed_value_cannot_be_made(positions: list[int], values: list[float]) -> None:
    with pytest.raises(InputError):
        SparseDelta(
            tensors={"weight": (torch.tensor(positions), torch.tensor(values))},
            base=BASE,
            shapes={"weight": (2, 2)},
        )


def test_a_delta_is_a_value_of_its_own() -> None:
    positions, values = torch.tensor([0, 2]), torch.tensor([1.0, 2.0])
    delta = SparseDelta(tensors={"weight": (positions, values)}, base=BASE)
    values.zero_()
    assert as_dict(delta) == {0: 1.0, 2: 2.0}
    with pytest.raises(TypeError):
        delta.tensors["other"] = (positions, values)  # type: ignore[index]
    with pytest.raises(AttributeError):
        delta.base = "x"  # type: ignore[misc]


def test_between_finds_exactly_what_changed() -> None:
    before = bits(encoder())
    after = {name: tensor.clone() for name, tensor in before.items()}
    name = "encoder.layer.1.output.dense.weight"
    after[name].view(-1)[[3, 7]] += 1.0
    delta = SparseDelta.between(before, after, base=BASE)
    assert list(delta.tensors) == [name]
    assert delta.tensors[name][0].tolist() == [3, 7]
    assert delta.shapes[name] == (32, 64)
    with pytest.raises(InputError, match="only one side"):
        SparseDelta.between(before, {}, base=BASE)
    with pytest.raises(InputError, match="has shape"):
        SparseDelta.between(before, {**after, name: torch.zeros(1)}, base=BASE)


@given(entries, entries)
def test_sum_unites_supports_and_adds_values(left: dict[int, float], right: dict[int, float]) -> None:
    expected = {p: left.get(p, 0.0) + right.get(p, 0.0) for p in left.keys() | right.keys()}
    assert as_dict(delta_of(left) + delta_of(right)) == expected
    assert delta_of(left) + delta_of(right) == delta_of(right) + delta_of(left)


@given(entries, entries)
def test_overlap_and_density_are_shares(left: dict[int, float], right: dict[int, float]) -> None:
    a, b = delta_of(left), delta_of(right)
    smaller = min(len(left), len(right))
    assert a.overlap(b) == b.overlap(a) == (len(left.keys() & right.keys()) / smaller if smaller else 0.0)
    assert a.density(20) == len(left) / 20
    assert (a + b).size <= a.size + b.size


@settings(max_examples=25)
@given(entries, entries)
def test_the_sum_acts_like_both_in_order(left: dict[int, float], right: dict[int, float]) -> None:
    model = nn.Linear(4, 5, bias=False)
    with deltas_applied(model, delta_of(left), delta_of(right)):
        one_by_one = model.weight.detach().clone()
    with deltas_applied(model, delta_of(left) + delta_of(right)):
        torch.testing.assert_close(model.weight.detach(), one_by_one, rtol=1e-5, atol=1e-3)


def test_sums_of_different_bases_or_heads_are_refused() -> None:
    with pytest.raises(InputError, match=r"1{64}.*0{64}"):
        delta_of({0: 1.0}) + delta_of({0: 1.0}, base="1" * 64)

    def with_head(value: float) -> SparseDelta:
        return SparseDelta(tensors={}, base=BASE, full={"head.weight": torch.tensor([value])})

    with pytest.raises(InputError, match="head"):
        with_head(1.0) + with_head(2.0)
    assert (with_head(1.0) + delta_of({0: 1.0})).full["head.weight"].item() == 1.0


def test_density_needs_enough_parameters() -> None:
    with pytest.raises(InputError, match="number of parameters"):
        delta_of({0: 1.0, 1: 1.0}).density(1)


def test_the_base_hash_survives_saving_and_sees_every_change(tmp_path) -> None:
    model = encoder()
    expected = base_hash(model)
    model.save_pretrained(tmp_path)
    assert base_hash(BertModel.from_pretrained(tmp_path, add_pooling_layer=False)) == expected
    with deltas_applied(
        model,
        SparseDelta(
            tensors={"embeddings.word_embeddings.weight": (torch.tensor([5]), torch.tensor([1.0]))}, base=""
        ),
    ):
        assert base_hash(model) != expected
    assert base_hash(model) == expected
    assert base_hash(copy.deepcopy(model).to(torch.bfloat16)) != expected


def test_the_base_hash_of_a_tied_model_survives_saving(tmp_path) -> None:
    model = masked_lm()
    model.save_pretrained(tmp_path)
    assert base_hash(type(model).from_pretrained(tmp_path)) == base_hash(model)


def test_head_tensors_are_carried_but_not_applied() -> None:
    model = nn.Linear(2, 2)
    before: dict[str, Tensor] = bits(model)
    SparseDelta(tensors={}, base=BASE, full={"weight": torch.ones(2, 2)}).apply(model)
    assert same_bits(bits(model), before)
