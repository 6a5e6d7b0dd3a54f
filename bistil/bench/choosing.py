"""Choosing the K entries that moved most, of all differences of two models of mBERT's size."""

import time
from pathlib import Path

import numpy as np
import torch

from bistil.bench.measure import OURS, PUBLISHED, Found, Row, Size, comparison, in_process, resident
from bistil.bench.models import DENSITY, bert, config
from bistil.bench.published import top_k_of_list
from bistil.plan.estimate import meta_encoder
from bistil.sft.lottery import select_top_k, snapshot
from bistil.store.provenance import peak_memory_bytes

LISTED = 64
"""Bytes an entry that the published choice needs: 40 in a list, 16 in float64 arrays of it, 8 before and
after training.
"""


def choosing(size: Size, *, apart: bool) -> Row:
    """Choosing the top K by every way; the published one only where the machine has the memory for it."""
    needed, room = (
        LISTED * sum(parameter.numel() for parameter in meta_encoder(config(size)).parameters()),
        available(),
    )
    ways = (OURS, PUBLISHED, "array") if needed < room else (OURS, "array")
    note = (
        "published: a Python list of all differences, then np.partition (as composable-sft does)"
        if PUBLISHED in ways
        else (
            f"published is left out, since it needs {needed / 2**30:.1f} GiB and {room / 2**30:.1f} are free"
        )
    )
    choices = {way: in_process(cost_of_choice, way, size, apart=apart) for way in ways}
    return comparison(
        "choosing the top K of all differences",
        f"{note}; array: the same from one float32 array of them",
        choices,
    )


def cost_of_choice(how: str, size: Size) -> Found:
    """Seconds and memory of choosing the K entries that moved most."""
    torch.manual_seed(1)
    before = snapshot(bert(size))
    after = {name: tensor + 1e-3 * torch.randn_like(tensor) for name, tensor in before.items()}
    k = round(DENSITY * sum(tensor.numel() for tensor in before.values()))
    had, start = resident(), time.process_time()
    if how == OURS:
        select_top_k(before, after, k)
    elif how == PUBLISHED:
        top_k_of_list(before, after, k)
    else:
        everything = np.concatenate(
            [(after[name] - tensor).abs_().numpy().reshape(-1) for name, tensor in before.items()]
        )
        threshold = np.partition(everything, len(everything) - k)[len(everything) - k]
        for name, tensor in before.items():
            ((after[name] - tensor).abs_() >= threshold).reshape(-1).nonzero()
    return {
        "cpu seconds": time.process_time() - start,
        "peak beyond both models, bytes": (peak_memory_bytes() or had) - had,
    }


def available() -> int:
    """Bytes of memory that the machine has left."""
    found = next(
        line
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        if line.startswith("MemAvailable")
    )
    return int(found.split()[1]) * 1024
