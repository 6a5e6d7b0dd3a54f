"""Sparse fine-tunings that others have published: composable-sft's files and those of SpIEL's fork of peft,
read safely.

Notable: nothing is ever unpickled beyond tensors, containers and numbers. Neither layout says which base it
belongs to, so the caller does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from bistil.errors import InputError
from bistil.sft.delta import SparseDelta

_SPIEL = ".sft_delta."


def load_composable_sft(path: Path | str, *, base: str, prefix: str = "bert.") -> SparseDelta:
    """Read a sparse fine-tuning of composable-sft (`pytorch_diff.bin`, or the folder with it), safely.

    Args:
        path: the file or its folder.
        base: `base_hash` of the encoder it was made from; the file itself does not say.
        prefix: what its names have before the encoder's ("bert.", "roberta."); its "abs" tensors (heads) keep
            their names.

    Raises:
        InputError: the file is missing, damaged or unsafe, or a sparse tensor lies outside the encoder.
    """
    file = Path(path) / "pytorch_diff.bin" if Path(path).is_dir() else Path(path)
    diffs, full = _read_composable(file)
    foreign = sorted(name for name in diffs if not name.startswith(prefix))
    if foreign:
        raise InputError(
            f"{file} has sparse tensors whose names do not begin with {prefix!r}: {', '.join(foreign[:5])}."
            " Give their prefix."
        )
    bare = {name.removeprefix(prefix): parts for name, parts in diffs.items()}
    return SparseDelta(
        tensors={name: (positions, values) for name, (_, positions, values) in bare.items()},
        base=base,
        full=full,
        shapes={name: shape for name, (shape, _, _) in bare.items()},
        notes={"origin": "composable-sft"},
    )


def load_spiel_peft(
    path: Path | str,
    *,
    base: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    prefix: str = "base_model.model.model.",
) -> SparseDelta:
    """Read a SpIEL of Ansell's fork of peft (`adapter_model.safetensors` or `.bin`, or the folder with it),
    safely.

    The file holds `….sft_delta.values` and `….sft_delta.indices`, flat row-major positions in any order, for
    each linear layer, and the whole tensors of modules that were trained in full, which become heads under
    their own names.

    Args:
        path: the file or its folder.
        base: `base_hash` of the encoder it was made from.
        shapes: the encoder's tensors' shapes by name, for checks on reading; the file does not say. Applying
            checks the range anyway.
        prefix: what its names have before the encoder's: the fork's "base_model.model." and the model's own
            ("model." of Llama).

    Raises:
        InputError: the file is missing, damaged or unsafe, values or positions lack their counterpart or do
            not fit, or names have another prefix.
    """
    file = _adapter_file(Path(path))
    stored = _read_adapter(file)
    parts = {name: tensor for name, tensor in stored.items() if _SPIEL in name}
    foreign = sorted(name for name in parts if not name.startswith(prefix))
    if not parts or foreign:
        raise InputError(
            f"Expected SpIEL's '{prefix}….sft_delta.values' and '.indices' in {file}; it has"
            f" {', '.join((foreign or sorted(stored))[:5])}. Give the prefix of its names."
        )
    modules = sorted({name.partition(_SPIEL)[0] for name in parts})
    tensors = {}
    for module in modules:
        try:
            positions, values = (
                parts[f"{module}{_SPIEL}indices"].long(),
                parts[f"{module}{_SPIEL}values"].float(),
            )
            order = positions.argsort()
            tensors[f"{module.removeprefix(prefix)}.weight"] = (positions[order], values[order])
        except (KeyError, IndexError, RuntimeError) as error:
            raise InputError(
                f"{file} has values without positions, or not as many, for {module} ({error})."
            ) from error
    return SparseDelta(
        tensors=tensors,
        base=base,
        full={
            name.removeprefix("base_model.model."): tensor
            for name, tensor in stored.items()
            if name not in parts
        },
        shapes={name: shape for name, shape in (shapes or {}).items() if name in tensors},
        notes={"origin": "SpIEL's fork of peft"},
    )


def _adapter_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    safe = path / "adapter_model.safetensors"
    return safe if safe.exists() else path / "adapter_model.bin"


def _read_adapter(file: Path) -> dict[str, Tensor]:
    try:
        found = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
        return {str(name): tensor.detach() for name, tensor in found.items()}
    except MemoryError:
        raise
    except Exception as error:  # the unpickler, the zip reader and the layout each fail in their own way
        raise _refused(f"tensors by name in {file}", error) from error


def _read_composable(
    path: Path,
) -> tuple[dict[str, tuple[tuple[int, ...], Tensor, Tensor]], dict[str, Tensor]]:
    """Read composable-sft's `pytorch_diff.bin`: {name: (shape, sorted row-major positions, values)} and its
    full ("abs") tensors.

    The file holds {"diffs": {name: {"size", "index_steps", "values"}}, "abs": {name: tensor}}, either of
    which may be missing, and at times other parts with nothing in them, such as "block_sparses";
    `index_steps` are the gaps between sorted column-major flat positions, the first counted from 0, and that
    first one is a numpy scalar (the one thing beyond torch's own safe list that is let through).

    Raises:
        InputError: the file is missing, damaged, holds anything but such data, or has another layout.
    """
    scalar: Any = np.int64(0).__reduce__()[0]
    allowed: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        type(np.dtype(np.int64)),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        diffs = {name: _row_major(encoded) for name, encoded in content.get("diffs", {}).items()}
        full = {name: tensor.detach() for name, tensor in content.get("abs", {}).items()}
        extra = {name for name, part in content.items() if len(part)} - {"diffs", "abs"}
        if not diffs.keys() | full.keys() | extra:
            raise ValueError("it holds no tensor")
    except MemoryError:
        raise
    except Exception as error:  # the unpickler, the zip reader and the layout each fail in their own way
        what = f"composable-sft's pytorch_diff.bin with 'diffs' or 'abs' at {path}"
        raise _refused(what, error) from error
    if extra:
        raise InputError(
            f"{path} also holds {sorted(extra)}, which a sparse delta cannot carry: only 'diffs' and 'abs'"
            " can be read."
        )
    return diffs, full


def _refused(expected: str, error: Exception) -> InputError:
    return InputError(
        f"Expected {expected}; it is missing, damaged, unsafe or of another layout ({type(error).__name__}:"
        f" {str(error)[:200]})."
    )


def _row_major(encoded: Mapping[str, Any]) -> tuple[tuple[int, ...], Tensor, Tensor]:
    shape = tuple(int(length) for length in encoded["size"])
    column_major = np.cumsum(np.asarray(encoded["index_steps"], dtype=np.int64))
    positions = np.ravel_multi_index(np.unravel_index(column_major, shape, order="F"), shape).astype(np.int64)
    order = np.argsort(positions)
    return shape, torch.from_numpy(positions[order]), encoded["values"].float()[torch.from_numpy(order)]
