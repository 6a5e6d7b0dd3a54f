"""WordPiece: any choice of tokens is exact, and each character is kept as c and as ##c.

Notable: WordPiece always takes the longest match, and removing tokens can only make a match shorter: a word
whose original pieces are all kept finds the same longest match at every step, so its tokens do not change. A
word that was unknown to the teacher stays unknown where every token's characters are tokens too, as in every
vocabulary that was trained; elsewhere it may become spellable, because a shorter first piece can leave a rest
that is known."""

from collections.abc import Mapping
from itertools import chain
from typing import Any


def needed(data: Mapping[str, Any], ids: set[int], every_character: bool) -> set[int]:
    """Ids of each character c in the tokens `ids`, or in any token, as c and as ##c where the vocabulary has
    them, and of the unknown token.
    """
    vocabulary, prefix = data["model"]["vocab"], data["model"]["continuing_subword_prefix"]
    tokens = (token for token, i in vocabulary.items() if every_character or i in ids)
    characters = set(chain.from_iterable(token.removeprefix(prefix) for token in tokens))
    forms = (form for c in characters for form in (c, prefix + c))
    return {vocabulary[form] for form in (data["model"]["unk_token"], *forms) if form in vocabulary}


def trimmed(data: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """The model with only the tokens of `new`."""
    pieces = sorted(data["model"]["vocab"].items(), key=lambda item: item[1])
    return {**data["model"], "vocab": {token: new[i] for token, i in pieces if i in new}}
