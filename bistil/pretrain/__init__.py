"""Make a small multilingual teacher: masked-language modelling on a named list of languages.

Notable: it starts from real BERT weights (a folder or a Python package that carries one) or from nothing;
languages are sampled by temperature; translation pairs are one more "language" whose sequences hold both
sentences (TLM, Conneau & Lample 2019); from real weights the vocabulary is extended, each new piece's
embedding starts at the pieces it translates to (`align`), and some steps draw translations to the start
encoder's states (`translation`). From nothing, a deep narrow post-norm model came off the unigram plateau
with these together (which of them does it was not separated): sentences alone instead of packed, position
embeddings that start as sinusoids, residual branches scaled down, 30 % masked, a high learning rate."""

import importlib.util
import json
import math
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from bistil.errors import InputError
from bistil.models.architectures import blocks
from bistil.models.finite import not_finite
from bistil.models.packaged import teacher_folder
from bistil.pretrain.translation import Translations, translation_loss
from bistil.pretrain.wordpiece import extend_wordpiece, train_wordpiece
from bistil.settings import files
from bistil.settings.ranges import Count, Dropout, Filled, Layers, Length, Part, Seed, Settings, Share, Weight
from bistil.store.whole import write_whole
from bistil.text import sampling
from bistil.text.corpora import Batches, Blocks, cut, held_out, pairs_to_blocks, read_lines
from bistil.text.written import open_to_others
from bistil.training.loop import History, Objective, Run, Schedule, fit
from bistil.training.mlm import evaluate_mlm, masked_lm_loss
from bistil.training.progress import Listener, silent

PARALLEL = "parallel"
LAST = "history.json"
"""What `save_teacher` writes last."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Settings):
    """What to train on and for how long.

    Attributes:
        languages: Codes of languages. The first is the one whose pieces others are aligned to.
        schedule: How long and how fast to train.
        start: A folder or package of BERT weights, None for random ones.
        layers: The number of layers where there is no start.
        hidden: The hidden size where there is no start.
        heads: The attention heads where there is no start; they divide `hidden`.
        vocabulary: The size of the WordPiece vocabulary that is learned from the text.
        lowercase: Whether the tokenizer lowers upper case.
        lines: The largest number of lines of a language, None for all.
        dropout: The dropout where there is no start.
        packed: Whether sequences are full blocks of running text; otherwise each is a line, and languages are
            mixed within a batch.
        length: Sub-words of a sequence.
        batch_size: Sequences in a batch.
        mask_share: The share of tokens that are predicted.
        alpha: Languages are drawn in proportion to size ** alpha; 0 draws all alike.
        parallel_share: The share of the steps on translation pairs in one sequence.
        translation_share: The share of the steps that draw translations to the start encoder's states.
        translation_weight: The factor of the loss of those steps.
        start_rate: The factor on the learning rate of all start weights but the embeddings.
        seed: The seed of weights, batches and masks.
    """

    languages: Annotated[tuple[str, ...], Filled()]
    schedule: Schedule
    start: str | None = None
    layers: Layers = 6
    hidden: Count = 192
    heads: Count = 6
    vocabulary: Count = 6000
    lowercase: bool = False
    lines: Count | None = None
    dropout: Dropout = 0.1
    packed: bool = True
    length: Length = 128
    batch_size: Count = 16
    mask_share: Part = 0.15
    alpha: Share = 0.5
    parallel_share: Share = 0.0
    translation_share: Share = 0.0
    translation_weight: Weight = 1.0
    start_rate: Weight = 1.0
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.translation_share and not self.start:
            told = (
                "`translation_share` needs the states of a `start` encoder as targets; none is named. Name"
                " one, or drop it."
            )
            raise InputError(told, at=("translation_share",))
        if not self.start and self.hidden % self.heads:
            told = f"`heads` should divide the hidden size of {self.hidden}, but are {self.heads}."
            raise InputError(told, at=("heads",))


@dataclass
class Text:
    """Lines by language, and translation pairs (first language's sentence, other sentence) by the other
    language.
    """

    lines: dict[str, list[str]]
    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def read_text(config: PretrainConfig, corpora: Mapping[str, Path], parallel: Path | None) -> Text:
    """Read what the config names: corpora by language, and all `<first>-<other>.tsv` and `ntrex/`
    translations in `parallel`.
    """
    lines = {code: read_lines(corpora[code], config.lines) for code in config.languages}
    first, pairs = config.languages[0], {}
    for code in config.languages[1:]:
        if parallel is None:
            break
        found = list(_aligned_files(parallel / "ntrex" / f"{first}.txt", parallel / "ntrex" / f"{code}.txt"))
        tsv = parallel / f"{first}-{code}.tsv"
        if tsv.is_file():
            rows = (line.split("\t") for line in read_lines(tsv))
            found += [(row[0], row[1]) for row in rows if len(row) == 2 and all(row)][:10_000]
        if found:
            pairs[code] = found
    return Text(lines, pairs)


def _aligned_files(first: Path, other: Path) -> list[tuple[str, str]]:
    if not (first.is_file() and other.is_file()):
        return []
    a, b = ([line.strip() for _, line in files.lines(path)] for path in (first, other))
    if len(a) != len(b):
        raise InputError(
            f"As many lines as in {first} ({len(a)}) were expected in {other}, but it has {len(b)}. Line n"
            " of both files should be the same sentence."
        )
    return [(x, y) for x, y in zip(a, b, strict=True) if x and y]


class Initial(NamedTuple):
    """What training starts from. `reference`: the frozen start encoder over the new vocabulary, its own
    embeddings spelling new pieces.
    """

    mlm: BertForMaskedLM
    tokenizer: PreTrainedTokenizerBase
    translations: Translations | None = None
    reference: BertModel | None = None


class Steps(Dataset):
    """Step number -> batch: a masked one, or in `share` of the steps one of translations, which carries
    `links`.
    """

    def __init__(self, masked: Batches, translations: Translations | None, share: float, seed: int) -> None:
        self._masked, self._translations = masked, translations
        rng = np.random.Generator(np.random.PCG64([seed, 0x57E9]))
        self._translated = rng.random(len(masked)) < (share if translations else 0.0)

    def __len__(self) -> int:
        return len(self._masked)

    def __getitem__(self, step: int) -> dict[str, Any]:
        if self._translations is not None and self._translated[step]:
            return self._translations.batch(step)
        return self._masked[step]


class MaskedLMAndTranslation(Objective):
    """The masked-LM loss, and `weight` times the translation loss where a batch holds translations."""

    model: BertForMaskedLM

    def __init__(self, model: BertForMaskedLM, reference: BertModel | None, weight: float) -> None:
        super().__init__(model)
        self._reference, self._weight = (reference,), weight

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch; no further parts."""
        (reference,) = self._reference
        if "links" not in batch or reference is None:
            return masked_lm_loss(self.model, batch), {}
        return self._weight * translation_loss(self.model.bert, reference, batch), {}


def pretrain(
    config: PretrainConfig,
    text: Text,
    folder: Path,
    *,
    progress: Listener = silent,
    stop: threading.Event | None = None,
) -> tuple[BertForMaskedLM, PreTrainedTokenizerBase, History]:
    """Train and return the teacher; `folder` keeps the checkpoints, and the run resumes from them.

    In a process group (torchrun) the processes share out each batch.
    """
    set_seed(config.seed)
    mlm, tokenizer, translations, reference = initial_model(config, text)
    blocks = {
        code: cut(tokenizer, lines, config.length, packed=config.packed) for code, lines in text.lines.items()
    }
    weights = sampling.temperature({code: len(b) for code, b in blocks.items()}, config.alpha)
    if text.pairs and config.parallel_share > 0:
        blocks[PARALLEL] = _pair_blocks(tokenizer, text, config)
        total = sum(weights.values())
        weights = {code: (1 - config.parallel_share) * weight / total for code, weight in weights.items()}
        weights[PARALLEL] = config.parallel_share
    training, kept_out = {}, {}
    for code, b in blocks.items():
        training[code], kept_out[code] = b.split(0.05)
    # one pool of text, so that each batch mixes the languages; pairs are longer and keep to themselves
    if not config.packed:
        pairs = {PARALLEL: training.pop(PARALLEL)} if PARALLEL in training else {}
        training = {"text": Blocks.pooled(training, weights), **pairs}
        weights = {
            "text": 1 - config.parallel_share * bool(pairs),
            **dict.fromkeys(pairs, config.parallel_share),
        }
    masked = Batches(
        training,
        tokenizer,
        weights=weights,
        batch_size=config.batch_size,
        steps=config.schedule.steps,
        mask_share=config.mask_share,
        seed=config.seed,
        by_length=config.packed,
    )
    evaluation = held_out(kept_out, tokenizer, batch_size=32, mask_share=0.15, most=32)
    history = fit(
        MaskedLMAndTranslation(mlm, reference, config.translation_weight),
        Steps(masked, translations, config.translation_share, config.seed),
        lambda: evaluate_mlm(mlm, evaluation),
        Run(folder, "pretrain", progress, stop),
        schedule=config.schedule,
        select="loss",
        seed=config.seed,
        optimizer=_optimizer(mlm, config),
    )
    return mlm, tokenizer, history


def _optimizer(mlm: BertForMaskedLM, config: PretrainConfig) -> torch.optim.Optimizer:
    """AdamW; what came with the start and is no embedding learns at `start_rate` times the rate."""
    parts: dict[bool, list[Tensor]] = {False: [], True: []}
    for name, parameter in mlm.named_parameters():
        parts[config.start is not None and name.startswith("bert.encoder.")].append(parameter)
    rate, decay = config.schedule.learning_rate, config.schedule.weight_decay
    groups = [{"params": parts[False], "lr": rate}, {"params": parts[True], "lr": rate * config.start_rate}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=rate,
        betas=(0.9, 0.98),
        weight_decay=decay,
        fused=True,
    )


def initial_model(config: PretrainConfig, text: Text) -> Initial:
    """Model and tokenizer before training: random, or real weights with an extended vocabulary and what
    translations teach it.
    """
    if config.start is None:
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
        return Initial(_off_the_plateau(BertForMaskedLM(bert)), tokenizer)
    start = weights_folder(config.start)
    encoder = BertModel.from_pretrained(start, trust_remote_code=False, add_pooling_layer=False)
    if config.length > encoder.config.max_position_embeddings:
        raise InputError(
            f"A block length of at most the {encoder.config.max_position_embeddings} positions of"
            f" {config.start} was expected, but it is {config.length}. Set a smaller `length`."
        )
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


@torch.no_grad()
def _off_the_plateau(mlm: BertForMaskedLM) -> BertForMaskedLM:
    """Start positions as sinusoids (of the embeddings' scale) and scale residual branches by 1 / sqrt(2 *
    layers).
    """
    positions = mlm.bert.embeddings.position_embeddings.weight
    count, hidden = positions.shape
    angles = torch.arange(count)[:, None] * torch.exp(
        torch.arange(0, hidden, 2) * (-math.log(100.0) / hidden)
    )
    positions[:, 0::2], positions[:, 1::2] = 0.02 * angles.sin(), 0.02 * angles.cos()
    layers = blocks(mlm.bert)
    for layer in layers:
        for branch in (layer.attention, layer.outer):
            branch.weight /= math.sqrt(2 * len(layers))
    return mlm


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


def _pair_blocks(tokenizer: PreTrainedTokenizerBase, text: Text, config: PretrainConfig) -> Blocks:
    pairs = [pair for found in text.pairs.values() for pair in found]
    random.Random(config.seed).shuffle(pairs)
    return pairs_to_blocks(tokenizer, pairs, config.length)


def save_teacher(
    folder: Path,
    mlm: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerBase,
    history: History,
    *,
    half: bool = False,
) -> None:
    """Write model (fp16 where `half`), tokenizer and learning curve.

    Raises:
        InputError: for weights that fp16 cannot hold.
    """
    if half and (told := not_finite(mlm.half())):
        raise InputError(f"These weights are too large for fp16 ({told}). Save them without --half.")
    folder.mkdir(parents=True, exist_ok=True)
    mlm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    open_to_others(folder)
    write_whole(folder / LAST, json.dumps(history, indent=1) + "\n")
