"""Evaluation: a parser's predictions, trees and all, against the forward passes alone."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import BertModel

from bistil.bench.measure import LEAST, OURS, PUBLISHED, Row, Size, alternate, comparison
from bistil.bench.models import config
from bistil.evaluation.score import by_length, predict_rows
from bistil.models.load import TaskModel, encode
from bistil.tasks.parsing import Parsing
from bistil.tasks.task import Row as Example

RELATIONS = tuple(f"relation-{number}" for number in range(37))
BATCH = 64


def decoding(size: Size) -> list[Row]:
    """Parsing sentences with the teacher's and the student's encoder."""
    return [parsing(size, layers) for layers in (size.layers, size.layers // size.lrf)]


def parsing(size: Size, layers: int) -> Row:
    """One encoder of so many layers and a random head, whose trees are the hardest to find there are."""
    torch.manual_seed(1)
    task = Parsing(labels=RELATIONS)
    encoder = BertModel(config(size, layers=layers, vocabulary=size.kept), add_pooling_layer=False)
    model = TaskModel(encoder=encoder, head=task.head(size.hidden)).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    rows = _sentences(size)

    def published() -> None:
        with torch.inference_mode():
            for start in range(0, len(rows), BATCH):
                task.predict(model, task.collate(rows[start : start + BATCH], 0))

    def least() -> None:
        with torch.inference_mode():
            for chosen in by_length(rows, BATCH):
                batch = task.collate([rows[i] for i in chosen], 0)
                encode(encoder, batch["input_ids"], batch["attention_mask"], states=False)

    sides = {
        PUBLISHED: published,
        OURS: lambda: predict_rows(model, task, rows, pad_id=0, batch_size=BATCH),
        LEAST: least,
    }
    note = (
        f"{len(rows)} sentences in batches of at most {BATCH}; published: batches in the order of the file;"
        " least: the encoder's forward passes over our batches, no head and no trees"
    )
    return comparison(f"parsing, {layers} x {size.hidden}", note, alternate(size.turns, sides))


def _sentences(size: Size) -> Sequence[Example]:
    """Sentences as long as those of treebanks: about 20 words of 1.5 sub-words."""
    rng = np.random.default_rng(1)
    rows = []
    for words in np.clip(rng.lognormal(2.8, 0.6, max(4, size.lines // 750)).astype(int), 2, 80):
        first = 1 + np.cumsum(rng.integers(1, 3, words))
        ids = [2, *rng.integers(5, size.kept, int(first[-1])).tolist(), 3]
        rows.append(
            {
                "input_ids": ids,
                "first_subwords": first.tolist(),
                "heads": [0] * words,
                "relations": [0] * words,
            }
        )
    return rows
