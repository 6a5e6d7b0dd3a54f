"""Tiny stand-ins for tests and for kill_resume.py: a miniworld folder, a WordPiece teacher, an experiment of
a few steps.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM

from bistil.distil.objective import Distillation, compare
from bistil.distil.teachers import AdaptedTeacher
from bistil.distil.terms import Context, Reading
from bistil.miniworld import load_settings, write_world
from bistil.miniworld.settings import Sizes, Splits
from bistil.pretrain.wordpiece import train_wordpiece
from bistil.systems.layers import layer_pairs
from bistil.systems.recipe import STATES, Student
from bistil.systems.table import BISTIL
from bistil.text.corpora import read_lines

ROOT = Path(__file__).parent.parent
LAYERS = 6
SYSTEMS = [
    "teacher-ltsft",
    "teacher-no-adaptation",
    "bistil-tf:2",
    "bistil-st:2",
    "multilingual-distil:2",
    "scratch:2",
    "floor",
]


def write_tiny_world(folder: Path) -> Path:
    """A data folder of three languages: qaa (source) and qab are seen by the teacher, qac is not."""
    settings = load_settings(ROOT / "data" / "miniworld.yaml")
    few = Splits(train=24, dev=8, test=8)
    sizes = Sizes(
        corpus=150,
        treebank=few,
        ner=few,
        nli=Splits(train=3, dev=3, test=3),
        topic=Splits(train=12, dev=6, test=6),
        choice=Splits(train=6, dev=3, test=3),
        qa=Splits(train=2, dev=2, test=2),
        parallel=20,
    )
    write_world(folder, dataclasses.replace(settings, languages=settings.languages[:3], sizes=sizes))
    return folder


def write_tiny_teacher(folder: Path, world: Path) -> Path:
    """A random BERT of 6 layers x 32 hidden with its masked-LM head and a WordPiece tokenizer of at most 300
    pieces.
    """
    lines = [line for code in ("qaa", "qab") for line in read_lines(world / "corpora" / f"{code}.txt")]
    tokenizer = train_wordpiece(lines, 300, lowercase=False)
    masked_lm(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def masked_lm(vocabulary: int, *, layers: int = LAYERS, seed: int = 0) -> BertForMaskedLM:
    """Random weights, larger than BERT's usual start so that attention and states differ between tokens."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.2,
    )
    return BertForMaskedLM(config).eval()


def entries(teacher: Path, *, steps: int = 2) -> dict[str, Any]:
    """A whole experiment as plain values: one target, both tasks, every system, `steps` steps a phase."""
    phases: dict[str, Any] = {
        "dense": {"steps": steps, "learning_rate": 1e-3, "evaluations": 1},
        "sparse": {"steps": steps, "learning_rate": 1e-3, "evaluations": 1},
    }
    adapter = {"adapter": {"reduction": 2}, "sparse": phases["sparse"]}
    task = {
        "batch_size": 4,
        "max_length": 48,
        "sft": {"lottery": {"density": 0.1}, **phases},
        "adapter": adapter,
    }
    schedule = {"steps": 2 * steps, "learning_rate": 1e-3, "evaluations": 2}
    return {
        "name": "tiny",
        "data": "folder",
        "teacher": str(teacher),
        "source": "qaa",
        "targets": {"parsing": ["qac"], "ner": ["qac"]},
        "systems": SYSTEMS,
        "seeds": [1],
        "text": {"length": 24, "batch_size": 4, "lines": 100},
        "vocabulary": {"threshold": 1e-4},
        "language_sft": {"lottery": {"density": 0.1, "l1": 0.1, "freeze_layer_norms": True}, **phases},
        "language_adapter": adapter,
        "general": {"lrf": 2, "batch_size": 4, "schedule": schedule},
        "scratch": {"batch_size": 4, "schedule": schedule},
        "task": {"parsing": task, "ner": task},
        "at_floor": "continue",
    }


def objective_of(student: Any, teacher: Any, recipe: Student = BISTIL, **settings: Any) -> Distillation:
    """A recipe's objective for a student of a teacher: a masked LM, an encoder, or adapted already."""
    if not isinstance(teacher, AdaptedTeacher):
        whole = teacher.base_model
        teacher = AdaptedTeacher(whole, {}, None, teacher if whole is not teacher else None)
    depth, own = teacher.encoder.config.num_hidden_layers, student.config.num_hidden_layers
    pairs = settings.pop("pairs", None) or layer_pairs(recipe.layers, depth, own)
    return Distillation(student, teacher, recipe.terms, pairs, **settings)


def state_losses(own: Any, theirs: Any, layers: Any, mask: Any, narrowing: Any = None) -> Any:
    """BiStil's losses on attention and hidden states, student layer i against teacher layer layers[i - 1]."""
    pairs = dict.fromkeys(STATES, tuple(enumerate(layers, start=1)))
    return compare(STATES, Reading(own), Reading(theirs), pairs, Context(mask), narrowing)
