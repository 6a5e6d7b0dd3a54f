"""Published layouts, written here as their authors' code writes them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sft_examples import bits, encoder
from torch import Tensor

from bistil.errors import InputError
from bistil.sft.delta import base_hash, deltas_applied
from bistil.sft.published import load_composable_sft, load_spiel_peft


def composable(
    path: Path, diffs: dict[str, torch.Tensor], absolute: dict[str, torch.Tensor], **extra: object
) -> None:
    """Write the published layout: column-major flat positions as gaps, the first a numpy integer."""
    encoded = {}
    for name, dense in diffs.items():
        flat = dense.numpy().reshape(-1, order="F")
        positions = np.flatnonzero(flat)
        steps = [positions[0], *np.diff(positions).tolist()] if len(positions) else []
        encoded[name] = {
            "size": dense.size(),
            "index_steps": steps,
            "values": torch.from_numpy(flat[positions].copy()),
        }
    torch.save({"diffs": encoded, "abs": absolute, **extra}, path)


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
    delta = load_composable_sft(
        tmp_path if as_folder else tmp_path / "pytorch_diff.bin", base=base_hash(model)
    )
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


def test_unsafe_foreign_and_broken_composable_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"diffs": {}, "abs": {}, "x": Evil()}, "evil")
    with pytest.raises(InputError, match="unsafe"):
        load_composable_sft("evil", base="b")
    assert not Path("owned").exists()
    composable(Path("head"), {"cls.predictions.bias": torch.ones(2)}, {})
    with pytest.raises(InputError, match=r"'bert\.'.*cls\.predictions"):
        load_composable_sft("head", base="b")
    composable(Path("more"), {"bert.w": torch.ones(2)}, {}, block_sparses={"bert.w": torch.ones(2)})
    with pytest.raises(InputError, match="block_sparses"):
        load_composable_sft("more", base="b")
    Path("cut").write_bytes(Path("head").read_bytes()[:100])
    torch.save({"body": {}}, "old")
    for name in ("cut", "old", "missing"):
        with pytest.raises(InputError, match="composable-sft"):
            load_composable_sft(name, base="b")


LAYER = "encoder.layer.0.intermediate.dense"


def adapter(folder: Path, tensors: dict[str, Tensor], *, safe: bool) -> Path:
    """Write an adapter folder of the fork: names as in its model, without the adapter's own ("default")."""
    named = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    if safe:
        save_file(named, folder / "adapter_model.safetensors")
    else:
        torch.save(named, folder / "adapter_model.bin")
    (folder / "adapter_config.json").write_text('{"peft_type": "SFT"}', encoding="utf-8")
    return folder


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_spiel_of_the_fork_of_peft_is_read(tmp_path: Path, safe: bool, dtype: torch.dtype) -> None:
    model, generator = encoder(), torch.Generator().manual_seed(2)
    positions = torch.randperm(64 * 32, generator=generator)[:50].int()  # unsorted, as after growing
    values = torch.randn(50, generator=generator).to(dtype)
    parts = {f"bert.{LAYER}.sft_delta.indices": positions, f"bert.{LAYER}.sft_delta.values": values}
    adapter(tmp_path, {**parts, "classifier.weight": torch.ones(2, 3)}, safe=safe)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    delta = load_spiel_peft(tmp_path, base=base_hash(model), shapes=shapes, prefix="base_model.model.bert.")
    expected = bits(model)[f"{LAYER}.weight"].view(-1).clone()
    expected[positions.long()] += values.float()
    with deltas_applied(model, delta):
        assert torch.equal(model.get_parameter(f"{LAYER}.weight").view(-1), expected)
    assert list(delta.full) == ["classifier.weight"]
    assert delta.shapes == {f"{LAYER}.weight": (64, 32)}


def test_a_spiel_that_does_not_fit_or_is_unsafe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = {"model.w.sft_delta.indices": torch.tensor([0, 1]), "model.w.sft_delta.values": torch.ones(2)}
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({"lora_A.weight": torch.ones(2)}, "has base_model.model.lora_A"),
        ({f"bert.{name}": tensor for name, tensor in one.items()}, "Give the prefix"),
        ({"model.w.sft_delta.values": torch.ones(2)}, "without positions"),
        ({**one, "model.w.sft_delta.values": torch.ones(1)}, "not as many"),
        ({**one, "model.w.sft_delta.indices": torch.tensor([1, 1])}, "strictly increasing"),
    ]
    for number, (tensors, message) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(InputError, match=message):
            load_spiel_peft(adapter(folder, tensors, safe=False), base="b")
    (tmp_path / "fit").mkdir()
    with pytest.raises(InputError, match="outside a tensor"):
        load_spiel_peft(adapter(tmp_path / "fit", one, safe=True), base="b", shapes={"w.weight": (1, 1)})
    torch.save({"x": Evil()}, "evil.bin")
    for name in ("evil.bin", "missing.bin", "missing.safetensors"):
        with pytest.raises(InputError, match="unsafe"):
            load_spiel_peft(name, base="b")
    assert not Path("owned").exists()


@pytest.mark.parametrize("part", ["diffs", "abs"])
def test_parts_that_are_missing_or_empty_are_no_reason_to_refuse(part: str, tmp_path: Path) -> None:
    composable(tmp_path / "whole", {"bert.w": torch.ones(2)}, {"head.w": torch.ones(3)}, block_sparses={})
    content = torch.load(tmp_path / "whole", weights_only=False)
    torch.save({name: value for name, value in content.items() if name != part}, tmp_path / "one")
    whole, one = (load_composable_sft(tmp_path / name, base="b") for name in ("whole", "one"))
    assert (set(whole.tensors), set(whole.full)) == ({"w"}, {"head.w"})
    assert (set(one.tensors), set(one.full)) == (set(), {"head.w"}) if part == "diffs" else ({"w"}, set())


def test_a_file_without_any_tensor_is_refused(tmp_path: Path) -> None:
    composable(tmp_path / "none", {}, {}, block_sparses={})
    with pytest.raises(InputError, match="holds no tensor"):
        load_composable_sft(tmp_path / "none", base="b")
