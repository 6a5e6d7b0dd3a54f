"""Algebra of deltas, on values that floats add exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bistil.errors import InputError
from bistil.sft.compose import difference, intersection, merged, restricted, scaled, trimmed, union
from bistil.sft.delta import SparseDelta, deltas_applied

BASE = "0" * 64
Entries = dict[tuple[str, int], float]
whole = st.integers(-64, 64).filter(bool).map(float)
entries = st.dictionaries(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 11)), whole, max_size=24)


def delta_of(found: Entries, base: str = BASE, **parts: object) -> SparseDelta:
    tensors = {}
    for name in {name for name, _ in found}:
        positions = sorted(position for other, position in found if other == name)
        tensors[name] = (
            torch.tensor(positions),
            torch.tensor([found[name, position] for position in positions]),
        )
    return SparseDelta(tensors=tensors, base=base, shapes={name: (3, 4) for name in tensors}, **parts)


def as_entries(delta: SparseDelta) -> Entries:
    return {
        (name, p): v
        for name, (positions, values) in delta.tensors.items()
        for p, v in zip(positions.tolist(), values.tolist(), strict=True)
    }


def keys(support: dict[str, torch.Tensor]) -> set[tuple[str, int]]:
    return {(name, position) for name, positions in support.items() for position in positions.tolist()}


@given(entries, entries)
def test_a_plus_b_minus_b_is_a(left: Entries, right: Entries) -> None:
    a, b = delta_of(left), delta_of(right)
    assert difference(a + b, b) == a
    assert difference(a, a) == delta_of({})
    assert difference(a, b) == scaled(difference(b, a), -1.0)
    assert difference(a, delta_of({})) == a


@given(entries, entries, st.sampled_from([-2.0, -1.0, 0.5, 4.0]))
def test_scaling_is_linear(left: Entries, right: Entries, factor: float) -> None:
    a, b = delta_of(left), delta_of(right)
    assert scaled(a + b, factor) == scaled(a, factor) + scaled(b, factor)
    assert scaled(scaled(a, factor), 1 / factor) == a
    assert scaled(a, 1.0) == a


@given(entries, entries, entries)
def test_supports_are_sets(first: Entries, second: Entries, third: Entries) -> None:
    deltas = [delta_of(found) for found in (first, second, third)]
    assert (
        keys(union(*deltas)) == first.keys() | second.keys() | third.keys() == keys(union(*reversed(deltas)))
    )
    assert keys(intersection(*deltas)) == first.keys() & second.keys() & third.keys()
    a, b = deltas[:2]
    assert restricted(a, union(a, b)) == a
    assert as_entries(restricted(a, intersection(a, b))) == {
        key: first[key] for key in first.keys() & second.keys()
    }
    common = sum(len(positions) for positions in intersection(a, b).values())
    assert common == round(a.overlap(b) * min(a.size, b.size))
    assert union(a).keys() == a.tensors.keys()


@given(st.lists(entries, min_size=1, max_size=4), st.randoms())
def test_merging_is_the_plain_loop_in_any_order(found: list[Entries], random) -> None:
    mean, sign = Entries(), Entries()
    for key in {key for each in found for key in each}:
        values = [each[key] for each in found if key in each]
        mean[key] = sum(values) / len(found)
        agree = [value for value in values if value * sum(values) > 0]
        if sum(values):
            sign[key] = sum(agree) / len(agree)
    deltas = [delta_of(each) for each in found]
    assert as_entries(merged(*deltas)) == pytest.approx(mean)
    assert as_entries(merged(*deltas, how="sign")) == pytest.approx(sign)
    mixed = random.sample(deltas, len(deltas))
    assert merged(*mixed) == merged(*deltas)
    assert merged(*mixed, how="sign") == merged(*deltas, how="sign")


@given(entries)
def test_merging_one_or_equal_deltas_changes_nothing(found: Entries) -> None:
    delta = delta_of(found)
    for how in ("mean", "sign"):
        assert merged(delta, how=how) == merged(delta, delta, how=how) == delta


@given(entries, entries)
def test_results_act_on_a_model(left: Entries, right: Entries) -> None:
    model = nn.ParameterDict({name: torch.arange(12.0).view(3, 4) for name in "abc"})
    a, b = delta_of(left), delta_of(right)
    with deltas_applied(model, a, difference(b, a)):
        one_by_one = {name: tensor.clone() for name, tensor in model.items()}
    with deltas_applied(model, b):
        assert all(torch.equal(tensor, one_by_one[name]) for name, tensor in model.items())


def test_foreign_bases_heads_and_ways_of_merging() -> None:
    mine, foreign = delta_of({("a", 0): 1.0}), delta_of({("a", 0): 1.0}, base="1" * 64)
    for compose in (difference, union, intersection, merged):
        with pytest.raises(InputError, match=r"1{64}.*0{64}"):
            compose(mine, foreign)
    with pytest.raises(InputError, match="at least one delta"):
        merged()
    with pytest.raises(InputError, match="'mean' or 'sign'"):
        merged(mine, how="median")  # type: ignore[arg-type]
    headed = delta_of({("a", 0): 1.0}, full={"head.bias": torch.ones(2)})
    other = delta_of({("a", 0): 1.0}, full={"head.bias": torch.zeros(2)})
    assert difference(headed, other).full.keys() == {"head.bias"}
    assert torch.equal(merged(headed, mine).full["head.bias"], torch.ones(2))
    assert not difference(mine, other).full
    with pytest.raises(InputError, match="keep one head"):
        merged(headed, other)
    with pytest.raises(InputError, match="not finite"):
        scaled(mine, float("inf"))


@given(entries, st.sampled_from([0.1, 0.5, 0.8, 1.0]))
def test_trimming_keeps_the_largest_values(found: Entries, share: float) -> None:
    delta = delta_of(found)
    kept = as_entries(trimmed(delta, share))
    assert len(kept) == (max(1, round(share * len(found))) if found else 0)
    assert kept.items() <= found.items()
    gone = [abs(value) for key, value in found.items() if key not in kept]
    assert max(gone, default=0.0) <= min(map(abs, kept.values()), default=0.0)
    assert trimmed(delta, 1.0) == delta


def test_a_share_outside_its_range_is_told() -> None:
    for share in (0.0, 1.01):
        with pytest.raises(InputError, match="share of values to keep"):
            trimmed(delta_of({("a", 1): 1.0}), share)
