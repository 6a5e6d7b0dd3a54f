"""What this machine has for bistil and what is missing: `bistil doctor`.

Notable: nothing is fetched, written or kept (one probe file aside, to see that the store can be written);
only what every command needs counts as broken, the rest is told as missing together with what to do."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from math import prod
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from bistil.errors import InputError
from bistil.settings.files import read_json
from bistil.settings.places import CACHE, ROOT, WORK, processors
from bistil.text.languages import DATA, DataFolder

State = Literal["ok", "missing", "broken"]
LEAST_GIB = 2.0
"""Free disk below which a run of the demo is likely to fail."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, how it is, and what it is or what to do."""

    what: str
    state: State
    told: str


def examine(store: Path = CACHE / "store") -> Iterator[Finding]:
    """Look at machine, packages, device, folders, data and teachers; `store` is where artefacts go."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield Finding(
        "machine",
        "ok",
        f"{processors()} processors" + (f", {memory:.0f} GiB of memory" if (memory := _memory_gib()) else ""),
    )
    yield from _packages()
    for what, look in (
        ("device", _device),
        ("store", lambda: _store(store)),
        ("miniworld", _miniworld),
        ("data folder", _data),
    ):
        yield _guarded(what, look)
    for folder in (DATA / "teachers" / "miniworld", CACHE / "teacher-small"):
        yield _guarded(f"teacher {folder.name}", lambda folder=folder: _teacher(folder))  # type: ignore[misc]


def _guarded(what: str, look: Callable[[], tuple[State, str]]) -> Finding:
    """A look that fails is a finding too."""
    try:
        return Finding(what, *look())
    except Exception as error:
        return Finding(what, "broken", f"{type(error).__name__}: {error}")


def _packages() -> Iterator[Finding]:
    """Every package that bistil names: the needed ones must be there, those of an extra may be missing."""
    try:
        named = [Requirement(text) for text in requires("bistil") or ()]
    except PackageNotFoundError:
        yield Finding(
            "packages",
            "missing",
            f"bistil is not installed as a package, so its needs are not known: pip install -e {ROOT.name}",
        )
        return
    for extra in (
        None,
        *sorted({extra for one in named if one.marker for extra in _extras(str(one.marker))}),
    ):
        wanted = [
            one
            for one in named
            if (one.marker is None) == (extra is None) and (not extra or extra in _extras(str(one.marker)))
        ]
        bad = [text for one in wanted if (text := _lacking(one))]
        if not bad:
            yield Finding(
                "packages" if extra is None else f"extra {extra}",
                "ok",
                ", ".join(f"{one.name} {version(one.name)}" for one in wanted),
            )
        elif extra is None:
            yield Finding("packages", "broken", f"{'; '.join(bad)}: pip install -e .")
        else:
            yield Finding(f"extra {extra}", "missing", f"{'; '.join(bad)}: pip install -e '.[{extra}]'")


def extra_with(module: str) -> str | None:
    """The extra of bistil that brings a module, `batch` where several do; None where none does."""
    wanted, found = module.partition(".")[0].lower(), list[str]()
    with suppress(PackageNotFoundError):
        for one in map(Requirement, requires("bistil") or ()):
            if one.marker and one.name.replace("-", "_").lower() == wanted:
                found += _extras(str(one.marker))
    return "batch" if "batch" in found else found[0] if found else None


def _extras(marker: str) -> list[str]:
    """The extras that a marker like `extra == "lab"` speaks of."""
    return [
        part.strip(" '\"")
        for part in marker.split("extra ==")[1:]
        for part in [part.split(" or ")[0].split(" and ")[0]]
    ]


def _lacking(needed: Requirement) -> str:
    """What is wrong with a package, empty where nothing is."""
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is not installed"
    return (
        ""
        if needed.specifier.contains(found, prereleases=True)
        else f"{needed.name} is {found}, {needed.specifier} is needed"
    )


def _device() -> tuple[State, str]:
    import torch

    from bistil.models.device import choose_device, has_bfloat16

    device, reason = choose_device()
    (torch.ones(2, device=device) + 1).sum().item()
    half = "bfloat16" if has_bfloat16(device) else "no bfloat16"
    return "ok", f"{device}: {reason}; {torch.get_num_threads()} threads; {half}"


def _store(folder: Path) -> tuple[State, str]:
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        return "broken", f"{existing} cannot be written ({error.strerror}): give --store FOLDER"
    free = shutil.disk_usage(existing).free / 2**30
    kept = sum(1 for _ in folder.glob("*/*/manifest.json"))
    told = f"{folder}: {kept} artefacts, {free:.0f} GiB free"
    return (
        ("ok", told)
        if free >= LEAST_GIB
        else ("broken", f"{told}: less than the {LEAST_GIB:g} GiB a run needs")
    )


def _miniworld() -> tuple[State, str]:
    folder = CACHE / "miniworld"
    if not folder.is_dir():
        return "missing", "not written yet; the first command that needs it writes it (`bistil world`)"
    return "ok", f"{folder}: languages {', '.join(DataFolder(folder).languages)}"


def _data() -> tuple[State, str]:
    named = os.environ.get("BISTIL_DATA")
    if not named:
        return (
            "missing",
            (
                "BISTIL_DATA is not set: experiments on real data need it or --data; `bistil data list` shows"
                " where data is"
            ),
        )
    try:
        folder = DataFolder(Path(named).expanduser())
        languages = folder.languages
    except InputError as error:
        return "broken", str(error)
    there = [code for code in languages if folder.text(code).is_file()]
    return (
        "ok" if there else "missing"
    ), f"{folder.root}: text of {len(there)} of the {len(languages)} languages of its table"


def _teacher(folder: Path) -> tuple[State, str]:
    if not folder.is_dir():
        made = f"bistil pretrain data/teachers/{folder.name}.yaml --to {folder.relative_to(WORK)}"
        return (
            "broken" if folder.is_relative_to(DATA / "teachers") else "missing"
        ), f"not there; made by `{made}`"
    from safetensors import safe_open
    from tokenizers import Tokenizer

    config = read_json(folder / "config.json", dict)
    with safe_open(folder / "model.safetensors", "np") as weights:  # a file that was cut is refused
        size = sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys()) / 1e6  # noqa: SIM118
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    told = f"{config['model_type']}, {config['num_hidden_layers']} layers of {config['hidden_size']}"
    return "ok", f"{told}, {tokens:,} tokens, {size:.1f} M"


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None
