"""The kinds of tokenizers that can be reduced, and what each has to say about it.

Notable: a family works on the content of tokenizer.json as plain values; ids are those of the model's own
vocabulary."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.vocab import bpe, unigram, wordpiece


class Family(Protocol):
    """What a file such as `unigram` has to offer. `data` is the content of a tokenizer.json."""

    def needed(self, data: Mapping[str, Any], ids: set[int], every_character: bool) -> set[int]:
        """Return the ids to keep besides `ids`, so that text whose tokens are all kept stays the same, and
        kept characters are known.
        """

    def trimmed(self, data: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
        """Return the `model` entry with only the tokens of `new` (old id -> new id); InputError where it
        could not be exact.
        """


FAMILIES: Mapping[str, Family] = {"WordPiece": wordpiece, "Unigram": unigram, "BPE": bpe}


def family_of(tokenizer: Tokenizer) -> tuple[Family, dict[str, Any]]:
    """Return the family and the content of tokenizer.json, without the truncation and padding of the last
    call.

    Raises:
        InputError: for any other kind of tokenizer, one that draws its tokens at random, and BPE that marks
            parts of words.
    """
    data = json.loads(tokenizer.to_str())
    model = data["model"]
    if model["type"] not in FAMILIES:
        raise InputError(
            f"{', '.join(FAMILIES)} vocabularies can be reduced; this tokenizer's model is {model['type']}."
        )
    marks = [
        name
        for name in ("continuing_subword_prefix", "end_of_word_suffix")
        if model["type"] == "BPE" and model.get(name)
    ]
    if marks or model.get("dropout"):
        raise InputError(
            f"This {model['type']} tokenizer has"
            f" {', '.join(f'{name} {model[name]!r}' for name in (marks or ['dropout']))}, for which no exact"
            " reduction is known here. Byte-level BPE and SentencePiece BPE without dropout can be reduced."
        )
    return FAMILIES[model["type"]], {**data, "truncation": None, "padding": None}


def specials(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """The ids of special and added tokens, which are always kept."""
    return {int(i) for i in (*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values())}
