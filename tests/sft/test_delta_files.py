import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sft_examples import bits, encoder, random_delta

from bistil.errors import InputError
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied, load_composable_sft


def example() -> SparseDelta:
    delta = random_delta(encoder(), 1, 0.05)
    head = {"head.weight": torch.randn(3, 4).t()}
    return SparseDelta(tensors=delta.tensors, base=delta.base, shapes=delta.shapes, full=head, notes={"language": "glv"})


def composable(path: Path, diffs: dict[str, torch.Tensor], absolute: dict[str, torch.Tensor], **extra: object) -> None:
    """Write the published layout: column-major flat positions as gaps, the first a numpy integer."""
    encoded = {}
    for name, dense in diffs.items():
        flat = dense.numpy().reshape(-1, order="F")
        positions = np.flatnonzero(flat)
        steps = [positions[0], *np.diff(positions).tolist()] if len(positions) else []
        encoded[name] = {"size": dense.size(), "index_steps": steps, "values": torch.from_numpy(flat[positions].copy())}
    torch.save({"diffs": encoded, "abs": absolute, **extra}, path)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    delta = example()
    delta.save(tmp_path / "deep" / "glv.safetensors", n_parameters=sum(p.numel() for p in encoder().parameters()))
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
    delta = SparseDelta(tensors={"w": (torch.tensor([1, 2**33]), torch.ones(2))}, base="b", shapes={"w": (2**34,)})
    delta.save(tmp_path / "x")
    assert SparseDelta.load(tmp_path / "x").tensors["w"][0].tolist() == [1, 2**33]


def test_a_foreign_base_is_refused_with_both_hashes(tmp_path: Path) -> None:
    delta, other = example(), base_hash(encoder(seed=9))
    delta.save(tmp_path / "x")
    with pytest.raises(InputError, match=f"{delta.base}.*{other}"):
        SparseDelta.load(tmp_path / "x", base=other)


@pytest.mark.parametrize("damage", ["missing", "empty", "header only", "cut in half", "last byte", "noise", "a bit flipped", "not a delta"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x"
    example().save(path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-40] ^= 1
    versions = {
        "empty": b"", "header only": content[:8], "cut in half": content[: len(content) // 2], "last byte": content[:-1],
        "noise": os.urandom(500), "a bit flipped": bytes(flipped),
    }  # fmt: skip
    if damage == "missing":
        path.unlink()
    elif damage == "not a delta":
        save_file({"w": torch.zeros(2)}, path)
    else:
        path.write_bytes(versions[damage])
    with pytest.raises(InputError):
        SparseDelta.load(path)


def test_a_failed_save_keeps_the_old_file_and_leaves_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = example()
    old.save(tmp_path / "x")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("bistil.sft.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        random_delta(encoder(), 7).save(tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert SparseDelta.load(tmp_path / "x") == old


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_composable_sft_file_is_read(tmp_path: Path, as_folder: bool) -> None:
    model = encoder()
    name, torch_random = "encoder.layer.0.intermediate.dense.weight", torch.Generator().manual_seed(1)
    dense = torch.randn(64, 32, generator=torch_random) * (torch.rand(64, 32, generator=torch_random) < 0.1)
    bias = torch.zeros(64)
    composable(
        tmp_path / "pytorch_diff.bin",
        {f"bert.{name}": dense, "bert.encoder.layer.0.intermediate.dense.bias": bias},
        {"classifier.weight": torch.ones(2, 3)},
    )
    delta = load_composable_sft(tmp_path if as_folder else tmp_path / "pytorch_diff.bin", base=base_hash(model))
    before = bits(model)[name]
    with deltas_applied(model, delta):
        assert torch.equal(model.get_parameter(name), before + dense)
    assert delta.base == base_hash(model)
    assert torch.equal(delta.full["classifier.weight"], torch.ones(2, 3))


def test_tensors_of_three_dimensions_are_read_right(tmp_path: Path) -> None:
    dense = torch.randn(3, 4, 5) * (torch.rand(3, 4, 5) < 0.4)
    composable(tmp_path / "f", {"bert.w": dense}, {})
    positions, values = load_composable_sft(tmp_path / "f", base="b").tensors["w"]
    assert torch.equal(torch.zeros(60).index_put((positions,), values).view(3, 4, 5), dense)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("owned",))


def test_unsafe_foreign_and_broken_composable_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"diffs": {}, "abs": {}, "x": Evil()}, "evil")
    with pytest.raises(InputError, match="unsafe"):
        load_composable_sft("evil", base="b")
    assert not Path("owned").exists()
    composable(Path("head"), {"cls.predictions.bias": torch.ones(2)}, {})
    with pytest.raises(InputError, match=r"'bert\.'.*cls\.predictions"):
        load_composable_sft("head", base="b")
    composable(Path("more"), {"bert.w": torch.ones(2)}, {}, block_sparses={})
    with pytest.raises(InputError, match="block_sparses"):
        load_composable_sft("more", base="b")
    Path("cut").write_bytes(Path("head").read_bytes()[:100])
    torch.save({"body": {}}, "old")
    for name in ("cut", "old", "missing"):
        with pytest.raises(InputError, match="composable-sft"):
            load_composable_sft(name, base="b")
