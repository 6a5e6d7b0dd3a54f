"""Evaluation: a parser's predictions, trees and all, against the forward passes alone; the nearest sentences
by BERTScore against those by cosine.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import BertModel

from bistil.bench.measure import (
    LEAST,
    OURS,
    PUBLISHED,
    Found,
    Row,
    Size,
    alternate,
    comparison,
    in_process,
    resident,
)
from bistil.bench.models import config
from bistil.bench.vocabulary import random_text
from bistil.evaluation.score import by_length, predict_rows
from bistil.models.load import TaskModel, encode
from bistil.store.provenance import peak_memory_bytes
from bistil.tasks.parsing import Parsing
from bistil.tasks.retrieval import Side, retrieve_by_layers
from bistil.tasks.task import Row as Example

RELATIONS = tuple(f"relation-{number}" for number in range(37))
BATCH = 64


def decoding(size: Size, *, apart: bool = True) -> list[Row]:
    """Parsing sentences with the teacher's and the student's encoder; looking for translations.

    Args:
        apart: each search in a new process, without which peaks of memory mean nothing.
    """
    parsers = [parsing(size, layers) for layers in (size.layers, size.layers // size.lrf)]
    return [*parsers, *retrieval(size, apart=apart)]


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


def retrieval(size: Size, *, apart: bool = True) -> list[Row]:
    """The nearest of as many sentences as a hundredth of the lines, by one layer and by all."""
    pairs = max(4, size.lines // 100)
    found = {
        (by, count): in_process(_searching, by, count, pairs, size, apart=apart)
        for by in ("bertscore", "cosine")
        for count in (1, size.layers)
    }
    note = "an encoder's passes over both sides, and every sentence against every other"
    return [
        comparison(
            f"retrieval, {pairs} x {pairs} sentences, layers: {count} of {size.layers} x {size.hidden}",
            note,
            {OURS: found["bertscore", count], "cosine": found["cosine", count]},
        )
        for count in (1, size.layers)
    ]


def _searching(by: str, count: int, pairs: int, size: Size) -> Found:
    torch.manual_seed(1)
    tokenizer, lines = random_text(size.kept, 2 * pairs)
    encoder = BertModel(config(size, vocabulary=len(tokenizer)), add_pooling_layer=False).eval()
    side, texts = Side(encoder, tokenizer), list(zip(lines[::2], lines[1::2], strict=True))
    layers = range(size.layers, size.layers - count, -1)
    had, start, spent = resident(), time.perf_counter(), time.process_time()
    retrieve_by_layers(side, side, texts, layers=sorted(layers), by=by)
    return {
        "cpu seconds": time.process_time() - spent,
        "seconds": time.perf_counter() - start,
        "peak beyond the model, bytes": (peak_memory_bytes() or had) - had,
    }


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
