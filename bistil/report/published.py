"""The papers' own numbers, and ours beside them where task, system, layer reduction and target are the same.

Notable: data/published/*.csv hold them, each with the table it was printed in. Teacher, texts and steps may
differ from ours, so both teachers are shown, and a mean is taken over the targets that both have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from bistil.errors import InputError
from bistil.evaluation.results import (
    Row,
    Variant,
    average,
    metric_label,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.settings.files import read_csv
from bistil.tasks import title
from bistil.text.languages import DATA

SCORES = DATA / "published" / "bistil.csv"
COLUMNS = ("reference", "task", "metric", "system", "lrf", "teacher", "source", "target", "value")
MEAN = "mean"
"""The target of a printed mean over all targets."""


@dataclass(frozen=True)
class Score:
    """A published score in percent: where it was printed, and of what. `lrf` is None for whole models."""

    reference: str
    task: str
    metric: str
    system: str
    lrf: int | None
    teacher: str
    source: str
    target: str
    value: float


@dataclass(frozen=True)
class Pair:
    """Our score beside a published one, in percent; `target` is a language or `mean over N`."""

    variant: Variant
    target: str
    ours: float
    published: float
    teacher: str
    reference: str

    @property
    def difference(self) -> float:
        """Ours minus theirs, in points."""
        return self.ours - self.published


@dataclass(frozen=True)
class Comparison:
    """All pairs of a task and a metric; `teacher` is ours."""

    task: str
    metric: str
    teacher: str
    pairs: tuple[Pair, ...]

    @property
    def title(self) -> str:
        """What the table shows."""
        return (
            f"Beside the published numbers: {title(self.task)}, {metric_label(self.metric)},"
            f" our teacher {self.teacher}"
        )


@cache
def read_scores(path: Path = SCORES) -> tuple[Score, ...]:
    """Published scores of a CSV file.

    Raises:
        InputError: with the line number, where a column is missing or a number is none.
    """
    header, rows = read_csv(path)
    if tuple(header) != COLUMNS:
        raise InputError(f"{path} should have the columns {', '.join(COLUMNS)}, but has {', '.join(header)}.")
    found = []
    for number, row in rows:
        try:
            numbers = {"lrf": int(row["lrf"]) if row["lrf"] else None, "value": float(row["value"])}
        except ValueError as error:
            raise InputError(f"{path}, line {number}: numbers were expected, but {error}.") from error
        found.append(Score(**{**row, **numbers}))  # type: ignore[arg-type]
    return tuple(found)


def beside(rows: Iterable[Row], scores: Sequence[Score] | None = None) -> list[Comparison]:
    """Our rows beside the published scores, one comparison for each setting and metric that has any in
    common.
    """
    rows, scores = list(rows), read_scores() if scores is None else scores
    found = []
    for setting in settings(rows):
        for metric in dict.fromkeys(
            score.metric for score in scores if (score.task, score.source) == (setting.task, setting.source)
        ):
            theirs = [
                score
                for score in scores
                if (score.task, score.source, score.metric) == (setting.task, setting.source, metric)
            ]
            ours = rows_of(rows, setting, metric)
            pairs = tuple(
                pair for variant in variants(ours) for pair in _pairs(select(ours, variant), variant, theirs)
            )
            if pairs:
                found.append(Comparison(setting.task, metric, setting.teacher, pairs))
    return found


def _pairs(ours: Sequence[Row], variant: Variant, theirs: Iterable[Score]) -> list[Pair]:
    """Of one system: a pair for each target in common, then their means."""
    means = {row["target"]: average(ours, targets=[row["target"]]) for row in ours}
    pairs = [
        Pair(variant, score.target, mean.mean, score.value, score.teacher, score.reference)
        for score in theirs
        if (score.system, score.lrf, None) == (variant.system, variant.lrf, variant.drf)
        and (mean := means.get(score.target))
    ]
    if len(pairs) > 1:
        last, both = pairs[-1], (fmean(pair.ours for pair in pairs), fmean(pair.published for pair in pairs))
        pairs.append(Pair(variant, f"{MEAN} over {len(pairs)}", *both, last.teacher, last.reference))
    return pairs
