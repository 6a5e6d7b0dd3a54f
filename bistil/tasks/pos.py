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

from bistil.tasks.sentences import check_words, sentence_blocks, some
from bistil.tasks.tagging import Tagged, Tagging
from bistil.tasks.task import Outcomes, ratios
from bistil.tasks.treebank import word_rows, wrong

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
    column: str = "treebank"
    metric: str = "accuracy"

    def read(self, path: Path) -> list[Tagged]:
        """Sentences of a CoNLL-U file with their universal parts of speech.

        Raises:
            InputError: with the line number, where a line is no CoNLL-U or its tag is none of UPOS.
        """
        sentences = [_tagged(path, start, lines) for start, lines in sentence_blocks(path)]
        found = [sentence for sentence in sentences if sentence.words]
        some(found, f"At least one sentence was expected in {path}, but it holds only comments")
        check_words(path, (sentence.words for sentence in found))
        return found

    def for_training(self, examples: Sequence[Tagged]) -> Self:
        """This task with the tags of the examples as labels."""
        training = some(examples, "Sentences to train a tagger on were expected, but there are none")
        return replace(self, labels=(self.other, *sorted({tag for one in training for tag in one.tags})))

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
    for number, columns in word_rows(path, start, lines):
        if columns[3] not in UPOS:
            expected = f"one of the universal parts of speech ({', '.join(UPOS)})"
            raise wrong(path, number, expected, repr(columns[3]))
        words.append(columns[1])
        tags.append(columns[3])
    return Tagged(tuple(words), tuple(tags))
