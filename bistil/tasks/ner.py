"""Named-entity recognition: IOB2 columns in, a linear token classifier, entity F1 out.

Notable:
* one prediction for each word, at its first sub-word;
* tags are repaired to IOB2 by seqeval's (conlleval's) convention: an I- tag that continues nothing starts an entity;
* entity types that the training file lacks are O in every score, so DATE of MasakhaNER costs nothing after training without it;
* words cut off at `max_length` are O in the prediction, so their entities are missed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from seqeval.metrics import f1_score, precision_score, recall_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.losses import prediction_loss
from bistil.models import TaskModel
from bistil.tasks.sentences import IGNORED, pad, pad_inputs, sentence_blocks, tokenize
from bistil.tasks.task import Batch, Row


@dataclass(frozen=True)
class Tagged:
    """A sentence with one IOB2 tag for each word."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class TokenClassifier(nn.Module):
    """Dropout and one linear layer over the encoder's states."""

    def __init__(self, *, hidden_size: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, labels)

    def forward(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits `labels` of every sub-word. Shape: [B, L, H] -> [B, L, C]."""
        return {"labels": self.classifier(self.dropout(hidden))}


@dataclass(frozen=True)
class Ner:
    """The named-entity task. `labels` are O and the B- and I- tags of the training types; `dropout` is that of the head."""

    labels: tuple[str, ...] = ()
    dropout: float = 0.1
    name: str = "ner"
    metric: str = "f1"

    def read(self, path: Path) -> list[Tagged]:
        """Sentences of a two-column file ("token TAG") or a UNER `.iob2` file.

        :raises InputError: with the line number, where columns, tags or UTF-8 are wrong.
        """
        sentences = [_tagged(path, start, lines) for start, lines in sentence_blocks(path)]
        found = [sentence for sentence in sentences if sentence.words]
        if not found:
            raise InputError(f"At least one sentence was expected in {path}, but it holds only comments. Give a file with data in it.")
        return found

    def for_training(self, examples: Sequence[Tagged]) -> Self:
        """This task with O and the B- and I- tags of the examples' entity types as labels, types in alphabetical order."""
        if not examples:
            raise InputError("Sentences to train a tagger on were expected, but there are none. Give a file with sentences in it.")
        types = sorted({tag[2:] for example in examples for tag in example.tags if tag != "O"})
        return replace(self, labels=("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")))

    def encode(self, examples: Sequence[Tagged], tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> list[Row]:
        """Rows of `input_ids` and `labels`; a label is -100 except at the first sub-word of a word."""
        index = {label: i for i, label in enumerate(self._labels())}
        rows = []
        for example, tokens in zip(examples, tokenize([e.words for e in examples], tokenizer, max_length=max_length), strict=True):
            labels = [IGNORED] * len(tokens.input_ids)
            for position, tag in zip(tokens.first_subwords, example.tags, strict=False):
                labels[position] = index.get(tag, index["O"])
            rows.append({"input_ids": tokens.input_ids, "labels": labels})
        return rows

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """A batch: `input_ids`, `attention_mask` and `labels` of Shape: [B, L]; labels are padded with -100."""
        return pad_inputs(rows, pad_id) | {"labels": pad(rows, "labels", IGNORED)}

    def head(self, hidden_size: int) -> nn.Module:
        """A token classifier for encoder states of `hidden_size`."""
        return TokenClassifier(hidden_size=hidden_size, labels=len(self._labels()), dropout=self.dropout)

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy of the tags, a mean over words. Shape: []."""
        total = cross_entropy(logits["labels"].flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum")
        return total / (batch["labels"] != IGNORED).sum().clamp(min=1)

    def distillation_loss(self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Soft cross-entropy of the tags at first sub-words (BiStil eq. 5.3), a mean over words. Shape: []."""
        return prediction_loss(student_logits["labels"], teacher_logits["labels"], batch["labels"] != IGNORED)

    def predict(self, model: TaskModel, batch: Batch) -> list[tuple[str, ...]]:
        """The best tag of each word that was not cut off; where a word stands is read from the -100s of `batch["labels"]`."""
        labels = self._labels()
        best = model(batch).logits["labels"].argmax(-1).tolist()
        first = (batch["labels"] != IGNORED).tolist()
        return [tuple(labels[i] for i, word in zip(ids, words, strict=True) if word) for ids, words in zip(best, first, strict=True)]

    def score(self, examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
        """Micro-averaged `precision`, `recall` and `f1` of entities in percent, by seqeval's default mode."""
        known = set(self._labels())
        gold = [[tag if tag in known else "O" for tag in example.tags] for example in examples]
        guess = [[*tags, *["O"] * (len(row) - len(tags))] for row, tags in zip(gold, predictions, strict=True)]
        metrics = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
        return {name: 100 * float(metric(gold, guess, zero_division=0)) for name, metric in metrics.items()}

    def floor(self, train: Sequence[Tagged], test: Sequence[Tagged]) -> dict[str, float]:
        """The majority tag O for every word: no entity is found, so each score is 0."""
        return self.for_training(train).score(test, [() for _ in test])

    def _labels(self) -> tuple[str, ...]:
        if not self.labels:
            raise InputError("A named-entity task with labels was expected, but this one has none. Call for_training(examples) first.")
        return self.labels


def _tagged(path: Path, start: int, lines: Sequence[str]) -> Tagged:
    """One sentence of a file whose first line has the number `start`; comments and document marks leave it empty."""
    words, tags = [], []
    previous = "O"
    for number, line in enumerate(lines, start=start):
        columns = _columns(path, number, line)
        if columns is None:
            continue
        word, tag = columns
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
            raise InputError(f"{path}, line {number}: expected the tag O, B-type or I-type, but got {tag!r}. Convert the file to IOB2.")
        if tag.startswith("I-") and previous[2:] != tag[2:]:
            tag = f"B-{tag[2:]}"
        words.append(word)
        tags.append(tag)
        previous = tag
    return Tagged(tuple(words), tuple(tags))


def _columns(path: Path, number: int, line: str) -> tuple[str, str] | None:
    """Word and tag of a line, or None for a line that is no word."""
    if path.suffix == ".iob2":
        if line.startswith("#"):
            return None
        columns = line.split("\t")
        if len(columns) not in (3, 5) or not columns[1].strip():
            raise _wrong(path, number, "3 or 5 columns with tabs between them (id, word, tag, and two more)", len(columns))
        return (columns[1], columns[2]) if columns[0].isdigit() else None
    columns = line.strip(" ").split("\t") if "\t" in line else line.strip(" ").split(" ")
    if len(columns) != 2 or not columns[0].strip():
        raise _wrong(path, number, "2 columns, word and tag, with one space or tab between them", len(columns))
    return None if columns[0] == "-DOCSTART-" else (columns[0], columns[1])


def _wrong(path: Path, line: int, expected: str, columns: int) -> InputError:
    return InputError(f"{path}, line {line}: expected {expected}, but got {columns} column(s). Correct the line, or convert the file.")
