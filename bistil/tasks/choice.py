"""Choosing the right candidate for a question on a context: JSON Lines in, a linear unit on the first token,
accuracy out.

Notable:
* each candidate is read on its own, `<s> context </s> question </s> candidate </s>`, and the softmax is over
    the candidates of one question, so their number may differ between questions, and between training and
    test;
* no class of transformers has this head, so it stands beside an exported encoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks.biaffine import impossible
from bistil.tasks.labelling import OneLabel
from bistil.tasks.sentences import json_objects, pad_inputs, some
from bistil.tasks.task import Batch, Outcomes, Row, ratios
from bistil.training.parallel import processes


@dataclass(frozen=True)
class Candidates:
    """A question on a context, with candidate answers; `label` is the number of the right one, from 0."""

    context: str
    question: str
    choices: tuple[str, ...]
    label: int


class ChoiceHead(nn.Module):
    """One linear unit on the first token of each candidate."""

    def __init__(self, *, hidden_size: int) -> None:
        super().__init__()
        self.unit = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits `labels`, impossible where a question has fewer candidates than another.

        Shape: [N, L, H] and `counts` [B], which add up to N -> [B, C].
        """
        scores = self.unit(hidden[:, 0])[:, 0]
        each = scores.split(batch["counts"].tolist())
        return {"labels": pad_sequence(list(each), batch_first=True, padding_value=impossible(scores))}


@dataclass(frozen=True)
class Choice(OneLabel):
    """The task of choosing; it has no labels of its own."""

    name: str = "choice"
    title: str = "Choice of an answer"
    column: str = "choice"
    metric: str = "accuracy"

    def read(self, path: Path) -> list[Candidates]:
        """Questions of a file with a JSON object on each line: texts `context` and `question`, a list of
        texts `choices`, and the number `label` of the right one, from 0.

        Raises:
            InputError: with the line number, where one of these is missing, empty or of another kind.
        """
        found = [_candidates(path, number, row) for number, row in json_objects(path)]
        return some(found, f"At least one question was expected in {path}, but there is none")

    def for_training(self, examples: Sequence[Candidates]) -> Self:
        """This task: nothing in it depends on the examples."""
        some(examples, "Questions to train on were expected, but there are none")
        return self

    def encode(
        self, examples: Sequence[Candidates], tokenizer: PreTrainedTokenizerBase, *, max_length: int
    ) -> list[Row]:
        """Rows with the candidates of a question one after the other: `lengths` of each, `input_ids`,
        `token_type_ids` (1 in the candidate) where the tokenizer makes them, and the label; of context,
        question and candidate the longest one is cut first.
        """
        texts = dict.fromkeys(text for one in examples for text in (one.context, one.question, *one.choices))
        ids = tokenizer([*texts], add_special_tokens=False, return_attention_mask=False, verbose=False)
        known = dict(zip(texts, ids["input_ids"], strict=True))
        segments = "token_type_ids" in tokenizer.model_input_names
        rows = []
        for one in examples:
            row: Row = {"input_ids": [], "lengths": [], "label": [one.label]}
            row |= {"token_type_ids": []} if segments else {}
            for choice in one.choices:
                parts = _cut([known[text] for text in (one.context, one.question, choice)], max_length - 4)
                joined = [token for part in parts for token in (*part, tokenizer.sep_token_id)]
                row["input_ids"] += [tokenizer.cls_token_id, *joined]
                row["lengths"].append(1 + len(joined))
                if segments:
                    own = len(parts[-1]) + 1
                    row["token_type_ids"] += [0] * (1 + len(joined) - own) + [1] * own
            rows.append(row)
        return rows

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """All N candidates of the rows: inputs of Shape: [N, L]; `counts` of candidates and `labels`: [B].

        Raises:
            InputError: where several processes train as one, which would share candidates out.
        """
        if processes() > 1:
            raise InputError("The task choice is trained by one process: start it without torchrun.")
        numbers = {
            "counts": torch.tensor([len(row["lengths"]) for row in rows]),
            "labels": torch.tensor([row["label"][0] for row in rows]),
        }
        return pad_inputs([one for row in rows for one in _each(row)], pad_id) | numbers

    def head(self, hidden_size: int) -> nn.Module:
        """A linear unit for encoder states of `hidden_size`."""
        return ChoiceHead(hidden_size=hidden_size)

    def predict(self, model: TaskModel, batch: Batch) -> list[Any]:
        """The number of the best candidate of each question."""
        found: list[int] = model(batch).logits["labels"].argmax(-1).tolist()
        return found

    def score(self, examples: Sequence[Candidates], predictions: Sequence[int]) -> dict[str, float]:
        """`accuracy` in percent."""
        return ratios(self.outcomes(examples, predictions))

    def outcomes(self, examples: Sequence[Candidates], predictions: Sequence[int]) -> Outcomes:
        """Whether each question has the right candidate."""
        right = [int(one.label == number) for one, number in zip(examples, predictions, strict=True)]
        return {"accuracy": (right, [1] * len(right))}

    def floor(self, train: Sequence[Candidates], test: Sequence[Candidates]) -> dict[str, float]:
        """Chance: the mean over the test questions of one in so many candidates."""
        return {"accuracy": 100 * sum(1 / len(one.choices) for one in test) / len(test)}


def _cut(parts: Sequence[list[int]], most: int) -> list[list[int]]:
    """The parts without the last tokens of the longest ones, so that they have `most` together at most."""
    lengths = [len(part) for part in parts]
    while sum(lengths) > most:
        lengths[lengths.index(max(lengths))] -= 1
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]


def _each(row: Row) -> list[Row]:
    """The candidates of a row, each as a row of inputs."""
    ends = torch.tensor(row["lengths"]).cumsum(0).tolist()
    names = [name for name in ("input_ids", "token_type_ids") if name in row]
    return [
        {name: row[name][end - length : end] for name in names}
        for end, length in zip(ends, row["lengths"], strict=True)
    ]


def _candidates(path: Path, number: int, row: Mapping[str, Any]) -> Candidates:
    def told(expected: str, name: str) -> InputError:
        came = f"{row[name]!r:.100}" if name in row else "nothing"
        return InputError(f"{path}, line {number}: expected {expected}, but got {came}. Correct the line.")

    for name in ("context", "question"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise told(f"a text under {name!r}", name)
    choices, label = row.get("choices"), row.get("label")
    texts = isinstance(choices, list) and all(isinstance(one, str) and one.strip() for one in choices)
    if not isinstance(choices, list) or not texts or len(choices) < 2:
        raise told("two texts or more in a list under 'choices'", "choices")
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(choices):
        raise told(f"the number of a choice, from 0 to {len(choices) - 1}, under 'label'", "label")
    return Candidates(row["context"], row["question"], tuple(choices), label)
