"""Decoding against brute force over all trees of up to five words."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bistil.errors import InputError
from bistil.tasks import trees


def reaches_root(heads: tuple[int, ...]) -> bool:
    for word in range(1, len(heads) + 1):
        seen = set()
        while word:
            if word in seen:
                return False
            seen.add(word)
            word = heads[word - 1]
    return True


ALL = {
    n: [h for h in product(range(n + 1), repeat=n) if h.count(0) == 1 and reaches_root(h)]
    for n in range(1, 6)
}


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 2), (3, 9), (4, 64), (5, 625)])
def test_is_tree_agrees_with_a_plain_walk_and_cayley(n: int, count: int) -> None:
    assert len(ALL[n]) == count  # n^(n-1) rooted labelled trees
    good = set(ALL[n])
    assert all(trees.is_tree(heads) == (heads in good) for heads in product(range(n + 1), repeat=n))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.sampled_from([1.0, 30.0, 0.0]))
def test_maximum_tree_scores_as_the_best_of_all_trees(n: int, seed: int, scale: float) -> None:
    scores = np.random.default_rng(seed).normal(size=(n, n + 1)) * scale
    if seed % 3 == 0:
        scores[:, 0] += 3 * scale  # many words want to be the root
    found = trees.maximum_tree(scores)
    assert trees.is_tree(found)
    value = scores[np.arange(n), found].sum()
    best = max(scores[np.arange(n), list(heads)].sum() for heads in ALL[n])
    assert value == pytest.approx(best, abs=1e-9)


def test_nested_cycles_are_contracted() -> None:
    n = 5
    scores = np.zeros((n, n + 1))
    for word, head in [(1, 2), (2, 1), (3, 4), (4, 3)]:
        scores[word - 1, head] = 10
    scores[0, 3] = scores[2, 1] = 9  # the two contracted cycles form a cycle again
    scores[4, 1] = 1
    best = max(scores[np.arange(n), list(heads)].sum() for heads in ALL[n])
    assert scores[np.arange(n), trees.maximum_tree(scores)].sum() == best


def test_long_random_sentence_gives_a_tree() -> None:
    scores = np.random.default_rng(3).normal(size=(120, 121))
    scores[:, 1] += 100
    assert trees.is_tree(trees.maximum_tree(scores))


def test_decode_pads_with_minus_100_and_ignores_padding_scores() -> None:
    arcs = np.random.default_rng(0).normal(size=(3, 4, 5))
    words = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    heads = trees.decode(arcs, words)
    assert (heads[1, 2:] == trees.NOTHING).all()
    assert (heads[2] == trees.NOTHING).all()
    assert heads[1, :2].tolist() == trees.maximum_tree(arcs[1, :2, :3]).tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 3.0]))
def test_a_batch_is_decoded_as_its_sentences_one_by_one(
    sentences: int, longest: int, seed: int, treeness: float
) -> None:
    rng = np.random.default_rng(seed)
    arcs, words = (
        rng.normal(size=(sentences, longest, longest + 1)),
        np.zeros((sentences, longest), dtype=bool),
    )
    for row, n in enumerate(rng.integers(0, longest + 1, sentences)):
        words[row, :n] = True
        arcs[row, :, 0] -= treeness
        arcs[row, np.arange(longest), np.arange(longest)] += (
            treeness  # each word on the one before it: often a tree already
        )
    heads = trees.decode(arcs, words)
    for row, n in enumerate(words.sum(1)):
        assert heads[row, n:].tolist() == [trees.NOTHING] * (longest - n)
        assert heads[row, :n].tolist() == (trees.maximum_tree(arcs[row, :n, : n + 1]).tolist() if n else [])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.8]))
def test_heads_that_cannot_be_are_never_taken(n: int, seed: int, share: float) -> None:
    """The best of the trees that are left, or a refusal where none is."""
    random = np.random.default_rng(seed)
    scores = np.where(random.random((n, n + 1)) < share, -np.inf, random.normal(size=(n, n + 1)))
    best = max(scores[np.arange(n), list(heads)].sum() for heads in ALL[n])
    batch, words = scores[None], np.ones((1, n), dtype=bool)
    if best == -np.inf:
        for decoded in (lambda: trees.maximum_tree(scores), lambda: trees.decode(batch, words)):
            with pytest.raises(InputError, match="one root"):
                decoded()
    else:
        for found in (trees.maximum_tree(scores), trees.decode(batch, words)[0]):
            assert trees.is_tree(found)
            assert scores[np.arange(n), found].sum() == pytest.approx(best, abs=1e-9)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="2 NaN"):
        trees.maximum_tree(np.array([[np.nan, 0.0, 1.0], [1.0, np.nan, 0.0]]))
