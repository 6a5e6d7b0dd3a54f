import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sft_examples import encoder, random_delta

from bistil.errors import InputError
from bistil.sft.delta import SparseDelta, base_hash


def example() -> SparseDelta:
    delta = random_delta(encoder(), 1, 0.05)
    head = {"head.weight": torch.randn(3, 4).t()}
    return SparseDelta(
        tensors=delta.tensors, base=delta.base, shapes=delta.shapes, full=head, notes={"language": "glv"}
    )


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    delta = example()
    delta.save(
        tmp_path / "deep" / "glv.safetensors", n_parameters=sum(p.numel() for p in encoder().parameters())
    )
    read = SparseDelta.load(tmp_path / "deep" / "glv.safetensors", base=base_hash(encoder()))
    assert read == delta
    assert read.shapes == delta.shapes
    assert read.notes == {"language": "glv"}
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["glv.safetensors"]


def test_an_empty_delta_is_a_file_too(tmp_path: Path) -> None:
    empty = SparseDelta(tensors={}, base="b")
    empty.save(tmp_path / "x")
    assert SparseDelta.load(tmp_path / "x") == empty


def test_small_positions_take_eight_bytes_an_entry(tmp_path: Path) -> None:
    delta = random_delta(encoder(), 1, 0.9)
    delta.save(tmp_path / "x")
    assert (tmp_path / "x").stat().st_size < 8 * delta.size + 400 * len(delta.tensors)


def test_positions_beyond_int32_survive(tmp_path: Path) -> None:
    delta = SparseDelta(
        tensors={"w": (torch.tensor([1, 2**33]), torch.ones(2))}, base="b", shapes={"w": (2**34,)}
    )
    delta.save(tmp_path / "x")
    assert SparseDelta.load(tmp_path / "x").tensors["w"][0].tolist() == [1, 2**33]


def test_a_foreign_base_is_refused_with_both_hashes(tmp_path: Path) -> None:
    delta, other = example(), base_hash(encoder(seed=9))
    delta.save(tmp_path / "x")
    with pytest.raises(InputError, match=f"{delta.base}.*{other}"):
        SparseDelta.load(tmp_path / "x", base=other)


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "header only", "cut in half", "last byte", "noise", "a bit flipped", "not a delta"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x"
    example().save(path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-40] ^= 1
    versions = {
        "empty": b"",
        "header only": content[:8],
        "cut in half": content[: len(content) // 2],
        "last byte": content[:-1],
        "noise": os.urandom(500),
        "a bit flipped": bytes(flipped),
    }
    if damage == "missing":
        path.unlink()
    elif damage == "not a delta":
        save_file({"w": torch.zeros(2)}, path)
    else:
        path.write_bytes(versions[damage])
    with pytest.raises(InputError):
        SparseDelta.load(path)


def test_a_failed_save_keeps_the_old_file_and_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = example()
    old.save(tmp_path / "x")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("bistil.sft.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        random_delta(encoder(), 7).save(tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert SparseDelta.load(tmp_path / "x") == old
