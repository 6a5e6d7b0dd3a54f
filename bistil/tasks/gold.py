"""The gold labels of examples, by the name of their task.

Notable: a model knows the labels of its training examples only. A target's file that has none of them is
refused; where it has some others too, these are told, since they change what a score means."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.tasks.task import Task
from bistil.tasks.treebank import universal

MOST_LABELS = 6
"""Labels that are listed by name."""


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


def known_of(task: Task) -> set[str]:
    """The labels that a task learnt, as `labels_of` calls them."""
    if task.name == "ner":
        return {label[2:] for label in task.labels if label.startswith("B-")}
    return set(task.labels)


def count(task: str, examples: Sequence[Any]) -> dict[str, int]:
    """How often each label occurs in examples, the most frequent first."""
    return dict(Counter(label for one in examples for label in labels_of(task, one)).most_common())


def lacking(known: Collection[str], counts: Mapping[str, int]) -> dict[str, int]:
    """The counts of the labels that are none of the known ones."""
    return {label: number for label, number in counts.items() if label not in known}


def consequence(task: str) -> str:
    """What a label that training lacks does to the scores of a task."""
    return "O in every score" if task == "ner" else "always counted as wrong"


def in_words(counts: Mapping[str, int]) -> str:
    """The first labels with their numbers, and how many more there are."""
    told = ", ".join(f"{label} {count:,}" for label, count in [*counts.items()][:MOST_LABELS])
    return told + (f" and {len(counts) - MOST_LABELS} more" if len(counts) > MOST_LABELS else "")


def warning(task: str, file: str, counts: Mapping[str, int], sources: Iterable[str]) -> str:
    """That a file has labels which the training files of some languages lack, and what comes of it."""
    return (
        f"{file} has {in_words(counts)}, which training in {', '.join(sources)} lacks ({consequence(task)})"
    )


def check_known(task: str, train: Sequence[Any], test: Sequence[Any], path: Path) -> None:
    """Refuse a test file with labels of which the training examples have none.

    Args:
        path: the test file.

    Raises:
        InputError: naming the labels of both.
    """
    known, found = (count(task, side).keys() for side in (train, test))
    if found and not found & known:
        ours, theirs = (", ".join(sorted(labels)[:20]) or "none" for labels in (known, found))
        raise InputError(
            f"Labels that the source language's training file has ({ours}) were expected in {path}, but it"
            f" has others only: {theirs}. Give both files the same scheme of labels."
        )
