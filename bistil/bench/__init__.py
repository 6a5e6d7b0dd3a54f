"""What our way of doing things costs: against what is published, and against the least that any way of doing
them needs.

Notable: one part, one file, one JSON; sides take turns in one run on the same random models, and only ratios
are meant to be compared between machines. The published side is a plain reference written here (`published`),
not those implementations themselves.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from bistil.bench.adapters import adapters
from bistil.bench.cutting import cutting
from bistil.bench.decoding import decoding
from bistil.bench.forms import in_forms, table
from bistil.bench.inference import inference
from bistil.bench.labels import labels
from bistil.bench.measure import Row, Size, sentence
from bistil.bench.recipes import recipes
from bistil.bench.scaling import scaling
from bistil.bench.sft import sft
from bistil.bench.step import step
from bistil.bench.switch import switch
from bistil.bench.translation import translation
from bistil.bench.vocabulary import vocabulary
from bistil.errors import InputError
from bistil.store.provenance import git_state, versions
from bistil.store.whole import write_whole

__all__ = ["PARTS", "REAL", "Size", "run_bench", "run_real", "sentence"]

PARTS: Mapping[str, Callable[[Size], list[Row]]] = {
    "step": step,
    "recipes": recipes,
    "sft": sft,
    "adapters": adapters,
    "labels": labels,
    "vocab": vocabulary,
    "switch": switch,
    "eval": decoding,
    "inference": inference,
    "scaling": scaling,
    "translation": translation,
}
"""The parts by name."""
REAL: Mapping[str, Callable[[str, Mapping[str, Sequence[str]], Size], list[Row]]] = {
    "sft": cutting,
    "inference": in_forms,
}
"""The parts that can be had of a real teacher, with lines of some languages."""


def run_bench(folder: Path, part: str, size: Size, *, say: Callable[[str], None]) -> Path:
    """Measure one of PARTS, write `<part>.json` into `folder`, and return its path; each comparison is said
    as a line as well.
    """
    return _write(folder / f"{part}.json", part, size, PARTS[part](size), say)


def run_real(
    folder: Path,
    part: str,
    teacher: str,
    corpora: Mapping[str, Sequence[str]],
    size: Size,
    *,
    say: Callable[[str], None],
) -> Path:
    """Measure one of REAL on a teacher and text of some languages, write `<part>-<teacher>.json` and the same
    as a table, `.md`, into `folder`, and return the path of the former.

    Raises:
        InputError: for a part that measures random models only.
    """
    if part not in REAL:
        raise InputError(f"With a teacher {' or '.join(REAL)} can be measured, not {part}.")
    rows = REAL[part](teacher, corpora, size)
    path = folder / f"{part}-{Path(teacher).name}.json"
    write_whole(path.with_suffix(".md"), table(rows))
    return _write(path, part, size, rows, say)


def _write(path: Path, part: str, size: Size, rows: list[Row], say: Callable[[str], None]) -> Path:
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
    write_whole(path, json.dumps(found, indent=1) + "\n")
    return path
