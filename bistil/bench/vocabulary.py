"""Counting the tokens of a corpus, and cutting a vocabulary of XLM-R's size."""

from collections import Counter
from functools import partial

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertModel, PreTrainedTokenizerFast

from bistil import vocab
from bistil.bench.measure import LEAST, OURS, PUBLISHED, Row, Size, Turn, alternate, comparison
from bistil.bench.models import config

LARGEST = 250002
"""XLM-R's vocabulary."""


def vocabulary(size: Size) -> list[Row]:
    """Counting and trimming."""
    return [counting(*random_text(size.vocabulary, size.lines), size), trimming(size)]


def random_text(words: int, lines: int) -> tuple[PreTrainedTokenizerFast, list[str]]:
    """A tokenizer of so many random words and lines of these words."""
    drawn = _words(words)
    return _tokenizer(drawn), _lines(drawn, lines)


def counting(tokenizer: PreTrainedTokenizerFast, lines: list[str], size: Size) -> Row:
    """Ours adds up arrays; published scripts tokenise line by line into a Counter; the tokenizer alone is the
    least.
    """

    def published() -> None:
        counts: Counter[int] = Counter()
        for line in lines:
            counts.update(tokenizer(line, add_special_tokens=False)["input_ids"])

    count, encode = partial(vocab.count_tokens, tokenizer, lines), partial(_encode, tokenizer, lines)
    sides: dict[str, Turn] = {PUBLISHED: published, OURS: count, LEAST: encode}
    note = (
        "published: one line at a time into a Counter; least: the tokenizer's own batches of 2048 lines,"
        " nothing counted"
    )
    return comparison(f"token counts, {len(lines)} lines", note, alternate(size.turns, sides))


def trimming(size: Size) -> Row:
    """Choosing tokens, trimming tokenizer and model; the least is one copy of the rows that stay."""
    tokenizer = _tokenizer(_words(LARGEST if size.vocabulary > 100000 else size.vocabulary))
    settings = config(size, layers=1, vocabulary=len(tokenizer))
    # one to warm up, one to measure
    fresh = iter([BertModel(settings, add_pooling_layer=False) for _ in range(2)])
    rows = torch.randn(len(tokenizer), size.hidden)
    counts = np.zeros(len(tokenizer), np.int64)
    counts[np.random.default_rng(1).permutation(len(tokenizer))[: size.kept]] = 1

    def ours() -> None:
        kept = vocab.choose(tokenizer, [counts])
        vocab.trim_tokenizer(tokenizer, kept)
        vocab.trim_model(next(fresh), kept)

    kept = torch.as_tensor(vocab.choose(tokenizer, [counts]))
    sides = {OURS: ours, LEAST: lambda: rows.index_select(0, kept)}
    note = (
        "ours: choosing tokens, cutting the tokenizer (through save and reload) and the model; least: one"
        " copy of the rows that stay"
    )
    return comparison(f"trimming {len(tokenizer)} tokens to {len(kept)}", note, alternate(1, sides))


def _encode(tokenizer: PreTrainedTokenizerFast, lines: list[str]) -> None:
    for start in range(0, len(lines), 2048):
        tokenizer.backend_tokenizer.encode_batch_fast(lines[start : start + 2048], add_special_tokens=False)


def _words(count: int) -> list[str]:
    """Different random words of 2 to 8 letters."""
    rng = np.random.Generator(np.random.PCG64(1))
    letters = rng.integers(ord("a"), ord("z") + 1, (2 * count, 8)).astype(np.uint8)
    lengths = rng.integers(2, 9, 2 * count)
    drawn = {bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)}
    return sorted(drawn)[:: max(1, len(drawn) // count)][:count]


def _tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of these words and of letters, with mBERT's normaliser and word splitter."""
    letters = [chr(ord("a") + i) for i in range(26)]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
        *words,
    ]
    raw = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]")
    )
    raw.normalizer = normalizers.BertNormalizer(lowercase=False)  # type: ignore[assignment]
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    names = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def _lines(words: list[str], count: int) -> list[str]:
    """Lines of 20 of the words, every third of two pieces, as words are in text."""
    rng = np.random.Generator(np.random.PCG64(2))
    return [
        " ".join(words[i] + "zx"[: i % 3 // 2] for i in row) + "."
        for row in rng.integers(0, len(words), (count, 20))
    ]
