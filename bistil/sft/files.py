"""Files of sparse deltas: one safetensors file with a JSON header, and a safe reader of composable-sft's `pytorch_diff.bin`.

Notable: a file appears under its name only when it is complete (write aside, then rename), and its header holds a sha256 of the tensors,
so that a flipped bit is found as surely as a truncation. Nothing is ever unpickled beyond tensors, containers and numbers.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bistil.errors import InputError
from bistil.sft.flat import digest

FORMAT = 1
_KEY = "bistil_sft"


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON `header` to `path`, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    complete = {**header, "format": FORMAT, "digest": digest(tensors)}
    try:
        save_file(dict(tensors), aside, metadata={_KEY: json.dumps(complete, sort_keys=True)})
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a delta file without reading its tensors.

    Raises:
        InputError: the file is missing, truncated, not safetensors, not a delta, or of a later format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
        if header["format"] > FORMAT:
            raise InputError(f"{path} is a delta file of format {header['format']}, this bistil reads up to {FORMAT}: update bistil.")
        json_types = {"base": str, "shapes": dict, "notes": dict, "digest": str}
        if not all(isinstance(header[key], kind) for key, kind in json_types.items()):
            raise TypeError("a header field has the wrong type")
        sizes = [size for shape in header["shapes"].values() for size in list(shape)]
        if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
            raise TypeError("a shape is no list of sizes")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"Expected a sparse delta written by SparseDelta.save at {path}; it is missing, damaged or something else ({error!r}). "
            "Make or copy the file again."
        ) from error
    return header


def read_tensors(path: Path, expected_digest: str) -> dict[str, Tensor]:
    """Return every tensor of a delta file, checked against the digest of its header.

    Raises:
        InputError: the file cannot be read or its tensors are not those that were written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"The sparse delta at {path} cannot be read ({error!r}). Make or copy the file again.") from error
    found = digest(tensors)
    if found != expected_digest:
        raise InputError(f"The tensors in {path} hash to {found}, its header says {expected_digest}: the file is damaged, copy it again.")
    return tensors


def read_composable(path: Path) -> tuple[dict[str, tuple[tuple[int, ...], Tensor, Tensor]], dict[str, Tensor]]:
    """Read composable-sft's `pytorch_diff.bin`: {name: (shape, sorted row-major positions, values)} and its full ("abs") tensors.

    The file holds {"diffs": {name: {"size", "index_steps", "values"}}, "abs": {name: tensor}}; `index_steps` are the gaps between
    sorted column-major flat positions, the first counted from 0, and that first one is a numpy scalar (the one thing beyond torch's
    own safe list that is let through).

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
        diffs = {name: _row_major(encoded) for name, encoded in content["diffs"].items()}
        full = {name: tensor.detach() for name, tensor in content["abs"].items()}
        extra = set(content) - {"diffs", "abs"}
    except Exception as error:  # the unpickler, the zip reader and the layout each fail in their own way
        raise InputError(
            f"Expected composable-sft's pytorch_diff.bin with 'diffs' and 'abs' at {path}; it is missing, damaged, unsafe or of another "
            f"layout ({type(error).__name__}: {str(error)[:200]})."
        ) from error
    if extra:
        raise InputError(f"{path} also holds {sorted(extra)}, which a sparse delta cannot carry: only 'diffs' and 'abs' can be read.")
    return diffs, full


def _row_major(encoded: Mapping[str, Any]) -> tuple[tuple[int, ...], Tensor, Tensor]:
    shape = tuple(int(length) for length in encoded["size"])
    column_major = np.cumsum(np.asarray(encoded["index_steps"], dtype=np.int64))
    positions = np.ravel_multi_index(np.unravel_index(column_major, shape, order="F"), shape).astype(np.int64)
    order = np.argsort(positions)
    return shape, torch.from_numpy(positions[order]), encoded["values"].float()[torch.from_numpy(order)]
