"""What a teacher's training starts from: nothing, real weights with an extended vocabulary, or a whole
encoder with its tokenizer.
"""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bistil.errors import InputError
from bistil.models.architectures import blocks, longest_sequence
from bistil.models.load import load_encoder, load_teacher
from bistil.models.packaged import teacher_folder
from bistil.pretrain.config import PretrainConfig, Text
from bistil.pretrain.translation import Translations
from bistil.pretrain.wordpiece import extend_wordpiece, train_wordpiece
from bistil.text.corpora import Blocks, unigram

Model = TypeVar("Model", bound=PreTrainedModel)


class Initial(NamedTuple):
    """What training starts from.

    Attributes:
        reference: The frozen start encoder over the new vocabulary, its own embeddings spelling new pieces.
        new_head: Whether a whole encoder came without a masked-LM head.
    """

    mlm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    translations: Translations | None = None
    reference: BertModel | None = None
    new_head: bool = False


def initial_model(config: PretrainConfig, text: Text) -> Initial:
    """Model and tokenizer before training: random, or real weights with an extended vocabulary and what
    translations teach it.
    """
    if config.start is None:
        assert config.vocabulary is not None
        all_lines = [line for lines in text.lines.values() for line in lines]
        tokenizer = train_wordpiece(all_lines, config.vocabulary, lowercase=config.lowercase)
        bert = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.hidden,
            max_position_embeddings=max(config.length, 128),
            pad_token_id=tokenizer.pad_token_id,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        return Initial(off_the_plateau(BertForMaskedLM(bert)), tokenizer)
    start = weights_folder(config.start)
    if config.vocabulary is None:
        teacher = load_teacher(start)
        _check_length(config, teacher.encoder)
        return Initial(teacher.mlm, teacher.tokenizer, new_head=not teacher.has_mlm_head)
    encoder = load_encoder(start)
    if not isinstance(encoder, BertModel):
        raise InputError(
            f"A BERT, whose vocabulary can be extended, was expected in {start}, but its type is"
            f" {encoder.config.model_type}. Keep its tokenizer by `vocabulary: null`."
        )
    _check_length(config, encoder)
    old_tokenizer = AutoTokenizer.from_pretrained(start, trust_remote_code=False)
    # the start can spell the first
    foreign = [line for code, lines in text.lines.items() if code != config.languages[0] for line in lines]
    tokenizer, spelling = extend_wordpiece(old_tokenizer, foreign, config.vocabulary)
    translations = Translations(
        tokenizer,
        text.pairs,
        length=config.length,
        batch_size=max(1, config.batch_size // 2),
        alpha=config.alpha,
        seed=config.seed,
    )
    old = encoder.embeddings.word_embeddings.weight.detach().numpy()
    spelled = np.stack([old[ids].mean(axis=0) for ids in spelling])
    mlm = BertForMaskedLM(
        BertConfig(**{**encoder.config.to_dict(), "vocab_size": len(tokenizer), "architectures": None})
    )
    state = {name: value for name, value in encoder.state_dict().items() if "word_embeddings" not in name}
    mlm.bert.load_state_dict(state, strict=False)
    with torch.no_grad():
        mlm.bert.embeddings.word_embeddings.weight.copy_(
            torch.from_numpy(_placed_embeddings(spelled, tokenizer, text, translations))
        )
        torch.nn.init.eye_(mlm.cls.predictions.transform.dense.weight)
    if not config.translation_share or not translations.pairs:
        return Initial(mlm, tokenizer)
    encoder.embeddings.word_embeddings = torch.nn.Embedding.from_pretrained(torch.from_numpy(spelled))
    return Initial(mlm, tokenizer, translations, encoder.eval().requires_grad_(False))


def _check_length(config: PretrainConfig, encoder: PreTrainedModel) -> None:
    if config.length > (most := longest_sequence(encoder.config)):
        raise InputError(
            f"A block length of at most the {most} positions of"
            f" {config.start} was expected, but it is {config.length}. Set a smaller `length`."
        )


@torch.no_grad()
def off_the_plateau(mlm: Model) -> Model:
    """Start positions as sinusoids (of the embeddings' scale) and scale residual branches by 1 / sqrt(2 *
    layers).
    """
    encoder: Any = mlm.base_model
    positions = encoder.embeddings.position_embeddings.weight
    count, hidden = positions.shape
    angles = torch.arange(count)[:, None] * torch.exp(
        torch.arange(0, hidden, 2) * (-math.log(100.0) / hidden)
    )
    positions[:, 0::2], positions[:, 1::2] = 0.02 * angles.sin(), 0.02 * angles.cos()
    layers = blocks(encoder)
    for layer in layers:
        for branch in (layer.attention, layer.outer):
            branch.weight /= math.sqrt(2 * len(layers))
    return mlm


@torch.no_grad()
def start_at_unigram(
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: Mapping[str, Blocks],
    weights: Mapping[str, float],
) -> None:
    """Set the output bias to the log of each token's share of the text, languages mixed by `weights`.

    A new head then need not learn which tokens are frequent, which takes long: a bias moves by about the
    learning rate a step, and the shares span ten nats. One percent is kept for tokens that the text lacks. A
    head without output bias is left as it is.
    """
    bias: Any = getattr(mlm.get_output_embeddings(), "bias", None)
    if bias is None:
        return
    shares = torch.full((len(bias),), 0.01 / len(bias))
    for code, weight in weights.items():
        own = torch.from_numpy(unigram(blocks[code], tokenizer))
        shares[: len(own)] += 0.99 * weight / sum(weights.values()) * own
    bias.copy_(shares.log())


def weights_folder(start: str) -> Path:
    """The folder of `start`: a folder itself, `e5-small`, or `package:sub/folder` inside an installed Python
    package.
    """
    package, _, inside = start.partition(":")
    if Path(teacher_folder(start)).is_dir():
        return Path(teacher_folder(start))
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folder = Path(spec.origin).parent / inside if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise InputError(
            "A folder, or `package:folder` of an installed package, with BERT weights was expected, but"
            f" {start!r} is neither."
        )
    return folder


def _placed_embeddings(
    spelled: np.ndarray, tokenizer: PreTrainedTokenizerBase, text: Text, translations: Translations
) -> np.ndarray:
    """Start embeddings: a piece is a mean over the languages that use it, each giving its translation's (or
    its spelling's) embedding.

    The first language, which the start encoder knows, counts as much as all others together. Shape: [V, H],
    as `spelled`.
    """
    weighted, total = np.zeros_like(spelled), np.zeros(len(spelled))
    first, *others = text.lines
    for code, lines in text.lines.items():
        ids = [
            i
            for row in tokenizer(lines[:20_000], add_special_tokens=False, verbose=False)["input_ids"]
            for i in row
        ]
        share = (
            np.bincount(ids, minlength=len(spelled))
            / len(ids)
            * (max(1, len(others)) if code == first else 1)
        )
        vectors = _translated(translations.tables[code], spelled) if code in translations.tables else spelled
        weighted += share[:, None] * vectors
        total += share
    return np.where(total[:, None] > 0, weighted / np.maximum(total, 1e-12)[:, None], spelled).astype(
        np.float32
    )


def _translated(table: csr_matrix, spelled: np.ndarray) -> np.ndarray:
    """Each piece with a translation at the mean of what it translates to, at the usual length; others as
    spelled. Shape: [V, H].
    """
    placed = table @ spelled[: table.shape[1]]
    norm = np.linalg.norm(placed, axis=1, keepdims=True)
    vectors = spelled.copy()
    rows = np.flatnonzero(norm[:, 0] > 0)
    vectors[rows] = placed[rows] / norm[rows] * np.linalg.norm(spelled, axis=1).mean()
    return vectors
