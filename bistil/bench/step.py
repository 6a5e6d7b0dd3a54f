"""One step of stage 1 (forward, backward, optimiser), the teacher and the student of one batch of one
language.

Notable: the least is what no method that compares two models' states can do without: both encoders forward
and the student's backward through the fastest attention, and the same optimiser. All columns share one
teacher, one student and one optimiser. Taking a language's SFT off and another's on is measured apart
(`switch`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import BertForMaskedLM

from bistil.bench.measure import LEAST, OURS, PUBLISHED, Kept, Row, Size, alternate, comparison
from bistil.bench.models import config
from bistil.bench.published import stage_one_loss
from bistil.bench.vocabulary import random_text
from bistil.distil.objective import Distillation
from bistil.distil.start import initialise
from bistil.distil.teachers import AdaptedTeacher
from bistil.models.load import encode
from bistil.systems.layers import start_layers
from bistil.systems.recipe import STATES
from bistil.text.corpora import Batches, to_blocks
from bistil.training.loop import one_item
from bistil.training.parallel import Shared

INPUTS = 20
"""Batches whose making is one turn."""
KEPT = "kept for the backward pass, bytes"
Loss = Callable[[], Tensor]


def step(size: Size) -> list[Row]:
    """The step in float32, and ours and the least under bfloat16 autocast. Teacher and student both know the
    student's vocabulary.
    """
    torch.manual_seed(1)
    sides, student = losses(size)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, fused=True)

    turns = {name: partial(whole_step, loss, optimizer) for name, loss in sides.items()}
    turns |= {
        f"{name} bf16": partial(whole_step, sides[name], optimizer, half=True) for name in (OURS, LEAST)
    }
    seconds = alternate(size.turns, turns)
    columns = {name: {**found, **_kept(name, sides, student)} for name, found in seconds.items()}
    note = (
        "published: both whole masked-LM models with their heads, every attention map, losses on boolean"
        " selections (as the code of BiStil does); least: both encoders forward and the student's backward"
        " through the fastest attention, and the same optimiser"
    )
    shape = (
        f"{size.layers} x {size.hidden}, lrf {size.lrf}, {size.kept} tokens, batch {size.batch} x"
        f" {size.length}"
    )
    single = {name: columns[name] for name in (PUBLISHED, OURS, LEAST)}
    half = {name.removesuffix(" bf16"): column for name, column in columns.items() if name.endswith(" bf16")}
    return [
        comparison(f"stage-1 step, float32, {shape}", note, single),
        comparison(
            f"stage-1 step, bfloat16 autocast, {shape}", note, {**half, "ours in float32": columns[OURS]}
        ),
        kept_by_length(size),
        waiting_for_input(size, seconds[OURS]),
    ]


def kept_by_length(size: Size) -> Row:
    """Bytes kept for the backward pass at half, once and twice the length, and how often those at half of
    it.
    """
    lengths = (size.length // 2, size.length, 2 * size.length)
    columns: dict[str, dict[str, float]] = {PUBLISHED: {}, OURS: {}, LEAST: {}}
    for length in lengths:
        sides, student = losses(replace(size, length=length))
        for name, column in columns.items():
            column[f"kept at {length} tokens, bytes"] = _kept(name, sides, student)[KEPT]
    for column in columns.values():
        least, *others = column.values()
        column |= {
            f"kept at {length} to kept at {lengths[0]}": other / least
            for length, other in zip(lengths[1:], others, strict=True)
        }
    name = f"kept by length, {size.layers} x {size.hidden}, batch {size.batch}"
    return comparison(
        name,
        "linear growth is 2 and 4 times what half the length keeps; an attention map alone would be 4 and 16",
        columns,
    )


def waiting_for_input(size: Size, a_step: Mapping[str, float]) -> Row:
    """Making a batch as training does, two languages of packed text with masking, against one of our steps in
    float32.
    """
    tokenizer, lines = random_text(size.kept, max(20, size.lines // 5))
    halves = {"aaa": lines[::2], "bbb": lines[1::2]}
    corpora = {code: to_blocks(tokenizer, found, size.length) for code, found in halves.items()}
    weights = dict.fromkeys(corpora, 1.0)
    batches = Batches(
        corpora, tokenizer, weights=weights, batch_size=size.batch, steps=INPUTS, mask_share=0.15, seed=1
    )
    loader = DataLoader(Shared(batches, 1), batch_size=1, shuffle=False, collate_fn=one_item)
    found = alternate(size.turns, {OURS: lambda: list(loader)})[OURS]
    note = (
        "ours: rows of tokenised blocks, masking and collation of one batch, in the process that trains;"
        " tokenising is done once, before"
    )
    return comparison(
        f"waiting for input, batch {size.batch} x {size.length}",
        note,
        {OURS: {unit: seconds / INPUTS for unit, seconds in found.items()}, "a stage-1 step": a_step},
    )


def whole_step(loss: Loss, optimizer: Optimizer, *, half: bool = False) -> None:
    """Forward, backward and update; in bfloat16 where `half`."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = loss()
    found.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def losses(size: Size) -> tuple[dict[str, Loss], Any]:
    """The loss of one full batch by each of the three ways, and the student."""
    teacher = BertForMaskedLM(config(size, vocabulary=size.kept)).eval().requires_grad_(False)
    student = BertForMaskedLM(config(size, layers=size.layers // size.lrf, vocabulary=size.kept)).eval()
    student.bert = initialise(teacher.bert, size.lrf).requires_grad_(True)
    ids = torch.randint(5, size.kept, (size.batch, size.length))
    mask = torch.ones_like(ids)
    layers = start_layers("uniform", size.layers, size.lrf)
    adapted = AdaptedTeacher(teacher.bert, {}, None)
    objective = Distillation(student.bert, adapted, STATES, tuple(enumerate(layers, start=1)))
    batch: Mapping[str, Any] = {"language": "none", "input_ids": ids, "attention_mask": mask}

    def least() -> Tensor:
        with torch.inference_mode():
            encode(teacher.bert, ids, mask, states=False)
        return encode(student.bert, ids, mask, states=False).last.square().mean()

    sides: dict[str, Loss] = {
        PUBLISHED: lambda: stage_one_loss(student, teacher, ids, mask, layers),
        OURS: lambda: objective(batch)[0],
        LEAST: least,
    }
    return sides, student.bert


def _kept(name: str, sides: Mapping[str, Loss], student: Any) -> dict[str, float]:
    """Bytes that the loss of a column keeps for the backward pass."""
    kept = Kept(student.parameters())
    with kept, torch.autocast("cpu", torch.bfloat16, enabled=name.endswith("bf16")):
        sides[name.removesuffix(" bf16")]()
    return {KEPT: kept.bytes}
