"""What a student costs to use: teacher and student on a CPU, over batch sizes and lengths, by every way of
running that there is here.

Notable: what a way needs may be missing (a C++ compiler for torch.compile, the extra `onnx` for ONNX
Runtime); the table then says so instead. Outputs of every way are compared with plain PyTorch before it is
timed.
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

from bistil.bench.measure import OURS, Column, Row, Size, alternate, comparison
from bistil.bench.models import config
from bistil.deploy import graph
from bistil.distil.start import initialise
from bistil.errors import InputError
from bistil.models.load import encode

BATCHES, LENGTHS, FURTHER = (1, 32), (32, 128, 512), (3,)
"""FURTHER: layer reduction factors whose students are measured as well."""
FEW, MOST = 512, 4096
"""Batches of no more than FEW tokens take four times the turns, since each is over in milliseconds; of more
than MOST, one turn only.
"""
REST = 0.2
"""Seconds before a turn: PyTorch's and ONNX Runtime's threads would take the processor from each other."""
SPEED = "times the teacher's speed"
EXPORTED = (" ONNX", " ONNX int8")
"""What a student can be exported to besides its folder of PyTorch weights, after the student's name."""
Run = Callable[[Tensor], Tensor]


def inference(size: Size) -> list[Row]:
    """One row a batch size and length; `ours` is the student in plain PyTorch, which every other way is set
    against.

    Then, for batches of one, the fastest of the forms that each student can be exported to, beside the
    teacher.
    """
    torch.manual_seed(1)
    teacher = BertModel(config(size), add_pooling_layer=False).eval()
    trimmed = BertModel(config(size, vocabulary=size.kept), add_pooling_layer=False)
    student = initialise(trimmed, size.lrf).eval()
    further = {
        f"student lrf {lrf}": initialise(trimmed, lrf).eval() for lrf in FURTHER if size.layers % lrf == 0
    }
    with tempfile.TemporaryDirectory() as folder:
        ways, missing = _ways(student, Path(folder))
        students: dict[str, dict[str, Run]] = {OURS: ways}
        students |= {
            name: {name: partial(_plain, model), **_exported(name, model, Path(folder))}
            for name, model in further.items()
        }
        rows, best = [], []
        for batch in BATCHES:
            for length in (one for one in LENGTHS if one <= size.length * 2):
                ids = torch.randint(5, size.kept, (batch, length))
                with torch.inference_mode():
                    measured: dict[str, Run] = {"teacher": partial(_plain, teacher)}
                    for plain, forms in students.items():
                        _check(plain, forms, ids)
                        measured |= forms
                    tokens = batch * length
                    turns = 4 * size.turns if tokens <= FEW else size.turns if tokens <= MOST else 1
                    columns = alternate(
                        turns, {name: partial(run, ids) for name, run in measured.items()}, rest=REST
                    )
                for column in columns.values():
                    column[SPEED] = columns["teacher"]["median seconds"] / column["median seconds"]
                rows.append(
                    comparison(
                        f"inference, batch {batch} x {length}",
                        "; ".join(missing) or "every way is here",
                        columns,
                    )
                )
                if batch == 1:
                    best += [_best_exported(plain, length, columns) for plain in students]
    return rows + best


def _best_exported(plain: str, length: int, columns: Mapping[str, Column]) -> Row:
    """The fastest exported form of a student on one sequence, beside the teacher in plain PyTorch; `plain`:
    its column in PyTorch.
    """
    student = "student" if plain == OURS else plain
    forms = {"PyTorch": plain, **{form.strip(): f"{student}{form}" for form in EXPORTED}}
    found = {form: columns[name] for form, name in forms.items() if name in columns}
    fastest = min(found, key=lambda form: found[form]["median seconds"])
    name = f"fastest exported form of {student}, batch 1 x {length}: {fastest}"
    return comparison(
        name,
        f"teacher: plain PyTorch; forms: {', '.join(found)}",
        {OURS: found[fastest], "teacher": columns["teacher"]},
    )


def _ways(student: BertModel, folder: Path) -> tuple[dict[str, Run], list[str]]:
    """How the student can be run on this machine, and why it cannot be run otherwise."""
    ways: dict[str, Run] = {OURS: partial(_plain, student), "student bf16": partial(_half, student)}
    missing = []
    if shutil.which("g++") or shutil.which("clang++"):
        ways["student torch.compile"] = torch.compile(_WithoutMask(student), dynamic=True)
    else:
        missing.append("torch.compile needs a C++ compiler, and there is none")
    if graph.missing():
        missing.append(graph.missing())
    return {**ways, **_exported("student", student, folder)}, missing


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


def _exported(name: str, student: BertModel, folder: Path) -> dict[str, Run]:
    """A student in ONNX Runtime, in float32 and with its matrices in int8; nothing where the extra is
    missing.
    """
    if graph.missing():
        return {}
    whole, small = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
    graph.to_onnx(whole, student, {"input_ids": torch.randint(5, 100, (2, 16))})
    graph.to_int8(whole, small)

    def runner(path: Path) -> Run:
        session = graph.open_graph(path)
        return lambda given: session({"input_ids": given})[0]

    return {f"{name}{form}": runner(path) for form, path in zip(EXPORTED, (whole, small), strict=True)}


def _check(plain: str, ways: Mapping[str, Run], ids: Tensor) -> None:
    """Refuse to time what computes something else than `plain`: nearly the same states in float32, the same
    direction in fewer bits.
    """
    expected = ways[plain](ids)
    for name, run in ways.items():
        found = run(ids)
        cosine = float(torch.cosine_similarity(found.flatten(0, 1), expected.flatten(0, 1), dim=-1).mean())
        if cosine < (0.95 if name.endswith(("bf16", "int8")) else 0.9999):
            raise InputError(
                f"{name} gives other states than plain PyTorch, mean cosine {cosine:.4f}: this way cannot be"
                " used here."
            )
