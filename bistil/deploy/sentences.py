"""Small sentence encoders taken away: a folder that sentence-transformers loads as it stands, and plain
transformers too, or a graph in its place.

Notable: that package is not needed here. A folder says by itself how a sentence becomes a vector, in the
files by which all versions of the package know it: the mean of the last states over all tokens of prefix and
sentence, at length 1. What is scored is what was read back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from bistil.deploy import graph
from bistil.deploy.card import Measured
from bistil.deploy.measure import COMPARED, TIMED, latencies, megabytes
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.losses import sentence_vectors
from bistil.models.architectures import longest_sequence
from bistil.models.load import load_encoder, load_tokenizer, save_student
from bistil.pipeline import Pipeline
from bistil.settings.files import read_json
from bistil.store.artefacts import Artefact
from bistil.tasks.retrieval import accuracies, parallel
from bistil.tasks.sentences import pad_inputs

FORM = "sentence-transformers"
MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
"""Modules of sentence-transformers, in order -> where each has its settings."""
PROMPTS = "config_sentence_transformers.json"
PREFIX = "query"
"""What the prefix is called there; it is the default, so that nobody has to name it."""


class Pooled(nn.Module):
    """An encoder that gives one vector a sentence."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Mean states at length 1. Shape: [B, L] each -> [B, H]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = normalize(sentence_vectors(states, attention_mask), dim=1)
        return BaseModelOutput(last_hidden_state=vectors)


@dataclass(frozen=True)
class SentenceEncoder:
    """A finished sentence encoder, whatever runs it."""

    run: graph.Graph
    tokenizer: PreTrainedTokenizerFast
    prefix: str
    longest: int

    def __call__(self, sentences: Sequence[str], *, max_length: int | None = None) -> Tensor:
        """Vectors of length 1 of some sentences, cut to `max_length` tokens. Shape: [N, H].

        Raises:
            InputError: without a sentence.
        """
        if not sentences:
            raise InputError("At least one sentence was expected, but none came.")
        most = min(max_length or self.longest, self.longest)
        texts = [self.prefix + sentence for sentence in sentences]
        ids = self.tokenizer(texts, truncation=True, max_length=most)["input_ids"]
        # or a later save would write this max_length into tokenizer.json
        self.tokenizer.backend_tokenizer.no_truncation()
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            rows = [{"input_ids": ids[i]} for i in chosen]
            [vectors] = self.run(pad_inputs(rows, int(self.tokenizer.pad_token_id or 0)))
            found |= dict(zip(chosen, vectors, strict=True))
        return torch.stack([found[i] for i in range(len(ids))])


def write_sentences(
    folder: Path, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, prefix: str
) -> None:
    """Write an encoder of transformers, with its tokenizer, as a sentence encoder."""
    save_student(folder, encoder, tokenizer)
    config: Any = encoder.config
    package = "sentence_transformers.models"
    told = {
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": f"{package}.{name}"}
            for number, (name, path) in enumerate(MODULES.items())
        ],
        "sentence_bert_config.json": {"max_seq_length": longest_sequence(config), "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "include_prompt": True,
        },
        PROMPTS: {
            "prompts": {PREFIX: prefix} if prefix else {},
            "default_prompt_name": PREFIX if prefix else None,
            "similarity_fn_name": "cosine",
        },
    }
    for path in filter(None, MODULES.values()):
        (folder / path).mkdir()
    for name, content in told.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def load_sentences(folder: Path) -> SentenceEncoder:
    """Read a folder that `write_sentences` wrote, with a graph in place of the weights where there is one.

    Raises:
        InputError: where it is none, or a graph needs the extra `onnx`.
    """
    if not (folder / PROMPTS).is_file():
        raise InputError(f"A sentence encoder was expected in {folder}, but it has no {PROMPTS}.")
    prompts, settings = (read_json(folder / name, dict) for name in (PROMPTS, "sentence_bert_config.json"))
    path = graph.graph_in(folder)
    run = graph.open_graph(path) if path else _of_torch(Pooled(load_encoder(folder).eval()))
    return SentenceEncoder(
        run, load_tokenizer(str(folder)), prompts["prompts"].get(PREFIX, ""), settings["max_seq_length"]
    )


def _of_torch(model: Pooled) -> graph.Graph:
    @torch.inference_mode()
    def run(inputs: graph.Inputs) -> tuple[Tensor, ...]:
        return tuple(model(**inputs).to_tuple())

    return run


def fill(pipeline: Pipeline, cell: Cell, evaluation: Artefact, form: str, folder: Path) -> Measured:
    """Write a cell's encoder into a folder of its own, and measure what was written.

    Raises:
        InputError: where the experiment scores other vectors, or each language has an encoder of its own.
    """
    asked, source = pipeline.experiment.retrieval, pipeline.experiment.source
    if (asked.by, asked.depth, asked.layers) != ("sentence", 1, None):
        raise InputError(
            "Sentence encoders are exported as `retrieval: {by: sentence, depth: 1.0}` scores them, but"
            f" {pipeline.experiment.name} has by: {asked.by}, depth: {asked.depth:.2g}, layers:"
            f" {asked.layers}. Change it there."
        )
    student = pipeline.system(cell).student
    if student is not None and student.family:
        raise InputError(
            f"One encoder for both languages was expected, but {cell.system} has one for each. Export a"
            " student of the pair."
        )
    if any(pipeline.worn(cell, code) for code in (source, cell.target)):
        raise InputError(
            f"One encoder for both languages was expected, but {cell.system} wears a language SFT for each."
            " Export a student whose teacher is not adapted to languages."
        )
    encoder, tokenizer = pipeline.encoder(cell, cell.target)
    write_sentences(folder, encoder.cpu().eval(), tokenizer, prefix=asked.prefix)
    plain, pairs = load_sentences(folder), parallel(pipeline.data, source, cell.target)[: asked.pairs]
    if form in graph.GRAPHS:
        example = {name: torch.ones(2, 4, dtype=torch.long) for name in ("input_ids", "attention_mask")}
        graph.in_place(folder, form, Pooled(encoder), example)
    written, length = load_sentences(folder), pipeline.experiment.text.length
    vectors = [written(side, max_length=length) for side in zip(*pairs, strict=True)]
    own = plain([left for left, _ in pairs[:COMPARED]], max_length=length)
    times = latencies([plain, written], [[left] for left, _ in pairs[:TIMED]])
    return Measured(
        form=form,
        metric="accuracy",
        score=float(evaluation.metrics["accuracy"]),
        exported_score=accuracies(vectors[0] @ vectors[1].T, pairs)["accuracy"],
        apart=float((own - vectors[0][:COMPARED]).abs().max()),
        torch_ms=times[0],
        exported_ms=times[1],
        megabytes=megabytes(folder),
    )
