"""Questions from SQuAD 1.1 and XQuAD files.

Notable: every answer is checked against its context, so a shifted offset is found while reading and not as a
score of nought."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.settings.files import read_json, read_text


@dataclass(frozen=True)
class Question:
    """A question on a context, with its answers: text and the number of its first character in the
    context.
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


def read_squad(path: Path) -> list[Question]:
    """All questions of a file, in order.

    Raises:
        InputError: where the file is no JSON (with the line number), where a part is missing, where a
            question has no answer, or where an answer is not at its place in the context (with the question's
            id and the line where that stands).
    """
    found = read_json(path)
    questions = []
    for _, article in _each(path, found, "data", "the file"):
        for place, paragraph in _each(path, article, "paragraphs", "an article"):
            context = _text(path, paragraph, "context", place)
            for numbered, entry in _each(path, paragraph, "qas", place):
                name = _text(path, entry, "id", numbered)
                answers = tuple(
                    _answer(path, answer, name, context)
                    for _, answer in _each(path, entry, "answers", f"question {name}")
                )
                if not answers:
                    raise _wrong(path, f"question {name}", "at least one answer, as in SQuAD 1.1", "none")
                asked = _text(path, entry, "question", f"question {name}")
                if not asked.strip():
                    raise _wrong(path, f"question {name}", "a text `question`", "a blank")
                questions.append(Question(name, asked, context, answers))
    if not questions:
        raise InputError(
            f"At least one question was expected in {path}, but there is none. Give a file with data in it."
        )
    return questions


def _each(path: Path, holder: Any, key: str, place: str) -> Iterator[tuple[str, Any]]:
    """The entries of a list under `key`, each with what to call it."""
    entries = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(entries, list):
        raise _wrong(path, place, f"a list `{key}`", repr(entries))
    yield from (
        (f"{place}, number {number} of `{key}`", entry) for number, entry in enumerate(entries, start=1)
    )


def _text(path: Path, holder: Any, key: str, place: str) -> str:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, str):
        raise _wrong(path, place, f"a text `{key}`", repr(value))
    return value


def _answer(path: Path, found: Any, name: str, context: str) -> tuple[str, int]:
    """Text and offset of an answer that is where it says."""
    text = _text(path, found, "text", f"question {name}")
    start = found.get("answer_start")
    if not text.strip() or not isinstance(start, int) or start < 0:
        raise _wrong(
            path,
            f"question {name}",
            "an answer with a text and a whole number `answer_start`",
            f"{text!r} at {start!r}",
        )
    if context[start : start + len(text)] != text:
        raise _wrong(
            path,
            f"question {name}",
            f"the answer {text!r} at character {start}",
            repr(context[start : start + len(text)]),
        )
    return text, start


def _wrong(path: Path, place: str, expected: str, came: str) -> InputError:
    where = f"{path}, {_line(path, place)}{place}"
    return InputError(
        f"{where}: expected {expected}, but got {came}. Correct that entry, or get the file anew."
    )


def _line(path: Path, place: str) -> str:
    """`line N, ` where the place is a question whose id is found in the file, otherwise nothing."""
    text, name = read_text(path), place.removeprefix("question ")
    for spelling in {json.dumps(name, ensure_ascii=ascii_only) for ascii_only in (False, True)}:
        start = text.find(spelling) if name != place else -1
        while start >= 0:
            if re.search(r'"id"\s*:\s*\Z', text[max(0, start - 50) : start]):
                return f"line {text.count(chr(10), 0, start) + 1}, "
            start = text.find(spelling, start + 1)
    return ""
