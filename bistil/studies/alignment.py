"""Whether languages that lie close in a student's layers make it better at a task (Bui's thesis, section
4.5).

Notable: what is measured are the evaluations of an ordinary experiment, the base one's systems on sentence
retrieval at every layer and on one task; so they are cached, shared and resumed like any others. A pair of
numbers says nothing of the other systems that one could think of: the interval of the correlation is over
those that were asked for.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import correlation as pearson
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
from matplotlib.figure import Figure

from bistil import batch
from bistil.errors import InputError
from bistil.evaluation.results import Variant, metric_label, over_all, primary_metric, select, variants
from bistil.experiment import Cell, Experiment
from bistil.plots.alignment import alignment_and_score, alignment_by_layer
from bistil.settings.files import read_csv
from bistil.settings.ranges import Count, Filled, Seed, Settings
from bistil.studies.kept import Build, Found, Verdict, built
from bistil.tasks import RETRIEVAL, title
from bistil.tasks.retrieval import LAYERS

DRAWS = 2000
"""Of systems, with replacement, for the interval of a correlation."""
TOGETHER = "together"
"""In the column `layer`: all layers but the embedding layer."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Alignment(Settings):
    """How often systems find translations, layer by layer, beside their scores in a task.

    Attributes:
        systems: Systems of the experiment file, as under its `systems`.
        targets: Languages whose sentences are sought among the source's, and to be scored on.
        task: The task whose score is set beside alignment.
        by: Measures of alignment.
        pairs: So many pairs of sentences, the first ones; null for all.
        seeds: The seeds of all.
    """

    systems: Annotated[tuple[str, ...], Filled()]
    targets: Annotated[tuple[str, ...], Filled()]
    task: str
    by: Annotated[tuple[Literal["cosine", "bertscore"], ...], Filled()] = ("cosine", "bertscore")
    pairs: Count | None = 1000
    seeds: Annotated[tuple[Seed, ...], Filled()] = (1,)

    def check(self, base: Experiment) -> None:
        """Refuse what the experiment cannot answer.

        Raises:
            InputError: for a task that it does not train.
        """
        if self.task not in base.task:
            raise InputError(
                f"A task of {base.name} was expected as `task` under `alignment`, one of"
                f" {', '.join(base.task)}, but {self.task!r} came."
            )


def study_alignment(base: Experiment, asked: Alignment, build: Build) -> Found:
    """Build and score every system; what could not be built is left out."""
    found, rows = Found(), list[Row]()
    common = base.narrowed(systems=asked.systems, seeds=asked.seeds, schedules={})
    sought = {
        by: dataclasses.replace(
            common,
            targets={RETRIEVAL: asked.targets},
            retrieval=dataclasses.replace(base.retrieval, by=by, pairs=asked.pairs, layers=()),
        )
        for by in asked.by
    }
    scored = dataclasses.replace(common, targets={asked.task: asked.targets})
    for experiment in (*sought.values(), scored):
        build(experiment, {}).check()
    for by, experiment in sought.items():
        jobs = batch.plan(experiment)
        there = built(build(experiment, jobs), jobs)
        evaluations = {job.arguments[0]: one for job, one in there.items() if job.stage == "evaluation"}
        for cell, artefact in evaluations.items():
            found.artefacts[artefact.id] = artefact
            if artefact.path(LAYERS).is_file():
                about = {"system": _label(cell), "target": cell.target, "seed": cell.seed, "by": by}
                each = [row for _, row in read_csv(artefact.path(LAYERS))[1]]
                whole = {
                    "layer": TOGETHER,
                    **{name: artefact.metrics[name] for name in ("forward", "backward")},
                }
                rows += [{**about, **_numbers(row)} for row in (*each, whole)]
    jobs = {job: after for job, after in batch.plan(scored).items() if job.stage != "timing"}
    reader = build(scored, jobs)
    found.artefacts |= {artefact.id: artefact for artefact in built(reader, jobs).values()}
    results = batch.rows(reader)
    metric = primary_metric(results, asked.task)
    scores = _scores([row for row in results if row["metric"] == metric])
    found.tables["alignment"] = rows
    found.tables["strategies"] = strategies(rows, scores)
    what = f"{title(asked.task)}, {metric_label(metric)}"
    for by in asked.by:
        own = [row for row in rows if row["by"] == by]
        if own:
            told = (
                f"Translations found at each layer, by {by}: means over targets and seeds, both directions."
            )
            found.figures[f"layers-{by}"] = _curves(own), told
        points = {
            row["system"]: (row["alignment"], row["score"])
            for row in found.tables["strategies"]
            if row["by"] == by
        }
        if len(points) > 2 and all(len(set(side)) > 1 for side in zip(*points.values(), strict=True)):
            r, (low, high) = correlation(list(points.values()))
            told = (
                f"Alignment of all layers by {by}, and the task's score, of each system: r = {r:.2f}"
                f" (95 % of draws of systems: {low:.2f} to {high:.2f})."
            )
            found.figures[f"alignment-{by}"] = alignment_and_score(points, score=what), told
            found.verdicts.append(
                Verdict(f"more alignment by {by} does not go with a better score (0 against r)", 0.0, r)
            )
    return found


def strategies(rows: Sequence[Row], scores: dict[str, float]) -> list[Row]:
    """For each system and measure its alignment, all layers together, and its score: means over targets and
    seeds. A system that lacks a target has none.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["layer"] == TOGETHER:
            found.setdefault((row["system"], row["by"]), []).append(row)
    targets = {row["target"] for own in found.values() for row in own}
    return [
        {
            **{"system": system, "by": by, "alignment": round(fmean(row["accuracy"] for row in own), 4)},
            "score": round(scores[system], 4),
        }
        for (system, by), own in found.items()
        if system in scores and {row["target"] for row in own} == targets
    ]


def correlation(
    points: Sequence[tuple[float, float]], draws: int = DRAWS
) -> tuple[float, tuple[float, float]]:
    """Pearson's r, and the interval in which 95 % of bootstrap draws over the points have theirs.

    A draw of one point alone, over and over, has none and is left out.
    """
    values = np.asarray(points, dtype=np.float64)
    generator = np.random.default_rng(1)
    drawn = values[generator.integers(len(values), size=(draws, len(values)))]
    found = [pearson(*one.T.tolist()) for one in drawn if np.ptp(one, axis=0).all()]
    low, high = np.quantile(found, (0.025, 0.975))
    return pearson(*values.T.tolist()), (float(low), float(high))


def _label(cell: Cell) -> str:
    """A cell's system as reports name it."""
    return Variant(
        cell.system, cell.lrf if cell.lrf > 1 else None, drf=cell.drf if cell.drf > 1 else None
    ).label


def _scores(rows: Sequence[Row]) -> dict[str, float]:
    """The score of each system in rows of one metric, over targets and seeds; none of one that lacks a
    target.
    """
    targets = {row["target"] for row in rows}
    means = {variant.label: over_all(select(rows, variant), targets) for variant in variants(rows)}
    return {label: mean.mean for label, mean in means.items() if mean}


def _numbers(row: dict[str, Any]) -> Row:
    """One line of alignment.csv: the layer, and both directions and their mean in percent."""
    forward, backward = float(row["forward"]), float(row["backward"])
    return {
        "layer": row["layer"] if row["layer"] == TOGETHER else int(row["layer"]),
        "forward": round(forward, 4),
        "backward": round(backward, 4),
        "accuracy": round((forward + backward) / 2, 4),
    }


def _curves(rows: Sequence[Row]) -> Figure:
    """The means over targets and seeds of each system at each layer."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for system in dict.fromkeys(row["system"] for row in rows):
        own = [row for row in rows if row["system"] == system and row["layer"] != TOGETHER]
        curves[system] = [
            (layer, fmean(row["accuracy"] for row in own if row["layer"] == layer))
            for layer in sorted({row["layer"] for row in own})
        ]
    return alignment_by_layer(curves)
