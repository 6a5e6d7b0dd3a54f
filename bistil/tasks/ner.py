"""Named-entity recognition: IOB2 columns in, a linear token classifier, entity F1 out.

Notable:
* tags are repaired to IOB2 by seqeval's (conlleval's) convention: an I- tag that continues nothing starts an
    entity;
* entity types that the source's training file lacks are O in every score, so DATE of MasakhaNER costs
    nothing after training without it, with a few of MasakhaNER's sentences beside the source's neither;
* words cut off at `max_length` are O in the prediction, so their entities are missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

from bistil.errors import InputError
from bistil.tasks.sentences import check_words, known_labels, sentence_blocks, some
from bistil.tasks.tagging import Tagged, Tagging
from bistil.tasks.task import Outcomes

TWO_COLUMNS = 'awk \'$1 != "-DOCSTART-" {if (NF) print $1, $NF; else print ""}\' OLD > NEW'
"""A command that takes the first and the last column of a file, and drops marks of documents."""


@dataclass(frozen=True)
class Ner(Tagging):
    """The named-entity task. `labels` are O and the B- and I- tags of the training types."""

    other: ClassVar[str] = "O"
    labels_of_source: ClassVar[bool] = True
    """Where the source is learnt from, its labels are all: they decide what counts in a test file."""
    name: str = "ner"
    title: str = "Named entities"
    column: str = "ner"
    metric: str = "f1"

    def read(self, path: Path) -> list[Tagged]:
        """Sentences of a two-column file ("token TAG") or a UNER `.iob2` file.

        Raises:
            InputError: with the line number, where columns, tags or UTF-8 are wrong; where words are
                withheld, or have WikiANN's prefix.
        """
        found = [replace(sentence, tags=_repaired(sentence.tags)) for sentence in _as_written(path)]
        some(found, f"At least one sentence was expected in {path}, but it holds only comments")
        check_words(path, (sentence.words for sentence in found))
        _check_prefix(path, found)
        return found

    def for_training(self, examples: Sequence[Tagged]) -> Self:
        """This task with O and the B- and I- tags of the examples' entity types as labels, types in
        alphabetical order.
        """
        training = some(examples, "Sentences to train a tagger on were expected, but there are none")
        types = sorted({tag[2:] for example in training for tag in example.tags if tag != "O"})
        return replace(self, labels=("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")))

    def score(self, examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
        """Micro-averaged `precision`, `recall` and `f1` of entities in percent, by seqeval's default mode."""
        from seqeval.metrics import f1_score, precision_score, recall_score  # brings sklearn and scipy along

        gold, guess = self._whole(examples, predictions)
        metrics = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
        return {name: 100 * float(metric(gold, guess, zero_division=0)) for name, metric in metrics.items()}

    def outcomes(self, examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]) -> Outcomes:
        """Entities of each sentence: the right ones of the found (precision), of the gold (recall), and twice
        those of both (F1).
        """
        from seqeval.metrics.sequence_labeling import get_entities

        gold, guess = (
            [set(get_entities(tags)) for tags in rows] for rows in self._whole(examples, predictions)
        )
        right = [len(a & b) for a, b in zip(gold, guess, strict=True)]
        found, wanted = [len(entities) for entities in guess], [len(entities) for entities in gold]
        both = [a + b for a, b in zip(found, wanted, strict=True)]
        return {"precision": (right, found), "recall": (right, wanted), "f1": ([2 * n for n in right], both)}

    def _whole(
        self, examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]
    ) -> tuple[list[list[str]], list[list[str]]]:
        """Gold tags, O where the labels lack them, and predicted ones, O where words were cut off."""
        known = set(known_labels(self))
        gold = [[tag if tag in known else "O" for tag in example.tags] for example in examples]
        return gold, [
            [*tags, *["O"] * (len(row) - len(tags))] for row, tags in zip(gold, predictions, strict=True)
        ]

    def floor(self, train: Sequence[Tagged], test: Sequence[Tagged]) -> dict[str, float]:
        """The majority tag O for every word: no entity is found, so each score is 0."""
        return self.for_training(train).score(test, [() for _ in test])


def unmarked_starts(path: Path) -> int:
    """How many I- tags of a file that can be read continue nothing, and are read as B-."""
    tags = [one.tags for one in _as_written(path)]
    return sum(tag != read for own in tags for tag, read in zip(own, _repaired(own), strict=True))


def _as_written(path: Path) -> list[Tagged]:
    """The sentences of a file with the tags that stand there; comments and document marks are none."""
    sentences = [_tagged(path, start, lines) for start, lines in sentence_blocks(path)]
    return [sentence for sentence in sentences if sentence.words]


def _repaired(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags in IOB2: an I- tag that continues nothing is a B-."""
    return tuple(
        f"B-{tag[2:]}" if tag.startswith("I-") and previous[2:] != tag[2:] else tag
        for previous, tag in pairwise(("O", *tags))
    )


def _tagged(path: Path, start: int, lines: Sequence[str]) -> Tagged:
    """One sentence of a file whose first line has the number `start`; comments and document marks leave it
    empty.
    """
    words, tags = list[str](), list[str]()
    for number, line in enumerate(lines, start=start):
        columns = _columns(path, number, line)
        if columns is None:
            continue
        word, tag = columns
        if words and path.suffix == ".iob2" and line.startswith("1\t"):
            raise _wrong(path, number, "a blank line before a sentence's first word", "its number 1")
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
            raise InputError(
                f"{path}, line {number}: expected the tag O, B-type or I-type, but got {tag!r}. Convert the"
                " file to IOB2."
            )
        words.append(word)
        tags.append(tag)
    return Tagged(tuple(words), tuple(tags))


def _columns(path: Path, number: int, line: str) -> tuple[str, str] | None:
    """Word and tag of a line, or None for a line that is no word."""
    if path.suffix == ".iob2":
        if line.startswith("#"):
            return None
        columns = line.split("\t")
        if len(columns) not in (3, 5):
            expected = "3 or 5 columns with tabs between them (id, word, tag, and two more)"
            raise _wrong(path, number, expected, f"{len(columns)} column(s)")
        word, tag = columns[1:3]
        is_word = columns[0].isdigit()
    else:
        columns = line.strip(" ").split("\t") if "\t" in line else line.strip(" ").split(" ")
        if len(columns) != 2:
            expected = "2 columns, word and tag, with one space or tab between them"
            hint = f" Of CoNLL-2003's own four columns take two: {TWO_COLUMNS}" if len(columns) == 4 else ""
            raise _wrong(path, number, expected, f"{len(columns)} column(s)", hint)
        word, tag = columns
        is_word = word != "-DOCSTART-"
    if not word.strip():
        raise _wrong(path, number, f"a word before the tag {tag!r}", f"the blank {word!r}")
    return (word, tag) if is_word else None


def _wrong(path: Path, line: int, expected: str, came: str, hint: str = "") -> InputError:
    return InputError(
        f"{path}, line {line}: expected {expected}, but got {came}. Correct the line, or convert the file."
        f"{hint}"
    )


def _check_prefix(path: Path, sentences: Sequence[Tagged]) -> None:
    """Refuse WikiANN's own files, whose words are `en:Paris`."""
    words = [word for sentence in sentences for word in sentence.words]
    prefix, colon, _ = words[0].partition(":")
    if colon and prefix.islower() and all(word.startswith(prefix + colon) for word in words):
        raise InputError(
            f"Words were expected in {path}, but every one begins with {prefix + colon!r}, as in WikiANN's"
            f" own files. Take that off (in a shell: sed 's/^{prefix}://')."
        )
