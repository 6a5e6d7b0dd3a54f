"""The bench of sparse fine-tuning runs at any size, and what is kept between steps is what the methods
need.
"""

import pytest
import torch

from bistil.bench import choosing as part
from bistil.bench.measure import OURS, PUBLISHED, Size
from bistil.bench.models import DENSITY
from bistil.bench.published import top_k_of_list
from bistil.bench.sft import WAYS, sft
from bistil.bench.training import ADAPTERS, FEATURES, GENERATORS, MOVING, cost_of
from bistil.sft.lottery import select_top_k

TINY = Size(layers=2, hidden=64, vocabulary=600, batch=2, length=8, turns=1)
KEPT = "optimiser, gradients and all else kept, bytes"


@pytest.mark.slow
def test_sparse_ways_keep_little_and_the_masked_way_as_much_as_full_fine_tuning() -> None:
    ways = ("full fine-tuning", PUBLISHED, "LT-SFT phase 2", "SpIEL-AG", "SpIEL-MA")
    full, masked, sparse, ag, ma = (cost_of(way, TINY)[KEPT] for way in ways)
    parameters = full / 12  # gradient and Adam's two moments, 4 bytes each
    assert parameters == pytest.approx(600 * 64 + 512 * 64 + 2 * 12 * 64**2, rel=0.05)
    # 8 a position; phi, start, gradient and moments 4 each
    assert sparse == pytest.approx(28 * DENSITY * parameters, rel=0.15)
    assert max(sparse, ma) < ag < 0.25 * full
    assert masked == pytest.approx(full + parameters, rel=0.01)  # a mask of one byte each


@pytest.mark.slow
def test_adapters_and_generators_keep_what_their_own_values_need() -> None:
    """Values, gradients and Adam's two moments, 4 bytes each: D, U and biases of each layer, F and G of the
    invertible map; V and W of the generator."""
    language, task = (cost_of(way, TINY)[KEPT] / 16 for way in ADAPTERS)
    coupling = 2 * (2 * 32 * 16 + 16 + 32)
    assert language == pytest.approx(2 * (2 * 64 * 32 + 32 + 64) + coupling, rel=0.05)
    assert task == pytest.approx(2 * 64 * 4 + 4 + 64, rel=0.25)
    base, ls = (cost_of(way, TINY)[KEPT] / 16 for way in GENERATORS)
    made = 2 * 2 * 64 * 32  # D and U of each layer, made anew for each batch
    assert base == pytest.approx(32 * FEATURES + 32 * made, rel=0.1)
    assert ls == pytest.approx(32 * FEATURES + 64 * made / 2 + 2 * 32, rel=0.2)


@pytest.mark.slow
def test_every_way_stands_beside_full_fine_tuning_the_published_way_and_lora() -> None:
    pytest.importorskip("peft")
    rows = sft(TINY, apart=False)
    assert len(rows) == len(WAYS) + len(MOVING) + 1 + 4
    recomputed = rows[len(WAYS) : len(WAYS) + len(MOVING)]
    assert all(set(row["ratios"]["cpu seconds"]) == {"full fine-tuning", "LoRA"} for row in recomputed)
    assert all(
        set(row["ratios"]["cpu seconds"]) == {"full fine-tuning", "published", "LoRA"}
        for row in rows[: len(WAYS)]
    )
    assert all(ratio > 0 for row in rows for ratio in row["ratios"]["cpu seconds"].values())


def test_a_way_that_is_none_is_not_measured_as_another() -> None:
    with pytest.raises(KeyError, match="sparse"):
        cost_of("sparse", TINY)


def test_the_choice_is_measured_in_every_way() -> None:
    assert all(part.cost_of_choice(how, TINY)["cpu seconds"] > 0 for how in (OURS, PUBLISHED, "array"))


def test_the_published_choice_is_left_out_and_named_where_its_list_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(part.choosing(TINY, apart=False)["columns"]) == {OURS, PUBLISHED, "array"}
    monkeypatch.setattr(part, "available", lambda: 2**20)
    row = part.choosing(TINY, apart=False)
    assert set(row["columns"]) == {OURS, "array"}
    assert "published is left out" in row["note"]


def test_the_published_choice_is_ours_where_no_two_entries_moved_as_far() -> None:
    steps = (
        (torch.randperm(900, generator=torch.Generator().manual_seed(1)) + 1)
        * torch.tensor([1, -1]).repeat(450)
        / 1024
    )
    before = {"w": torch.zeros(20, 40), "b": torch.zeros(100)}
    after = {"w": steps[:800].view(20, 40), "b": steps[800:]}
    for k in (1, 90, 450):
        ours, theirs = select_top_k(before, after, k), top_k_of_list(before, after, k)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(positions, theirs[name]) for name, positions in ours.items())
