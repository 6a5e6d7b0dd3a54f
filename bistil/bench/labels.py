"""What stored labels cost: writing them beside the teacher's passes alone, their bytes beside what is
counted, reading batches of them, and a step of a student that learns from them beside one that does not.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from bistil.bench.measure import OURS, Row, Size, alternate, comparison, resident
from bistil.bench.models import config
from bistil.bench.step import whole_step
from bistil.bench.vocabulary import random_text
from bistil.distil.labels import BATCH, Labels, LabelSettings, write_labels
from bistil.distil.merge import MergedBatches, Merging
from bistil.models.architectures import mlm_logits
from bistil.systems.recipe import Term
from bistil.text.corpora import IGNORED, Blocks, mask_tokens, to_blocks

SETTINGS = LabelSettings(k=8, masks=1, share=0.15)
LENGTH, ROWS = 64, 64
"""Of a batch that is read: tokens of a row, and rows."""
GOLD = "masked tokens alone"
GROWN = "memory that 100 times as many batches take, bytes"


def labels(size: Size) -> list[Row]:
    """Writing, bytes, reading and learning."""
    torch.manual_seed(1)
    tokenizer, lines = random_text(size.kept, max(20, size.lines // 25))
    blocks = to_blocks(tokenizer, lines, min(LENGTH, size.length))
    teacher = BertForMaskedLM(config(size, vocabulary=len(tokenizer))).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return [
            _writing(root, teacher, tokenizer, blocks, size),
            _bytes(root, blocks),
            *_reading(root / "0", size, len(tokenizer)),
        ]


def _writing(root: Path, teacher: Any, tokenizer: PreTrainedTokenizerFast, blocks: Blocks, size: Size) -> Row:
    places = torch.arange(len(tokenizer))
    stores = (root / str(number) for number in range(size.turns + 1))

    @torch.inference_mode()
    def passes() -> None:
        for start in range(0, len(blocks), BATCH):
            ids, mask = blocks.rows(np.arange(start, min(start + BATCH, len(blocks))))
            masked, gold = mask_tokens(ids, mask, tokenizer, SETTINGS.share, np.random.default_rng(1))
            states = teacher.bert(input_ids=masked, attention_mask=mask).last_hidden_state
            mlm_logits(teacher, states[gold != IGNORED])

    sides = {
        OURS: lambda: write_labels(next(stores), teacher, tokenizer, blocks, places, SETTINGS),
        "the teacher's passes alone": passes,
    }
    note = f"{len(blocks)} blocks of {blocks.ids.shape[1]} tokens, {SETTINGS.k} logits of a masked token"
    return comparison("writing labels", note, alternate(size.turns, sides))


def _bytes(root: Path, blocks: Blocks) -> Row:
    found = sum(one.stat().st_size for one in (root / "0").rglob("*.npy"))
    width = Labels(root / "0").width
    counted = len(blocks) * SETTINGS.row_bytes(blocks.ids.shape[1], width)
    note = f"counted: an id of {width} bytes a token, 1 + k ids and 4 + k a masked one, 18 a row"
    columns = {OURS: {"bytes": float(found)}, "counted": {"bytes": float(counted)}}
    return comparison("stored labels", note, columns)


def _reading(store: Path, size: Size, vocabulary: int) -> list[Row]:
    """Batches read at random, and steps of training that read them."""
    found = Labels(store)
    pool = np.stack([np.zeros(len(found), int), np.arange(len(found))], axis=1)
    few = max(2, size.lines // 1000)
    made = MergedBatches(
        {"aaa": [found]}, {"aaa": pool}, {"aaa": 1.0}, batch_size=ROWS, steps=100 * few, seed=1, constant=0.5
    )
    student = BertForMaskedLM(config(size, layers=size.layers // size.lrf, vocabulary=vocabulary)).eval()
    terms = {name: Term(of="prediction", by=name) for name in ("stored", "ce")}  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, fused=True)
    objective, batch = Merging(student, terms), made[0]
    sides = {
        OURS: partial(whole_step, lambda: objective(batch)[0], optimizer),
        GOLD: partial(whole_step, lambda: objective({**batch, "weight": 0.0})[0], optimizer),
    }
    steps = alternate(size.turns, sides)

    def read(count: int) -> None:
        for step in range(count):
            made[step]

    turns = alternate(size.turns, {OURS: lambda: read(few)})[OURS]
    before = resident()
    read(100 * few)
    one = {unit: seconds / few for unit, seconds in turns.items()}
    grown = {GROWN: float(max(0, resident() - before))}
    shape = f"{ROWS} x {found.length}"
    note = f"rows at random through memory maps; {100 * few} batches for the memory"
    return [
        comparison(f"reading labels, batch {shape}", note, {OURS: {**one, **grown}, "a step": steps[OURS]}),
        comparison(
            f"a step with stored labels, batch {shape}",
            f"a student of {size.layers // size.lrf} x {size.hidden}, {vocabulary} tokens; labels and tokens"
            " weigh the same",
            steps,
        ),
    ]
