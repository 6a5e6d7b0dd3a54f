"""The gold labels of examples, by the name of their task.

Notable: a model knows the labels of the source language's training file only, so a target's file that has
none of them could only be scored wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.tasks.treebank import universal


def labels_of(task: str, example: Any) -> Iterator[str]:
    """The labels of an example: universal relations, tags, entity types, the label of a text or a pair."""
    if task == "parsing":
        yield from map(universal, example.relations)
    elif task == "pos":
        yield from example.tags
    elif task == "ner":
        yield from (tag[2:] for tag in example.tags if tag.startswith("B-"))
    elif task in ("nli", "classification"):
        yield example.label


def text_of(example: Any) -> str:
    """What an example of any task has to read: its words, its two sentences, a question and its text, or a
    text.
    """
    words = getattr(example, "words", None)
    if words is not None:
        return " ".join(words)
    told = ("premise", "hypothesis", "question", "context", "text")
    return "\n".join(getattr(example, name) for name in told if hasattr(example, name))


def check_known(task: str, train: Sequence[Any], test: Sequence[Any], path: Path) -> None:
    """Refuse a test file with labels of which the training examples have none.

    Args:
        path: the test file.

    Raises:
        InputError: naming the labels of both.
    """
    known, found = ({label for one in side for label in labels_of(task, one)} for side in (train, test))
    if found and not found & known:
        ours, theirs = (", ".join(sorted(labels)[:20]) or "none" for labels in (known, found))
        raise InputError(
            f"Labels that the source language's training file has ({ours}) were expected in {path}, but it"
            f" has others only: {theirs}. Give both files the same scheme of labels."
        )
