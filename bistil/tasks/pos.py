"""Part-of-speech tagging: the UPOS column of CoNLL-U in, a linear token classifier, accuracy out.

Notable:
* every syntactic word counts, punctuation too; multiword tokens and empty nodes do not;
* trees are not looked at, so a file with tags only is good enough;
* a tag that the training sentences lack is `_`, CoNLL-U's unspecified value, and always counts as wrong; so
do words cut off."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from bistil.errors import InputError
from bistil.tasks.sentences import sentence_blocks
from bistil.tasks.tagging import Tagged, Tagging
from bistil.tasks.task import Outcomes, ratios

UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)


@dataclass(frozen=True)
class Pos(Tagging):
    """The part-of-speech task. `labels` are _ and the tags of the training sentences, in alphabetical
    order.
    """

    other: ClassVar[str] = "_"
    name: str = "pos"
    title: str = "Parts of speech"
    metric: str = "accuracy"

    def read(self, path: Path) -> list[Tagged]:
        """Sentences of a CoNLL-U file with their universal parts of speech.

        :raises InputError: with the line number, where a line has not 10 columns or its tag is none of UPOS.
        """
        found = [_tagged(path, start, lines) for start, lines in sentence_blocks(path)]
        sentences = [sentence for sentence in found if sentence.words]
        if not sentences:
            raise InputError(
                f"At least one sentence was expected in {path}, but it holds only comments. Give a file with"
                " data in it."
            )
        return sentences

    def for_training(self, examples: Sequence[Tagged]) -> Self:
        """This task with the tags of the examples as labels."""
        if not examples:
            raise InputError(
                "Sentences to train a tagger on were expected, but there are none. Give a treebank with"
                " sentences in it."
            )
        return replace(
            self, labels=(self.other, *sorted({tag for example in examples for tag in example.tags}))
        )

    def score(self, examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
        """`accuracy` in percent over all words of all examples."""
        return ratios(self.outcomes(examples, predictions))

    def outcomes(self, examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]) -> Outcomes:
        """Words with the right tag, of the words of each sentence."""
        pairs = list(zip(examples, predictions, strict=True))
        right = [
            sum(gold == guess for gold, guess in zip(example.tags, tags, strict=False))
            for example, tags in pairs
        ]
        return {"accuracy": (right, [len(example.tags) for example in examples])}

    def floor(self, train: Sequence[Tagged], test: Sequence[Tagged]) -> dict[str, float]:
        """The most frequent tag of the training sentences for every word; the alphabetically first of
        equals.
        """
        counts = Counter(sorted(tag for example in train for tag in example.tags))
        [(most, _)] = counts.most_common(1)
        return self.score(test, [(most,) * len(example.tags) for example in test])


def _tagged(path: Path, start: int, lines: Sequence[str]) -> Tagged:
    """One sentence of a file whose first line has the number `start`; nothing but comments leaves it
    empty.
    """
    words, tags = [], []
    for number, line in enumerate(lines, start=start):
        if line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise InputError(
                f"{path}, line {number}: expected 10 columns with tabs between them, but got {len(columns)}."
                " Correct the line, or get the treebank anew."
            )
        if not columns[0].isdigit():
            continue
        if columns[3] not in UPOS:
            raise InputError(
                f"{path}, line {number}: expected one of the universal parts of speech ({', '.join(UPOS)}),"
                f" but got {columns[3]!r}. Correct the line, or get the treebank anew."
            )
        words.append(columns[1])
        tags.append(columns[3])
    return Tagged(tuple(words), tuple(tags))
