"""What is fuzzed: every file reader with a sound file, and the ways to spoil one.

Notable: a case is a number, so a failure is found again by that number; nothing is drawn but from it.
"""

import json
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import entries
from transformers import BertConfig, BertModel

from bistil.deploy.read import load_deployed
from bistil.evaluation.results import read_results, write_results
from bistil.evaluation.significance import Outcomes, resampled, write_outcomes
from bistil.experiment import Experiment
from bistil.models.architectures import architecture
from bistil.models.config import read_config
from bistil.models.load import TaskModel
from bistil.pipeline.finished import HEAD, LABELS, save_finished
from bistil.pretrain import PretrainConfig, read_text
from bistil.pretrain.parallel import TranslatorConfig
from bistil.pretrain.wordpiece import train_wordpiece
from bistil.report.asked import EXPERIMENT
from bistil.report.sides import differing, read_side
from bistil.settings.yaml import build, read_yaml
from bistil.sft.delta import SparseDelta
from bistil.sft.flat import digest
from bistil.sft.generator import Generator, GeneratorConfig
from bistil.sources.check import check_folder, lines
from bistil.store.artefacts import Store
from bistil.tasks import task
from bistil.tasks.parsing import Parsing
from bistil.tasks.retrieval import read_parallel
from bistil.text.corpora import read_lines
from bistil.text.languages import DataFolder, read_table
from bistil.text.typology import TypologyConfig, read_typology
from bistil.training.loop import Schedule


class Reader(NamedTuple):
    """A reader, the file name that it expects, and a file that it can read."""

    read: Callable[[Path], Any]
    name: str
    sound: bytes
    write: Callable[[Path, bytes], Any] = Path.write_bytes
    cost: int = 1
    """How many times fewer cases it is given, since each takes longer."""


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
CHOICES = '{"context": "a b", "question": "c?", "choices": ["a", "b"], "label": 1}\n'
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
PRETRAIN = """languages: [qaa, qab]
schedule: {steps: 2, learning_rate: 1.0e-3}
lines: 10
parallel_share: 0.5
"""
TRANSLATOR = """pairs: [qaa-qab]
schedule: {steps: 2, learning_rate: 1.0e-3}
codes: {qab: qab_Latn}
"""
MODEL = {"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
MODEL |= {
    "vocab_size": 10,
    "id2label": {"0": "O", "1": "B-PER"},
    "hidden_act": "gelu",
    "architectures": ["BertModel"],
}
MANIFEST = {
    "kind": "student",
    "config": {"schedule": {"steps": 2}, "lrf": 2},
    "git": {"commit": "0" * 40},
    "versions": {"torch": "2"},
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


def generator(folder: Path) -> bytes:
    """A small generator of adapters."""
    torch.manual_seed(0)
    settings = GeneratorConfig(
        kind="ls", embedding=2, layer_embedding=2, schedule=Schedule(steps=1, learning_rate=1e-3)
    )
    made = Generator(4, 2, settings, ["order=SVO", "tone"], "0" * 64)
    made.start(1.0)
    made.save(folder / "generator.safetensors")
    return (folder / "generator.safetensors").read_bytes()


def generator_header(folder: Path) -> bytes:
    """The JSON header of such a file."""
    generator(folder)
    with safe_open(folder / "generator.safetensors", framework="pt") as file:
        return str(file.metadata()["bistil_sft"]).encode()


def write_generator_header(path: Path, header: bytes) -> None:
    """A generator whose tensors are sound and whose JSON header is this."""
    generator(path.parent)
    with safe_open(path.parent / "generator.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
    save_file(tensors, path, metadata={"bistil_sft": header.decode("utf-8", errors="replace")})


def read_features(path: Path) -> Any:
    """The features that a data folder says of its languages."""
    (path.parent / "languages.csv").write_text(TABLE, encoding="utf-8")
    return read_typology(TypologyConfig(), DataFolder(path.parent))


def write_below(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def read_aligned(path: Path) -> Any:
    """What pre-training reads besides corpora: the translations of a language, line by line."""
    (path.parent / "qaa.txt").write_text("one\ntwo\n", encoding="utf-8")
    corpora = {code: path.parent / f"{code}.txt" for code in ("qaa", "qab")}
    return read_text(build(PretrainConfig, yaml.safe_load(PRETRAIN), "fuzz"), corpora, path.parent.parent)


def write_folder(path: Path, content: bytes) -> None:
    """A data folder with this table, some of whose files are there."""
    for name in ("corpora/qaa.txt", "ner/qaa-test.txt"):
        write_below(path.parent / name, NER.encode())
    path.write_bytes(content)


def read_folder(path: Path) -> Any:
    return list(lines(check_folder(DataFolder(path.parent)), path.parent))


def read_model_config(path: Path) -> Any:
    return architecture(read_config(path.parent))


ARTEFACT = json.dumps(
    {
        "id": "0123456789abcdef",
        "kind": "kind",
        "status": "complete",
        "config": {"lrf": 2},
        "inputs": {},
        "metrics": {"loss": 1.5},
        "files": {"a.txt": {"bytes": 0, "hash": f"sha256:{sha256(b'').hexdigest()}"}},
    }
).encode()


def write_artefact(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "a.txt").touch()
    path.write_bytes(content)


def read_artefact(path: Path) -> Any:
    for found in Store(path.parent.parent.parent).all("kind"):
        found.check()
        _ = found.id, found.metrics


def results(folder: Path) -> bytes:
    """Two rows of results."""
    row = {
        "experiment": "tiny",
        "teacher": "t",
        "task": "ner",
        "source": "qaa",
        "target": "qab",
        "metric": "f1",
    }
    numbers = {"value": 50.5, "seed": 1, "n_examples": 3, "artefact": "0" * 16}
    write_results(
        folder / "results.csv", [{**row, **numbers, "system": name} for name in ("teacher-ltsft", "floor")]
    )
    return (folder / "results.csv").read_bytes()


def outcomes(folder: Path) -> bytes:
    """The outcomes of three examples."""
    sums = {"f1": np.array([[2, 0, 1], [2, 2, 2]], dtype=np.uint8)}
    write_outcomes(folder / "outcomes", {"0" * 16: Outcomes("sha256:0", sums)})
    return (folder / "outcomes" / f"{'0' * 16}.safetensors").read_bytes()


def write_report(path: Path, content: bytes) -> None:
    """A report's folder that is sound but for this file."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    results(path.parent if path.name == EXPERIMENT else path.parent.parent)


def read_report(path: Path) -> Any:
    folder = path.parent if path.name == EXPERIMENT else path.parent.parent
    side = read_side(folder, folder)
    return differing(side.asked, side.used), [
        resampled(one.sums["f1"][None], one.test) for one in side.kept.values() if "f1" in one.sums
    ]


def student(folder: Path) -> Path:
    """A finished parser: an encoder with head, labels and tokenizer beside it."""
    tokenizer = train_wordpiece(["They go .", "It is red ."], 60, lowercase=False)
    sizes = {name: MODEL[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")}
    config = BertConfig(**sizes, vocab_size=len(tokenizer), intermediate_size=8, max_position_embeddings=16)
    parser = Parsing(labels=("nsubj", "root"))
    model = TaskModel(encoder=BertModel(config, add_pooling_layer=False), head=parser.head(8))
    save_finished(folder / "student", model, parser.labels, tokenizer)
    return folder / "student"


def write_student(sound: Path, path: Path, content: bytes) -> None:
    """The finished parser, sound but for this file."""
    if not path.parent.is_dir():
        shutil.copytree(sound, path.parent)
    path.write_bytes(content)


def finished(sound: Path) -> dict[str, Reader]:
    """The reader of finished students, by the file that is spoilt."""
    read, write = (lambda path: load_deployed(path.parent)), partial(write_student, sound)
    names = {
        "student-config": "config.json",
        "student-labels": LABELS,
        "student-head": HEAD,
        "student-weights": "model.safetensors",
        "student-tokenizer": "tokenizer.json",
    }
    return {
        name: Reader(read, f"{name}/{file}", (sound / file).read_bytes(), write, cost=5)
        for name, file in names.items()
    }


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader by name; `folder` is for making the sound files."""
    experiment = yaml.safe_dump(entries(folder), sort_keys=False)
    return {
        "conllu": Reader(task("parsing").read, "file.conllu", CONLLU.encode()),
        "pos": Reader(task("pos").read, "file.conllu", CONLLU.encode()),
        "ner": Reader(task("ner").read, "file.txt", NER.encode()),
        "iob2": Reader(task("ner").read, "file.iob2", IOB2.encode()),
        "nli": Reader(task("nli").read, "file.tsv", NLI.encode()),
        "classification": Reader(
            task("classification").read, "file.tsv", b"news\tIt rains.\nsport\tShe won.\n"
        ),
        "classification-csv": Reader(
            task("classification").read, "file.csv", b'text,label\n"Rain, wind.",news\n'
        ),
        "choice": Reader(task("choice").read, "file.jsonl", CHOICES.encode()),
        "nli-jsonl": Reader(task("nli").read, "file.jsonl", JSONL.encode()),
        "squad": Reader(task("qa").read, "file.json", json.dumps(SQUAD).encode()),
        "parallel": Reader(read_parallel, "file.tsv", b"one\tuno\ntwo\tdos\n"),
        "languages": Reader(read_table, "languages.csv", TABLE.encode()),
        "typology": Reader(read_features, "typology.csv", b"code,order=SVO,tone\nqaa,1,0\nqab,0,1\n"),
        "experiment": Reader(Experiment.read, "experiment.yaml", experiment.encode()),
        "corpus": Reader(read_lines, "file.txt", b"One line.\n\nTwo \xc3\xa4\xc3\xb6 lines.\n"),
        "aligned": Reader(read_aligned, "ntrex/qab.txt", b"uno\ndos\n", write_below),
        "folder": Reader(read_folder, "languages.csv", TABLE.encode(), write_folder),
        "pretrain": Reader(partial(read_yaml, PretrainConfig), "teacher.yaml", PRETRAIN.encode()),
        "translator": Reader(partial(read_yaml, TranslatorConfig), "file.yaml", TRANSLATOR.encode()),
        "config": Reader(read_model_config, "config.json", json.dumps(MODEL).encode()),
        "artefact": Reader(read_artefact, "kind/0123456789abcdef/manifest.json", ARTEFACT, write_artefact),
        "results": Reader(read_results, "results.csv", results(folder)),
        "manifest": Reader(read_report, "manifests/a.json", json.dumps(MANIFEST).encode(), write_report),
        "asked": Reader(read_report, EXPERIMENT, json.dumps(entries(folder)).encode(), write_report),
        "outcomes": Reader(read_report, "outcomes/a.safetensors", outcomes(folder), write_report),
        "delta-header": Reader(SparseDelta.load, "file.safetensors", header(folder), write_header),
        "delta": Reader(SparseDelta.load, "file.safetensors", delta(folder)),
        "generator": Reader(Generator.load, "file.safetensors", generator(folder)),
        "generator-header": Reader(
            Generator.load, "file.safetensors", generator_header(folder), write_generator_header
        ),
        **finished(student(folder)),
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
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00" * 64, b"\r\r\n", b"a" * 300_000),
]


VALUES = [
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"0",
        b"1.5",
        b"1e999",
        b"9" * 25,
        b"9" * 5000,
        b"true",
        b"null",
        b"[]",
        b"{}",
    ),
    *(b'""', b'"\\ud83d"', b'"\\ude00x"', b'"a"', b"[[]]", b'{"a": 1, "a": 2}', b"10000000", b"~"),
]
"""What stands in another value's place."""


def spoil(sound: bytes, rng: random.Random) -> bytes:
    """A file with one to four faults: bytes changed, cut, doubled or swapped, or something nasty put in."""
    data = bytearray(sound)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64)))
        match rng.randrange(9):
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
            case 6:
                rows = bytes(data).split(b"\n")
                one, other = rng.randrange(len(rows)), rng.randrange(len(rows))
                rows[one], rows[other] = rows[other], rows[one]
                data = bytearray(b"\n".join(rows))
            case 7:
                data = bytearray(saved_otherwise(bytes(data), rng))
            case _:
                data = bytearray(said_otherwise(bytes(data), rng))
    return bytes(data)


def saved_otherwise(data: bytes, rng: random.Random) -> bytes:
    """The file with another encoding or other line ends, some or all of them."""
    match rng.randrange(5):
        case 0:
            return b"\xef\xbb\xbf" + data
        case 1:
            encoding = rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32"))
            return data.decode("utf-8", errors="replace").encode(encoding)
        case 2:
            return data.replace(b"\n", b"\r\n")
        case 3:
            return data.replace(b"\n", b"\r")
        case _:
            return b"".join(part + rng.choice((b"\n", b"\r", b"\r\n")) for part in data.split(b"\n"))


def said_otherwise(data: bytes, rng: random.Random) -> bytes:
    """The file with a value put in another's place, or a key and its value said twice."""
    values = list(re.finditer(rb'"(?:[^"\\\n]|\\.)*"|[\w.+-]+', data))
    if not values:
        return data
    start, end = rng.choice(values).span()
    if rng.random() < 0.3:
        begin, stop = (max(data.rfind(sign, 0, start) for sign in (b",", b"{", b"\n")), data.find(b",", end))
        return data[:end] + b"," + data[begin + 1 : max(stop, end)] + data[end:]
    return data[:start] + rng.choice(VALUES) + data[end:]
