"""What a task is: reading, encoding, head, losses, decoding and scoring behind one protocol.

Notable: a task is a frozen value. `for_training` returns a copy whose labels are fixed, so the same object
can encode the training file, build the head, and score another language's file without hidden state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from bistil.models.load import TaskModel

Row = dict[str, list[int]]
Batch = Mapping[str, Tensor]
Outcomes = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""By metric, what each example adds to the numerator and to the denominator of the score."""


class Task(Protocol):
    """A task with one prediction for each example: a sentence, a pair of sentences, a question.

    `metric` names the score that selects checkpoints; `labels` may be empty until `for_training` fixed it.
    """

    @property
    def name(self) -> str:
        """Short name, as in file names and the language table."""

    @property
    def title(self) -> str:
        """What reports call it."""

    @property
    def column(self) -> str:
        """The column of the language table that names its files."""

    @property
    def metric(self) -> str:
        """The entry of `score` that picks the best checkpoint."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the head tells apart, in the order of its outputs."""

    def read(self, path: Path) -> list[Any]:
        """Examples of a file. Raises InputError with the line number where the file is malformed."""

    def for_training(self, examples: Sequence[Any]) -> Self:
        """This task with the labels of the training examples."""

    def encode(
        self, examples: Sequence[Any], tokenizer: PreTrainedTokenizerBase, *, max_length: int
    ) -> list[Row]:
        """One row of token ids and gold labels for each example, in order."""

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """A padded batch: `input_ids` and `attention_mask`, Shape: [B, L], and the task's own tensors."""

    def head(self, hidden_size: int) -> nn.Module:
        """A fresh head, called as head(hidden, batch) -> logits with hidden of Shape: [B, L, H]."""

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy against gold labels. Shape: []."""

    def distillation_loss(
        self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor], batch: Batch
    ) -> Tensor:
        """Soft cross-entropy against the teacher, L_pred (BiStil eq. 5.3). Shape: []."""

    def predict(self, model: TaskModel, batch: Batch) -> list[Any]:
        """One prediction for each example of the batch; words that were cut off are missing from it."""

    def score(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """Metrics in percent, 0 to 100. Words without a prediction count as wrong."""

    def floor(self, train: Sequence[Any], test: Sequence[Any]) -> dict[str, float]:
        """What `score` gives to a guess that uses no model: any model has to beat it."""


@runtime_checkable
class Counted(Protocol):
    """A task whose every metric is 100 times a ratio of two sums over examples, so that scores of any
    resample of them can be had.

    A mean over examples has ones below; accuracy and attachment scores have the words of a sentence; the F1
    of entities is twice the right ones over the found and the gold ones together."""

    def outcomes(self, examples: Sequence[Any], predictions: Sequence[Any]) -> Outcomes:
        """What each example adds to the two sums of each entry of `score`, in the order of the examples."""


def ratios(outcomes: Outcomes) -> dict[str, float]:
    """The scores that outcomes add up to, in percent; 0 where there is nothing to be found."""
    return {
        name: 100 * sum(top) / sum(bottom) if sum(bottom) else 0.0 for name, (top, bottom) in outcomes.items()
    }
