"""One vocabulary out of several: the union of teachers' WordPiece vocabularies (Khanuja et al. 2021, section
3).

Notable: a token is its string, `##` and all, so that equal strings of different teachers share one row, which
is what lets them learn from each other. Special tokens are shared by what they do, whatever they are called.
Unigram and BPE do not unite: how they cut a text hangs on every score or merge, not on the strings alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.vocab.family import family_of
from bistil.vocab.tokenizer import reloaded, remap_post_processor

ROLES = ("pad", "unk", "cls", "sep", "mask")


@dataclass(frozen=True)
class Union:
    """Several vocabularies as one.

    Attributes:
        tokenizer: WordPiece over all strings.
        maps: for each teacher the union's id of each of its ids, -1 for ids without a token. Shape: [V_t],
            int32.
        read_by: for each teacher a tokenizer that cuts as it does and gives the union's ids.
        own: how many tokens no other teacher has, for each.
        shared: how many tokens several have, special ones among them.
    """

    tokenizer: PreTrainedTokenizerFast
    maps: Mapping[str, Tensor]
    read_by: Mapping[str, PreTrainedTokenizerFast]
    own: Mapping[str, int]
    shared: int


def unite(
    tokenizers: Mapping[str, PreTrainedTokenizerFast], rows: Mapping[str, int], normaliser: str | None = None
) -> Union:
    """The union, special tokens first, then the teachers' tokens in the order of the teachers and their ids.

    Args:
        rows: embedding rows of each teacher, at least as many as it has tokens.
        normaliser: the teacher whose normalisation and splitting of words the union's tokenizer has; needed
            where theirs differ.

    Raises:
        InputError: for another family than WordPiece, and where teachers normalise differently.
    """
    contents = {}
    for name, tokenizer in tokenizers.items():
        contents[name] = family_of(tokenizer.backend_tokenizer)[1]
        if (kind := contents[name]["model"]["type"]) != "WordPiece":
            raise InputError(
                f"Vocabularies of WordPiece unite, but the teacher {name} has {kind}: how it cuts a text"
                " hangs on scores or merges of all its tokens, which two such vocabularies have not in"
                " common. Take teachers with WordPiece, such as BERT's."
            )
    model_steps = ("continuing_subword_prefix", "max_input_chars_per_word")
    steps = {
        name: [one["normalizer"], one["pre_tokenizer"], *(one["model"][step] for step in model_steps)]
        for name, one in contents.items()
    }
    first = normaliser or next(iter(tokenizers))
    if other := next((name for name in steps if normaliser is None and steps[name] != steps[first]), None):
        raise InputError(
            f"The teachers {first} and {other} normalise text or split words differently (cased beside"
            " uncased, say). Say whose way the student has: `normaliser: <teacher>` under `merge`."
        )
    special = {role: getattr(tokenizers[first], f"{role}_token") for role in ROLES}
    strings = dict.fromkeys(special[role] for role in ROLES)
    named = {name: _strings(tokenizer, special) for name, tokenizer in tokenizers.items()}
    for tokens in named.values():
        strings |= dict.fromkeys(tokens[i] for i in sorted(tokens))
    new = {token: place for place, token in enumerate(strings)}
    maps = {name: torch.full((rows[name],), -1, dtype=torch.int32) for name in tokenizers}
    for name, tokens in named.items():
        for i, token in tokens.items():
            maps[name][i] = new[token]
    having = {name: set(tokens.values()) for name, tokens in named.items()}
    times = {token: sum(token in tokens for tokens in having.values()) for token in new}
    read_by = {name: _renumbered(tokenizers[name], maps[name]) for name in tokenizers}
    return Union(
        _renumbered(tokenizers[first], maps[first], new),
        maps,
        read_by,
        {name: sum(times[token] == 1 for token in tokens) for name, tokens in having.items()},
        sum(number > 1 for number in times.values()),
    )


def _strings(tokenizer: PreTrainedTokenizerFast, special: Mapping[str, str]) -> dict[int, str]:
    """Every token of a teacher by its id; special ones under the names that they have in the union."""
    found = {i: token for token, i in tokenizer.get_vocab().items()}
    return found | {getattr(tokenizer, f"{role}_token_id"): special[role] for role in ROLES}


def _renumbered(
    tokenizer: PreTrainedTokenizerFast, places: Tensor, vocabulary: Mapping[str, int] | None = None
) -> PreTrainedTokenizerFast:
    """The same tokenizer with other ids, and other tokens where a vocabulary is given."""
    new = {old: place for old, place in enumerate(places.tolist()) if place >= 0}
    data = family_of(tokenizer.backend_tokenizer)[1]
    known = dict(vocabulary or {token: new[i] for token, i in data["model"]["vocab"].items()})
    for added in data["added_tokens"]:
        added["id"] = known.setdefault(added["content"], new[added["id"]])
    data["model"]["vocab"] = dict(sorted(known.items(), key=lambda item: item[1]))
    remap_post_processor(data["post_processor"], new)
    return reloaded(tokenizer, json.loads(json.dumps(data)))
