"""Which tokens to keep: those frequent enough in a corpus, and what the tokenizer's family needs besides."""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.vocab.counting import Ids, size
from bistil.vocab.family import family_of, specials
from bistil.vocab.scripts import of_no_script, script, written_in

Characters = Literal["kept", "scripts", "all"]


def choose(
    tokenizer: PreTrainedTokenizerFast,
    counts: Sequence[NDArray[Any]],
    *,
    threshold: float = 1e-6,
    criterion: Literal["unigram", "sentences"] = "unigram",
    characters: Characters = "kept",
    also: Collection[int] = (),
) -> Ids:
    """Choose the tokens to keep, as sorted teacher ids. Shape: [V'].

    A token is kept when it reaches `threshold` in at least one of the corpora. "unigram": `counts` come from
    count_tokens and the token's share of all tokens is compared (BiStil: 1e-6). "sentences": they come from
    sentence_share (Eliquare: 5e-4). Special and added tokens and those in `also` are always kept, and so is
    what the tokenizer needs for the kept tokens (see the file of its family): among it, each character in
    them.

    A character that these corpora lack is then unknown, which is rare in text of the same language (with
    XLM-R's vocabulary, in 4 of 1,000 new lines of English and German). With `characters="scripts"` every
    single character of the scripts that a corpus is written in is kept, digits, punctuation and signs too
    (some 2,500 rows more of XLM-R's for Latin letters, 10,000 more for Chinese), and with "all" every one of
    the vocabulary (13,700 more), so that no text at all becomes unknown that was not. Tokenizers that fall
    back to bytes give that in any case."""
    if criterion not in ("unigram", "sentences") or characters not in ("kept", "scripts", "all"):
        raise InputError(
            f"criterion should be unigram or sentences and characters kept, scripts or all, not {criterion!r}"
            f" and {characters!r}."
        )
    family, data = family_of(tokenizer.backend_tokenizer)
    expected = size(tokenizer)
    if not counts or any(np.shape(one) != (expected,) for one in counts):
        raise InputError(
            f"Counts of shape ({expected},) from this tokenizer for each corpus were expected;"
            f" {[np.shape(one) for one in counts]} came."
        )
    shares = _shares(counts) if criterion == "unigram" else np.stack(list(counts))
    known, always = set(tokenizer.get_vocab().values()), specials(tokenizer)
    reach = np.flatnonzero((shares >= threshold).any(axis=0)).tolist()
    ordinary = (set(also) | known.intersection(reach)) - always
    if characters == "scripts":
        ordinary |= _of_scripts(tokenizer, family.needed(data, ordinary, True) - always, counts)
    return np.array(sorted(always | ordinary | family.needed(data, ordinary, characters == "all")), np.int64)


def _of_scripts(
    tokenizer: PreTrainedTokenizerFast, ids: set[int], counts: Sequence[NDArray[Any]]
) -> set[int]:
    """Those of the ids that are single characters of the scripts that a corpus is written in."""
    tokens = {i: token.removeprefix("##") for token, i in tokenizer.get_vocab().items()}
    scripts = written_in(tokens, counts)
    return {i for i in ids if len(tokens[i]) == 1 and script(tokens[i]) in scripts}


def signs(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """The ids of single letters that belong to no script, such as º and µ; text of any may have them."""
    tokens = {i: token.removeprefix("##") for token, i in tokenizer.get_vocab().items()}
    return {i for i, token in tokens.items() if len(token) == 1 and of_no_script(token)}


def curve(counts: Sequence[NDArray[Any]], thresholds: Sequence[float]) -> list[int]:
    """Count the tokens that reach each threshold in some corpus (unigram shares), for plots; always-kept
    tokens are not added.
    """
    best = np.sort(_shares(counts).max(axis=0))
    return [int(len(best) - at) for at in np.searchsorted(best, thresholds)]


def _shares(counts: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Unigram probabilities. Shape: [corpora, V]."""
    if not counts or not all(np.sum(one) > 0 for one in counts):
        raise InputError(
            "Counts of at least one corpus, each with at least one token, were expected. Is a corpus file"
            " empty?"
        )
    return np.stack([one / one.sum() for one in counts])
