"""What goes and what comes: the best with ties to the lowest, also of an outer product that is never
formed.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bistil.sft.spiel.ranking import exchange, largest, top_of_outer

few = st.integers(0, 4).map(float)


def naive(scores: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


@given(st.lists(few, max_size=12), st.integers(0, 15))
def test_largest_is_the_naive_sort_ties_included(scores: list[float], count: int) -> None:
    assert largest(torch.tensor(scores), count).tolist() == naive(scores, count)


@given(
    st.lists(few, min_size=1, max_size=7),
    st.lists(few, min_size=1, max_size=6),
    st.integers(0, 50),
    st.integers(1, 20),
    st.data(),
)
def test_the_best_of_an_outer_product_do_not_depend_on_the_block(row, column, count, block, data) -> None:
    product = torch.outer(torch.tensor(row), torch.tensor(column)).view(-1)
    excluded = sorted(data.draw(st.sets(st.integers(0, len(product) - 1))))
    free = [position for position in range(len(product)) if position not in excluded]
    expected = [free[i] for i in naive([float(product[position]) for position in free], count)]
    positions, scores = top_of_outer(
        torch.tensor(row), torch.tensor(column), count, torch.tensor(excluded, dtype=torch.int64), block=block
    )
    assert positions.tolist() == expected
    assert torch.equal(scores, product[positions])


def test_blocks_of_rows_that_cannot_win_are_not_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    formed, outer = [], torch.outer

    def count(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        formed.append(len(left) * len(right))
        return outer(left, right)

    monkeypatch.setattr(torch, "outer", count)
    row = torch.arange(1000.0)
    positions, _ = top_of_outer(row, torch.ones(100), 250, torch.tensor([], dtype=torch.int64), block=300)
    assert positions.tolist() == [*range(99_700, 99_750), *range(99_800, 100_000)]
    assert max(formed) <= 300
    assert sum(formed) <= 600


@given(st.sets(st.integers(0, 11), min_size=1), st.sets(st.integers(0, 11)), st.booleans(), st.data())
def test_as_many_come_as_go_and_nothing_twice(active: set[int], pool: set[int], regrow: bool, data) -> None:
    keys, candidates = torch.tensor(sorted(active)), torch.tensor(sorted(pool), dtype=torch.int64)
    worth = torch.tensor([float(data.draw(few)) for _ in keys])
    asked = torch.tensor([data.draw(st.booleans()) for _ in keys])
    dropped, grown = exchange(keys, worth, asked, candidates, torch.rand(len(candidates)), regrow=regrow)
    assert int(dropped.sum()) == len(grown)
    assert not bool((dropped & ~asked).any())
    staying, gone = set(keys[~dropped].tolist()), set(keys[dropped].tolist())
    assert not staying & set(grown.tolist())
    assert set(grown.tolist()) <= pool
    assert regrow or not gone & set(grown.tolist())
    assert len(staying | set(grown.tolist())) == len(active)
