"""What cutting a real teacher to some languages saves in LT-SFT: `bistil bench sft --teacher e5-small`.

Notable: each side runs in a process of its own, and its peak of memory is told twice, that of the whole
process, and without what the libraries took before anything was loaded. Both change the same number of
values, a density's share of the uncut encoder.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bistil.bench.measure import OURS, Found, Row, Size, comparison, in_process, resident
from bistil.bench.models import DENSITY
from bistil.models.load import load_teacher
from bistil.models.packaged import teacher_folder
from bistil.pipeline.trimmed import OCCURS
from bistil.sft.lottery import (
    SparseTraining,
    decouple_output_embedding,
    l1_term,
    select_top_k,
    set_trainable,
    snapshot,
)
from bistil.store.provenance import peak_memory_bytes
from bistil.training.mlm import MaskedLM
from bistil.vocab.whole import trim

MASKED, L1, RATE = 0.15, 0.1, 5e-5
"""Share of the tokens that are predicted, weight of the L1 term and learning rate of language SFTs."""
Loss = Callable[[], Tensor]


def cutting(
    teacher: str, corpora: Mapping[str, Sequence[str]], size: Size, *, apart: bool = True
) -> list[Row]:
    """Steps of a language SFT on a teacher that is cut to these corpora, beside the uncut one.

    Args:
        size: the batch, its length, and how many steps of each phase are measured.
        apart: each side in a new process, without which peaks of memory mean nothing.
    """
    source = teacher_folder(teacher)
    with tempfile.TemporaryDirectory() as folder:
        found = trim(source, corpora, Path(folder, "cut"), threshold=OCCURS)
        k = round(DENSITY * load_teacher(source).encoder.num_parameters())
        sides = {OURS: str(found.folder), "uncut": source}
        columns = {name: in_process(steps_of, side, k, size, apart=apart) for name, side in sides.items()}
    languages, (before, after) = ", ".join(corpora), found.tokens
    name = f"language SFT of {Path(teacher).name}, {before:,} tokens or {after:,} ({languages})"
    note = f"batch {size.batch} x {size.length}, {k:,} values; all tokens that the text has are kept"
    return [comparison(name, note, columns)]


def steps_of(source: str, k: int, size: Size) -> Found:
    """Seconds of a step of each phase, the fastest of several, and the peak of the process."""
    torch.manual_seed(1)
    had = resident()
    mlm = load_teacher(source).mlm.train()
    decouple_output_embedding(mlm)
    names = set_trainable(mlm.base_model, freeze_layer_norms=True)
    theta0 = snapshot(mlm.base_model)
    objective, batch = MaskedLM(mlm), _batch(mlm.config.vocab_size, size)
    loss = partial(_loss, objective, batch)
    dense = _dense_step(mlm.base_model, names, theta0, loss, size.turns)
    moved = {name: mlm.base_model.get_parameter(name) for name in names}
    support = select_top_k({name: theta0[name] for name in names}, moved, k)
    sparse = _sparse_step(mlm.base_model, support, theta0, loss, size.turns)
    peak = peak_memory_bytes() or had
    return {
        "seconds of a dense step": dense,
        "seconds of a sparse step": sparse,
        "seconds of a step of both": (dense + sparse) / 2,
        "peak of the process, bytes": peak,
        "peak beyond the libraries, bytes": peak - had,
    }


def _loss(objective: MaskedLM, batch: Mapping[str, Tensor]) -> Tensor:
    return objective(batch)[0]  # type: ignore[no-any-return]


def _dense_step(
    encoder: Any, names: Sequence[str], theta0: Mapping[str, Tensor], loss: Loss, turns: int
) -> float:
    trained = [encoder.get_parameter(name) for name in names]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    return _fastest(lambda: loss() + l1_term(encoder, theta0, L1), optimizer, turns)


def _sparse_step(
    encoder: Any, support: Mapping[str, Tensor], theta0: Mapping[str, Tensor], loss: Loss, turns: int
) -> float:
    with SparseTraining(encoder, support=support, theta0=theta0) as sparse:
        optimizer = torch.optim.AdamW([sparse.values], lr=RATE, weight_decay=0.0, fused=True)
        sparse.attach(optimizer)
        return _fastest(lambda: loss() + sparse.l1_term(L1), optimizer, turns)


def _batch(tokens: int, size: Size) -> dict[str, Tensor]:
    """A batch of random tokens with the labels of those that are predicted."""
    ids = torch.randint(5, tokens, (size.batch, size.length))
    labels = ids.where(torch.rand(ids.shape) < MASKED, torch.tensor(-100))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _fastest(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, turns: int) -> float:
    """Processor seconds of the fastest whole step after one that warms up."""
    seconds = []
    for _ in range(turns + 1):
        start = time.process_time()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])
