"""Text classification, as of topics or sentiment: a label a text in, a two-layer classifier on [CLS], F1 out.

Notable:
* macro F1 is a mean over the labels that are gold or predicted anywhere; micro F1 is over all of them, so a
    label that training lacks is missed, and a text with one label each makes it the accuracy;
* macro F1 is no ratio of sums over examples, so there are no intervals over examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from torch import Tensor
from torch.nn.functional import cross_entropy

from bistil.errors import InputError
from bistil.settings import files
from bistil.tasks.labelling import Labelling
from bistil.tasks.sentences import some
from bistil.tasks.task import Batch
from bistil.text.corpora import IGNORED
from bistil.training.parallel import counted

COLUMNS = ("label", "text")


@dataclass(frozen=True)
class Text:
    """A text and what it is labelled."""

    text: str
    label: str


@dataclass(frozen=True)
class Classification(Labelling):
    """The classification task. `labels` are those of the training texts, in alphabetical order."""

    name: str = "classification"
    title: str = "Text classification"
    column: str = "classification"
    metric: str = "macro_f1"

    def read(self, path: Path) -> list[Text]:
        """Texts of a file with `label<TAB>text` on each line, or of a `.csv` with columns of these names;
        white space in a text becomes single blanks.

        Raises:
            InputError: with the line number, where columns are wrong or one is empty.
        """
        rows = _csv_rows(path) if path.suffix == ".csv" else _lines(path)
        found = []
        for number, *cells in rows:
            label, text = (" ".join(cell.split()) for cell in cells)
            if not label or not text:
                raise _wrong(path, number, "a label and a text", f"no {'text' if label else 'label'}")
            found.append(Text(text, label))
        return some(found, f"At least one labelled text was expected in {path}, but there is none")

    def for_training(self, examples: Sequence[Text]) -> Self:
        """This task with the labels of the examples."""
        training = some(examples, "Texts to train a classifier on were expected, but there are none")
        return replace(self, labels=tuple(sorted({one.label for one in training})))

    def texts(self, examples: Sequence[Text]) -> tuple[list[str]]:
        """The texts."""
        return ([one.text for one in examples],)

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy of the labels, a mean over texts with a label that training had. Shape: []."""
        gold = batch["labels"]
        total = cross_entropy(logits["labels"].float(), gold, ignore_index=IGNORED, reduction="sum")
        return total / counted((gold != IGNORED).sum())

    def score(self, examples: Sequence[Text], predictions: Sequence[str]) -> dict[str, float]:
        """`macro_f1`, `micro_f1` and `accuracy` in percent."""
        from sklearn.metrics import accuracy_score, f1_score  # brings scipy along

        gold = [one.label for one in examples]
        found = {
            f"{name}_f1": f1_score(gold, predictions, average=name, zero_division=0)
            for name in ("macro", "micro")
        }
        found["accuracy"] = accuracy_score(gold, predictions)
        return {name: 100 * float(value) for name, value in found.items()}

    def floor(self, train: Sequence[Text], test: Sequence[Text]) -> dict[str, float]:
        """The most frequent label of the training texts for every text."""
        own = self.for_training(train)
        return own.score(test, [own.most_frequent(train)] * len(test))


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """The lines, without a first one that names the columns, as spreadsheets and pandas write it."""
    first = True
    for number, line in files.lines(path):
        if line.strip():
            columns = line.split("\t")
            if len(columns) != 2:
                raise _wrong(path, number, "a label, a tab and a text", f"{len(columns)} columns")
            named = [one.strip().lower() for one in columns] if first else []
            if named == [*reversed(COLUMNS)]:
                raise _wrong(path, number, "the label first, then the text", "them the other way round")
            if named != [*COLUMNS]:
                yield number, columns[0], columns[1]
            first = False


def _csv_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    header, rows = files.read_csv(path)
    if lacking := [name for name in COLUMNS if name not in header]:
        raise _wrong(path, 1, "the columns label and text", f"none for {', '.join(lacking)} among {header}")
    for number, row in rows:
        yield number, row["label"], row["text"]


def _wrong(path: Path, line: int, expected: str, came: str) -> InputError:
    return InputError(f"{path}, line {line}: expected {expected}, but got {came}. Correct the line.")
