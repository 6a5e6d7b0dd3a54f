"""The paired bootstrap against closed forms and against drawing examples one by one; outcomes add up to every
task's scores.
"""

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from bistil.evaluation.significance import (
    Outcomes,
    difference,
    keep_outcomes,
    read_all_outcomes,
    read_outcomes,
    resampled,
    write_outcomes,
)
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.tasks.parsing import Tree
from bistil.tasks.qa import Answer
from bistil.tasks.task import Counted, ratios
from bistil.tasks.treebank import universal
from bistil.text.languages import DataFolder

TEST = "sha256:test"


def answers(share: float, n: int, seed: int) -> np.ndarray:
    """Examples of which about this share is right: a mean over examples. Shape: [2, n]."""
    return np.stack([np.random.default_rng(seed).random(n) < share, np.ones(n)]).astype(np.uint8)


def sentences(seed: int, n: int = 60) -> np.ndarray:
    """Sentences of 1 to 30 words, some of them right: no mean over examples. Shape: [2, n]."""
    length = np.random.default_rng(7).integers(1, 31, n)
    return np.stack([np.random.default_rng(seed).binomial(length, 0.7), length])


def guesses(name: str, examples: list[Any], chance: random.Random) -> list[Any]:
    """Predictions that are right here and there, and now and then cut short."""

    def told(tags: Any, other: str) -> tuple[str, ...]:
        return tuple(tag if chance.random() < 0.8 else other for tag in tags)[: chance.choice((2, 99))]

    if name == "nli":
        return [chance.choice(("neutral", example.label)) for example in examples]
    if name == "qa":
        spans = [
            (example.answers[0][1], example.answers[0][1] + len(example.answers[0][0]))
            for example in examples
        ]
        return [
            (Answer(start, end + chance.choice((0, 6)), 0.0),) if chance.random() < 0.9 else ()
            for start, end in spans
        ]
    if name == "parsing":
        return [
            Tree(
                tuple(head if chance.random() < 0.7 else 0 for head in example.heads),
                told(map(universal, example.relations), "dep"),
            )
            for example in examples
        ]
    return [told(example.tags, "O" if name == "ner" else "NOUN") for example in examples]


@pytest.mark.parametrize("name", ["parsing", "ner", "pos", "nli", "qa"])
def test_outcomes_add_up_to_the_scores(name: str, data: DataFolder, tmp_path: Path) -> None:
    examples = find_task(name).read(data.file(column(name), "qac", "test"))
    task = find_task(name).for_training(examples)
    found = guesses(name, examples, random.Random(3))
    assert isinstance(task, Counted)
    scores, outcomes = task.score(examples, found), task.outcomes(examples, found)
    assert any(0 < score < 100 for score in scores.values())
    assert ratios(outcomes) == pytest.approx(scores, abs=1e-9)
    for top, bottom in outcomes.values():
        assert len(top) == len(bottom) == len(examples)
    keep_outcomes(tmp_path / "kept", task, examples, found, test=TEST)
    kept = read_outcomes(tmp_path / "kept")
    assert kept is not None
    assert kept.test == TEST
    measured = {metric: resampled(sums[None], TEST, resamples=1)[0, 0] for metric, sums in kept.sums.items()}
    assert measured == pytest.approx(scores, abs=1e-4)  # a QA F1 is kept as float32
    assert (tmp_path / "kept").stat().st_size < 400 + 20 * len(examples)


def test_draws_are_corpus_scores_of_examples_drawn_one_by_one() -> None:
    sums = sentences(1)
    found = resampled(sums[None], TEST, resamples=50)[0]
    assert found[0] == pytest.approx(100 * sums[0].sum() / sums[1].sum())
    drawn = np.random.default_rng(list(TEST.encode())).integers(0, 60, (50, 60))
    expected = [100 * sum(sums[0][i] for i in row) / sum(sums[1][i] for i in row) for row in drawn]
    np.testing.assert_allclose(found[1:], expected)
    assert np.unique(found[1:]).size > 25


def test_the_same_test_file_has_the_same_draws_and_another_has_others() -> None:
    one, other = sentences(1), sentences(2)
    together = resampled(np.stack([one, other]), TEST)
    np.testing.assert_array_equal(together[1], resampled(other[None], TEST)[0])
    assert abs(np.corrcoef(together[0, 1:], resampled(one[None], "sha256:other")[0, 1:])[0, 1]) < 0.15


def test_a_mean_over_examples_has_the_closed_form_of_its_spread_and_p() -> None:
    n = 2000
    a, b = answers(0.70, n, 1), answers(0.68, n, 2)
    scores = resampled(np.stack([a, b]), TEST, resamples=4000)
    found = difference([scores[0]], [scores[1]])
    apart = 100 * (a[0].astype(float) - b[0])
    error = apart.std() / np.sqrt(n)
    assert found.value == pytest.approx(apart.mean())
    assert (found.low, found.high) == pytest.approx(
        (apart.mean() - 1.96 * error, apart.mean() + 1.96 * error), abs=0.15 * error
    )
    assert found.p == pytest.approx(2 * norm.sf(abs(apart.mean()) / error), abs=0.03)


def test_pairing_sees_what_two_systems_have_in_common() -> None:
    a = answers(0.7, 1000, 1)
    b = a.copy()
    b[0, np.flatnonzero(a[0])[:12]] = 0  # twelve examples worse, all else alike
    paired = resampled(np.stack([a, b]), TEST)
    alone = [resampled(one[None], name)[0] for one, name in ((a, TEST), (b, "sha256:other"))]
    assert difference([paired[0]], [paired[1]]).p < 0.01
    assert difference([alone[0]], [alone[1]]).p > 0.3


def test_means_over_targets_shrink_the_interval_and_alike_systems_have_none() -> None:
    sides = [
        [resampled(answers(share, 500, seed)[None], f"sha256:{seed}")[0] for seed in range(9)]
        for share in (0.75, 0.7)
    ]
    one, all_nine = difference(sides[0][:1], sides[1][:1]), difference(*sides)
    assert (
        0.25 < (all_nine.high - all_nine.low) / (one.high - one.low) < 0.42
    )  # a third, by the square root of nine
    same = difference(sides[0], sides[0])
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_nothing_to_be_found_scores_nothing() -> None:
    assert resampled(np.zeros((1, 2, 5)), TEST, resamples=3).tolist() == [[0.0] * 4]


def test_ten_thousand_examples_take_no_second() -> None:
    start = time.process_time()
    scores = resampled(np.stack([answers(0.7, 10_000, 1), answers(0.69, 10_000, 2)]), TEST)
    difference([scores[0]], [scores[1]])
    assert time.process_time() - start < 2.0


def test_a_report_keeps_outcomes_and_forgets_older_ones(tmp_path: Path) -> None:
    kept = {name: Outcomes(TEST, {"las": sentences(seed)}) for seed, name in enumerate(("a" * 16, "b" * 16))}
    write_outcomes(tmp_path, kept)
    write_outcomes(tmp_path, {"b" * 16: kept["b" * 16]})
    found = read_all_outcomes(tmp_path)
    assert list(found) == ["b" * 16]
    np.testing.assert_array_equal(found["b" * 16].sums["las"], kept["b" * 16].sums["las"])
    assert read_outcomes(tmp_path / "nowhere") is None
    assert read_all_outcomes(tmp_path / "nowhere") == {}
