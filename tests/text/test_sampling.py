"""Batches are decided by the seed alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistil.text import sampling

sizes = st.integers(1, 40)


@given(n=sizes, batches=st.integers(0, 30), batch_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_example_comes_once_an_epoch(n: int, batches: int, batch_size: int, seed: int) -> None:
    found = sampling.epochs(n, batches, batch_size, seed=seed)
    assert found.shape == (batches, batch_size)
    for epoch in range(batches * batch_size // n):
        assert sorted(found.ravel()[epoch * n : (epoch + 1) * n]) == list(range(n))


@given(n=sizes, batches=st.integers(1, 40), batch_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_length_sorted_pools_hold_the_same_examples(n: int, batches: int, batch_size: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 100, n).tolist()
    plain = sampling.epochs(n, batches, batch_size, seed=seed)
    by_length = sampling.epochs(n, batches, batch_size, seed=seed, lengths=lengths)
    for start in range(0, batches, 16):
        assert Counter(plain[start : start + 16].ravel()) == Counter(by_length[start : start + 16].ravel())


def test_length_sorting_leaves_less_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    spread = [
        np.ptp(lengths[sampling.epochs(640, 80, 8, seed=1, lengths=some)], axis=1).mean()
        for some in (None, lengths.tolist())
    ]
    assert spread[1] < 0.3 * spread[0]


def test_larger_pools_leave_a_few_percent_of_padding() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(3.2, 0.6, 20000), 4, 256).astype(int)
    shares = []
    for pool in (16, 64):
        rows = lengths[sampling.epochs(len(lengths), 1500, 8, seed=1, lengths=lengths, pool=pool)]
        shares.append(1 - rows.sum() / (rows.max(1).sum() * 8))
    assert shares[1] < 0.05 < shares[0]


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), other=st.integers(1001, 2000))
def test_the_seed_decides(seed: int, other: int) -> None:
    assert np.array_equal(sampling.epochs(30, 20, 4, seed=seed), sampling.epochs(30, 20, 4, seed=seed))
    assert not np.array_equal(sampling.epochs(30, 20, 4, seed=seed), sampling.epochs(30, 20, 4, seed=other))


@pytest.mark.parametrize(
    "weights", [{"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 1.0}, {"a": 0.2, "b": 0.5, "c": 0.3}]
)
def test_languages_come_with_their_weights(weights: dict[str, float]) -> None:
    drawn = Counter(sampling.languages(weights, 4000, seed=7))
    for code, weight in weights.items():
        assert drawn[code] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.03)


def test_temperature_flattens_sizes() -> None:
    sizes_of = {"big": 900, "small": 100}
    assert sampling.temperature(sizes_of, 1.0) == {"big": 900.0, "small": 100.0}
    assert sampling.temperature(sizes_of, 0.0) == {"big": 1.0, "small": 1.0}
    assert sampling.temperature(sizes_of, 0.5)["big"] / sampling.temperature(sizes_of, 0.5)[
        "small"
    ] == pytest.approx(3.0)


@pytest.mark.parametrize("run", [1, 3, 10])
def test_a_language_stays_for_a_run_and_keeps_its_share(run: int) -> None:
    drawn = sampling.languages({"a": 3.0, "b": 1.0}, 9001, seed=7, run=run)
    assert len(drawn) == 9001
    assert all(len(set(drawn[start : start + run])) == 1 for start in range(0, 9001, run))
    assert Counter(drawn)["a"] / 9001 == pytest.approx(0.75, abs=0.05)
