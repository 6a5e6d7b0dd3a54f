"""What is fuzzed: every file reader with a sound file, and the ways to spoil one.

Notable: a case is a number, so a failure is found again by that number; nothing is drawn but from it.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import entries

from bistil.experiment import Experiment
from bistil.sft.delta import SparseDelta
from bistil.sft.flat import digest
from bistil.tasks import task
from bistil.tasks.retrieval import read_parallel
from bistil.text.languages import read_table


class Reader(NamedTuple):
    """A reader, the file name that it expects, and a file that it can read."""

    read: Callable[[Path], Any]
    name: str
    sound: bytes
    write: Callable[[Path, bytes], Any] = Path.write_bytes


CONLLU = """# sent_id = 1
# text = They go.
1\tThey\tthey\tPRON\tPRP\tCase=Nom\t2\tnsubj\t2:nsubj\t_
2-3\tgo.\t_\t_\t_\t_\t_\t_\t_\t_
2\tgo\tgo\tVERB\t_\t_\t0\troot\t0:root\tSpaceAfter=No
2.1\tgone\t_\tVERB\t_\t_\t_\t_\t2:conj\t_
3\t.\t.\tPUNCT\t_\t_\t2\tpunct\t_\t_

1\tSo\tso\tADV\t_\t_\t0\troot\t_\t_

"""
NER = "-DOCSTART- O\n\nAda B-PER\nLovelace I-PER\nlived O\n\nin O\nLondon B-LOC\n"
IOB2 = "# sent_id = 1\n1\tAda\tB-PER\t-\tx\n2\tlived\tO\t-\tx\n\n1\tSo\tO\t-\tx\n"
NLI = "premise\thypothesis\tlabel\nIt rains.\tIt is wet.\tentailment\nIt rains.\tIt is dry.\tcontradiction\n"
JSONL = (
    '{"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}\n{"sentence1": "a", "sentence2": "c",'
    ' "gold_label": "-"}\n'
)
ANSWER = {"text": "red", "answer_start": 6}
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "paragraphs": [
                {"context": "It is red.", "qas": [{"id": "1", "question": "?", "answers": [ANSWER]}]}
            ]
        }
    ],
}
TABLE = "code,name,family,seen,corpus,ner\n"
TABLE += "qaa,A,F,yes,corpora/qaa.txt,ner/qaa-{split}.txt\nqab,B,F,no,corpora/qab.txt,\n"


def delta(folder: Path) -> bytes:
    """A small delta file."""
    path = folder / "sound.safetensors"
    tensors = {"layer.weight": (torch.tensor([0, 3]), torch.tensor([0.5, -1.0]))}
    made = SparseDelta(
        tensors=tensors,
        base="0" * 64,
        full={"head.bias": torch.ones(2)},
        shapes={"layer.weight": (2, 3)},
        notes={"lang": "qaa"},
    )
    made.save(path, n_parameters=100)
    return path.read_bytes()


def write_header(path: Path, header: bytes) -> None:
    """A delta file whose tensors are sound and whose JSON header is this."""
    tensors = {
        "indices/layer.weight": torch.tensor([0, 3], dtype=torch.int32),
        "values/layer.weight": torch.tensor([0.5, -1.0]),
    }
    save_file(tensors, path, metadata={"bistil_sft": header.decode("utf-8", errors="replace")})


def header(folder: Path) -> bytes:
    """The JSON header of the file that `write_header` makes of it."""
    path = folder / "header.safetensors"
    write_header(path, b"")
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
    shapes = {"layer.weight": [2, 3]}
    told = {
        "base": "0" * 64,
        "size": 2,
        "density": None,
        "shapes": shapes,
        "notes": {"lang": "qaa"},
        "format": 1,
        "digest": digest(tensors),
    }
    return json.dumps(told).encode()


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader by name; `folder` is for making the sound files."""
    experiment = yaml.safe_dump(entries(folder), sort_keys=False)
    return {
        "conllu": Reader(task("parsing").read, "file.conllu", CONLLU.encode()),
        "pos": Reader(task("pos").read, "file.conllu", CONLLU.encode()),
        "ner": Reader(task("ner").read, "file.txt", NER.encode()),
        "iob2": Reader(task("ner").read, "file.iob2", IOB2.encode()),
        "nli": Reader(task("nli").read, "file.tsv", NLI.encode()),
        "nli-jsonl": Reader(task("nli").read, "file.jsonl", JSONL.encode()),
        "squad": Reader(task("qa").read, "file.json", json.dumps(SQUAD).encode()),
        "parallel": Reader(read_parallel, "file.tsv", b"one\tuno\ntwo\tdos\n"),
        "languages": Reader(read_table, "languages.csv", TABLE.encode()),
        "experiment": Reader(Experiment.read, "experiment.yaml", experiment.encode()),
        "delta-header": Reader(SparseDelta.load, "file.safetensors", header(folder), write_header),
        "delta": Reader(SparseDelta.load, "file.safetensors", delta(folder)),
    }


SIGNS = [
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    " ",
    "\x00",
    '"',
    "\\",
    "#",
    "-",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "_",
    "0",
    "~",
]
LETTERS = ["\u2028", "\u0085", "\u00b2", "\u0661", "\u00ad", "\ufeff", "\U0001f600", "\x0c", "\x1c"]
NUMBERS = [
    "-1",
    "1e999",
    "NaN",
    ".nan",
    ".inf",
    "1.5",
    "2-1",
    "1-",
    "0.1",
    "0x",
    "9" * 30,
    "9" * 5000,
    "[2.5]",
    "2001-99-99",
]
NESTED = ["[" * 3000, "{a: " * 400, "&a [*a, *a]", "*a", "? [a]\n: b", "<<: 1", '"' + "a" * 140_000, "[null]"]
WORDS = [
    "null",
    "true",
    "!!int x",
    "!!set {1}",
    "!!python/object:os.system {}",
    "%YAML 9",
    "---\n",
    "answer_start",
    "\\ud800",
]
TAGS = ["-DOCSTART-", "B-", "I-X", "O", "root"]
NASTY = [
    *(text.encode() for text in (*SIGNS, *LETTERS, *NUMBERS, *NESTED, *WORDS, *TAGS)),
    b"\xff",
    b"\xed\xa0\x80",
]


def spoil(sound: bytes, rng: random.Random) -> bytes:
    """A file with one to four faults: bytes changed, cut, doubled or swapped, or something nasty put in."""
    data = bytearray(sound)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64)))
        match rng.randrange(7):
            case 0:
                data[start:end] = rng.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end] * rng.choice((1, 2, 50))
            case 3:
                data[start:start] = rng.choice(NASTY)
            case 4:
                data[start:end] = rng.choice(NASTY)
            case 5:
                del data[start:]
            case _:
                lines = bytes(data).split(b"\n")
                one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[one], lines[other] = lines[other], lines[one]
                data = bytearray(b"\n".join(lines))
    return bytes(data)
