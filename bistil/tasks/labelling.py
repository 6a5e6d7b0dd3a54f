"""What tasks share that give a label to a whole text or a pair of texts, over the state of [CLS].

Notable: the head is BERT's own form of a two-layer classifier (dense, tanh, dropout, linear), so
transformers' classes can hold it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from bistil.losses import prediction_loss
from bistil.models.load import TaskModel
from bistil.tasks.sentences import known_labels, pad_inputs
from bistil.tasks.task import Batch, Row
from bistil.text.corpora import IGNORED


class ClsClassifier(nn.Module):
    """Two layers over the state of [CLS]: dense with tanh, then, after dropout, linear (BiStil section
    5.4.3).
    """

    def __init__(self, *, hidden_size: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, labels)

    def forward(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits `labels` of every text. Shape: [B, L, H] -> [B, C]."""
        return {"labels": self.classifier(self.dropout(self.dense(hidden[:, 0]).tanh()))}


@dataclass(frozen=True)
class OneLabel:
    """A task whose every example has one label, by logits `labels`; `dropout` is that of the head."""

    labels: tuple[str, ...] = ()
    dropout: float = 0.1
    name: str = ""
    title: str = ""
    column: str = ""
    metric: str = ""

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy of the labels, a mean over examples. Shape: []."""
        return cross_entropy(logits["labels"].float(), batch["labels"])

    def distillation_loss(
        self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor], batch: Batch
    ) -> Tensor:
        """Soft cross-entropy of the labels (BiStil eq. 5.3), a mean over examples. Shape: []."""
        return prediction_loss(
            student_logits["labels"], teacher_logits["labels"], torch.ones_like(batch["labels"])
        )


@dataclass(frozen=True)
class Labelling(OneLabel, ABC):
    """A task of labelling texts, or pairs of them, with labels that training has."""

    @abstractmethod
    def texts(self, examples: Sequence[Any]) -> tuple[list[str], ...]:
        """The texts of the examples, or the first and the second ones of pairs."""

    def encode(
        self, examples: Sequence[Any], tokenizer: PreTrainedTokenizerBase, *, max_length: int
    ) -> list[Row]:
        """Rows of `input_ids`, `token_type_ids` where the tokenizer makes them, and the label, -100 for one
        that training did not have; of two texts the longer one is cut first.
        """
        index = {label: i for i, label in enumerate(known_labels(self))}
        encoding = tokenizer(*self.texts(examples), truncation="longest_first", max_length=max_length)
        # or a later save would write this max_length into tokenizer.json
        tokenizer.backend_tokenizer.no_truncation()
        names = [name for name in ("input_ids", "token_type_ids") if name in encoding]
        rows: list[Row] = [{name: encoding[name][i] for name in names} for i in range(len(examples))]
        return [
            {**row, "label": [index.get(example.label, IGNORED)]}
            for row, example in zip(rows, examples, strict=True)
        ]

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """A batch: inputs of Shape: [B, L], `labels` of Shape: [B]."""
        return pad_inputs(rows, pad_id) | {"labels": torch.tensor([row["label"][0] for row in rows])}

    def head(self, hidden_size: int) -> nn.Module:
        """A two-layer classifier for encoder states of `hidden_size`."""
        return ClsClassifier(hidden_size=hidden_size, labels=len(known_labels(self)), dropout=self.dropout)

    def predict(self, model: TaskModel, batch: Batch) -> list[str]:
        """The best label of each example."""
        return [self.labels[i] for i in model(batch).logits["labels"].argmax(-1).tolist()]

    def most_frequent(self, train: Sequence[Any]) -> str:
        """The most frequent label of the training examples; the first in the order of `labels` among
        equals.
        """
        counts = Counter(example.label for example in train)
        return max(known_labels(self), key=lambda label: counts[label])
