"""chrF, the F score of character n-grams between a translation and its reference (Popović 2015)."""

from collections import Counter
from collections.abc import Sequence


def chrf(hypotheses: Sequence[str], references: Sequence[str], *, order: int = 6, beta: float = 2.0) -> float:
    """Return chrF of some translations together, in percent.

    N-grams are counted over all sentences, blanks left out; precision and recall are means over the orders
    that both sides have.

    Args:
        order: the longest n-grams.
        beta: how many times recall counts as much as precision.
    """
    shares = []
    for n in range(1, order + 1):
        pairs = [
            (_grams(one, n), _grams(other, n)) for one, other in zip(hypotheses, references, strict=True)
        ]
        found, wanted = (sum(grams[side].total() for grams in pairs) for side in (0, 1))
        if found and wanted:
            common = sum((one & other).total() for one, other in pairs)
            shares.append((common / found, common / wanted))
    precision, recall = (sum(side) / len(shares) for side in zip(*shares, strict=True)) if shares else (0, 0)
    if not precision or not recall:
        return 0.0
    return 100 * (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _grams(text: str, n: int) -> Counter[str]:
    characters = "".join(text.split())
    return Counter(characters[i : i + n] for i in range(len(characters) - n + 1))
