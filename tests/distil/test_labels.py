"""Stored labels: what is written is what the teacher says, whole shards only, and damage is told."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import masked_lm
from torch.nn.functional import cross_entropy

from bistil.distil import labels
from bistil.distil.labels import KINDS, Labels, LabelSettings, write_labels
from bistil.distil.merge import collated
from bistil.errors import InputError
from bistil.store.artefacts import file_id
from bistil.text.corpora import Blocks, lines_to_blocks, read_lines

SETTINGS = LabelSettings(k=5, masks=2, share=0.3)
ROWS, LENGTH = 70, 24


@pytest.fixture(scope="module")
def blocks(world: Path, wordpiece) -> Blocks:
    return lines_to_blocks(wordpiece, read_lines(world / "corpora" / "qaa.txt", ROWS), LENGTH)


def places(wordpiece) -> torch.Tensor:
    """Another numbering, without the last token."""
    found = torch.arange(len(wordpiece), dtype=torch.int32).flip(0)
    found[-1] = -1
    return found


def written(folder: Path, wordpiece, blocks: Blocks, **changes: Any) -> dict[str, Any]:
    settings = {"shard": SETTINGS.row_bytes(LENGTH, 2) * 40, **changes}
    return write_labels(
        folder, masked_lm(len(wordpiece)), wordpiece, blocks, places(wordpiece), SETTINGS, **settings
    )


@pytest.fixture(scope="module")
def store(wordpiece, blocks, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    written(folder, wordpiece, blocks)
    return folder


def test_a_row_of_which_no_token_is_masked_has_no_loss(wordpiece, blocks, tmp_path: Path) -> None:
    few = LabelSettings(k=5, masks=2, share=0.05)
    map_ = places(wordpiece)
    write_labels(tmp_path, masked_lm(len(wordpiece)), wordpiece, blocks, map_, few, shard=10**6)
    found = Labels(tmp_path)
    masked = np.array([len(found.row(index)["gold"]) for index in range(len(found))])
    assert (masked == 0).any()
    assert (np.isinf(found.per_character) == (masked == 0)).all()


def test_what_is_stored_is_what_the_teacher_says(store: Path, wordpiece, blocks: Blocks) -> None:
    found, mlm, map_ = Labels(store), masked_lm(len(wordpiece)), places(wordpiece)
    back = {int(new): old for old, new in enumerate(map_.tolist())}
    assert (len(found), found.k, found.blocks) == (2 * ROWS, 5, ROWS)
    for index in (0, 39, 40, 139):
        row = found.row(index)
        ids = torch.tensor([[back[int(i)] for i in row["tokens"]]])
        with torch.no_grad():
            logits = mlm(ids).logits[0, row["positions"]]
        logits[:, map_ < 0] = -torch.inf
        values, largest = logits.topk(5)
        assert np.array_equal(row["ids"], map_[largest].numpy())
        below = (values - values[:, :1]).numpy()
        assert np.allclose(row["values"], below, atol=below.min() / -400)
        followed = torch.from_numpy(row["values"]).log_softmax(-1)
        assert (values.softmax(-1) * (values.log_softmax(-1) - followed)).sum(-1).abs().max() < 1e-4
        gold = torch.tensor([back[int(i)] for i in row["gold"]])
        whole = torch.from_numpy(blocks.ids[index % ROWS].astype(np.int64))
        assert torch.equal(whole[row["positions"]], gold)
        text = [wordpiece.convert_ids_to_tokens(int(i)).removeprefix("##") for i in gold]
        loss = float(cross_entropy(logits, gold, reduction="sum"))
        assert found.per_character[index] == pytest.approx(loss / len("".join(text)), rel=1e-4)


@pytest.mark.parametrize(("tokens", "width"), [(2**16, 2), (2**16 + 1, 3)])
def test_ids_take_the_bytes_that_their_number_needs(tokens: int, width: int) -> None:
    ids = np.array([[0, 255, 256], [65535, 7, tokens - 1]])
    assert labels.id_bytes(tokens) == width
    stored = labels.packed(ids, width)
    assert (stored.dtype, stored.shape) == (np.uint8, (2, 3, width))
    assert np.array_equal(labels.unpacked(stored), ids)


def test_copies_are_masked_differently_and_a_byte_count_is_near_the_real_one(store: Path) -> None:
    found = Labels(store)
    same = [np.array_equal(found.row(i)["positions"], found.row(i + ROWS)["positions"]) for i in range(ROWS)]
    assert sum(same) < ROWS / 3
    bytes_ = sum(path.stat().st_size - 128 for path in store.rglob("*.npy"))
    assert bytes_ < 2 * ROWS * SETTINGS.row_bytes(LENGTH, 2)  # full rows
    sizes = json.loads((store / "store.json").read_text())["shards"]
    assert [rows for rows, _ in sizes] == [40, 40, 40, 20]
    masked = sum(m for _, m in sizes)
    assert bytes_ == 2 * ROWS * (2 * LENGTH + 18) + 8 * len(sizes) + masked * (2 + 2 + 2 + 5 * (1 + 2))


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_a_killed_writing_goes_on_with_the_same_bytes(
    store: Path, wordpiece, blocks, tmp_path: Path, monkeypatch, whole: int
) -> None:
    made = labels._shard

    def stopping(*arguments: Any) -> Any:
        if arguments[-1] == whole:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(labels, "_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "s", wordpiece, blocks)
    (tmp_path / "s" / f"shard-{whole:05d}.partial").mkdir()  # killed in the middle of one
    assert len(list((tmp_path / "s").glob("shard-*[0-9]"))) == whole
    assert not (tmp_path / "s" / "store.json").exists()
    monkeypatch.setattr(labels, "_shard", made)
    told: list[Any] = []
    written(tmp_path / "s", wordpiece, blocks, say=lambda *one: told.append(one))
    assert told[0][0].endswith("MiB of stored labels")
    assert file_id(tmp_path / "s") == file_id(store)


def test_too_little_room_and_too_few_tokens_are_said_first(wordpiece, blocks, tmp_path, monkeypatch) -> None:
    free = 2 * ROWS * SETTINGS.row_bytes(LENGTH, 2)
    monkeypatch.setattr(labels.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(InputError, match="Room for"):
        written(tmp_path / "a", wordpiece, blocks)
    monkeypatch.undo()
    with pytest.raises(InputError, match="has no 1000 largest"):
        write_labels(
            tmp_path / "b",
            masked_lm(len(wordpiece)),
            wordpiece,
            blocks,
            places(wordpiece),
            LabelSettings(k=1000, masks=1, share=0.3),
        )
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_store_is_refused_and_says_where(store: Path, tmp_path: Path, name: str) -> None:
    for cut in (0, 7, 100, -1):
        folder = tmp_path / f"{name}{cut}"
        shutil.copytree(store, folder)
        path = folder / "shard-00001" / f"{name}.npy"
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(InputError, match=f"shard-00001/{name}.npy"):
            Labels(folder)
    told = json.loads((store / "store.json").read_text())
    for change in (
        {"shards": told["shards"][:-1]},
        {"k": 4},
        {"id_bytes": 3},
        {"blocks": None},
        {"masks": 3},
    ):
        (folder / "store.json").write_text(json.dumps({**told, **change}))
        with pytest.raises(InputError):
            Labels(folder)


def test_rows_side_by_side_keep_what_is_theirs(store: Path) -> None:
    found = Labels(store)
    rows = [found.row(i) for i in range(6)]
    batch = collated(rows, found.pad)
    for number, row in enumerate(rows):
        count, length = len(row["gold"]), len(row["tokens"])
        assert batch["attention_mask"][number].sum() == length
        assert (batch["input_ids"][number, length:] == found.pad).all()
        assert (batch["gold"][number, count:] == -100).all()
        assert np.array_equal(batch["ids"][number, :count], row["ids"])
    assert all(len(one) == 6 for one in batch.values())
    assert all(a["positions"] is not b["positions"] for a, b in pairwise(rows))


def test_a_random_token_that_is_none_is_stored_as_the_mask(wordpiece, blocks, tmp_path: Path) -> None:
    """A vocabulary with a doubled line has a number that stands for no token."""
    map_ = places(wordpiece)
    map_[torch.arange(5, len(map_), 2)] = -1
    keep = np.isin(blocks.ids, np.flatnonzero(map_.numpy() >= 0)).all(axis=1)
    ids = np.where(map_.numpy()[blocks.ids] >= 0, blocks.ids, wordpiece.unk_token_id)
    known = Blocks(ids, blocks.lengths)
    assert not keep.all()
    settings = LabelSettings(k=5, masks=2, share=0.9)
    write_labels(tmp_path, masked_lm(len(wordpiece)), wordpiece, known, map_, settings, shard=10**6)
    found = Labels(tmp_path)
    assert min(int(found.row(index)["tokens"].min()) for index in range(len(found))) >= 0
