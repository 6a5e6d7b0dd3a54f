"""What a student costs to use: teacher and student on a CPU, over batch sizes and lengths, by every way of running that there is here.

Notable: what a way needs may be missing (a C++ compiler for torch.compile, the extra `onnx` for ONNX Runtime); the table then says so
instead. Outputs of every way are compared with plain PyTorch before it is timed.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertModel

from bistil import onnx
from bistil.bench.measure import OURS, Column, Row, Size, alternate, comparison
from bistil.bench.models import config
from bistil.errors import InputError
from bistil.models import encode
from bistil.student import initialise

BATCHES, LENGTHS, FURTHER = (1, 32), (32, 128, 512), (3,)
"""FURTHER: layer reduction factors whose students are measured as well."""
MOST = 4096
"""Larger batches, in tokens, take one turn only."""
SPEED = "times the teacher's speed"
EXPORTED = ("student ONNX", "student ONNX int8")
"""What a student can be exported to besides its folder of PyTorch weights."""
Run = Callable[[Tensor], Tensor]


def inference(size: Size) -> list[Row]:
    """One row a batch size and length; `ours` is the student in plain PyTorch, which every other way is set against.

    Then, for batches of one, the fastest of the forms that a student can be exported to, beside the teacher.
    """
    torch.manual_seed(1)
    teacher = BertModel(config(size), add_pooling_layer=False).eval()
    trimmed = BertModel(config(size, vocabulary=size.kept), add_pooling_layer=False)
    student = initialise(trimmed, size.lrf).eval()
    others: dict[str, Any] = {"teacher": teacher}
    others |= {f"student lrf {lrf}": initialise(trimmed, lrf).eval() for lrf in FURTHER if size.layers % lrf == 0}
    with tempfile.TemporaryDirectory() as folder:
        ways, missing = _ways(student, Path(folder))
        measured: dict[str, Run] = {**{name: partial(_plain, model) for name, model in others.items()}, **ways}
        rows, best = [], []
        for batch in BATCHES:
            for length in (one for one in LENGTHS if one <= size.length * 2):
                ids = torch.randint(5, size.kept, (batch, length))
                with torch.inference_mode():
                    _check(ways, ids)
                    turns = 1 if batch * length > MOST else size.turns
                    columns = alternate(turns, {name: partial(run, ids) for name, run in measured.items()})
                for column in columns.values():
                    column[SPEED] = columns["teacher"]["median seconds"] / column["median seconds"]
                rows.append(comparison(f"inference, batch {batch} x {length}", "; ".join(missing) or "every way is here", columns))
                if batch == 1:
                    best.append(_best_exported(length, columns))
    return rows + best


def _best_exported(length: int, columns: Mapping[str, Column]) -> Row:
    """The fastest exported form of the student on one sequence, beside the teacher in plain PyTorch."""
    form = min((name for name in (OURS, *EXPORTED) if name in columns), key=lambda name: columns[name]["median seconds"])
    name = f"fastest exported form, batch 1 x {length}: {'student PyTorch' if form == OURS else form}"
    note = f"teacher: plain PyTorch; forms: {', '.join(('PyTorch', *EXPORTED))}"
    return comparison(name, note, {OURS: columns[form], "teacher": columns["teacher"]})


def _ways(student: BertModel, folder: Path) -> tuple[dict[str, Run], list[str]]:
    """How the student can be run on this machine, and why it cannot be run otherwise."""
    ways: dict[str, Run] = {OURS: partial(_plain, student), "student bf16": partial(_half, student)}
    missing = []
    if shutil.which("g++") or shutil.which("clang++"):
        ways["student torch.compile"] = torch.compile(_WithoutMask(student), dynamic=True)
    else:
        missing.append("torch.compile needs a C++ compiler, and there is none")
    if onnx.missing():
        missing.append(onnx.missing())
    else:
        ways |= _onnx(student, folder)
    return ways, missing


@torch.no_grad()
def _plain(model: Any, ids: Tensor) -> Tensor:
    return encode(model, ids, torch.ones_like(ids), states=False).last


@torch.no_grad()
def _half(model: BertModel, ids: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return encode(model, ids, torch.ones_like(ids), states=False).last.float()


class _WithoutMask(torch.nn.Module):
    """The encoder as one function of token ids that are all real."""

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        """Shape: [B, L] -> [B, L, H]."""
        hidden: Tensor = self.encoder(input_ids=ids).last_hidden_state
        return hidden


def _onnx(student: BertModel, folder: Path) -> dict[str, Run]:
    """The student in ONNX Runtime, in float32 and with its matrices in int8."""
    whole, small = folder / "student.onnx", folder / "student-int8.onnx"
    onnx.to_onnx(whole, student, {"input_ids": torch.randint(5, 100, (2, 16))})
    onnx.to_int8(whole, small)

    def runner(path: Path) -> Run:
        graph = onnx.graph(path)
        return lambda given: graph({"input_ids": given})[0]

    return dict(zip(EXPORTED, (runner(whole), runner(small)), strict=True))


def _check(ways: dict[str, Run], ids: Tensor) -> None:
    """Refuse to time what computes something else: nearly the same states in float32, the same direction in fewer bits."""
    expected = ways[OURS](ids)
    for name, run in ways.items():
        found = run(ids)
        cosine = float(torch.cosine_similarity(found.flatten(0, 1), expected.flatten(0, 1), dim=-1).mean())
        if cosine < (0.95 if name.endswith(("bf16", "int8")) else 0.9999):
            raise InputError(f"{name} gives other states than plain PyTorch, mean cosine {cosine:.4f}: this way cannot be used here.")
