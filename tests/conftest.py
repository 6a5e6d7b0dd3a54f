"""Tiny stand-ins, made once a session: a miniworld folder, a WordPiece teacher with random weights, an experiment of a few steps."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from bistil.corpora import read_lines
from bistil.experiment import Experiment
from bistil.languages import DataFolder
from bistil.miniworld import load_settings, write_world
from bistil.miniworld.settings import Sizes, Splits
from bistil.settings import build
from bistil.wordpiece import train_wordpiece

ROOT = Path(__file__).parent.parent
LAYERS = 6


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of three languages: qaa (source) and qab are seen by the teacher, qac is not. Do not write into it."""
    settings = load_settings(ROOT / "data" / "miniworld.yaml")
    few = Splits(train=24, dev=8, test=8)
    sizes = Sizes(corpus=150, treebank=few, ner=few, nli=Splits(train=3, dev=3, test=3), qa=Splits(train=2, dev=2, test=2), parallel=20)
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, dataclasses.replace(settings, languages=settings.languages[:3], sizes=sizes))
    return folder


@pytest.fixture(scope="session")
def data(world: Path) -> DataFolder:
    return DataFolder(world)


@pytest.fixture(scope="session")
def teacher_folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 6 layers x 32 hidden with its masked-LM head and a WordPiece tokenizer of at most 300 pieces."""
    lines = [line for code in ("qaa", "qab") for line in read_lines(world / "corpora" / f"{code}.txt")]
    tokenizer = train_wordpiece(lines, 300, lowercase=False)
    folder = tmp_path_factory.mktemp("teachers") / "tiny"
    masked_lm(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def masked_lm(vocabulary: int, *, layers: int = LAYERS, seed: int = 0) -> BertForMaskedLM:
    """Random weights, larger than BERT's usual start so that attention and states differ between tokens."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


@pytest.fixture(scope="session")
def wordpiece(teacher_folder: Path) -> BertTokenizer:
    """The tiny teacher's tokenizer."""
    return BertTokenizer.from_pretrained(teacher_folder)


def entries(teacher: Path) -> dict[str, Any]:
    """A whole experiment as plain values: one target, both tasks, every system, two to four steps a phase."""
    phases: dict[str, Any] = {
        "dense": {"steps": 2, "learning_rate": 1e-3, "evaluations": 1},
        "sparse": {"steps": 2, "learning_rate": 1e-3, "evaluations": 1},
    }
    task = {"batch_size": 4, "max_length": 48, "sft": {"lottery": {"density": 0.1}, **phases}}
    schedule = {"steps": 4, "learning_rate": 1e-3, "evaluations": 2}
    return {
        "name": "tiny",
        "data": "folder",
        "teacher": str(teacher),
        "source": "qaa",
        "targets": {"parsing": ["qac"], "ner": ["qac"]},
        "systems": ["teacher-ltsft", "teacher-no-adaptation", "bistil-tf:2", "bistil-st:2", "multilingual-distil:2", "scratch:2", "floor"],
        "seeds": [1],
        "text": {"length": 24, "batch_size": 4, "lines": 100},
        "vocabulary": {"threshold": 1e-4},
        "language_sft": {"lottery": {"density": 0.1, "l1": 0.1, "freeze_layer_norms": True}, **phases},
        "general": {"lrf": 2, "batch_size": 4, "schedule": schedule},
        "scratch": {"batch_size": 4, "schedule": schedule},
        "task": {"parsing": task, "ner": task},
    }


@pytest.fixture
def experiment(teacher_folder: Path) -> Callable[..., Experiment]:
    """Makes the tiny experiment, with some entries changed."""
    return lambda **changes: build(Experiment, {**entries(teacher_folder), **changes}, "tiny")


@pytest.fixture
def experiment_file(teacher_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny experiment, with some entries changed, into a YAML file."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**entries(teacher_folder), **changes}), encoding="utf-8")
        return path

    return write
