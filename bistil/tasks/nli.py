"""Natural language inference: pairs of sentences in, a two-layer classifier on [CLS], accuracy out.

Notable:
* columns are found by the names that MultiNLI, XNLI, AmericasNLI and SNLI give them; without a header, the
  label is the first or the last of three columns;
* MultiNLI's "-" (annotators disagreed) is left out, as is usual; XNLI's "contradictory" is contradiction.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bistil.errors import InputError
from bistil.settings import files
from bistil.tasks.labelling import Labelling
from bistil.tasks.sentences import json_objects, some
from bistil.tasks.task import Outcomes, ratios

LABELS = ("entailment", "neutral", "contradiction")
_LABEL_OF = {label: label for label in LABELS} | {"contradictory": "contradiction"}
_UNDECIDED = "-"
_COLUMNS = {
    "premise": ("premise", "sentence1"),
    "hypothesis": ("hypothesis", "hypo", "sentence2"),
    "label": ("gold_label", "label"),
}


@dataclass(frozen=True)
class Pair:
    """Whether a premise entails or contradicts a hypothesis, or neither."""

    premise: str
    hypothesis: str
    label: str


@dataclass(frozen=True)
class Nli(Labelling):
    """The inference task. `labels` are always the same three; `dropout` is that of the head."""

    labels: tuple[str, ...] = LABELS
    name: str = "nli"
    title: str = "Natural language inference"
    column: str = "nli"
    metric: str = "accuracy"

    def read(self, path: Path) -> list[Pair]:
        """Pairs of a MultiNLI or XNLI `.jsonl` file, or of a table with tabs (MultiNLI, XNLI, AmericasNLI,
        SNLI, miniworld). A premise of white space alone is read as it is: AmericasNLI's Nahuatl has three,
        which published scores count.

        Raises:
            InputError: with the line number, where columns or labels are wrong; where a file mixes languages.
        """
        rows = _json_rows(path) if path.suffix == ".jsonl" else _table_rows(path)
        pairs, languages = [], set()
        for number, row in rows:
            languages.add(row.get("language"))
            label = row["label"].strip()
            if label != _UNDECIDED and label not in _LABEL_OF:
                raise _wrong(
                    path, number, f"a label, one of {', '.join(_LABEL_OF)} or - (undecided)", repr(label)
                )
            if label == _UNDECIDED:
                continue
            if not row["premise"] or not row["hypothesis"].strip():
                name = "hypothesis" if row["premise"] else "premise"
                raise _wrong(path, number, f"a text as {name}", "a blank")
            pairs.append(Pair(row["premise"], row["hypothesis"], _LABEL_OF[label]))
        if len(languages) > 1:
            raise InputError(
                f"Pairs of one language were expected in {path}, but its column `language` holds"
                f" {', '.join(sorted(map(str, languages)))}. Split the file by that column, and name the"
                " parts in the language table."
            )
        return some(pairs, f"At least one labelled pair was expected in {path}, but there is none")

    def for_training(self, examples: Sequence[Pair]) -> Self:
        """This task: its labels do not depend on the examples."""
        some(examples, "Pairs to train a classifier on were expected, but there are none")
        return self

    def texts(self, examples: Sequence[Pair]) -> tuple[list[str], list[str]]:
        """Premises and hypotheses."""
        return [one.premise for one in examples], [one.hypothesis for one in examples]

    def score(self, examples: Sequence[Pair], predictions: Sequence[str]) -> dict[str, float]:
        """`accuracy` in percent."""
        return ratios(self.outcomes(examples, predictions))

    def outcomes(self, examples: Sequence[Pair], predictions: Sequence[str]) -> Outcomes:
        """Whether each pair has the right label."""
        right = [int(example.label == label) for example, label in zip(examples, predictions, strict=True)]
        return {"accuracy": (right, [1] * len(right))}

    def floor(self, train: Sequence[Pair], test: Sequence[Pair]) -> dict[str, float]:
        """The most frequent label of the training pairs for every pair; the first in the order of `labels`
        among equals.
        """
        return self.score(test, [self.most_frequent(train)] * len(test))


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a file with one JSON object a line."""
    for number, found in json_objects(path):
        row = _named(path, number, found)
        for name, value in row.items():
            if not isinstance(value, str):
                raise _wrong(
                    path, number, f"a text as the {name}", f"{str(value)[:100]}{_numbered(name, value)}"
                )
        yield number, row


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a table with tabs, with or without a header. Quotes are ordinary characters,
    as in the published files.
    """
    header: list[str] = []
    for number, line in files.lines(path):
        if not line.strip():
            continue
        columns = line.split("\t")
        if not header:
            header = _bare_header(columns)
            if not header:
                header = columns
                if twice := [name for name in sum(_COLUMNS.values(), ()) if header.count(name) > 1]:
                    raise _wrong(path, number, "one column of each name", f"{twice[0]!r} twice")
                _named(path, number, dict.fromkeys(header, ""))
                continue
        if len(columns) > len(header):
            raise _wrong(path, number, f"{len(header)} columns with tabs between them", f"{len(columns)}")
        yield number, _named(path, number, dict(zip(header, columns, strict=False)))


def _bare_header(first: Sequence[str]) -> list[str]:
    """Names for the columns of a file whose first line is data already; empty where it is a header."""
    labels = {*_LABEL_OF, _UNDECIDED}
    if len(first) == 3 and first[0] in labels:
        return ["label", "premise", "hypothesis"]
    return ["premise", "hypothesis", "label"] if len(first) == 3 and first[2] in labels else []


def _numbered(name: str, value: Any) -> str:
    """What to say of a label that is a number, as `datasets` writes them."""
    if name != "label" or not isinstance(value, int):
        return ""
    return (
        ", a number, whose name the file does not say (MultiNLI and XNLI on the hub: 0 entailment, 1 neutral,"
        " 2 contradiction). Write the names"
    )


def _named(path: Path, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row under our own names for its columns."""
    found = {name: key for name, keys in _COLUMNS.items() for key in reversed(keys) if key in row}
    lacking = [name for name in _COLUMNS if name not in found]
    if lacking:
        wanted = "; ".join(f"{name} ({' or '.join(keys)})" for name, keys in _COLUMNS.items())
        raise _wrong(
            path,
            number,
            f"the columns {wanted}",
            f"none for {', '.join(lacking)} among {', '.join(row) or 'nothing'}",
        )
    return {name: row[key] for name, key in {**found, "language": "language"}.items() if key in row}


def _wrong(path: Path, line: int, expected: str, came: str) -> InputError:
    return InputError(
        f"{path}, line {line}: expected {expected}, but got {came}. Correct the line, or get the file anew."
    )
