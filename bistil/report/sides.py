"""What two experiments are compared by: rows, outcomes of examples, and settings, read from what a report
left behind.

Notable: a side is a report's folder, a results.csv, or an experiment file, which stands for the report of its
name; nothing is computed anew, so experiments of other machines can be compared too."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.evaluation.results import Row, read_results
from bistil.evaluation.significance import read_all_outcomes
from bistil.experiment import Experiment
from bistil.report.asked import EXPERIMENT
from bistil.report.paired import Kept
from bistil.settings.files import read_json
from bistil.store.provenance import plain

Settings = Mapping[str, str]
"""Values as text by their place, such as `task.ner.batch_size`."""


@dataclass(frozen=True)
class Side:
    """One of two experiments.

    asked: the settings of its experiment file, None where that is not at hand. used: those in the manifests
    of what was built, by kind, None without manifests. software: versions and commits in these."""

    name: str
    rows: list[dict[str, Any]]
    kept: Kept
    asked: Settings | None
    used: Settings | None
    software: Settings


def read_side(path: Path, reports: Path) -> Side:
    """Read a report's folder, a results.csv, or what `reports` has of an experiment file.

    Raises:
        InputError: where it is none of these, or there are no results.
    """
    experiment = Experiment.read(path) if path.suffix in (".yaml", ".yml") else None
    folder = reports / experiment.name if experiment else path if path.is_dir() else path.parent
    results = folder / "results.csv" if experiment or path.is_dir() else path
    if not results.is_file() or results.suffix != ".csv":
        raise InputError(
            "A report's folder, a results.csv or an experiment file that was run was expected, but for"
            f" {path} there is no {results}. `bistil batch EXPERIMENT.yaml` runs an experiment and writes its"
            " report."
        )
    rows: list[dict[str, Any]] = read_results(results)
    if not rows:
        raise InputError(
            f"Results were expected in {results}, but it holds no rows. Run the experiment first."
        )
    whole = results.name == "results.csv"  # a table of another name need not belong to what lies beside it
    manifests = (
        [_read_manifest(file) for file in sorted((folder / "manifests").glob("*.json"))] if whole else []
    )
    asked = plain(experiment) if experiment else _read_asked(folder / EXPERIMENT) if whole else None
    return Side(
        name=folder.resolve().name if whole else path.stem,
        rows=rows,
        kept=read_all_outcomes(folder / "outcomes") if whole else {},
        asked=None if asked is None else _flat(asked),
        used=_joined(manifests, "config") if manifests else None,
        software=_software(manifests),
    )


def differing(left: Settings | None, right: Settings | None) -> list[tuple[str, str, str]]:
    """Places and both values of what differs, – where one has no such place; a part that one side lacks
    altogether is one line.

    Nothing where either side is unknown.
    """
    if left is None or right is None:
        return []
    lines: dict[str, tuple[str, str, str]] = {}
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            part = next(
                (part for part in _parts(name) if not (_within(part, left) and _within(part, right))), name
            )
            mine, theirs = (side.get(part) or _told(_within(part, side)) for side in (left, right))
            lines[part] = (part, mine, theirs)
    return list(lines.values())


def _parts(name: str) -> list[str]:
    """The place itself and what it is in, the widest first: a, a.b, a.b.c."""
    words = name.split(".")
    return [".".join(words[:number]) for number in range(1, len(words) + 1)]


def _within(part: str, settings: Settings) -> int:
    """How many settings stand at a place or within it."""
    return sum(name == part or name.startswith(f"{part}.") for name in settings)


def _told(settings: int) -> str:
    return f"{settings} settings" if settings else "–"


def of_rows(rows: Sequence[Row], column: str) -> list[str]:
    """The values of a column, each once."""
    return sorted({str(row[column]) for row in rows if row[column] not in (None, "")})


def _flat(value: Any, place: str = "") -> dict[str, str]:
    """Nested settings as one mapping of places to text; lists are values."""
    if isinstance(value, dict):
        return {
            name: text
            for key, item in value.items()
            for name, text in _flat(item, f"{place}.{key}" if place else str(key)).items()
        }
    return {place: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}


def _joined(manifests: list[dict[str, Any]], field: str) -> dict[str, str]:
    """The settings in all manifests of a kind; several values of one place are joined."""
    values: dict[str, set[str]] = defaultdict(set)
    for manifest in manifests:
        for name, text in _flat(manifest.get(field) or {}, manifest["kind"]).items():
            values[name].add(text)
    return {name: " | ".join(sorted(found)) for name, found in values.items()}


def _software(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """Versions and commits, each with all that occur."""
    values: dict[str, set[str]] = defaultdict(set)
    for manifest in manifests:
        commit = (manifest.get("git") or {}).get("commit")
        for name, text in {
            **manifest.get("versions", {}),
            **({"commit": commit[:10]} if commit else {}),
        }.items():
            values[name].add(text)
    return {name: ", ".join(sorted(found)) for name, found in values.items()}


def _read_asked(path: Path) -> dict[str, Any] | None:
    """What an experiment asked for, beside its results; None of a report that has no such file."""
    return _read_settings(path) if path.is_file() else None


def _read_manifest(path: Path) -> dict[str, Any]:
    """A manifest of a report, of which kind, config, git and versions are used."""
    found = _read_settings(path)
    git, versions = found.get("git") or {}, found.get("versions", {})
    if not (
        isinstance(found.get("kind"), str)
        and isinstance(found.get("config") or {}, dict)
        and isinstance(git, dict)
        and isinstance(git.get("commit") or "", str)
        and isinstance(versions, dict)
        and all(isinstance(text, str) for text in versions.values())
    ):
        raise InputError(
            f"A manifest with `kind`, `config`, `git` and `versions` was expected in {path}, but one of"
            " them is missing or something else. Run the experiment again: it writes its manifests anew."
        )
    return found


def _read_settings(path: Path) -> dict[str, Any]:
    """A JSON file with settings that are nested as settings are."""
    found: dict[str, Any] = read_json(path, dict)
    try:
        _flat(found)
    except RecursionError as error:
        raise InputError(f"Settings were expected in {path}, but they are nested too deeply.") from error
    return found
