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
        if prepend and data["decoder"]:
            unmark = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
            data["decoder"] = {"type": "Sequence", "decoders": [data["decoder"], unmark]}
    for step in components(data["decoder"]):
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "always"
    marked = Tokenizer.from_str(json.dumps(data))
    for part in ("pre_tokenizer", "normalizer", "decoder"):
        if data[part]:
            setattr(tokenizer, part, getattr(marked, part))


def spell_words(tokenizer: Tokenizer) -> None:
    """Let the places of tokens hold every letter of their words, in place.

    Trimming spaces off the places takes a letter for a space that was added, where it does not know of one at
    the start of the text, or where every word got one, which it never knows; then spaces stay in the places.
    """
    data = json.loads(tokenizer.to_str())
    steps = [step for step in components(data["pre_tokenizer"]) if step["type"] != "Sequence"]
    adding = [number for number, step in enumerate(steps) if step.get("add_prefix_space")]
    trimming = [step for step in components(data["post_processor"]) if step.get("trim_offsets")]
    if adding and trimming:
        for step in trimming:
            step |= {"add_prefix_space": True, "trim_offsets": adding[0] == 0}
        tokenizer.post_processor = Tokenizer.from_str(json.dumps(data)).post_processor


def components(entry: Any) -> Iterator[dict[str, Any]]:
    """A step of a tokenizer.json and those inside it."""
    if entry:
        yield entry
        for name in ("normalizers", "pretokenizers", "processors", "decoders"):
            for inner in entry.get(name, ()):
                yield from components(inner)
