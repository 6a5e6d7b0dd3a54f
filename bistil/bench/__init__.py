"""What our way of doing things costs: against what is published, and against the least that any way of doing
them needs.

Notable: one part, one file, one JSON; sides take turns in one run on the same random models, and only ratios
are meant to be compared between machines. The published side is a plain reference written here (`published`),
not those implementations themselves.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from bistil.bench.decoding import decoding
from bistil.bench.inference import inference
from bistil.bench.measure import Row, Size, sentence
from bistil.bench.scaling import scaling
from bistil.bench.sft import sft
from bistil.bench.step import step
from bistil.bench.switch import switch
from bistil.bench.vocabulary import vocabulary
from bistil.store.provenance import git_state, versions
from bistil.store.whole import write_whole

__all__ = ["PARTS", "Size", "run_bench", "sentence"]

PARTS: Mapping[str, Callable[[Size], list[Row]]] = {
    "step": step,
    "sft": sft,
    "vocab": vocabulary,
    "switch": switch,
    "eval": decoding,
    "inference": inference,
    "scaling": scaling,
}
"""The parts by name."""


def run_bench(folder: Path, part: str, size: Size, *, say: Callable[[str], None]) -> Path:
    """Measure one of PARTS, write `<part>.json` into `folder`, and return its path; each comparison is said
    as a line as well.
    """
    rows = PARTS[part](size)
    for row in rows:
        say(sentence(row))
    found = {
        "part": part,
        "size": asdict(size),
        "environment": {
            **versions(),
            "git": git_state(),
            "threads": torch.get_num_threads(),
            "device": "cpu",
        },
        "comparisons": rows,
    }
    path = folder / f"{part}.json"
    write_whole(path, json.dumps(found, indent=1) + "\n")
    return path
