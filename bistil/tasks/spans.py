"""What question answering does with spans: SQuAD's scores of two answers, and the best spans of a window.

Notable: the best spans are exact, since all pairs of a start and an end at most `longest` tokens apart are
scored at once, as a band."""

import re
import string
from collections import Counter

import torch
from torch import Tensor
from torch.nn.functional import pad

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """An answer as SQuAD compares it: lower case, without ASCII punctuation, without English articles, single
    spaces.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(guess: str, gold: str) -> float:
    """1 where two answers are the same after normalisation, else 0."""
    return float(normalise(guess) == normalise(gold))


def f1(guess: str, gold: str) -> float:
    """Harmonic mean of precision and recall of normalised words, 0 to 1, each word counted as often as it
    occurs; 0 where nothing is left of the answers, as in SQuAD's script.
    """
    guessed, wanted = normalise(guess).split(), normalise(gold).split()
    common = (Counter(guessed) & Counter(wanted)).total()
    return 2 * common / (len(guessed) + len(wanted)) if common else 0.0


def best_spans(
    start: Tensor, end: Tensor, context: Tensor, *, longest: int, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The n best spans of each window by the sum of start and end logits (BiStil section 5.4.3), best first;
    -inf where there are fewer.

    A span lies wholly in the context and has 1 to `longest` tokens. Shape: start, end and context (True where
    a token may be in an answer) are [N, L]; scores, firsts and lasts are [N, n'] with n' = min(n, L *
    longest)."""
    start, end = (logits.float().masked_fill(~context, -torch.inf) for logits in (start, end))
    sums = start[:, :, None] + pad(end, (0, longest - 1), value=-torch.inf).unfold(1, longest, 1)
    scores, places = sums.flatten(1).topk(min(n, sums[0].numel()), dim=1)
    firsts = places // longest
    return scores, firsts, firsts + places % longest
