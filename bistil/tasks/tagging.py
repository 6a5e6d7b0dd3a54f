"""One tag for each word: what named entities and parts of speech share, from sub-words to predictions.

Notable:
* one prediction for each word, at its first sub-word;
* `other` stands for every tag that the training sentences lack, so each word of any file has a label;
* where a word stands is read from the -100s of the labels, so a batch needs no second mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from bistil.losses import prediction_loss
from bistil.models.load import TaskModel
from bistil.tasks.sentences import known_labels, pad, pad_inputs, tokenize
from bistil.tasks.task import Batch, Row
from bistil.text.corpora import IGNORED
from bistil.training.parallel import counted


@dataclass(frozen=True)
class Tagged:
    """A sentence with one tag for each word."""

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
class Tagging:
    """A task of tagging words. `labels` are the tags of the training sentences, `other` first; `dropout` is
    that of the head.
    """

    other: ClassVar[str]
    labels: tuple[str, ...] = ()
    dropout: float = 0.1
    name: str = ""
    title: str = ""
    column: str = ""
    metric: str = ""

    def encode(
        self, examples: Sequence[Tagged], tokenizer: PreTrainedTokenizerBase, *, max_length: int
    ) -> list[Row]:
        """Rows of `input_ids` and `labels`; a label is -100 except at the first sub-word of a word."""
        index = {label: i for i, label in enumerate(known_labels(self))}
        rows = []
        for example, tokens in zip(
            examples, tokenize([e.words for e in examples], tokenizer, max_length=max_length), strict=True
        ):
            labels = [IGNORED] * len(tokens.input_ids)
            for position, tag in zip(tokens.first_subwords, example.tags, strict=False):
                labels[position] = index.get(tag, index[self.other])
            rows.append({"input_ids": tokens.input_ids, "labels": labels})
        return rows

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """A batch: `input_ids`, `attention_mask` and `labels` of Shape: [B, L]; labels are padded with
        -100.
        """
        return pad_inputs(rows, pad_id) | {"labels": pad(rows, "labels", IGNORED)}

    def head(self, hidden_size: int) -> nn.Module:
        """A token classifier for encoder states of `hidden_size`."""
        return TokenClassifier(hidden_size=hidden_size, labels=len(known_labels(self)), dropout=self.dropout)

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy of the tags, a mean over words. Shape: []."""
        total = cross_entropy(
            logits["labels"].flatten(0, 1).float(),
            batch["labels"].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        return total / counted((batch["labels"] != IGNORED).sum())

    def distillation_loss(
        self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor], batch: Batch
    ) -> Tensor:
        """Soft cross-entropy of the tags at first sub-words (BiStil eq. 5.3), a mean over words. Shape:
        [].
        """
        return prediction_loss(student_logits["labels"], teacher_logits["labels"], batch["labels"] != IGNORED)

    def predict(self, model: TaskModel, batch: Batch) -> list[tuple[str, ...]]:
        """The best tag of each word that was not cut off."""
        labels = known_labels(self)
        best = model(batch).logits["labels"].argmax(-1).tolist()
        first = (batch["labels"] != IGNORED).tolist()
        return [
            tuple(labels[i] for i, word in zip(ids, words, strict=True) if word)
            for ids, words in zip(best, first, strict=True)
        ]
