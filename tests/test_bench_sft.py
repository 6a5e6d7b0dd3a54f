"""The bench of sparse fine-tuning runs at any size, and what is kept between steps is what the methods need."""

import pytest

from bistil.bench_sft import WAYS, SftSize, cost_of, cost_of_choice, sft

TINY = SftSize(layers=2, hidden=64, vocabulary=600, batch=2, length=8, turns=1)
KEPT = "optimiser, gradients and all else kept, bytes"


@pytest.mark.slow
def test_sparse_ways_keep_little_and_the_masked_way_as_much_as_full_fine_tuning() -> None:
    kept = {way: cost_of(way, TINY)[KEPT] for way in ("full", "sparse", "ag", "ma", "masked")}
    parameters = kept["full"] / 12  # gradient and Adam's two moments, 4 bytes each
    assert parameters == pytest.approx(600 * 64 + 128 * 64 + 2 * 12 * 64**2, rel=0.05)
    assert kept["sparse"] == pytest.approx(28 * 0.04 * parameters, rel=0.15)  # 8 a position; phi, start, gradient and moments 4 each
    assert max(kept["sparse"], kept["ma"]) < kept["ag"] < 0.25 * kept["full"]
    assert kept["masked"] == pytest.approx(kept["full"] + parameters, rel=0.01)  # a mask of one byte each


@pytest.mark.slow
def test_every_row_names_its_baseline_and_has_ratios() -> None:
    pytest.importorskip("peft")
    said: list[str] = []
    rows = sft(TINY, apart=False, say=said.append)
    assert len(rows) == len(said) == len(WAYS) + 1 + 4
    assert all(row["against"] and row["ratios"]["processor seconds"] > 0 for row in rows)


def test_the_choice_is_measured_both_ways() -> None:
    assert all(cost_of_choice(how, TINY)["processor seconds"] > 0 for how in ("ours", "array"))
