"""The papers' own numbers, and ours beside them where task, system, layer reduction and target are the same.

Notable: data/published/*.csv hold them, each with the table it was printed in. Teacher, texts and steps may
differ from ours, so both teachers are shown, and a mean is taken over the targets that both have."""

from collections.abc import Iterable, Iterator, Sequence
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
from bistil.tasks import TASKS, title
from bistil.text.languages import DATA

PAPERS = DATA / "published"
NEEDED = {"reference", "task", "system", "target", "value"}
TASK = {"sentiment": "classification"}
"""What a task is called here, where a paper names another."""
MEAN = "mean"
"""The target of a printed mean over all targets."""


@dataclass(frozen=True)
class Score:
    """A published score in percent: where it was printed, and of what, named as the experiment files of the
    paper name it. `lrf` is None for whole models, `source` is "" where a task was learnt in the target.
    """

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
def read_scores(folder: Path = PAPERS) -> tuple[Score, ...]:
    """Published scores of a folder's files, as far as they are of tasks that there are here.

    A column `named` has what the paper's experiment file calls a system, where that is more than its name.

    Raises:
        InputError: with the line number, where a number is none.
    """
    return tuple(score for path in sorted(folder.glob("*.csv")) for score in _read(path))


def _read(path: Path) -> Iterator[Score]:
    header, rows = read_csv(path)
    if NEEDED - {*header}:  # costs, sizes, benchmarks
        return
    numbers = {}
    for number, row in rows:
        try:
            numbers[number] = float(row["value"]), int(row["lrf"]) if row.get("lrf") else None
        except ValueError as error:
            raise InputError(f"{path}, line {number}: numbers were expected, but {error}.") from error
    scale = 100 if max(value for value, _ in numbers.values()) <= 1 else 1  # some print shares of 1
    for number, row in rows:
        task = TASK.get(row["task"], row["task"])
        if task not in TASKS:
            continue
        split, doubt = row.get("split"), row.get("doubt")
        told = row["reference"] + (", dev" if split == "dev" else "") + (f" ({doubt})" if doubt else "")
        usual = TASKS[task].metric
        yield Score(
            reference=told,
            task=task,
            metric=row.get("metric", usual) if task == row["task"] else usual,
            system=row.get("named") or row["system"],
            lrf=numbers[number][1],
            teacher=row.get("teacher", ""),
            source=row.get("source", ""),
            target=row["target"],
            value=scale * numbers[number][0],
        )


def beside(rows: Iterable[Row], scores: Sequence[Score] | None = None) -> list[Comparison]:
    """Our rows beside the published scores, one comparison for each setting and metric that has any in
    common.
    """
    rows, scores = list(rows), read_scores() if scores is None else scores
    found = []
    for setting in settings(rows):
        of_it = [one for one in scores if one.task == setting.task and one.source in (setting.source, "")]
        for metric in dict.fromkeys(score.metric for score in of_it):
            theirs = [score for score in of_it if score.metric == metric]
            ours = rows_of(rows, setting, metric)
            pairs = tuple(
                pair for variant in variants(ours) for pair in _pairs(select(ours, variant), variant, theirs)
            )
            if pairs:
                found.append(Comparison(setting.task, metric, setting.teacher, pairs))
    return found


def _pairs(ours: Sequence[Row], variant: Variant, theirs: Iterable[Score]) -> list[Pair]:
    """Of one system: for each table and teacher a pair for each target in common, then their means."""
    means = {row["target"]: average(ours, targets=[row["target"]]) for row in ours}
    tables: dict[tuple[str, str], list[Pair]] = {}
    for score in theirs:
        if (score.system, score.lrf, None) == (variant.system, variant.lrf, variant.drf) and (
            mean := means.get(score.target)
        ):
            pair = Pair(variant, score.target, mean.mean, score.value, score.teacher, score.reference)
            tables.setdefault((score.reference.partition(" (")[0], score.teacher), []).append(pair)
    pairs = []
    for own in tables.values():
        pairs += own
        if len(own) > 1:
            both = fmean(pair.ours for pair in own), fmean(pair.published for pair in own)
            pairs.append(Pair(variant, f"{MEAN} over {len(own)}", *both, own[-1].teacher, own[-1].reference))
    return pairs
