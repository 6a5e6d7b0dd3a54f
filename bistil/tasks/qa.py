"""Extractive question answering: SQuAD 1.1 JSON in, one linear layer for start and end, exact match and F1
out.

Notable:
* an example is a question, and its row holds all its windows, so that losses, costs and predictions are those
  of questions; two neighbouring windows share a third of `max_length` (128 of 384 tokens);
* start and end are chosen among [CLS] and the tokens of the context, for both losses and predictions: other
  tokens are impossible, so no answer reaches into the question. [CLS] is the target in a window that does not
  hold the whole answer, and never predicted;
* the soft targets of distillation are the teacher's start and end distributions of each window; the paper
    leaves z open for questions;
* scores are SQuAD's own, with its English normalisation, for every language, as XQuAD's are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.losses import prediction_loss
from bistil.models.load import TaskModel
from bistil.tasks.biaffine import impossible
from bistil.tasks.sentences import pad, pad_inputs, some
from bistil.tasks.spans import best_spans, exact_match, f1
from bistil.tasks.squad import Question, read_squad
from bistil.tasks.task import Batch, Outcomes, Row, ratios

SHORTEST_WINDOW = 24


@dataclass(frozen=True)
class Answer:
    """A predicted answer: characters `start` to `end` (exclusive) of the context, with the sum of its two
    logits.
    """

    start: int
    end: int
    score: float


class SpanHead(nn.Module):
    """One linear layer with two outputs a token, start and end (BiStil section 5.4.3)."""

    def __init__(self, *, hidden_size: int) -> None:
        super().__init__()
        self.qa_outputs = nn.Linear(hidden_size, 2)

    def forward(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits `start` and `end`; impossible outside [CLS] and context. Shape: [N, L, H] -> [N, L] each."""
        start, end = self.qa_outputs(hidden).unbind(-1)
        return on_context(start, end, batch)


def on_context(start: Tensor, end: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits `start` and `end` with tokens other than [CLS] and the context impossible. Shape: [N, L]
    each.
    """
    possible = (batch["starts"] >= 0).index_fill(
        1, torch.zeros(1, dtype=torch.long, device=start.device), True
    )
    return {
        name: logits.masked_fill(~possible, impossible(logits))
        for name, logits in (("start", start), ("end", end))
    }


@dataclass(frozen=True)
class Qa:
    """The question-answering task. Answers have at most `longest` tokens; `n_best` are predicted for each
    question.
    """

    longest: int = 30
    n_best: int = 20
    labels: tuple[str, ...] = ("start", "end")
    name: str = "qa"
    title: str = "Question answering"
    column: str = "qa"
    metric: str = "em"

    def read(self, path: Path) -> list[Question]:
        """Questions of a SQuAD 1.1 or XQuAD JSON file. Raises InputError naming the question where an answer
        is not in its context.
        """
        return read_squad(path)

    def for_training(self, examples: Sequence[Question]) -> Self:
        """This task: nothing in it depends on the examples."""
        some(examples, "Questions to train on were expected, but there are none")
        return self

    def encode(
        self, examples: Sequence[Question], tokenizer: PreTrainedTokenizerBase, *, max_length: int
    ) -> list[Row]:
        """Rows with the windows of a question one after the other: `lengths` of the windows; `input_ids`,
        `token_type_ids` where the tokenizer makes them, and the characters `starts` to `ends` of each token
        in the context, spaces at their edges left out, -1 elsewhere; `first` and `last` token of the first
        answer, one entry for each window, 0 ([CLS]) where the window does not hold it.

        Questions are cut to a third of `max_length`.

        Raises:
            InputError: where windows are too short, or tokens lose letters of an answer.
        """
        if max_length < SHORTEST_WINDOW or not tokenizer.is_fast:
            raise InputError(
                f"Windows of at least {SHORTEST_WINDOW} tokens from a fast tokenizer were expected, but"
                f" max_length is {max_length} and the tokenizer a {type(tokenizer).__name__}. Raise"
                " `max_length` under `task`, or load the tokenizer with AutoTokenizer."
            )
        encoding = tokenizer(
            _shortened([example.question for example in examples], tokenizer, max_length // 3),
            [example.context for example in examples],
            truncation="only_second",
            max_length=max_length,
            stride=max_length // 3,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        # or a later save would write this max_length into tokenizer.json
        tokenizer.backend_tokenizer.no_truncation()
        names = [name for name in ("input_ids", "token_type_ids") if name in encoding]
        rows: list[Row] = [
            {name: [] for name in (*names, "starts", "ends", "lengths", "first", "last")} for _ in examples
        ]
        owners = encoding["overflow_to_sample_mapping"]
        for window, owner in enumerate(owners):
            row, parts, context = rows[owner], encoding.sequence_ids(window), examples[owner].context
            offsets = [
                _without_spaces(context, *pair) if part == 1 else (-1, -1)
                for pair, part in zip(encoding["offset_mapping"][window], parts, strict=True)
            ]
            starts, ends = (list(numbers) for numbers in zip(*offsets, strict=True))
            first, last = _target(
                examples[owner],
                starts,
                ends,
                begins=not row["lengths"],
                closes=owners[window + 1 : window + 2] != [owner],
            )
            added = {
                "starts": starts,
                "ends": ends,
                "lengths": [len(starts)],
                "first": [first],
                "last": [last],
            }
            for name, numbers in ({name: encoding[name][window] for name in names} | added).items():
                row[name].extend(numbers)
        return rows

    def collate(self, rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
        """All N windows of the rows: inputs, `starts` and `ends` of Shape: [N, L]; `first`, `last` and the
        row's number `example`: [N].
        """
        windows = [window for row in rows for window in _windows(row)]
        numbers = {name: torch.tensor([n for row in rows for n in row[name]]) for name in ("first", "last")}
        example = torch.arange(len(rows)).repeat_interleave(
            torch.tensor([len(row["lengths"]) for row in rows])
        )
        offsets = {name: pad(windows, name, -1) for name in ("starts", "ends")}
        return pad_inputs(windows, pad_id) | offsets | numbers | {"example": example}

    def head(self, hidden_size: int) -> nn.Module:
        """A span head for encoder states of `hidden_size`."""
        return SpanHead(hidden_size=hidden_size)

    def loss(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross-entropy of the start plus that of the end, means over windows. Shape: []."""
        return cross_entropy(logits["start"].float(), batch["first"]) + cross_entropy(
            logits["end"].float(), batch["last"]
        )

    def distillation_loss(
        self, student_logits: Mapping[str, Tensor], teacher_logits: Mapping[str, Tensor], batch: Batch
    ) -> Tensor:
        """Soft cross-entropy of the start plus that of the end (BiStil eq. 5.3), means over windows. Shape:
        [].
        """
        every = torch.ones_like(batch["first"])
        start, end = (
            prediction_loss(student_logits[name], teacher_logits[name], every) for name in ("start", "end")
        )
        return start + end

    def predict(self, model: TaskModel, batch: Batch) -> list[tuple[Answer, ...]]:
        """The best answers of each question over all its windows, best first; a span that two windows share
        has its higher score.
        """
        logits = model(batch).logits
        spans = best_spans(
            logits["start"], logits["end"], batch["starts"] >= 0, longest=self.longest, n=self.n_best
        )
        starts, ends = (
            batch["starts"].gather(1, spans[1]),
            batch["ends"].gather(1, spans[2].clamp(max=batch["ends"].shape[1] - 1)),
        )
        found: list[dict[tuple[int, int], float]] = [{} for _ in range(int(batch["example"].max()) + 1)]
        for owner, *window in zip(
            batch["example"].tolist(), spans[0].tolist(), starts.tolist(), ends.tolist(), strict=True
        ):
            for score, start, end in zip(*window, strict=True):
                if score > -torch.inf:
                    found[owner][start, end] = max(score, found[owner].get((start, end), -torch.inf))
        ranked = [
            sorted(answers.items(), key=lambda item: (-item[1], item[0]))[: self.n_best] for answers in found
        ]
        return [tuple(Answer(start, end, score) for (start, end), score in answers) for answers in ranked]

    def score(
        self, examples: Sequence[Question], predictions: Sequence[Sequence[Answer]]
    ) -> dict[str, float]:
        """`em` and `f1` in percent: the best prediction against the closest gold answer, a mean over
        questions.
        """
        return ratios(self.outcomes(examples, predictions))

    def outcomes(self, examples: Sequence[Question], predictions: Sequence[Sequence[Answer]]) -> Outcomes:
        """Exact match and F1 of each question, 0 to 1."""
        texts = [
            example.context[answers[0].start : answers[0].end] if answers else ""
            for example, answers in zip(examples, predictions, strict=True)
        ]
        pairs = [
            (text, [gold for gold, _ in example.answers])
            for text, example in zip(texts, examples, strict=True)
        ]
        return {
            name: ([max(metric(text, gold) for gold in golds) for text, golds in pairs], [1] * len(pairs))
            for name, metric in (("em", exact_match), ("f1", f1))
        }

    def floor(self, train: Sequence[Question], test: Sequence[Question]) -> dict[str, float]:
        """The first words of the context, as many as the (lower) median training answer has."""
        words = median_low([max(len(example.answers[0][0].split()), 1) for example in train])
        lengths = [
            len(example.context) - len("".join(example.context.split(maxsplit=words)[words:]))
            for example in test
        ]
        return self.score(test, [(Answer(0, length, 0.0),) for length in lengths])


def _shortened(questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, most: int) -> list[str]:
    """The questions, cut after `most` tokens."""
    offsets = tokenizer(
        list(questions), add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )["offset_mapping"]
    return [
        text if len(places) <= most else text[: places[most - 1][1]]
        for text, places in zip(questions, offsets, strict=True)
    ]


def _without_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    """Where a part of the text starts and ends without the spaces at its edges."""
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _target(
    example: Question, starts: Sequence[int], ends: Sequence[int], *, begins: bool, closes: bool
) -> tuple[int, int]:
    """First and last token of the example's first answer, (0, 0) where it is not wholly in the window.

    begins, closes: the window is the first, or the last, of its context.

    Raises:
        InputError: where letters of the answer are in no token.
    """
    text, start = example.answers[0]
    start, end = _without_spaces(example.context, start, start + len(text))
    inside = [i for i in range(len(starts)) if starts[i] >= 0]
    if not inside or (starts[inside[0]] > start and not begins) or (ends[inside[-1]] < end and not closes):
        return 0, 0
    held = [i for i in inside if starts[i] < end and ends[i] > start]
    first, last = (starts[held[0]], ends[held[-1]]) if held else (end, end)
    lost = example.context[start:first] + example.context[last:end]
    if any(character.isalnum() for character in lost):
        raise InputError(
            f"Question {example.id}: tokens that hold the answer {example.context[start:end]!r} were"
            f" expected, but by the places that the tokenizer gives they hold"
            f" {example.context[first:last]!r}. Load it with bistil.models.load.load_tokenizer, which mends"
            " what it can, or take another tokenizer."
        )
    return (held[0], held[-1]) if held else (0, 0)


def _windows(row: Row) -> Iterator[Row]:
    """The windows of a question as rows of their own."""
    here = 0
    for length in row["lengths"]:
        yield {
            name: row[name][here : here + length]
            for name in ("input_ids", "token_type_ids", "starts", "ends")
            if name in row
        }
        here += length
