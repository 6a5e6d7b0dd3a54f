"""Dependency trees from CoNLL-U files.

Notable: columns are what stands between tabs, so a word or a lemma may hold any spaces.
Multiword tokens (1-2) and empty nodes (1.1) are no part of the tree and are left out: what stays are the
syntactic words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bistil.errors import InputError
from bistil.tasks.sentences import check_words, sentence_blocks, some
from bistil.tasks.trees import is_tree

_WORD, _HEAD, _OTHER = (
    re.compile(r"[1-9][0-9]{0,8}"),
    re.compile(r"[0-9]{1,9}"),
    re.compile(r"[0-9]{1,9}[-.][0-9]{1,9}"),
)
_NAME = re.compile(r"#\s*sent_id\s*=\s*(.*?)\s*")


@dataclass(frozen=True)
class Sentence:
    """A sentence with its tree: `heads[i]` is the number of the head of word i + 1, 0 for the root; relations
    keep their subtypes.
    """

    words: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]
    id: str = ""


def universal(relation: str) -> str:
    """The universal part of a relation: `nsubj` of `nsubj:pass`, as the CoNLL-18 script compares them."""
    return relation.split(":")[0]


def read_conllu(path: Path) -> list[Sentence]:
    """All sentences of a CoNLL-U file.

    Raises:
        InputError: with the line number, where a line has not 10 columns, where ids or heads are wrong, or
            where the heads are no tree with one root; where the words are withheld.
    """
    sentences = []
    for start, lines in sentence_blocks(path):
        if words := word_rows(path, start, lines):
            _check(path, words)
            sentences.append(
                Sentence(
                    tuple(columns[1] for _, columns in words),
                    tuple(int(columns[6]) for _, columns in words),
                    tuple(columns[7] for _, columns in words),
                    next((name[1] for line in lines if (name := _NAME.fullmatch(line))), ""),
                )
            )
    some(sentences, f"At least one sentence was expected in {path}, but it holds only comments")
    check_words(path, (sentence.words for sentence in sentences))
    return sentences


def word_rows(path: Path, start: int, lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The columns of the syntactic words of a sentence whose first line has the number `start`, each with its
    line's number; none of comments alone.

    Raises:
        InputError: at the first line without 10 columns, a word or the right id.
    """
    rows = [(start + i, line.split("\t")) for i, line in enumerate(lines) if not line.startswith("#")]
    words: list[tuple[int, list[str]]] = []
    for number, columns in rows:
        if len(columns) != 10:
            raise wrong(path, number, "10 columns with tabs between them", f"{len(columns)}")
        if _OTHER.fullmatch(columns[0]):
            continue
        if not _WORD.fullmatch(columns[0]) or int(columns[0]) != len(words) + 1:
            raise wrong(path, number, f"the word id {len(words) + 1}", repr(columns[0]))
        if not columns[1].strip():
            raise wrong(path, number, "a word in the second column", f"the blank {columns[1]!r}")
        words.append((number, columns))
    if rows and not words:
        raise wrong(path, rows[0][0], "a sentence with at least one word", "none")
    return words


def _check(path: Path, words: Sequence[tuple[int, list[str]]]) -> None:
    """Raise InputError where heads and relations are none, or no tree."""
    for number, columns in words:
        head = int(columns[6]) if _HEAD.fullmatch(columns[6]) else -1
        if not 0 <= head <= len(words) or head == int(columns[0]):
            expected = f"a head from 0 to {len(words)} other than the word itself"
            raise wrong(path, number, expected, repr(columns[6]))
        if columns[7].strip() in ("", "_"):
            raise wrong(path, number, f"a relation of the word {columns[1]!r}", repr(columns[7]))
    if not is_tree([int(columns[6]) for _, columns in words]):
        raise wrong(
            path,
            words[0][0],
            "a tree with exactly one root in the sentence that starts here",
            "several roots, none, or a cycle",
        )


def wrong(path: Path, line: int, expected: str, came: str) -> InputError:
    """What to raise at a line of a treebank."""
    return InputError(
        f"{path}, line {line}: expected {expected}, but got {came}. Correct the line, or get the treebank"
        " anew."
    )
