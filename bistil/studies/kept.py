"""What a study finds, and how it is kept: tables as CSV, verdicts, figures as SVG and PNG, manifests.

Notable: nothing written depends on when or where, `study.json` aside, so the same artefacts give the same bytes.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from bistil.batch import Job, perform
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.store import Artefact, NotBuilt
from bistil.style import svg

Jobs = Mapping[Job, tuple[Job, ...]]
Build = Callable[[Experiment, Jobs], Pipeline]
"""Builds some jobs of an experiment and returns a pipeline that reads what is there."""


class Verdict(NamedTuple):
    """A claim of the papers, and the two numbers that decide it: it holds where `left` is more than `right`."""

    claim: str
    left: float
    right: float

    @property
    def holds(self) -> bool:
        """Whether left > right."""
        return self.left > self.right


@dataclass
class Found:
    """Tables by name (rows with the same columns), figures by name, verdicts, and the artefacts behind them."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    artefacts: dict[str, Artefact] = field(default_factory=dict)


def save(folder: Path, parts: Sequence[Found]) -> None:
    """Write everything into `folder`; manifests of an earlier run that are no longer behind it are removed."""
    for name in ("figures", "manifests"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            old.unlink()
    verdicts = [
        {"claim": one.claim, "left": round(one.left, 4), "right": round(one.right, 4), "holds": one.holds}
        for part in parts
        for one in part.verdicts
    ]
    _write(folder / "verdicts.csv", verdicts)
    for name, rows in ((name, rows) for part in parts for name, rows in part.tables.items()):
        _write(folder / f"{name}.csv", rows)
    for part in parts:
        for name, made in part.figures.items():
            (folder / "figures" / f"{name}.svg").write_text(svg(made, name), encoding="utf-8")
            made.savefig(folder / "figures" / f"{name}.png", metadata={"Software": None})
        for artefact in part.artefacts.values():
            path = folder / "manifests" / f"{artefact.kind}-{artefact.id}.json"
            path.write_text(json.dumps(artefact.manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def built(reader: Pipeline, jobs: Jobs) -> dict[Job, Artefact]:
    """Return what is there of some jobs."""
    found = {}
    for job in jobs:
        with suppress(NotBuilt):
            found[job] = perform(reader, job)
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a study's table, every cell as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table; without rows an old one goes."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
