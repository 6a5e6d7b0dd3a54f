"""Rows as the hub has them, written as the public files that the tasks read.

Notable: numbers that stand for classes come with their names; a row without a label, as in some test sets, is
left out."""

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Names = Mapping[str, Sequence[str]]
"""The names of the classes of a column."""


def text_lines(rows: Iterable[Row], names: Names, drop: Sequence[str]) -> Iterator[str]:
    """Paragraphs of articles, one a line."""
    for row in rows:
        yield from (f"{line}\n" for part in str(row["text"]).split("\n") if (line := _line(part)))


def conllu(rows: Iterable[Row], names: Names, drop: Sequence[str]) -> Iterator[str]:
    """CoNLL-U sentences. The hub's rows hold multiword tokens and empty nodes too, known by a head that is no
    number: they are left out.
    """
    for number, row in enumerate(rows, start=1):
        columns = [row[name] for name in ("tokens", "lemmas", "upos", "xpos", "feats", "head", "deprel")]
        words = [word for word in zip(*columns, strict=True) if str(word[5]).isdigit()]
        lines = [f"# sent_id = {row.get('idx') or number}"]
        for place, (form, lemma, upos, xpos, feats, head, relation) in enumerate(words, start=1):
            part = (_known(_class(names, "upos", upos)), _known(xpos), _features(feats))
            lines.append(
                "\t".join([str(place), _one(form), _one(lemma), *part, str(head), str(relation), "_", "_"])
            )
        if words:
            yield "\n".join(lines) + "\n\n"


def iob2(rows: Iterable[Row], names: Names, drop: Sequence[str]) -> Iterator[str]:
    """Two columns, token and tag; the types in `drop` become O. A sentence with a token without tag is left
    out.
    """
    for row in rows:
        tags = [_class(names, "ner_tags", tag) for tag in row["ner_tags"]]
        kept = ["O" if tag[2:] in drop else tag for tag in tags]
        words = [
            f"{_one(token)} {tag}\n" for token, tag in zip(row["tokens"], kept, strict=True) if token.strip()
        ]
        if words and all(tags):
            yield "".join(words) + "\n"


def pairs(rows: Iterable[Row], names: Names, drop: Sequence[str]) -> Iterator[str]:
    """A table with tabs: premise, hypothesis, label. A premise of white space alone stays one: AmericasNLI's
    Nahuatl has three.
    """
    yield "premise\thypothesis\tlabel\n"
    for row in rows:
        label = _class(names, "label", row["label"])
        if label:
            premise = _line(row["premise"]) or " " * bool(row["premise"])
            yield f"{premise}\t{_line(row['hypothesis'])}\t{label}\n"


def labelled(rows: Iterable[Row], names: Names, drop: Sequence[str]) -> Iterator[str]:
    """A label, a tab and a text on each line."""
    for row in rows:
        if label := _class(names, "label", row["label"]):
            yield f"{label}\t{_line(row['text'])}\n"


def squad(rows: Iterable[Row], names: Names, drop: Sequence[str]) -> Iterator[str]:
    """SQuAD 1.1 JSON, the questions of one context together."""
    contexts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        answers = [
            {"text": text, "answer_start": start}
            for text, start in zip(*(row["answers"][k] for k in ("text", "answer_start")), strict=True)
        ]
        contexts.setdefault(row["context"], []).append(
            {"id": row["id"], "question": row["question"], "answers": answers}
        )
    paragraphs = [{"context": context, "qas": questions} for context, questions in contexts.items()]
    yield json.dumps(
        {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}, ensure_ascii=False, indent=1
    )


Writer = Callable[[Iterable[Row], Names, Sequence[str]], Iterator[str]]
WRITERS: Mapping[str, Writer] = {
    "lines": text_lines,
    "conllu": conllu,
    "iob2": iob2,
    "pairs": pairs,
    "labels": labelled,
    "squad": squad,
}
SUFFIXES = {
    "lines": "txt",
    "conllu": "conllu",
    "iob2": "txt",
    "pairs": "tsv",
    "labels": "tsv",
    "choices": "jsonl",
    "squad": "json",
}


def _class(names: Names, column: str, value: Any) -> str:
    """The name of a class; empty for -1, the hub's sign for none, and for None."""
    if not isinstance(value, int):
        return "" if value is None else str(value)
    return names[column][value] if 0 <= value < len(names.get(column, ())) else ""


def _one(text: Any) -> str:
    """A token as one column: inner white space joined by a no-break space."""
    return _line(text).replace(" ", "\u00a0") or "_"


def _line(text: Any) -> str:
    """Words with one space between them; the readers refuse NUL."""
    return " ".join(str(text).replace("\0", "").split())


def _features(value: Any) -> str:
    """Morphological features, which the hub has as the text of a Python mapping."""
    text = _known(value)
    if not text.startswith("{"):
        return text
    found = ast.literal_eval(text)
    return "|".join(f"{name}={found[name]}" for name in sorted(found, key=str.lower)) or "_"


def _known(value: Any) -> str:
    return "_" if value in (None, "", "None") else str(value)
