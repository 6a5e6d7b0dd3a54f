"""How dense the language SFT and the task SFT should be: every pair of two lists of densities, zero-shot
(LT-SFT, thesis Figure 4.3), and how many entries the two share.

Notable: each pair is the base experiment with two numbers changed, so language SFTs are trained once a
density and a run that was interrupted goes on where it was. The source's SFT has the density of the target's.
"""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
from matplotlib.figure import Figure

from bistil import batch, plots
from bistil.adapt.worn import WORN
from bistil.errors import InputError
from bistil.evaluation.results import metric_label, primary_metric
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.settings.ranges import Density, Filled, Seed, Settings
from bistil.sft.anatomy import overlap_by_chance
from bistil.sft.delta import SparseDelta
from bistil.store.artefacts import NotBuilt
from bistil.studies.kept import SCORE, Build, Found, Verdict, built, read_table
from bistil.systems.table import TEACHER

DENSE = 0.3
"""The density above which the thesis sees scores fall (section 4.5.2)."""


@dataclass(frozen=True, kw_only=True)
class Densities(Settings):
    """A grid of densities: of language SFTs by those of task SFTs, for one task, scored on some targets.

    Attributes:
        task: The task that is tuned.
        targets: Languages to be scored.
        language: Densities of language SFTs, rising.
        of_task: Densities of task SFTs, rising.
        seeds: The seeds of the task SFTs.
    """

    task: str
    targets: Annotated[tuple[str, ...], Filled()]
    language: Annotated[tuple[Density, ...], Filled()]
    of_task: Annotated[tuple[Density, ...], Filled()]
    seeds: Annotated[tuple[Seed, ...], Filled()] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, densities in (("language", self.language), ("of_task", self.of_task)):
            if list(densities) != sorted(set(densities)):
                told = f"Rising densities were expected as `{name}` under `densities`, but got {densities}."
                raise InputError(told, at=(name,))


def at_densities(base: Experiment, grid: Densities, language: float, task: float) -> Experiment:
    """The base experiment at one pair of densities: the adapted teacher alone, on the grid's task and
    targets.
    """
    assert base.language_sft is not None
    settings = base.task[grid.task]
    tuned = {grid.task: dataclasses.replace(settings, sft=settings.sft.at_density(task))}
    return base.narrowed(
        systems=(TEACHER,),
        targets={grid.task: grid.targets},
        task=tuned,
        seeds=grid.seeds,
        schedules={},
        language_sft=base.language_sft.at_density(language),
    )


def study_densities(base: Experiment, grid: Densities, build: Build, *, say: Callable[[str], None]) -> Found:
    """Build and score every pair, denser pairs last; what could not be scored is left out."""
    found, rows, shared = Found(), list[dict[str, Any]](), list[dict[str, Any]]()
    pairs = sorted(
        ((language, task) for language in grid.language for task in grid.of_task),
        key=lambda pair: (sum(pair), pair),
    )
    build(at_densities(base, grid, *pairs[0]), {}).check()
    for number, (language, task) in enumerate(pairs, start=1):
        say(
            f"densities {number}/{len(pairs)}: {100 * language:g} % for languages, {100 * task:g} % for the"
            " task"
        )
        experiment = at_densities(base, grid, language, task)
        jobs = {job: after for job, after in batch.plan(experiment).items() if job.stage != "timing"}
        reader = build(experiment, jobs)
        for row in batch.rows(reader):
            kept = {name: row[name] for name in SCORE}
            rows.append({"language_density": language, "task_density": task, **kept})
        shared += _shared(reader, experiment, language, task)
        found.artefacts |= {artefact.id: artefact for artefact in built(reader, jobs).values()}
    found.tables |= {"densities": rows, "shared": shared}
    if _grid(rows):
        caption = "Zero-shot score over the densities of language and task SFTs, mean over targets and seeds."
        found.figures["densities"] = contour(rows), caption
    if equal := [row for row in shared if row["language_density"] == row["task_density"]]:
        caption = "How many entries the language SFT and the task SFT share where both have the same density."
        found.figures["shared"] = overlap_figure(equal), caption
    found.verdicts += _verdicts(rows)
    return found


def _shared(reader: Pipeline, experiment: Experiment, language: float, task: float) -> list[dict[str, Any]]:
    """The rows of shared.csv at one pair of densities, in percent of the smaller support."""
    rows = []
    for cell in experiment.cells():
        with suppress(NotBuilt):
            worn = reader.worn(cell, cell.target)
            assert worn is not None, "the adapted teacher wears a language SFT"
            one, other = (SparseDelta.load(found.path(WORN)) for found in (worn, reader.task_sft(cell)))
            rows.append(
                {
                    **{"language_density": language, "task_density": task},
                    **{"target": cell.target, "seed": cell.seed},
                    "overlap": round(100 * one.overlap(other), 4),
                    "chance": round(100 * max(language, task), 4),
                    "chance_by_tensor": round(100 * overlap_by_chance(one, other), 4),
                }
            )
    return rows


def overlap_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw rows of shared.csv with both densities equal: means over targets and seeds."""
    densities = sorted({row["language_density"] for row in rows})
    mean = {
        name: [fmean(row[name] for row in rows if row["language_density"] == one) for one in densities]
        for name in ("overlap", "chance", "chance_by_tensor")
    }
    return plots.shared_entries(
        densities,
        {
            "language and task": mean["overlap"],
            "random entries of the same tensors": mean["chance_by_tensor"],
        },
        chance=mean["chance"],
    )


def read_densities(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a densities.csv with numbers as numbers."""
    numbers = ("language_density", "task_density", "value")
    return [{**row, **{name: float(row[name]) for name in numbers}} for row in read_table(path)]


def scores(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float], np.ndarray, str]:
    """Language densities, task densities, the mean score over targets and seeds at each pair (NaN where one
    of these is lacking), and the metric.

    Shape of the scores: [language, task].
    """
    metric = primary_metric(rows, str(rows[0]["task"]))
    chosen = [row for row in rows if row["metric"] == metric]
    language, task = _sides(chosen)
    values: dict[tuple[float, float], list[float]] = {}
    for row in chosen:
        values.setdefault((row["language_density"], row["task_density"]), []).append(row["value"])
    most = max(map(len, values.values()))
    whole = {pair: fmean(found) for pair, found in values.items() if len(found) == most}
    table = [[whole.get((one, other), np.nan) for other in task] for one in language]
    return language, task, np.array(table), metric


def _sides(rows: Sequence[dict[str, Any]]) -> list[list[float]]:
    """The densities of language SFTs, and those of task SFTs, that rows are of."""
    return [sorted({row[name] for row in rows}) for name in ("language_density", "task_density")]


def _grid(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether rows are of two densities or more on each side."""
    return all(len(side) > 1 for side in _sides(rows))


def contour(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the score over both densities.

    Raises:
        InputError: where the rows are not of two densities or more on each side.
    """
    if not _grid(rows):
        each = " and ".join(", ".join(f"{one:g}" for one in side) or "none" for side in _sides(rows))
        raise InputError(
            "Scores at two densities or more of language SFTs, and of task SFTs, were expected, but those"
            f" that came are at {each}. Score more pairs, or choose another seed."
        )
    language, task, values, metric = scores(rows)
    codes = ", ".join(sorted({str(row["target"]) for row in rows}))
    return plots.score_by_densities(language, task, values, label=f"{metric_label(metric)} on {codes}")


def _verdicts(rows: Sequence[dict[str, Any]]) -> list[Verdict]:
    """The thesis' claim: best below some 30 %, and worse where both are dense; none where the grid lacks
    either side.
    """
    if not rows:
        return []
    language, task, values, _ = scores(rows)
    dense = np.array([[one > DENSE and other > DENSE for other in task] for one in language])
    sparse = np.array([[one <= DENSE and other <= DENSE for other in task] for one in language])
    sides = [values[side & np.isfinite(values)] for side in (sparse, dense)]
    if not all(len(side) for side in sides):
        return []
    share = f"{100 * DENSE:g} %"
    return [
        Verdict(
            f"the best pair with both densities up to {share} scores more than the best with both above",
            *(s.max() for s in sides),
        ),
        Verdict(f"so do pairs up to {share} in the mean", *(float(side.mean()) for side in sides)),
    ]
