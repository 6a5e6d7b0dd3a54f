"""The trimmed tokenizer: the same class and settings over fewer tokens.

Notable: it has been through save and reload, and is refused where it does not come back the same, so a saved
copy gives the same output."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.vocab.counting import Ids
from bistil.vocab.family import Family, family_of, specials


def trim_tokenizer(tokenizer: PreTrainedTokenizerFast, kept: Ids) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the same class with only the kept tokens; normaliser, pre-tokeniser and settings
    stay exactly the same.

    Special tokens are renumbered wherever they stand: in the added tokens, the post-processor and the model's
    unknown token.
    """
    family, data = family_of(tokenizer.backend_tokenizer)
    lost = specials(tokenizer) - set(kept.tolist())
    unknown = set(kept.tolist()) - set(tokenizer.get_vocab().values())
    if lost or unknown or not np.array_equal(kept, np.unique(kept)):
        raise InputError(
            "Kept ids must be sorted, unique, in the tokenizer's vocabulary, and hold all special and added"
            f" tokens; {len(unknown)} are outside the vocabulary and the special ids {sorted(lost)} are"
            " missing. Use vocab.choose."
        )
    return reloaded(tokenizer, trimmed_data(family, data, kept))


def reloaded(tokenizer: PreTrainedTokenizerFast, data: dict[str, Any]) -> PreTrainedTokenizerFast:
    """A tokenizer of the same class and settings with another content of tokenizer.json.

    Raises:
        InputError: where it does not come back the same from its own files.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        Path(folder, "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        trimmed: Any = type(tokenizer).from_pretrained(folder, trust_remote_code=False)
    trimmed.name_or_path = tokenizer.name_or_path
    if family_of(trimmed.backend_tokenizer)[1] != data:
        raise InputError(
            f"A {type(tokenizer).__name__} does not come back the same from its own files, so a trimmed copy"
            " would tokenise differently. Load the tokenizer as PreTrainedTokenizerFast, which keeps"
            " tokenizer.json as it is."
        )
    return trimmed


def trimmed_data(family: Family, data: dict[str, Any], kept: Ids) -> dict[str, Any]:
    """The content of tokenizer.json with only the kept tokens; `data` is used up."""
    new = {int(i): position for position, i in enumerate(kept)}
    model = family.trimmed(data, new)
    for added in data["added_tokens"]:
        added["id"] = new[added["id"]]
    remap_post_processor(data["post_processor"], new)
    return {**data, "model": model}


def remap_post_processor(processor: dict[str, Any] | None, new: Mapping[int, int]) -> None:
    """Renumber the special tokens that a post-processor adds, in place; sequences of processors are
    walked.
    """
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        remap_post_processor(inner, new)
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [new[i] for i in special["ids"]]
    for name in ("cls", "sep"):
        if name in processor:
            token, old = processor[name]
            processor[name] = [token, new[old]]
