"""What tasks share: files of sentences, words to sub-words, padding.

Notable: a word that the tokenizer turns into nothing (a lone soft hyphen, say) becomes the unknown token, so
that every word has a first sub-word unless it was cut off at the end of the sentence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.settings import files
from bistil.tasks.task import Row

Examples = TypeVar("Examples", bound=Sequence[Any])


@dataclass(frozen=True)
class Tokens:
    """A sentence as sub-words: ids with special tokens, and the position of the first sub-word of each word
    that was not cut off.
    """

    input_ids: list[int]
    first_subwords: list[int]


def some(examples: Examples, missing: str) -> Examples:
    """The examples, of which there has to be one.

    Raises:
        InputError: where there is none; `missing` says so.
    """
    if not examples:
        raise InputError(f"{missing}. Give a file with data in it.")
    return examples


class Labelled(Protocol):
    """What has a name and labels, as tasks have."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Empty until they were learnt from examples."""


def known_labels(task: Labelled) -> tuple[str, ...]:
    """The labels of a task that has learnt them from examples.

    Raises:
        InputError: where it has none yet.
    """
    if not task.labels:
        raise InputError(
            f"A task {task.name} with labels was expected, but this one has none. Call for_training(examples)"
            " first."
        )
    return task.labels


def sentence_blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Groups of lines between blank lines, each with the number of its first line, counted from 1.

    Raises:
        InputError: where the file is missing, not UTF-8 or without any sentence.
    """
    block: list[str] = []
    found, number = False, 0
    for number, line in files.lines(path):
        if line.strip():
            block.append(line)
        elif block:
            found = True
            yield number - len(block), block
            block = []
    if block:
        found = True
        yield number - len(block) + 1, block
    if not found:
        raise InputError(
            f"At least one sentence was expected in {path}, but the file is empty. Give a file with data"
            " in it."
        )


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with one on each line that is not blank, with the numbers of their lines.

    Raises:
        InputError: at a line that holds none.
    """
    for number, line in files.lines(path):
        if not line.strip():
            continue
        try:
            found = files.parse_json(line)
            came = "" if isinstance(found, dict) else type(found).__name__
        except ValueError as error:
            came = f"text that is none ({getattr(error, 'msg', error)})"
        if came:
            raise InputError(
                f"{path}, line {number}: expected a JSON object, but got {came}. Correct the line, or get the"
                " file anew."
            )
        yield number, found


def check_words(path: Path, sentences: Iterable[Sequence[str]]) -> None:
    """Refuse a file all of whose words are `_`, as of a treebank whose text its licence keeps back."""
    if all(word == "_" for words in sentences for word in words):
        raise InputError(
            f"Words were expected in {path}, but every one is '_': this file comes without its text, which"
            " its licence keeps back. Merge the text in, as the data set's README says, or take another one."
        )


def tokenize(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> list[Tokens]:
    """Sub-words of each sentence, cut to `max_length` tokens including the special ones.

    Raises:
        InputError: where the tokenizer is not a fast one: only fast ones know which sub-word belongs to which
            word.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"A fast tokenizer was expected, but {type(tokenizer).__name__} is a slow one. Load it with"
            " AutoTokenizer."
        )
    if not sentences:
        return []
    spelled = _visible(sentences, tokenizer)
    encoding = tokenizer(
        spelled, is_split_into_words=True, truncation=True, max_length=max_length, return_attention_mask=False
    )
    # or a later save would write this max_length into tokenizer.json
    tokenizer.backend_tokenizer.no_truncation()
    tokens = []
    for row, ids in enumerate(encoding["input_ids"]):
        first: dict[int, int] = {}
        for position, word in enumerate(encoding.word_ids(row)):
            if word is not None:
                first.setdefault(word, position)
        tokens.append(Tokens(list(ids), list(first.values())))
    return tokens


def _visible(sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """The sentences with the unknown token for each word that has no sub-word of its own."""
    words = sorted({word for sentence in sentences for word in sentence})
    encoded = tokenizer(
        [[word] for word in words], is_split_into_words=True, add_special_tokens=False, verbose=False
    )["input_ids"]
    empty = {word for word, ids in zip(words, encoded, strict=True) if not ids}
    return [
        [str(tokenizer.unk_token) if word in empty else word for word in sentence] for sentence in sentences
    ]


def pad(rows: Sequence[Row], name: str, value: int) -> Tensor:
    """The lists `name` of the rows, padded at the end to the longest. Shape: [B, longest] int64."""
    longest = max(len(row[name]) for row in rows)
    return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows], dtype=torch.long)


def pad_inputs(rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and, where the rows have them, `token_type_ids`. Shape: [B, L] int64
    each.
    """
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    input_ids = pad(rows, "input_ids", pad_id)
    inputs = {
        "input_ids": input_ids,
        "attention_mask": (torch.arange(input_ids.shape[1])[None, :] < lengths[:, None]).long(),
    }
    return inputs | (
        {"token_type_ids": pad(rows, "token_type_ids", 0)} if "token_type_ids" in rows[0] else {}
    )
