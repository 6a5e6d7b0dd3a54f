"""Byte-pair encoding, byte-level or SentencePiece's: the merges that build a kept token are kept, in their
order.

Notable: a token in a text was built by the very merges that build it alone, since no merge crossed its ends.
So if all intermediate tokens of every kept token are kept, each merge that fires in a text of kept tokens is
still there; it was the first in order among all that could fire, hence also among those left, and the text
takes the same steps. Bytes stay, so that nothing becomes unknown: the 256 letters of the byte-level alphabet,
or the byte tokens that SentencePiece's BPE falls back to.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from bistil.errors import InputError
from bistil.models.word_marks import components
from bistil.vocab.unigram import BYTES

Ranks = Mapping[tuple[str, str], int]


def needed(data: Mapping[str, Any], ids: set[int], every_character: bool) -> set[int]:
    """Ids of all tokens that come up while the tokens `ids` are built, of every byte and of the unknown
    token; of every character where asked.
    """
    vocabulary: Mapping[str, int] = data["model"]["vocab"]
    ranks = {(first, second): rank for rank, (first, second) in enumerate(data["model"]["merges"])}
    wanted = set(BYTES if data["model"].get("byte_fallback") else ()) | set(
        ByteLevel.alphabet() if is_byte_level(data) else ()
    )
    wanted.add(data["model"].get("unk_token") or "")
    for token, i in vocabulary.items():
        if i in ids:
            wanted.update(steps(token, ranks))
        elif every_character and len(token) == 1:
            wanted.add(token)
    return {vocabulary[token] for token in wanted if token in vocabulary}


def trimmed(data: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """The model with only the tokens of `new` and the merges among them; InputError where what the kept
    tokens need is not in it.
    """
    model = data["model"]
    ordinary = new.keys() - {token["id"] for token in data["added_tokens"]}
    if lacking := needed(data, set(ordinary), False) - new.keys():
        first = next(token for token, i in model["vocab"].items() if i in lacking)
        raise InputError(
            f"The kept tokens need {len(lacking)} more to stay exact, such as {first!r}: parts that they are"
            " merged from, or bytes. Use vocab.choose."
        )
    tokens = sorted(model["vocab"].items(), key=lambda item: item[1])
    kept = {token: new[i] for token, i in tokens if i in new}
    return {
        **model,
        "vocab": kept,
        "merges": [[a, b] for a, b in model["merges"] if a in kept and b in kept and a + b in kept],
    }


def steps(token: str, ranks: Ranks) -> set[str]:
    """The characters of `token` and everything merged from them on the way to it; nothing where merges do not
    lead to it.
    """
    symbols = list(token)
    seen = set(symbols)
    while len(symbols) > 1:
        rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(pairwise(symbols)))
        if rank == len(ranks):
            return set()
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        seen.add(symbols[at])
    return seen


def is_byte_level(data: Mapping[str, Any]) -> bool:
    """Whether text is turned into the 256 letters of the byte-level alphabet before the merges."""
    return any(
        step["type"] == "ByteLevel"
        for name in ("normalizer", "pre_tokenizer")
        for step in components(data[name])
    )
