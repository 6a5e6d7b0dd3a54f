"""What a study finds, and how it is kept: a page, tables and verdicts as CSV, figures as SVG and PNG,
manifests.

Notable: nothing written depends on when or where, `study.json` aside, so the same artefacts give the same
bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from bistil.batch import Job, perform
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.report.orderings import AGAINST, LEANS, OPEN
from bistil.report.tables import Table, slug
from bistil.report.templates import environment, save_figures, save_manifests, software
from bistil.settings.files import csv_text, read_csv
from bistil.store.artefacts import Artefact, NotBuilt
from bistil.store.whole import write_whole

Jobs = Mapping[Job, tuple[Job, ...]]
Build = Callable[[Experiment, Jobs], Pipeline]
"""Builds some jobs of an experiment and returns a pipeline that reads what is there."""
SCORE = ("task", "target", "seed", "metric", "value", "n_examples", "artefact")
"""What a table of scores has of a result row."""


class Verdict(NamedTuple):
    """A claim of the papers, and the two numbers that speak for it where `left` is more than `right`. No
    interval stands behind them.
    """

    claim: str
    left: float
    right: float

    @property
    def word(self) -> str:
        """Which way the numbers lean, if they differ."""
        return LEANS if self.left > self.right else AGAINST if self.left < self.right else OPEN


@dataclass
class Found:
    """Tables by name (rows with the same columns), figures by name, verdicts, and the artefacts behind
    them.
    """

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    artefacts: dict[str, Artefact] = field(default_factory=dict)


def save(
    folder: Path, parts: Sequence[Found], *, title: str, question: str = "", errors: Sequence[str] = ()
) -> Path:
    """Write everything into `folder` and return its page; figures and manifests of an earlier run are
    removed.

    Args:
        question: what the study asks.
        errors: of stages that failed; told on the page.
    """
    verdicts = [verdict for part in parts for verdict in part.verdicts]
    tables = {name: rows for part in parts for name, rows in part.tables.items()}
    manifests = [artefact.manifest for part in parts for artefact in part.artefacts.values()]
    rounded = [
        {"claim": one.claim, "left": round(one.left, 4), "right": round(one.right, 4), "verdict": one.word}
        for one in verdicts
    ]
    for name, rows in {"verdicts": rounded, **tables}.items():
        _write(folder / f"{name}.csv", rows)
    page = (
        environment()
        .get_template("study.html.j2")
        .render(
            title=title,
            question=question,
            errors=errors,
            verdicts=verdicts,
            figures=save_figures(
                folder / "figures",
                {slug(name): figure for part in parts for name, figure in part.figures.items()},
            ),
            tables=[
                Table(f"{name}.csv", list(rows[0]), [[*map(_cell, row.values())] for row in rows])
                for name, rows in tables.items()
                if rows
            ],
            manifests=save_manifests(folder / "manifests", manifests),
            software=software(manifests),
        )
    )
    path = folder / "index.html"
    write_whole(path, page)
    return path


def built(reader: Pipeline, jobs: Jobs) -> dict[Job, Artefact]:
    """Return what is there of some jobs."""
    found = {}
    for job in jobs:
        with suppress(NotBuilt):
            found[job] = perform(reader, job)
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a study's table, every cell as text."""
    return [row for _, row in read_csv(path)[1]]


def _cell(value: Any) -> str:
    """A value on the page, where six digits tell enough."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table; without rows an old one goes."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    write_whole(path, csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))
