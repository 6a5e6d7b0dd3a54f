"""chrF against the values in sacrebleu's own tests (github.com/mjpost/sacrebleu, test/test_chrf.py)."""

import pytest

from bistil.evaluation.chrf import chrf


@pytest.mark.parametrize(
    ("hypotheses", "references", "beta", "expected"),
    [
        (["a"], ["a"], 3, 100.0),
        ([""], ["reference"], 3, 0.0),
        (["a b c"], ["a b c"], 3, 100.0),
        (["a b c"], ["abc"], 3, 100.0),
        (["a", "b"], ["a", "c"], 3, 50.0),
        (["aa"], ["ab"], 3, 25.0),
        (["abcdefg"], ["hijklmnop"], 3, 0.0),
        (
            [
                "risk assessment must be made of those who are qualified and expertise in the sector - these"
                " are the scientists ."
            ],
            [
                "risk assessment has to be undertaken by those who are qualified and expert in that area -"
                " that is the scientists ."
            ],
            3,
            63.361730,
        ),
        (
            ["Die Beziehung zwischen Obama und Netanjahu ist nicht gerade freundlich."],
            ["Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich."],
            3,
            64.1302698,
        ),
    ],
)
def test_published_values(hypotheses: list[str], references: list[str], beta: int, expected: float) -> None:
    assert chrf(hypotheses, references, beta=beta) == pytest.approx(expected, abs=1e-4)


def test_recall_counts_twice_as_much_as_precision() -> None:
    longer, shorter = "abcdefgh" * 2, "abcdefgh"
    assert chrf([longer], [shorter]) > chrf([shorter], [longer]) > 0


def test_sentences_count_by_their_length() -> None:
    pair = ["a whole long sentence", "x"], ["a whole long sentence", "y"]
    assert 90 < chrf(*pair) < 100
    assert chrf([], []) == 0.0
    with pytest.raises(ValueError, match="zip"):
        chrf(["a"], [])
