"""What can be worn: a change of an encoder that is put on, taken off without a trace, saved and loaded.

Notable: a file says of itself which kind it holds, so whoever loads, wears or keeps one never asks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from torch import Tensor
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.sft import files
from bistil.sft.bottleneck import Adapter
from bistil.sft.delta import SparseDelta
from bistil.sft.generator import load_generated

WORN = "delta.safetensors"
"""The file of an artefact that holds what its training made to be worn, of whichever kind."""


class Handle(Protocol):
    """Something on an encoder."""

    def revert(self) -> None:
        """Take it off; the encoder is then bit for bit as it was."""

    def again(self, *, trained: bool = False) -> None:
        """Put it on the same encoder once more, after `revert`; `trained` where that has changed since."""


class Worn(Protocol):
    """Something to put on an encoder, with the head that was trained beside it."""

    @property
    def base(self) -> str:
        """`base_hash` of the encoder that it belongs to."""

    @property
    def full(self) -> Mapping[str, Tensor]:
        """The head's tensors under names that begin with `head.`; empty where there is no head."""

    @property
    def trained(self) -> int:
        """How many values of the encoder were trained."""

    def apply(self, encoder: PreTrainedModel) -> Handle:
        """Put it on the encoder, in place.

        Raises:
            InputError: it does not fit; the encoder is then untouched.
        """

    def save(self, path: Path | str) -> None:
        """Write one safetensors file whose header says what kind it is."""

    @classmethod
    def load(cls, path: Path | str, *, base: str | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: as `load_worn`.
        """


def load_worn(path: Path | str, *, base: str | None = None) -> Worn:
    """Read what can be worn from a file, of whichever kind it is.

    Args:
        base: `base_hash` of the encoder that will wear it, None to leave that unchecked.

    Raises:
        InputError: the file is missing, damaged or of an unknown kind, or belongs to another base.
    """
    match files.read_header(Path(path))["kind"]:
        case files.SPARSE:
            return SparseDelta.load(path, base=base)
        case files.BOTTLENECK:
            return Adapter.load(path, base=base)
        case files.GENERATED:
            return load_generated(Path(path), base=base)
        case kind:
            raise InputError(f"{path} holds a {kind}, which this bistil does not know: update bistil.")
