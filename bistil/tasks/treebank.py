"""Dependency trees from CoNLL-U files.

Notable: conllu reads the columns; the checks here come first, since they can say which line is wrong.
Multiword tokens (1-2) and empty nodes (1.1) are no part of the tree and are left out: what stays are the
syntactic words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import conllu

from bistil.errors import InputError
from bistil.tasks.sentences import sentence_blocks, some
from bistil.tasks.trees import is_tree

_WORD, _HEAD, _OTHER = (
    re.compile(r"[1-9][0-9]{0,8}"),
    re.compile(r"[0-9]{1,9}"),
    re.compile(r"[0-9]{1,9}[-.][0-9]{1,9}"),
)
_AS_TEXT = {name: lambda columns, i: columns[i] for name in ("xpos", "feats", "deps", "misc")}


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

    :raises InputError: with the line number, where a line has not 10 columns, where ids or heads are wrong,
        or where the heads are no tree with one root.
    """
    sentences = []
    for start, lines in sentence_blocks(path):
        rows = [(start + i, line.split("\t")) for i, line in enumerate(lines) if not line.startswith("#")]
        if not rows:
            continue
        _check(path, rows)
        try:
            tokens = conllu.parse("\n".join(lines), field_parsers=dict(_AS_TEXT))[0]
        except conllu.exceptions.ParseException as error:
            raise _wrong(
                path, start, "a CoNLL-U sentence", f"a sentence that cannot be read ({error})"
            ) from error
        words = [token for token in tokens if isinstance(token["id"], int)]
        sentences.append(
            Sentence(
                tuple(token["form"] for token in words),
                tuple(token["head"] for token in words),
                tuple(token["deprel"] for token in words),
                str(tokens.metadata.get("sent_id") or ""),
            )
        )
    return some(sentences, f"At least one sentence was expected in {path}, but it holds only comments")


def _check(path: Path, rows: Sequence[tuple[int, list[str]]]) -> None:
    """Raise InputError at the first line of a sentence that is no good CoNLL-U."""
    words: list[tuple[int, list[str]]] = []
    for number, columns in rows:
        if len(columns) != 10:
            raise _wrong(path, number, "10 columns with tabs between them", f"{len(columns)}")
        if _OTHER.fullmatch(columns[0]):
            continue
        if not _WORD.fullmatch(columns[0]) or int(columns[0]) != len(words) + 1:
            raise _wrong(path, number, f"the word id {len(words) + 1}", repr(columns[0]))
        words.append((number, columns))
    if not words:
        raise _wrong(path, rows[0][0], "a sentence with at least one word", "none")
    for number, columns in words:
        head = int(columns[6]) if _HEAD.fullmatch(columns[6]) else -1
        if not 0 <= head <= len(words) or head == int(columns[0]):
            raise _wrong(
                path, number, f"a head from 0 to {len(words)} other than the word itself", repr(columns[6])
            )
        if not columns[1].strip() or columns[7] in ("", "_"):
            raise _wrong(
                path,
                number,
                "a word with a relation",
                f"the word {columns[1]!r} with the relation {columns[7]!r}",
            )
    if not is_tree([int(columns[6]) for _, columns in words]):
        raise _wrong(
            path,
            words[0][0],
            "a tree with exactly one root in the sentence that starts here",
            "several roots, none, or a cycle",
        )


def _wrong(path: Path, line: int, expected: str, came: str) -> InputError:
    return InputError(
        f"{path}, line {line}: expected {expected}, but got {came}. Correct the line, or get the treebank"
        " anew."
    )
