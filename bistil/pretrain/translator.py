"""Translators of one's own: a small M2M100 from nothing, or one that exists and is taught further languages.

Notable: a new language gets a token whose row starts at the mean of the other languages' tokens, or at that
of a language like it (thesis section 6.2.1); then all weights learn.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from tokenizers import AddedToken
from torch import Tensor
from torch.utils.data import Dataset
from transformers import M2M100Config, M2M100ForConditionalGeneration

from bistil.errors import InputError
from bistil.evaluation.chrf import chrf
from bistil.models.seq2seq import (
    LANGUAGE,
    by_length,
    generate,
    language_token,
    language_tokens,
    load_model,
    padded,
    read_tokenizer,
    sentence_ids,
    translation_folder,
)
from bistil.pretrain import CPU, save_teacher
from bistil.pretrain.parallel import Pair, Parallel, TranslatorConfig
from bistil.pretrain.pieces import fast_tokenizer
from bistil.store.whole import write_whole
from bistil.text import sampling
from bistil.text.corpora import IGNORED
from bistil.training.loop import History, Objective, Run, fit
from bistil.training.progress import Listener, silent

REPORT = "report.json"
BEAMS = 4


def initial_translator(config: TranslatorConfig, parallel: Parallel) -> tuple[Any, Any]:
    """A model and its tokenizer before training."""
    if config.start:
        return _extended(config, translation_folder(config.start))
    lines = [text for pairs in parallel.training.values() for pair in pairs for text in pair]
    tokens = [_token(config.codes.get(code, code)) for code in config.languages]
    tokenizer = fast_tokenizer(lines, config.vocabulary, tokens)
    sides: dict[str, Any] = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "layers": config.layers,
            "attention_heads": config.heads,
            "ffn_dim": 4 * config.hidden,
            "layerdrop": 0.0,
        }.items()
    }
    model = M2M100ForConditionalGeneration(
        M2M100Config(
            **sides,
            vocab_size=len(tokenizer),
            d_model=config.hidden,
            dropout=config.dropout,
            attention_dropout=config.dropout,
            max_position_embeddings=config.length,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
        )
    )
    model.generation_config.max_length, model.generation_config.num_beams = config.length, BEAMS
    return model, tokenizer


def _token(name: str) -> str:
    """The token of a language by what a tokenizer calls it.

    Raises:
        InputError: for what is no such name.
    """
    for token in (f"__{name}__", name):
        if LANGUAGE.fullmatch(token):
            return token
    raise InputError(
        "A code of two or three small letters, or one with a script as bzd_Latn, was expected of a language,"
        f" but got {name!r}. Say under `codes` what the tokenizer calls it."
    )


@torch.no_grad()
def _extended(config: TranslatorConfig, folder: Path) -> tuple[Any, Any]:
    """A model that exists with a token for each language that it has lacked.

    Raises:
        InputError: for a model of one pair; where a name of a new language is not like those that are known;
            for the tokenizer of the first M2M100, which has no number for a new token.
    """
    tokenizer, kind = read_tokenizer(folder)
    known = language_tokens(tokenizer)
    if kind != "m2m_100" or not known:
        raise InputError(
            f"A model with tokens of languages was expected in {folder}, to be taught others, but it is of"
            f" type {kind} and has {len(known)}. Take an M2M100 or NLLB model."
        )
    model = load_model(folder)
    scripts = all("_" in one for one in known)
    for code in config.languages:
        name = config.codes.get(code, code)
        try:
            language_token(tokenizer, code, config.codes)
            continue
        except InputError:
            if scripts != ("_" in name):
                raise
        like = config.start_from.get(code)
        rows = [language_token(tokenizer, like, config.codes)] if like else list(known.values())
        tokenizer.add_tokens([AddedToken(_token(name), special=True)])
        new = int(tokenizer.convert_tokens_to_ids(_token(name)))
        if new in known.values():
            raise InputError(
                f"A tokenizer that can number a new token was expected in {folder}, but its"
                f" {type(tokenizer).__name__} gives {_token(name)} the number of another language. Take an"
                " NLLB model, or one that `bistil translator` made."
            )
        if new >= model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(new + 1, mean_resizing=False)
        weight = model.get_input_embeddings().weight
        weight[new] = weight[rows].mean(dim=0)
    return model, tokenizer


class Translated(Dataset):
    """Step number -> batch of one direction. Nothing here has state: a batch is the same whenever asked for.

    Args:
        rows: tokens as (read, written), by direction.
    """

    def __init__(
        self,
        rows: Mapping[str, Sequence[tuple[list[int], list[int]]]],
        config: TranslatorConfig,
        *,
        steps: int,
        pad: int,
    ) -> None:
        self._rows, self._pad = rows, pad
        weights = sampling.temperature({name: len(found) for name, found in rows.items()}, config.alpha)
        self._names = sampling.languages(weights, steps, seed=config.seed)
        drawn = {
            name: iter(
                sampling.epochs(
                    len(found),
                    self._names.count(name),
                    config.batch_size,
                    seed=config.seed + number,
                    lengths=[len(one) + len(two) for one, two in found],
                )
            )
            for number, (name, found) in enumerate(rows.items())
        }
        self._drawn = [next(drawn[name]) for name in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return collate([self._rows[self._names[step]][i] for i in self._drawn[step]], self._pad)


def collate(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` of some rows. Shape: [B, L] each."""
    read, written = zip(*rows, strict=True)
    mask = padded([[1] * len(row) for row in read], 0)
    return {"input_ids": padded(read, pad), "attention_mask": mask, "labels": padded(written, IGNORED)}


class Translating(Objective):
    """Minimises the mean cross-entropy of the tokens that are written."""

    model: M2M100ForConditionalGeneration

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch; no further parts."""
        return self.model(**batch, use_cache=False).loss, {}


def train_translator(
    config: TranslatorConfig,
    parallel: Parallel,
    folder: Path,
    *,
    progress: Listener = silent,
    stop: threading.Event | None = None,
    device: torch.device = CPU,
) -> tuple[Any, Any, History, dict[str, Any]]:
    """Train a translator on a device; `folder` keeps the checkpoints, and the run resumes from them.

    Returns:
        model, tokenizer and history, and for each direction how many `lines` were read and held out, and
        `loss` and `chrf` of the latter.
    """
    set_seed(config.seed)
    model, tokenizer = initial_translator(config, parallel)
    model.to(device)
    pad = int(tokenizer.pad_token_id)

    def rows(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, list[tuple[list[int], list[int]]]]:
        found = {}
        for name, own in pairs.items():
            sides = [
                sentence_ids(
                    tokenizer,
                    [pair[side] for pair in own],
                    language_token(tokenizer, code, config.codes),
                    min(config.length, int(model.config.max_position_embeddings)),
                )
                for side, code in enumerate(name.split("-", 1))
            ]
            found[name] = list(zip(*sides, strict=True))
        return found

    training, unseen = rows(parallel.training), rows(parallel.held_out)
    schedule = config.schedule.counted(sum(map(len, training.values())), config.batch_size)
    history = fit(
        Translating(model),
        Translated(training, config, steps=schedule.batches, pad=pad),
        lambda: _losses(model, unseen, pad),
        Run(folder, "translator", progress, stop),
        schedule=schedule,
        select="loss",
        seed=config.seed,
    )
    model.eval()
    losses = _losses(model, unseen, pad)
    report = {
        name: {
            "lines": len(training[name]),
            "held_out": len(own),
            "loss": losses[f"loss_{name}"],
            "chrf": _chrf(model, tokenizer, own, [two for _, two in parallel.held_out[name]]),
        }
        for name, own in unseen.items()
    }
    return model, tokenizer, history, report


def _in_batches(rows: Sequence[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
    return by_length([max(len(one), len(two)) for one, two in rows])


@torch.no_grad()
def _losses(
    model: Any, unseen: Mapping[str, Sequence[tuple[list[int], list[int]]]], pad: int
) -> dict[str, float]:
    """Cross-entropy in nats for a token: `loss`, the mean over directions, and `loss_<direction>`."""
    found = {}
    for name, rows in unseen.items():
        total, tokens = 0.0, 0
        for places in _in_batches(rows):
            batch = {
                key: one.to(model.device) for key, one in collate([rows[i] for i in places], pad).items()
            }
            count = int((batch["labels"] != IGNORED).sum())
            total, tokens = total + float(model(**batch).loss) * count, tokens + count
        found[f"loss_{name}"] = total / tokens
    return {"loss": sum(found.values()) / len(found), **found}


def _chrf(
    model: Any, tokenizer: Any, rows: Sequence[tuple[list[int], list[int]]], wanted: Sequence[str]
) -> float:
    """chrF of what the model writes for some rows, whose second part begins with the language's token."""
    texts = [""] * len(rows)
    for places in _in_batches(rows):
        made = generate(model, tokenizer, [rows[i][0] for i in places], rows[places[0]][1][0])
        for i, text in zip(places, made, strict=True):
            texts[i] = text
    return chrf(texts, wanted)


def save_translator(
    folder: Path, model: Any, tokenizer: Any, history: History, report: Mapping[str, Any]
) -> None:
    """Write a translator with its report and, last, its history."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / REPORT, json.dumps(report, indent=1) + "\n")
    save_teacher(folder, model, tokenizer, history)
