"""A tiny tokenizer, tiny random BERTs, and eight sentences with trees and entities."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from bistil.models.load import TaskModel
from bistil.tasks import Task

PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] anna ben rome oslo sees likes visit ##s the big small old cat dog house ,"
    " . in and"
)
VOCABULARY = PIECES.split(" ")

SENTENCES = """anna sees the big cat .|2 0 5 5 2 2|nsubj root det amod obj punct|B-PER O O O O O
ben likes rome .|2 0 2 2|nsubj root obj punct|B-PER O B-LOC O
the old dog visits oslo .|3 3 4 0 4 4|det amod nsubj root obj punct|O O O O B-LOC O
anna and ben visits rome .|4 3 1 0 4 4|nsubj cc conj root obj punct|B-PER O B-PER O B-LOC O
the small house in oslo .|3 3 0 5 3 3|det amod root case nmod:in punct|O O O O B-LOC O
ben visits|2 0|nsubj root|B-PER O
big rome likes the dog|2 3 0 5 3|amod nsubj root det obj|B-LOC I-LOC O O O
cat|0|root|O"""


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(VOCABULARY)})


@pytest.fixture
def tiny_model() -> Callable[[Task], TaskModel]:
    def make(task: Task, *, layers: int = 2) -> TaskModel:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return TaskModel(encoder=BertModel(config, add_pooling_layer=False), head=task.head(32)).eval()

    return make


@pytest.fixture
def conllu_file(tmp_path: Path) -> Path:
    blocks = []
    for number, line in enumerate(SENTENCES.split("\n")):
        words, heads, relations, _ = (part.split(" ") for part in line.split("|"))
        rows = [
            f"{i}\t{word}\t_\t_\t_\t_\t{head}\t{relation}\t_\t_"
            for i, (word, head, relation) in enumerate(zip(words, heads, relations, strict=True), start=1)
        ]
        blocks.append("\n".join([f"# sent_id = s{number}", *rows]))
    path = tmp_path / "train.conllu"
    path.write_text("\n\n".join(blocks) + "\n\n", encoding="utf-8")
    return path


@pytest.fixture
def ner_file(tmp_path: Path) -> Path:
    blocks = []
    for line in SENTENCES.split("\n"):
        words, _, _, tags = (part.split(" ") for part in line.split("|"))
        blocks.append("\n".join(f"{word} {tag}" for word, tag in zip(words, tags, strict=True)))
    path = tmp_path / "train.txt"
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return path
