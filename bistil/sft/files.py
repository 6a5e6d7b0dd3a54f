"""Files of sparse deltas: one safetensors file with a JSON header.

Notable: a file appears under its name only when it is complete (write aside, then rename), and its header
holds a sha256 of the tensors, so that a flipped bit is found as surely as a truncation."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bistil.errors import InputError
from bistil.sft.flat import digest
from bistil.text.written import open_to_others

FORMAT = 1
SPARSE = "sparse delta"
"""The kind of a file whose header does not name one."""
BOTTLENECK = "bottleneck adapter"
GENERATOR, GENERATED = "adapter generator", "generated adapter"
_KEY = "bistil_sft"


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON `header` to `path`, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    complete = {**header, "format": FORMAT, "digest": digest(tensors)}
    try:
        save_file(dict(tensors), aside, metadata={_KEY: json.dumps(complete, sort_keys=True)})
        open_to_others(aside)
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
            header = {"kind": SPARSE, **json.loads((file.metadata() or {})[_KEY])}
        if header["format"] > FORMAT:
            raise InputError(
                f"{path} is a delta file of format {header['format']}, this bistil reads up to {FORMAT}:"
                " update bistil."
            )
        json_types = {"kind": str, "base": str, "shapes": dict, "notes": dict, "digest": str}
        if not all(isinstance(header[key], kind) for key, kind in json_types.items()):
            raise TypeError("a header field has the wrong type")
        sizes = [size for shape in header["shapes"].values() for size in list(shape)]
        if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
            raise TypeError("a shape is no list of sizes")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"Expected a sparse delta written by SparseDelta.save at {path}; it is missing, damaged or"
            f" something else ({error!r}). Make or copy the file again."
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
        raise InputError(
            f"The sparse delta at {path} cannot be read ({error!r}). Make or copy the file again."
        ) from error
    found = digest(tensors)
    if found != expected_digest:
        raise InputError(
            f"The tensors in {path} hash to {found}, its header says {expected_digest}: the file is damaged,"
            " copy it again."
        )
    return tensors
