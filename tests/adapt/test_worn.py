"""What can be worn: one loader for every kind, and a teacher that takes any."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import save_file
from tiny import masked_lm
from torch import Tensor, nn

from bistil.adapt.worn import Worn, load_worn
from bistil.distil.teachers import AdaptedTeacher
from bistil.errors import InputError
from bistil.sft import files
from bistil.sft.delta import SparseDelta, base_hash

NAME = "encoder.layer.0.output.dense.weight"


def delta(base: str) -> SparseDelta:
    entries = (torch.tensor([1, 5]), torch.tensor([0.5, -2.0]))
    return SparseDelta(tensors={NAME: entries}, base=base, full={"head.weight": torch.ones(2)})


def test_a_sparse_delta_is_loaded_as_what_it_is_and_belongs_to_its_base(tmp_path: Path) -> None:
    worn: Worn = delta("a" * 64)
    worn.save(tmp_path / "x")
    found = load_worn(tmp_path / "x", base="a" * 64)
    assert found == worn
    assert (found.base, found.trained, set(found.full)) == ("a" * 64, 2, {"head.weight"})
    with pytest.raises(InputError, match="expected bbb"):
        load_worn(tmp_path / "x", base="b" * 64)


def test_an_adapter_is_no_sparse_delta(tmp_path: Path) -> None:
    header = {"format": 1, "kind": files.BOTTLENECK, "base": "a", "shapes": {}, "notes": {}, "digest": ""}
    files.write(tmp_path / "adapter.safetensors", {}, header)
    with pytest.raises(InputError, match=f"sparse delta was expected .*{files.BOTTLENECK}"):
        SparseDelta.load(tmp_path / "adapter.safetensors")


def test_an_unknown_kind_and_what_is_none_are_refused(tmp_path: Path) -> None:
    header = {"format": 1, "kind": "hat", "base": "a", "shapes": {}, "notes": {}, "digest": ""}
    save_file({"w": torch.ones(1)}, tmp_path / "hat", metadata={"bistil_sft": json.dumps(header)})
    with pytest.raises(InputError, match="holds a hat"):
        load_worn(tmp_path / "hat")
    save_file({"w": torch.ones(1)}, tmp_path / "bare")
    for name in ("bare", "missing"):
        with pytest.raises(InputError, match=name):
            load_worn(tmp_path / name)


class Shift:
    """A worn thing of another kind: a constant on every bias of the first block's last map."""

    base, trained = "c" * 64, 1
    full: Mapping[str, Tensor] = MappingProxyType({})

    class On:
        def __init__(self, bias: Tensor) -> None:
            self.bias, self.old = bias, bias.detach().clone()
            self.again()

        def again(self, *, trained: bool = False) -> None:
            self.bias.detach().add_(1.0)

        def revert(self) -> None:
            self.bias.detach().copy_(self.old)

    def apply(self, encoder: nn.Module) -> "Shift.On":
        return self.On(encoder.get_parameter("encoder.layer.0.output.dense.bias"))

    def save(self, path: Path | str) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path | str, *, base: str | None = None) -> "Shift":
        return cls()


def test_a_teacher_wears_any_kind() -> None:
    encoder = masked_lm(60, layers=2).bert
    base = base_hash(encoder)
    teacher = AdaptedTeacher(encoder, {"a": delta(base), "b": Shift()}, None)
    seen = []
    for language in ("a", "b", None, "b", "a", "bare"):
        teacher.wear(language)
        seen.append(base_hash(encoder))
    assert len({base, seen[0], seen[1]}) == 3
    assert (seen[2], seen[3], seen[4], seen[5]) == (base, seen[1], seen[0], base)
