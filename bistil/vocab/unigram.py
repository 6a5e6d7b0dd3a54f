"""Unigram (SentencePiece): pieces keep their scores; characters, a piece with the worst score and the bytes
stay.

Notable: the best path through a text survives when only pieces off it go, ties included: every other path to
a point of it can only lose, and the first of equal ones stays the first. What could win instead is the
unknown token. It stands for a character that is no piece of its own and scores 10 below the worst of all
pieces, so a piece with the worst score is kept: then a character that is a piece no more scores less than it
did. Single characters are kept so that kept text stays known.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from bistil.errors import InputError

BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))


def needed(data: Mapping[str, Any], ids: set[int], every_character: bool) -> set[int]:
    """Ids of the single characters in the pieces `ids`, or of all, of a piece with the worst score, of the
    unknown token, and of bytes to fall back to.
    """
    vocabulary = data["model"]["vocab"]
    worst = min(range(len(vocabulary)), key=lambda i: (vocabulary[i][1], len(vocabulary[i][0])))
    fallback = BYTES if data["model"].get("byte_fallback") else frozenset()
    read = range(len(vocabulary)) if every_character else sorted({worst, *ids})
    wanted = {
        *chain.from_iterable(
            vocabulary[i][0] for i in read if i < len(vocabulary) and vocabulary[i][0] not in fallback
        ),
        *fallback,
    }
    unknown = data["model"]["unk_id"]
    return {worst, *([] if unknown is None else [unknown])} | {
        i for i, (piece, _) in enumerate(vocabulary) if piece in wanted
    }


def trimmed(data: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """The model with only the pieces of `new`; InputError where what the kept pieces need is not in it."""
    model = data["model"]
    ordinary = new.keys() - {token["id"] for token in data["added_tokens"]}
    if lacking := needed(data, set(ordinary), False) - new.keys():
        raise InputError(
            f"The kept pieces need {len(lacking)} more to stay exact, such as"
            f" {model['vocab'][min(lacking)][0]!r}: characters, bytes or a piece with the worst score. Use"
            " vocab.choose."
        )
    unknown = model["unk_id"]
    kept = [entry for i, entry in enumerate(model["vocab"]) if i in new]
    return {**model, "unk_id": None if unknown is None else new[unknown], "vocab": kept}
