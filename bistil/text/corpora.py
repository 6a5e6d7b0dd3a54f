"""Unlabelled text: lines, packed blocks of tokens, and batches of one language each with masking on the fly.

Notable: text is tokenised once into an int32 array; a training step touches only its own rows of it. Every
batch is one language, since the teacher wears one language's sparse fine-tuning at a time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.settings import files
from bistil.text import sampling

IGNORED = -100


def read_lines(path: Path, limit: int | None = None, *, without: Collection[str] = ()) -> list[str]:
    """Lines of a UTF-8 text file, stripped, that are not empty and not, as `composed`, among those to do
    without; at most `limit` of them.

    Raises:
        InputError: where the file is missing, without any such line or not UTF-8 (with the line's number).
    """
    stripped = (line.strip() for _, line in files.lines(path))
    found = list(
        islice((line for line in stripped if line and not (without and composed(line) in without)), limit)
    )
    if not found and any(line.strip() for _, line in files.lines(path)):
        raise InputError(
            f"At least one line of text was expected in {path}, but all of it are sentences of"
            " retrieval's test files, which are left out. Leave out the language instead, or set"
            " without_pairs: false."
        )
    if not found:
        raise InputError(
            f"At least one line of text was expected in {path}, but the file is empty. Give a corpus with"
            " text in it."
        )
    return found


def composed(text: str) -> str:
    """A sentence as it is compared with others: stripped, and each letter one with its accents (NFC)."""
    return normalize("NFC", text.strip())


class HeldOut:
    """Settings that hold out a share of each language's text, some languages' another one than the rest.

    The papers hold out 5 % of the text of low-resource languages and 1 % of that of high-resource ones
    (BiStil appendix A.1, thesis section 4.4.2).
    """

    held_out_share: float
    held_out_shares: Mapping[str, float] | None

    def held_out(self, code: str) -> float:
        """The share of a language."""
        return (self.held_out_shares or {}).get(code, self.held_out_share)

    def shares_of(self, codes: Iterable[str]) -> dict[str, float] | None:
        """`held_out_shares` of these languages alone, for a stage that reads no others."""
        return {code: self.held_out(code) for code in codes if code in (self.held_out_shares or {})} or None


@dataclass(frozen=True)
class Blocks:
    """Token sequences of one language. `ids` Shape: [N, L] int32, padded; `lengths` Shape: [N] int32, real
    tokens of each row.
    """

    ids: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def real_tokens(self) -> np.ndarray:
        """All tokens but padding, special ones too. Shape: [tokens]."""
        return self.ids[np.arange(self.ids.shape[1])[None, :] < self.lengths[:, None]]

    def rows(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Ids and attention mask of some rows. Shape: [B, L] int64 each, cut to the longest row."""
        longest = int(self.lengths[index].max())
        ids = torch.from_numpy(self.ids[index, :longest].astype(np.int64))
        mask = (
            torch.arange(longest)[None, :] < torch.from_numpy(self.lengths[index].astype(np.int64))[:, None]
        )
        return ids, mask.long()

    def split(self, share: float, *, least: int = 1) -> tuple["Blocks", "Blocks"]:
        """Blocks for training and held-out blocks: `share` of them, evenly spread over the corpus, at least
        `least`.

        Raises:
            InputError: where no block would be left to train on.
        """
        held = held_rows(len(self), share, least=least)
        keep = np.setdiff1d(np.arange(len(self)), held)
        if not len(keep):
            raise InputError(
                f"More than {len(held)} blocks of text were expected, some to train on and some held out, but"
                f" the corpus has {len(self)}. Give more text, a smaller block length or a smaller held-out"
                " share."
            )
        return Blocks(self.ids[keep], self.lengths[keep]), Blocks(self.ids[held], self.lengths[held])

    @classmethod
    def pooled(cls, parts: Mapping[str, "Blocks"], weights: Mapping[str, float]) -> "Blocks":
        """Rows of several corpora as one, each repeated or thinned evenly to its share of their weights; the
        total stays the same.
        """
        total, mass = sum(map(len, parts.values())), sum(weights[code] for code in parts)
        wanted = {code: max(1, round(total * weights[code] / mass)) for code in parts}
        rows = {code: np.arange(n) * len(parts[code]) // n for code, n in wanted.items()}
        ids, lengths = (
            [getattr(part, name)[rows[code]] for code, part in parts.items()] for name in ("ids", "lengths")
        )
        return cls(np.concatenate(ids), np.concatenate(lengths))


def held_rows(number: int, share: float, *, least: int = 1) -> np.ndarray:
    """Which of so many rows are held out: `share` of them, evenly spread, at least `least`."""
    return np.unique(np.linspace(0, number - 1, max(least, round(share * number))).astype(int))


def unigram_entropy(blocks: Blocks, tokenizer: PreTrainedTokenizerBase) -> float:
    """Entropy in nats of the tokens of a text, special ones left out.

    It is the masked-LM loss of a model that knows how often each token is used, and no more.
    """
    shares = unigram(blocks, tokenizer)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def unigram(blocks: Blocks, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Each token's share of a text, special ones left out. Shape: [highest id that occurs + 1]."""
    counts = np.bincount(blocks.real_tokens())
    counts[[i for i in tokenizer.all_special_ids if i < len(counts)]] = 0
    return counts / counts.sum()


def _encode(tokenizer: PreTrainedTokenizerBase, lines: Sequence[str]) -> list[list[int]]:
    if not lines:
        return []
    return tokenizer(list(lines), add_special_tokens=False, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]


def to_blocks(tokenizer: PreTrainedTokenizerBase, lines: Iterable[str], length: int) -> Blocks:
    """Pack running text into full blocks `[CLS] … [SEP]` of `length` tokens; a line's end is a `[SEP]`.

    The tail that does not fill a block is dropped.

    Raises:
        InputError: where the text is shorter than one block.
    """
    separator = tokenizer.sep_token_id
    stream = np.concatenate(
        [np.asarray([*ids, separator], dtype=np.int32) for ids in _encode(tokenizer, list(lines))]
        or [np.empty(0, np.int32)]
    )
    inner = length - 2
    count = len(stream) // inner
    if count == 0:
        raise InputError(
            f"Text for at least one block of {length} tokens was expected, but the corpus has only"
            f" {len(stream)} tokens. Give more text or a smaller block length."
        )
    ids = np.full((count, length), separator, dtype=np.int32)
    ids[:, 0] = tokenizer.cls_token_id
    ids[:, 1:-1] = stream[: count * inner].reshape(count, inner)
    return Blocks(ids, np.full(count, length, dtype=np.int32))


def check_enough(
    tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], length: int, path: Path, *, packed: bool
) -> None:
    """Tokenise only as many lines as fill two blocks of `length` tokens: one to train on, one held out. Where
    text is not packed, two lines with any token do.

    Raises:
        InputError: where all lines together do not.
    """
    if not packed:
        if (
            sum(map(bool, _encode(tokenizer, lines[:256]))) < 2
            and len(lines_to_blocks(tokenizer, lines, length)) < 2
        ):
            told = f"Text of at least two lines was expected in {path}, one to train on and one held out"
            raise InputError(f"{told}, since text is not packed, but there are fewer. Give more text.")
        return
    found, needed = 0, 2 * (length - 2)
    for start in range(0, len(lines), 256):
        found += sum(len(ids) + 1 for ids in _encode(tokenizer, lines[start : start + 256]))
        if found >= needed:
            return
    raise InputError(
        f"Text for at least two blocks of {length} tokens was expected in {path}, one to train on and one"
        f" held out, but it has only {found} tokens. Give more text or a smaller block length."
    )


def cut(tokenizer: PreTrainedTokenizerBase, lines: Iterable[str], length: int, *, packed: bool) -> Blocks:
    """Text as token sequences: full blocks of running text where `packed`, otherwise one line a sequence."""
    return (to_blocks if packed else lines_to_blocks)(tokenizer, lines, length)


def lines_to_blocks(tokenizer: PreTrainedTokenizerBase, lines: Iterable[str], length: int) -> Blocks:
    """One line a row, `[CLS] … [SEP]`, cut to `length` tokens."""
    rows = [row[: length - 2] for row in _encode(tokenizer, list(lines)) if row]
    ids = np.full((len(rows), length), tokenizer.pad_token_id, dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row) + 2] = [tokenizer.cls_token_id, *row, tokenizer.sep_token_id]
    return Blocks(ids, np.array([len(row) + 2 for row in rows], dtype=np.int32))


def pairs_to_blocks(
    tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[str, str]], length: int
) -> Blocks:
    """Translation pairs for TLM: `[CLS] a [SEP] b [SEP]` a row, each side cut to half the room.

    Sides swap on every other row, so that neither language always comes first.
    """
    sides = list(pairs)
    first, second = _encode(tokenizer, [a for a, _ in sides]), _encode(tokenizer, [b for _, b in sides])
    room = (length - 3) // 2
    ids = np.full((len(sides), length), tokenizer.pad_token_id, dtype=np.int32)
    lengths = np.zeros(len(sides), dtype=np.int32)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        left, right = (a, b) if row % 2 == 0 else (b, a)
        tokens = [
            tokenizer.cls_token_id,
            *left[:room],
            tokenizer.sep_token_id,
            *right[:room],
            tokenizer.sep_token_id,
        ]
        ids[row, : len(tokens)], lengths[row] = tokens, len(tokens)
    return Blocks(ids, lengths)


def rarity(corpora: Mapping[str, Blocks], tokens: int, smoothing: float) -> Tensor | None:
    """What each token weighs where rare ones are masked more often: max(count, 1) ** -smoothing, by all of a
    text; None without smoothing. Shape: [V], float64.
    """
    if not smoothing:
        return None
    counts = np.zeros(tokens, np.int64)
    for blocks in corpora.values():
        counts += np.bincount(blocks.real_tokens(), minlength=tokens)
    return torch.from_numpy(np.maximum(counts, 1) ** -smoothing)


def mask_tokens(
    ids: Tensor,
    mask: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    share: float,
    rng: np.random.Generator,
    rare: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """BERT's masking: `share` of the real, non-special tokens are predicted; of those 80 % become [MASK], 10
    % a random token.

    Args:
        rare: what each token weighs, as `rarity` gives it. Then exactly round(share * tokens) of the batch
            are drawn without replacement by these weights (the largest of log weight + Gumbel noise). Shape:
            [V].

    Returns:
        input ids and labels, Shape: [B, L] each; labels are -100 where nothing is predicted.
    """
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids)) | (mask == 0)
    draw, kind = (torch.from_numpy(rng.random(ids.shape)) for _ in range(2))
    if rare is None:
        chosen = (draw < share) & ~special
    else:
        keys = (rare[ids].log() - (-draw.log()).log()).masked_fill(special, -torch.inf).ravel()
        chosen = torch.zeros(ids.numel(), dtype=torch.bool)
        chosen[keys.topk(round(share * int((~special).sum()))).indices] = True
        chosen = chosen.view(ids.shape)
    labels = torch.where(chosen, ids, IGNORED)
    random_ids = torch.from_numpy(rng.integers(0, len(tokenizer), ids.shape))
    masked = torch.where(chosen & (kind < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(chosen & (kind >= 0.9), random_ids, masked), labels


class Batches(Dataset):
    """Step number -> batch of one language: `language`, `input_ids`, `attention_mask`, and `labels` where
    tokens are masked.

    Shape: [batch_size, L] each. Nothing here has state: batch k is the same whenever it is asked for.
    `by_length` puts sequences of like length together, out of `pool` batches at a time, which saves padding;
    a language is drawn for `language_run` steps at a time, or they take turns (`in_turn`); `rare` as
    `mask_tokens` has it.
    """

    def __init__(
        self,
        corpora: Mapping[str, Blocks],
        tokenizer: PreTrainedTokenizerBase,
        *,
        weights: Mapping[str, float],
        batch_size: int,
        steps: int,
        mask_share: float,
        seed: int,
        by_length: bool = True,
        language_run: int = 1,
        pool: int = 16,
        in_turn: bool = False,
        rare: Tensor | None = None,
    ) -> None:
        self._rare = rare
        self._corpora, self._tokenizer, self._mask_share, self._seed = corpora, tokenizer, mask_share, seed
        self._language = (
            sampling.in_turn(list(corpora), steps)
            if in_turn
            else sampling.languages(weights, steps, seed=seed, run=language_run)
        )
        rows = {
            code: iter(
                sampling.epochs(
                    len(blocks),
                    self._language.count(code),
                    batch_size,
                    seed=seed + i,
                    lengths=blocks.lengths if by_length else None,
                    pool=pool,
                )
            )
            for i, (code, blocks) in enumerate(corpora.items())
        }
        self._rows = [next(rows[code]) for code in self._language]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, step: int) -> dict[str, Any]:
        code = self._language[step]
        ids, mask = self._corpora[code].rows(self._rows[step])
        batch: dict[str, Any] = {"language": code, "input_ids": ids, "attention_mask": mask}
        if self._mask_share > 0:
            rng = np.random.Generator(np.random.PCG64([self._seed, step]))
            batch["input_ids"], batch["labels"] = mask_tokens(
                ids, mask, self._tokenizer, self._mask_share, rng, self._rare
            )
        return batch


def held_out(
    corpora: Mapping[str, Blocks],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    mask_share: float,
    most: int = 64,
    rare: Tensor | None = None,
    seed: int = 0xE7A1,
) -> list[dict[str, Any]]:
    """Fixed evaluation batches: at most `most` blocks a language, masked once and for all by `seed`."""
    batches = []
    for code, blocks in corpora.items():
        for start in range(0, min(len(blocks), most), batch_size):
            ids, mask = blocks.rows(np.arange(start, min(start + batch_size, len(blocks), most)))
            batch: dict[str, Any] = {"language": code, "input_ids": ids, "attention_mask": mask}
            if mask_share > 0:
                rng = np.random.Generator(np.random.PCG64([start, seed]))
                batch["input_ids"], batch["labels"] = mask_tokens(ids, mask, tokenizer, mask_share, rng, rare)
            batches.append(batch)
    return batches
