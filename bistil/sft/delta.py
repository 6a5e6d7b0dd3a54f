"""SparseDelta: a sparse fine-tuning as an immutable value (phi in LT-SFT Alg. 1; thesis ch. 4).

Notable: applying keeps the values it overwrites, so reverting restores the encoder bit for bit (subtracting
would not); deltas on one encoder are reverted in LIFO order, and anything else is an error. Names are those
of `encoder.state_dict()`, without a model prefix."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft import files
from bistil.sft.applied import Applied, put_back, with_values
from bistil.sft.checks import check_base, check_same_layout, checked
from bistil.sft.flat import digest, read_at


def base_hash(encoder: nn.Module) -> str:
    """Return the sha256 (hex) over the encoder's floating-point state: sorted names, types, shapes, bytes.

    The same weights give the same hash after save_pretrained and from_pretrained; the same weights in another
    precision do not."""
    return digest(
        {name: tensor for name, tensor in encoder.state_dict().items() if tensor.is_floating_point()}
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseDelta:
    """Differences to a few entries of an encoder, with whole head tensors carried along.

    Attributes:
        tensors: for each tensor name, strictly increasing flat row-major positions (int64) and differences
            (float32). Shape: [K_n], [K_n].
        base: `base_hash` of the encoder that the differences belong to.
        full: whole tensors of heads by name ("head.weight"); carried and stored, not applied to the encoder.
        shapes: shape of the encoder's tensor by name; where given, applying insists on it.
        notes: free text about where the delta comes from.

    Raises:
        InputError: positions are unsorted, repeated or out of range, lengths differ, or a value is not
            finite.
    """

    tensors: Mapping[str, tuple[Tensor, Tensor]]
    base: str
    full: Mapping[str, Tensor] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: tuple(self.shapes[name]) for name in sorted(self.tensors) if name in self.shapes}
        owned = {name: checked(name, *self.tensors[name], shapes.get(name)) for name in sorted(self.tensors)}
        full = {
            name: self.full[name].detach().to("cpu", copy=True).contiguous() for name in sorted(self.full)
        }
        own: dict[str, dict[str, Any]] = {
            "tensors": owned,
            "full": full,
            "shapes": shapes,
            "notes": dict(self.notes),
        }
        for key, mapping in own.items():
            object.__setattr__(self, key, MappingProxyType(mapping))

    @classmethod
    def between(
        cls,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        *,
        base: str,
        full: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """Return the entries in which `after` differs from `before` (floating-point tensors only), computed
        in float32 or wider.

        Raises:
            InputError: names or shapes differ, or a difference is not finite.
        """
        check_same_layout(before, after)
        tensors, shapes = {}, {}
        for name in sorted(before):
            if not before[name].is_floating_point():
                continue
            wide = torch.promote_types(before[name].dtype, torch.float32)
            difference = (after[name].detach().to(wide) - before[name].detach().to(wide)).float().reshape(-1)
            positions = difference.nonzero().squeeze(1)
            if len(positions):
                tensors[name], shapes[name] = (positions, difference[positions]), tuple(before[name].shape)
        return cls(tensors=tensors, base=base, full=full or {}, shapes=shapes)

    @property
    def size(self) -> int:
        """The number of entries K over all tensors; head tensors do not count."""
        return sum(len(positions) for positions, _ in self.tensors.values())

    @property
    def trained(self) -> int:
        """How many values were trained: the entries, or what the notes say under `trainable` where a method
        changes more values than it trains.
        """
        return int(self.notes.get("trainable", self.size))

    def density(self, n_parameters: int) -> float:
        """Return K / n_parameters, a share between 0 and 1.

        Raises:
            InputError: there are fewer parameters than entries.
        """
        if n_parameters < max(self.size, 1):
            raise InputError(
                f"Expected the encoder's number of parameters, at least {max(self.size, 1)}; got"
                f" {n_parameters}."
            )
        return self.size / n_parameters

    def overlap(self, other: "SparseDelta") -> float:
        """Return the share of the smaller support that both deltas have (thesis Fig. 4.4); 0 when either is
        empty.
        """
        names = self.tensors.keys() & other.tensors.keys()
        pairs = [(self.tensors[name][0].numpy(), other.tensors[name][0].numpy()) for name in names]
        common = sum(len(np.intersect1d(mine, theirs, assume_unique=True)) for mine, theirs in pairs)
        return common / max(min(self.size, other.size), 1)

    def __add__(self, other: "SparseDelta") -> "SparseDelta":
        """Compose two deltas of one base: supports united, values summed in float32 (thesis ch. 4: theta +
        phi_T + phi_L).

        Raises:
            InputError: the bases differ, or a shape, or a head tensor of the same name.
        """
        check_base(other.base, self.base, "the second delta of a sum")
        for name in self.shapes.keys() & other.shapes.keys():
            if self.shapes[name] != other.shapes[name]:
                raise InputError(
                    f"Cannot add deltas: {name} has shape {self.shapes[name]} in one and {other.shapes[name]}"
                    " in the other."
                )
        for name in self.full.keys() & other.full.keys():
            if not torch.equal(self.full[name], other.full[name]):
                raise InputError(
                    f"Cannot add deltas: both carry a head tensor {name}, and they differ; keep one head."
                )
        tensors = {**self.tensors, **other.tensors}
        for name in self.tensors.keys() & other.tensors.keys():
            tensors[name] = _united(self.tensors[name], other.tensors[name])
        both = {key: {**getattr(self, key), **getattr(other, key)} for key in ("full", "shapes", "notes")}
        return SparseDelta(tensors=tensors, base=self.base, **both)

    def __eq__(self, other: object) -> bool:
        """Equal base, support, values and head tensors; notes and shapes do not count."""
        if not isinstance(other, SparseDelta):
            return NotImplemented
        mine, theirs = self._stored(), other._stored()
        return (
            self.base == other.base
            and mine.keys() == theirs.keys()
            and all(torch.equal(mine[name], theirs[name]) for name in mine)
        )

    __hash__ = None  # type: ignore[assignment]

    def apply(self, encoder: nn.Module) -> Applied:
        """Add the values to the encoder in place (new = old + value, rounded once to the encoder's type) and
        return the handle to revert.

        The encoder's hash is not computed here, since that reads every weight: give `base=base_hash(encoder)`
        to `load` for that.

        Raises:
            InputError: a name is unknown, a shape differs or a position is out of range; the encoder is then
                untouched.
        """
        targets = self._targets(encoder)
        places = {name: self.tensors[name][0].to(targets[name].device) for name in targets}
        saved = {name: (places[name], read_at(tensor, places[name])) for name, tensor in targets.items()}
        worn = with_values(saved, self.tensors)
        try:
            put_back(targets, worn)
        except BaseException:
            put_back(targets, saved)
            raise
        return Applied(encoder, saved, worn, self.tensors)

    def save(self, path: Path | str, *, n_parameters: int | None = None) -> None:
        """Write one safetensors file, atomically; `n_parameters` is the encoder's, for the density in the
        header (null without).
        """
        density = None if n_parameters is None else self.density(n_parameters)
        header = {
            "base": self.base,
            "size": self.size,
            "density": density,
            "shapes": dict(self.shapes),
            "notes": dict(self.notes),
        }
        files.write(Path(path), self._stored(), header)

    @classmethod
    def load(cls, path: Path | str, *, base: str | None = None) -> Self:
        """Read a delta written by `save`.

        Raises:
            InputError: the file is missing, damaged or of another kind, or `base` is given and the delta
                belongs to another base (both hashes are named).
        """
        header = files.read_header(Path(path))
        if header["kind"] != files.SPARSE:
            raise InputError(f"A sparse delta was expected in {path}, but it holds {header['kind']!r}.")
        if base is not None:
            check_base(header["base"], base, str(path))
        stored = files.read_tensors(Path(path), header["digest"])
        try:
            names = [key.removeprefix("indices/") for key in stored if key.startswith("indices/")]
            tensors = {name: (stored[f"indices/{name}"], stored[f"values/{name}"]) for name in names}
        except KeyError as error:
            raise InputError(
                f"{path} has positions without values ({error}): it was not written by SparseDelta.save."
            ) from error
        full = {
            key.removeprefix("full/"): tensor for key, tensor in stored.items() if key.startswith("full/")
        }
        return cls(
            tensors=tensors, base=header["base"], full=full, shapes=header["shapes"], notes=header["notes"]
        )

    def _stored(self) -> dict[str, Tensor]:
        stored = {f"full/{name}": tensor for name, tensor in self.full.items()}
        for name, (positions, values) in self.tensors.items():
            small = len(positions) == 0 or int(positions[-1]) <= torch.iinfo(torch.int32).max
            stored[f"indices/{name}"] = positions.to(torch.int32) if small else positions
            stored[f"values/{name}"] = values
        return stored

    def _targets(self, encoder: nn.Module) -> dict[str, Tensor]:
        state = encoder.state_dict()
        unknown = sorted(self.tensors.keys() - state.keys())
        if unknown:
            raise InputError(
                f"The delta names tensors that the encoder {type(encoder).__name__} does not have:"
                f" {', '.join(unknown[:5])} ({len(unknown)} in all). Apply it to the bare encoder (names"
                " without a model prefix) that it was made from."
            )
        for name, (positions, _) in self.tensors.items():
            shape = tuple(state[name].shape)
            if self.shapes.get(name, shape) != shape:
                raise InputError(
                    f"{name} has shape {shape} in the encoder, the delta is for {self.shapes[name]}: take the"
                    " encoder it was made from."
                )
            if len(positions) and int(positions[-1]) >= state[name].numel():
                raise InputError(
                    f"The delta has position {int(positions[-1])} in {name}, which has only"
                    f" {state[name].numel()} entries."
                )
        targets = {name: state[name] for name in self.tensors}
        if len({tensor.data_ptr() for tensor in targets.values()}) < len(targets):
            raise InputError(
                "Two names of the delta are one tied tensor in the encoder, which would be changed twice:"
                " keep one name."
            )
        return targets


@contextmanager
def deltas_applied(encoder: nn.Module, *deltas: SparseDelta) -> Iterator[nn.Module]:
    """Apply `deltas` in order inside the block, and restore the encoder bit for bit after it, whatever
    happens in it.
    """
    with ExitStack() as stack:
        for delta in deltas:
            stack.callback(delta.apply(encoder).revert)
        yield encoder


def _united(mine: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    positions, slot = torch.cat([mine[0], theirs[0]]).unique(sorted=True, return_inverse=True)
    return positions, torch.zeros(len(positions)).index_add_(0, slot, torch.cat([mine[1], theirs[1]]))
