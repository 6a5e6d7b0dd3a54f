"""What a teacher says of masked tokens, written down once: its largest logits, in the ids of a union
vocabulary (Khanuja et al. 2021, section 3).

Notable: a store is a folder of shards of plain little-endian `.npy` files, read through memory maps. A shard
gets its name when it is whole, and which masks it has hangs on the seed and its number, so that a writing
that was killed goes on at the next shard with the same bytes.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.models.architectures import mlm_logits
from bistil.settings.files import read_json
from bistil.store.whole import write_whole
from bistil.text.corpora import IGNORED, Blocks, mask_tokens

SHARD = 64 * 2**20
"""The largest bytes of a shard."""
BATCH = 64
ROOM = 1.2
"""How much of a store's size the disk must have."""
KINDS: Mapping[str, str] = {
    "tokens": "u1",  # masked, padded; w bytes of an id. Shape: [n, L, w]
    "lengths": "<u2",  # real tokens of a row. Shape: [n]
    "offsets": "<i8",  # where the masked tokens of each row begin and end. Shape: [n + 1]
    "positions": "<u2",  # of masked tokens in their row. Shape: [m]
    "gold": "u1",  # Shape: [m, w]
    "ids": "u1",  # of the teacher's largest logits, the largest first. Shape: [m, k, w]
    "below": "u1",  # how far these logits lie below the largest, in STEPS of `range`. Shape: [m, k]
    "range": "<f2",  # how far the last of them does. Shape: [m]
    "loss": "<f4",  # the teacher's mean over a row's masked tokens, in nats. Shape: [n]
    "per_character": "<f4",  # the sum over them, divided by their characters. Shape: [n]
}
STEPS = 255
"""What is followed is a softmax, so distances suffice; in so many steps they cost it about 1e-5 nats."""
IDS = ("tokens", "gold", "ids")
INDEX = "store.json"


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How labels are made.

    Attributes:
        k: how many logits are kept of a masked token.
        masks: how many differently masked copies there are of each block.
        share: the share of tokens that is masked.
        seed: the seed of the masks.
    """

    k: int
    masks: int
    share: float
    seed: int = 1

    def row_bytes(self, length: int, width: int = 3) -> int:
        """Bytes of a row of so many tokens with ids of `width` bytes: an id for each token, 4 + k bytes and 1
        + k ids for a masked one, 18 beside.
        """
        masked = round(self.share * length)
        return width * length + 18 + masked * (4 + self.k + width * (1 + self.k))


def write_labels(
    folder: Path,
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: Blocks,
    places: Tensor,
    settings: LabelSettings,
    *,
    say: Callable[[str, int, int], None] = lambda told, done, of: None,
    shard: int = SHARD,
) -> dict[str, Any]:
    """Write the labels of all blocks, copy after copy; return what `store.json` says.

    Args:
        mlm: the teacher, on its device.
        blocks: text in the teacher's tokens.
        places: the union's id of each of the teacher's, -1 for none. Shape: [V_t].
        say: told the size before anything is written, and each shard that is done.

    Raises:
        InputError: where the disk has too little room, the teacher fewer tokens than k, or a row more tokens
            than positions of two bytes can count.
    """
    rows, length, width = settings.masks * len(blocks), blocks.ids.shape[1], id_bytes(int(places.max()) + 1)
    a_row = settings.row_bytes(length, width)
    _check(folder, settings, rows * a_row, length, int((places >= 0).sum()))
    each = max(1, shard // a_row)
    count = -(-rows // each)
    say(f"{rows * a_row / 2**20:.1f} MiB of stored labels", 0, count)
    mlm.eval()
    for number in range(count):
        place = folder / f"shard-{number:05d}"
        if not place.is_dir():
            wanted = np.arange(number * each, min((number + 1) * each, rows)) % len(blocks)
            made = _shard(mlm, tokenizer, blocks, wanted, places, settings, number)
            growing = place.with_suffix(".partial")
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir(parents=True)
            for name, kind in KINDS.items():
                array = packed(made[name], width) if name in IDS else made[name].astype(kind)
                np.save(growing / f"{name}.npy", array)
            growing.rename(place)
        say("stored labels", number + 1, count)
    shards = [np.load(folder / f"shard-{n:05d}" / "offsets.npy") for n in range(count)]
    told = {
        "k": settings.k,
        "length": length,
        "id_bytes": width,
        "masks": settings.masks,
        "blocks": len(blocks),
        "tokens": int(blocks.lengths.sum()),
        "pad": int(places[int(tokenizer.pad_token_id)]),
        "shards": [[len(one) - 1, int(one[-1])] for one in shards],
    }
    write_whole(folder / INDEX, json.dumps(told, indent=1) + "\n")
    return told


def id_bytes(tokens: int) -> int:
    """How many bytes an id of so many tokens takes."""
    return 2 if tokens <= 2**16 else 3


def packed(ids: np.ndarray, width: int) -> np.ndarray:
    """Ids in so many bytes, the lowest first. Shape: [...] to [..., width]."""
    return ids.astype("<u4")[..., None].view("u1")[..., :width]


def unpacked(stored: np.ndarray) -> np.ndarray:
    """The ids of such bytes. Shape: [..., width] to [...]."""
    found = np.zeros((*stored.shape[:-1], 4), "u1")
    found[..., : stored.shape[-1]] = stored
    return found.view("<u4")[..., 0].astype(np.int64)


def _check(folder: Path, settings: LabelSettings, needed: int, length: int, tokens: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < ROOM * needed:
        raise InputError(
            f"Room for {ROOM * needed / 2**30:.2f} GiB of stored labels was expected at {folder}, but"
            f" {free / 2**30:.2f} GiB are free. Take fewer `lines`, a smaller `k` or fewer `masks`."
        )
    if settings.k > tokens:
        raise InputError(f"A teacher of {tokens} tokens has no {settings.k} largest logits: lower `k`.")
    if length > np.iinfo("<u2").max:
        raise InputError(f"Rows of at most {np.iinfo('<u2').max} tokens can be stored, not of {length}.")


@torch.inference_mode()
def _shard(
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: Blocks,
    wanted: np.ndarray,
    places: Tensor,
    settings: LabelSettings,
    number: int,
) -> dict[str, np.ndarray]:
    """The arrays of one shard, of these rows of the blocks."""
    encoder, device = mlm.base_model, next(mlm.parameters()).device
    characters = _characters(tokenizer, len(places))
    unknown = (places < 0).to(device)
    found: dict[str, list[np.ndarray]] = {name: [] for name in KINDS if name != "offsets"}
    masked: list[np.ndarray] = []
    for start in range(0, len(wanted), BATCH):
        rows = wanted[start : start + BATCH]
        rng = np.random.Generator(np.random.PCG64([settings.seed, number, start]))
        whole, mask = blocks.rows(rows)
        ids, labels = mask_tokens(whole, mask, tokenizer, settings.share, rng)
        at, where = (labels != IGNORED).nonzero(as_tuple=True)
        hidden = encoder(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        logits = mlm_logits(mlm, hidden[at.to(device), where.to(device)]).float()
        logits = logits.masked_fill(unknown, -torch.inf)
        gold = labels[at, where]
        losses = cross_entropy(logits, gold.to(device), reduction="none").cpu()
        values, largest = (one.cpu() for one in logits.topk(settings.k))
        below = values[:, :1] - values
        spread = below[:, -1].half()
        steps = (below * (STEPS / spread.float().clamp(min=1e-6))[:, None]).round().clamp(max=STEPS)
        count, total, size = (
            torch.zeros(len(rows)).index_add_(0, at, one)
            for one in (torch.ones(len(at)), losses, characters[gold])
        )
        padded = torch.full((len(rows), blocks.ids.shape[1]), int(places[int(tokenizer.pad_token_id)]))
        drawn = places[ids].long()  # a random token's id may stand for none
        padded[:, : ids.shape[1]] = drawn.where(drawn >= 0, int(places[int(tokenizer.mask_token_id)]))
        masked.append(count.numpy().astype(np.int64))
        for name, value in {
            "tokens": padded,
            "lengths": torch.from_numpy(blocks.lengths[rows]),
            "positions": where,
            "gold": places[gold],
            "ids": places[largest],
            "below": steps,
            "range": spread,
            "loss": total / count.clamp(min=1),
            "per_character": total / size.clamp(min=1),
        }.items():
            found[name].append(value.numpy())
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    return arrays | {"offsets": np.concatenate([[0], np.cumsum(np.concatenate(masked))])}


def _characters(tokenizer: PreTrainedTokenizerBase, rows: int) -> Tensor:
    """How many characters of text each token is. Shape: [V]."""
    found = torch.zeros(rows)
    for token, i in tokenizer.get_vocab().items():
        found[i] = len(token.removeprefix("##"))
    return found


class Labels:
    """A store as it was written, read through memory maps.

    Raises:
        InputError: where shards are not what `store.json` says, which is told.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        told = read_json(folder / INDEX, dict)
        try:
            self.k, self.length, self.width, self.masks, self.blocks, self.tokens, self.pad = (
                int(told[name]) for name in ("k", "length", "id_bytes", "masks", "blocks", "tokens", "pad")
            )
            self._sizes = [(int(rows), int(masked)) for rows, masked in told["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"The numbers of a store of labels were expected in {folder / INDEX}. Delete the store, and"
                " make it again."
            ) from error
        self._starts = np.cumsum([0, *(rows for rows, _ in self._sizes)])
        if self._starts[-1] != self.masks * self.blocks:
            raise InputError(f"{folder / INDEX} names {self._starts[-1]} rows of {self.masks * self.blocks}.")
        self._shards = [self._opened(number) for number in range(len(self._sizes))]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _opened(self, number: int) -> dict[str, np.ndarray]:
        (n, m), k, width = self._sizes[number], self.k, self.width
        shapes = {"tokens": (n, self.length, width), "offsets": (n + 1,), "positions": (m,), "range": (m,)}
        shapes |= {"gold": (m, width), "ids": (m, k, width), "below": (m, k)}
        found = {}
        for name, kind in KINDS.items():
            path = self.folder / f"shard-{number:05d}" / f"{name}.npy"
            try:
                found[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
                raise InputError(f"An array of stored labels was expected in {path} ({error}).") from error
            if found[name].shape != shapes.get(name, (n,)) or found[name].dtype != np.dtype(kind):
                raise InputError(
                    f"{path} should have the shape {shapes.get(name, (n,))} and the type {kind}, but has"
                    f" {found[name].shape} and {found[name].dtype}. Delete the store, and make it again."
                )
        return found

    @cached_property
    def per_character(self) -> np.ndarray:
        """The teacher's loss per character of each row, infinite where no token is masked. Shape: [n]."""
        rows = ((one["per_character"], np.diff(one["offsets"])) for one in self._shards)
        return np.concatenate([np.where(masked > 0, losses, np.inf) for losses, masked in rows])

    def row(self, index: int) -> dict[str, np.ndarray]:
        """A row's real `tokens` with the `positions` [m], `gold` [m], `ids` [m, k] and `values` [m, k] of
        those that are masked; values are logits less the largest of them.
        """
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        shard, place = self._shards[number], index - int(self._starts[number])
        inside = slice(*shard["offsets"][place : place + 2])
        values = 0 - shard["below"][inside] * (shard["range"][inside].astype(np.float32) / STEPS)[:, None]
        return {
            "tokens": unpacked(shard["tokens"][place, : shard["lengths"][place]]),
            "positions": shard["positions"][inside],
            "gold": unpacked(shard["gold"][inside]),
            "ids": unpacked(shard["ids"][inside]),
            "values": values,
        }
