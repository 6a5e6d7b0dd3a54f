"""Word alignment by IBM Model 1."""

import numpy as np

from bistil.pretrain.align import ibm1


def toy(n: int, *, seed: int = 0, words: int = 12) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
    """Sentences over a one-to-one dictionary: foreign word f is known word dictionary[f], in shuffled
    order.
    """
    rng = np.random.default_rng(seed)
    dictionary = rng.permutation(words) + 3
    foreign = [rng.choice(words, size=rng.integers(2, 6), replace=False) for _ in range(n)]
    known = [rng.permutation(dictionary[sentence]) for sentence in foreign]
    return [f.tolist() for f in foreign], [k.tolist() for k in known], dictionary


def test_a_toy_dictionary_is_recovered() -> None:
    foreign, known, dictionary = toy(200)
    table = ibm1(foreign, known, rounds=15)
    assert table.shape == (12, max(dictionary) + 1)
    assert np.array_equal(np.asarray(table.argmax(axis=1)).ravel(), dictionary)
    assert table.toarray()[np.arange(12), dictionary].min() > 0.8


def test_rows_are_distributions_and_rare_pieces_have_none() -> None:
    foreign, known, _ = toy(100)
    table = ibm1([*foreign, [12], [12]], [*known, [3], [4]], least=3)
    sums = np.asarray(table.sum(axis=1)).ravel()
    assert np.allclose(sums[:12], 1.0)
    assert sums[12] == 0.0


def test_one_more_round_explains_the_text_no_worse() -> None:
    foreign, known, dictionary = toy(60)
    right = [
        ibm1(foreign, known, rounds=rounds).toarray()[np.arange(12), dictionary].mean()
        for rounds in (1, 3, 9)
    ]
    assert right == sorted(right)


def test_repeated_pieces_count_once_a_sentence() -> None:
    once = ibm1([[0, 1]] * 3, [[0, 1]] * 3)
    twice = ibm1([[0, 0, 1]] * 3, [[0, 1, 1]] * 3)
    assert np.array_equal(once.toarray(), twice.toarray())
