"""Tokenizers that mark a word by the space before it: the first word of a text gets the mark too.

Notable: byte-level BPE (RoBERTa, ModernBERT) and SentencePiece's BPE (mmBERT) leave the first word of a text
unmarked. Words given one by one, as parsing and tagging do, would then all look like the rest of a longer
word. The mark is written into the tokenizer itself, so that a student that is taken away has it as well. (For
RoBERTa this is transformers' own recipe, `add_prefix_space`.)"""

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer


def glues_words(tokenizer: Tokenizer) -> bool:
    """Whether two words have other tokens one by one than in running text."""
    running = tokenizer.encode("a a", add_special_tokens=False)
    return running.ids != tokenizer.encode(["a", "a"], is_pretokenized=True, add_special_tokens=False).ids


def mark_first_word(tokenizer: Tokenizer) -> None:
    """Let the tokenizer treat the start of a text like a space, in place, where it knows a way to."""
    data = json.loads(tokenizer.to_str())
    steps = [*components(data["pre_tokenizer"])]
    for step in steps:
        if step["type"] == "ByteLevel":
            step["add_prefix_space"] = True
        elif step["type"] == "Metaspace":
            step["prepend_scheme"] = "always"
    normalizer = data["normalizer"]
    if normalizer and not any(step["type"] in ("ByteLevel", "Metaspace") for step in steps):
        marks = [
            step["content"]
            for step in components(normalizer)
            if step["type"] == "Replace" and step["pattern"] == {"String": " "}
        ]
        prepend = [{"type": "Prepend", "prepend": mark} for mark in marks[:1]]
        data["normalizer"] = {"type": "Sequence", "normalizers": [*prepend, normalizer]}
    marked = Tokenizer.from_str(json.dumps(data))
    if steps:
        tokenizer.pre_tokenizer = marked.pre_tokenizer
    if normalizer:
        tokenizer.normalizer = marked.normalizer


def components(entry: Any) -> Iterator[dict[str, Any]]:
    """A step of a tokenizer.json and those inside it."""
    if entry:
        yield entry
        for inner in (*entry.get("normalizers", ()), *entry.get("pretokenizers", ())):
            yield from components(inner)
