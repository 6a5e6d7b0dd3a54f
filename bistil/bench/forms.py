"""What a user carries away, at real size: a teacher, the same cut to a pair, and students of it, in every
form that they can be exported to: `bistil bench inference --teacher e5-small --languages eng,deu`.

Notable: weights are as stage 1 starts with them, since training changes no cost. Memory is the peak of a new
process that imports only what a form needs, loads it and reads one sentence. Times are of text to states,
tokenising included, all forms in turns in one process.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from bistil.bench.inference import REST
from bistil.bench.measure import Row, Size, alternate, comparison
from bistil.deploy import graph
from bistil.distil.start import initialise
from bistil.errors import InputError
from bistil.models.device import has_bfloat16
from bistil.models.load import load_teacher, quiet, save_student
from bistil.models.packaged import teacher_folder
from bistil.vocab.whole import trim

FACTORS = (2, 3)
FLOAT, HALF, ONNX, INT8 = "float32", "bfloat16", "ONNX", "ONNX int8"
GRAPH = "model.onnx"
ONE, MANY, LONGEST = 16, 64, 128
"""Sentences read one by one, sentences of a batch, and the most tokens of each."""
SAME = 0.9999
"""Least mean cosine of the states of a float32 graph with PyTorch's."""
PEAK = "print(open('/proc/self/status').read())"
LOADS = {
    False: "import torch; from transformers import AutoModel, AutoTokenizer\n"
    "words, model = AutoTokenizer.from_pretrained({0!r}), AutoModel.from_pretrained({0!r}, dtype='auto')\n"
    "with torch.inference_mode(): model(**words({1!r}, return_tensors='pt'))\n" + PEAK,
    True: "import numpy, onnxruntime; from tokenizers import Tokenizer\n"
    "words, model = Tokenizer.from_file({0!r} + '/tokenizer.json'), onnxruntime.InferenceSession({0!r} +"
    " '/model.onnx')\n"
    "ids = numpy.array([words.encode({1!r}).ids])\n"
    "model.run(None, dict(input_ids=ids, attention_mask=numpy.ones_like(ids)))\n" + PEAK,
}
"""The program that loads a folder (0) and reads a sentence (1): of PyTorch, of a graph."""
Read = Callable[[Sequence[str]], Tensor]


def in_forms(teacher: str, corpora: Mapping[str, Sequence[str]], size: Size) -> list[Row]:
    """One row a model; `float32` is what each other form of it is set against. Then one row of all."""
    source = teacher_folder(teacher)
    step = max(1, min(map(len, corpora.values())) // MANY)
    lines = [*chain.from_iterable(zip(*(own[::step] for own in corpora.values()), strict=False))][:MANY]
    half = has_bfloat16(torch.device("cpu"))
    note = "" if half else f"; {HALF} is not timed, since this processor has no instructions for it"
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        places = dict(_written(source, corpora, Path(folder)))
        readers: dict[str, Read] = {}
        for name, place in places.items():
            columns[name] = {"MB on disk": _bytes(place) / 1e6, "MB of memory, peak": _peak(place, lines[0])}
            if half or not name.endswith(HALF):
                readers[name] = _reader(place)
        with torch.inference_mode():
            for name, cosine in _cosines(readers, lines):
                columns[name]["mean cosine with float32"] = cosine
            for batch, (few, unit) in {
                1: (lines[:ONE], "ms a sentence"),
                MANY: (lines, "sentences a second"),
            }.items():
                turns = {name: partial(_in_batches, read, few, batch) for name, read in readers.items()}
                for name, found in alternate(size.turns, turns, rest=REST).items():
                    each = found["median seconds"] / len(few)
                    columns[name][unit] = 1000 * each if batch == 1 else 1 / each
    whole = f"{Path(teacher).name} {FLOAT}"
    told = f"{len(lines)} sentences of {', '.join(corpora)}, {torch.get_num_threads()} threads{note}"
    return [comparison(f"what a user carries away of {Path(teacher).name}", told, columns, ours=whole)]


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, one line a column of theirs."""
    parts = []
    for row in rows:
        units = list(dict.fromkeys(unit for column in row["columns"].values() for unit in column))
        head = f"| | {' | '.join(units)} |\n|---|{'---:|' * len(units)}"
        lines = [
            f"| {name} | {' | '.join(f'{column[unit]:.4g}' if unit in column else '' for unit in units)} |"
            for name, column in row["columns"].items()
        ]
        parts.append("\n".join([f"# {row['name']}", "", f"{row['note']}.", "", head, *lines, ""]))
    return "\n".join(parts)


def _written(source: str, corpora: Mapping[str, Sequence[str]], folder: Path) -> list[tuple[str, Path]]:
    """A folder of each model in each form that can be written here."""
    name, languages = Path(source).name, "+".join(corpora)
    trim(source, corpora, folder / "cut")
    whole, cut = load_teacher(source), load_teacher(folder / "cut")
    depth = whole.encoder.config.num_hidden_layers
    models = {name: (whole.encoder, whole.tokenizer), f"{name} {languages}": (cut.encoder, cut.tokenizer)}
    for lrf in (lrf for lrf in FACTORS if depth % lrf == 0):
        models[f"student lrf {lrf}"] = initialise(cut.encoder, lrf).eval(), cut.tokenizer
    return [
        place
        for number, (name, (model, tokenizer)) in enumerate(models.items())
        for place in _forms(name, model, tokenizer, folder / str(number))
    ]


def _forms(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> list[tuple[str, Path]]:
    """The folders of one model."""
    made = {form: folder / form for form in (FLOAT, HALF, *([] if graph.missing() else [ONNX, INT8]))}
    save_student(made[FLOAT], model, tokenizer)
    if ONNX in made:
        ids = torch.full((2, 8), int(tokenizer.unk_token_id))
        for form in (ONNX, INT8):
            tokenizer.save_pretrained(made[form])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        graph.to_onnx(made[ONNX] / GRAPH, model, inputs)
        graph.to_int8(made[ONNX] / GRAPH, made[INT8] / GRAPH)
    save_student(made[HALF], model.to(torch.bfloat16), tokenizer)  # type: ignore[arg-type]
    return [(f"{name} {form}", place) for form, place in made.items()]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _peak(folder: Path, line: str) -> float:
    """Megabytes of a fresh process that loads a folder and reads a line."""
    program = LOADS[(folder / GRAPH).is_file()].format(str(folder), line)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    if done.returncode or not found:
        raise InputError(f"{folder.name} could not be loaded on its own: {done.stderr[-500:]}")
    return int(found[1]) * 1024 / 1e6


def _reader(folder: Path) -> Read:
    """What makes states of sentences, padding included. Shape: [B, L, H]."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if (folder / GRAPH).is_file():
        run = graph.open_graph(folder / GRAPH)
    else:
        with quiet():
            model = AutoModel.from_pretrained(folder, dtype="auto", trust_remote_code=False).eval()

        def run(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            return (model(**inputs).last_hidden_state.float(),)

    def read(lines: Sequence[str]) -> Tensor:
        cut: Any = {"padding": True, "truncation": True, "max_length": LONGEST, "return_tensors": "pt"}
        found = tokenizer(list(lines), **cut)
        return run({name: found[name] for name in ("input_ids", "attention_mask")})[0]

    return read


def _in_batches(read: Read, lines: Sequence[str], batch: int) -> None:
    for start in range(0, len(lines), batch):
        read(lines[start : start + batch])


def _cosines(readers: Mapping[str, Read], lines: Sequence[str]) -> list[tuple[str, float]]:
    """How near the states of each form are to those of its model in float32.

    Raises:
        InputError: where a float32 graph computes something else.
    """
    found = []
    for name, read in readers.items():
        model = next(
            name.removesuffix(f" {form}") for form in (INT8, ONNX, HALF, FLOAT) if name.endswith(form)
        )
        wanted = [readers[f"{model} {FLOAT}"]([line]) for line in lines[:ONE]]
        pairs = zip((read([line]) for line in lines[:ONE]), wanted, strict=True)
        cosines = [torch.cosine_similarity(mine, theirs, dim=-1).mean() for mine, theirs in pairs]
        cosine = float(torch.stack(cosines).mean())
        if name.endswith((FLOAT, f" {ONNX}")) and cosine < SAME:
            raise InputError(f"{name} gives other states than PyTorch in float32, mean cosine {cosine:.4f}.")
        found.append((name, cosine))
    return found
