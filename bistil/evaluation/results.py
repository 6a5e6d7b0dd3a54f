"""Results as tidy rows: one row is one score of one system on one target with one seed, next to what the
system costs.

Notable: means are taken over targets within a seed and then over seeds, so that a spread is always a spread
over seeds, and a model that no seed changes (an encoder that is not tuned, say) is one score under however
many seeds it stands; partial grids are normal (a missing cell is left out, never counted as zero), and two
systems are compared only on the targets both were run on.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from bistil.errors import InputError
from bistil.settings.files import csv_text, read_csv
from bistil.store.whole import write_whole
from bistil.systems.table import SYSTEMS, rank
from bistil.tasks import primary

Row = Mapping[str, Any]
AXES = ("recipe", "start", "layers", "languages", "adaptation", "learning", "follows", "regime")
"""What a system is, one column for each axis (`systems.system.System.axes`); empty where one does not apply.
"""
COLUMNS = (
    *("experiment", "system", "teacher", "task", "source", "target", "lrf", "drf", *AXES),
    *("density", "seed", "metric", "value", "n_examples", "parameters", "vocabulary"),
    *("flops_per_example", "latency_ms", "latency_spread_ms", "encoder_ms", "examples_per_second"),
    *("processor_share", "disk_bytes", "artefact"),
)
ADDED = ("drf", *AXES, "latency_spread_ms", "encoder_ms", "processor_share")
"""Columns that files of earlier versions lack."""
TEXT = ("experiment", "system", "teacher", "task", "source", "target", "metric", "artefact", *AXES)
INTEGERS = ("lrf", "drf", "seed", "n_examples", "parameters", "vocabulary", "disk_bytes")
REQUIRED = ("system", "task", "target", "metric", "value")
IDENTITY = (
    *("experiment", "task", "teacher", "source", "system", "lrf", "drf", "density", "target", "seed"),
    "metric",
)
METRICS = {
    "las": "LAS",
    "uas": "UAS",
    "em": "exact match",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
}
ON_SOURCE = "source-"
"""What comes before the name of a metric that a model has on the source's own test file."""


class Setting(NamedTuple):
    """What has to be the same for two scores to be compared."""

    task: str
    teacher: str
    source: str


class Variant(NamedTuple):
    """A system at one size.

    Attributes:
        lrf: its layer reduction factor; None for whole models.
        density: None unless the system was run at several.
        drf: its hidden reduction factor; None for the teacher's width.
    """

    system: str
    lrf: int | None = None
    density: float | None = None
    drf: int | None = None

    @property
    def label(self) -> str:
        """The name to show, for example `bistil-tf lrf 2`."""
        parts = [
            self.system,
            f"lrf {self.lrf}" if self.lrf else "",
            f"drf {self.drf}" if self.drf else "",
            f"density {self.density:g}" if self.density is not None else "",
        ]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Mean:
    """A mean over targets and seeds; `std` (sample standard deviation over seeds) is None with fewer than two
    seeds. `fixed` says that it is of one model whatever the seed.
    """

    mean: float
    std: float | None
    seeds: int
    targets: int
    fixed: bool = False


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Write `results.csv`; see `results_text`."""
    write_whole(path, results_text(rows))


def results_text(rows: Iterable[Row]) -> str:
    """Return rows as CSV with the columns of COLUMNS in a stable order; None is an empty cell, floats are
    written exactly.
    """
    lines = [[_text(row.get(column)) for column in COLUMNS] for row in tidy(rows)]
    return csv_text([COLUMNS, *lines])


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a `results.csv` as `tidy` gives its rows; other columns than COLUMNS or a cell that is no number
    where one belongs are an `InputError`, as is what `tidy` refuses.
    """
    header, rows = read_csv(path)
    if set(COLUMNS) - set(header) - set(ADDED) or set(header) - set(COLUMNS):
        raise InputError(
            f"{path} should have the columns {', '.join(COLUMNS)}, but has {', '.join(header)}. Write it"
            " with write_results."
        )
    found = []
    for number, row in rows:
        try:
            found.append(with_axes({column: _parse(column, cell) for column, cell in row.items()}))
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"A number was expected in {path}, line {number}, but {error}. Correct that line."
            ) from error
    try:
        return tidy(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def with_axes(row: Row) -> dict[str, Any]:
    """Return a row with every column; one of an earlier version gets its axes from the table of systems.

    Such a row has the hidden reduction factor at the end of its system's name, as -drf2.
    """
    found = {column: row.get(column) for column in COLUMNS}
    old = re.fullmatch(r"(.+)-drf(\d+)", str(row["system"])) if "drf" not in row else None
    if old:
        found |= {"system": old[1], "drf": int(old[2])}
    known = SYSTEMS.get(str(found["system"]))
    if known and known.guesses:
        found["density"] = None  # versions before gave it the task's
    if known and not any(name in row for name in AXES):
        found |= {name: word or None for name, word in known.axes.items()}
    return found


def is_student(row: Row) -> bool:
    """Whether a row is of a student rather than of a whole model or a guess; one without a recipe that learns
    nothing has the layers that it starts from.
    """
    if "recipe" in row:
        return bool(row["recipe"] or row.get("start"))
    system = SYSTEMS.get(row["system"].partition("@")[0])
    return system is not None and system.student is not None


def results_id(rows: Iterable[Row]) -> str:
    """What names a set of results: a hash of the artefacts that they come from."""
    return sha256(",".join(sorted({row["artefact"] for row in rows})).encode()).hexdigest()


def tidy(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows with every column, each once and sorted; unknown columns, missing values and
    contradictions are an `InputError`.
    """
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if unknown := set(row) - set(COLUMNS):
            raise InputError(
                f"A result row has the columns {', '.join(COLUMNS)}, but one with {sorted(unknown)} came."
                " Drop or rename these."
            )
        if missing := [column for column in REQUIRED if row.get(column) in (None, "")]:
            raise InputError(
                f"A result row needs {', '.join(REQUIRED)}, but {missing} is missing in {dict(row)}. Fill"
                " it in."
            )
        whole = {column: _parse(column, _text(cell)) for column, cell in with_axes(row).items()}
        key = tuple(whole[column] for column in IDENTITY)
        if key in unique and unique[key]["value"] != whole["value"]:
            raise InputError(
                f"One score was expected for {dict(zip(IDENTITY, key, strict=True))}, "
                f"but {unique[key]['value']} and {whole['value']} came. "
                "Give the runs different experiment names, or keep one."
            )
        unique.setdefault(key, whole)
    return sorted(unique.values(), key=_order)


def primary_metric(rows: Iterable[Row], task: str) -> str:
    """Return the metric a task is judged by: LAS, F1, accuracy, exact match, or else the first one in the
    rows.
    """
    metrics = sorted({str(row["metric"]) for row in rows if row["task"] == task})
    first = primary(task) or ""
    return first if first in metrics or not metrics else metrics[0]


def metric_label(metric: str) -> str:
    """Return the axis label of a metric with its unit; every score is in percent."""
    plain = metric.removeprefix(ON_SOURCE)
    return METRICS.get(plain, plain) + (" on the source" if plain != metric else "") + " (%)"


def settings(rows: Iterable[Row]) -> list[Setting]:
    """Return every (task, teacher, source) there are scores for, rows without a teacher or source (a floor)
    aside.
    """
    rows = list(rows)
    found = {Setting(row["task"], row.get("teacher") or "", row.get("source") or "") for row in rows}
    known = {setting for setting in found if setting.teacher}
    return sorted(
        known | {setting for setting in found if setting.task not in {other.task for other in known}}
    )


def rows_of(rows: Iterable[Row], setting: Setting, metric: str | None = None) -> list[Row]:
    """Return the zero-shot rows of a setting (target other than source) for one metric, by default the
    primary one.
    """
    rows = [row for row in rows if row["task"] == setting.task and row["target"] != (row.get("source") or "")]
    metric = metric or primary_metric(rows, setting.task)
    same = [row for row in rows if (row.get("teacher") or setting.teacher) == setting.teacher]
    return [
        row
        for row in same
        if row["metric"] == metric and (row.get("source") or setting.source) == setting.source
    ]


def variants(rows: Iterable[Row]) -> list[Variant]:
    """Return the systems in the rows in the order of their table, told apart by density only where a system
    was run at several on a task and target, with one seed.

    A density that came of these is none that was chosen: full fine-tuning leaves the embeddings alone that a
    task's text does not use, and a student's vocabulary is that of its languages.
    """
    densities: dict[Variant, dict[tuple[Any, ...], set[float | None]]] = {}
    for row in rows:
        variant = Variant(row["system"], _lrf(row), drf=row.get("drf"))
        where = row["task"], row["target"], row.get("seed")
        densities.setdefault(variant, {}).setdefault(where, set()).add(row.get("density"))
    found = set[Variant]()
    for variant, by_place in densities.items():
        several = any(len(values) > 1 for values in by_place.values())
        each = set().union(*by_place.values()) if several else {None}
        found |= {variant._replace(density=density) for density in each}
    return sorted(
        found,
        key=lambda one: (rank(one.system), one.system, one.drf or 0, one.lrf or 0, one.density or 0.0),
    )


def select(rows: Iterable[Row], variant: Variant) -> list[Row]:
    """Return the rows of a variant. Where no row of the system states the variant's `lrf`, those that state
    none (a scratch student, say) match any, and a variant without one stands for all; where one does, no
    `lrf` is a reduction of 1.
    """
    rows = [
        row
        for row in rows
        if (row["system"], row.get("drf")) == (variant.system, variant.drf)
        and variant.density in (None, row.get("density"))
    ]
    stated, wanted = {_lrf(row) for row in rows}, None if variant.lrf == 1 else variant.lrf
    if wanted in stated or variant.lrf == 1:
        return [row for row in rows if _lrf(row) == wanted]
    return rows if wanted is None or stated == {None} else []


def average(
    rows: Sequence[Row], column: str = "value", targets: Collection[str] | None = None
) -> Mean | None:
    """Return the mean of a column over the (given) targets and over seeds, or None without a single
    number.
    """
    found = [
        row for row in rows if row.get(column) is not None and (targets is None or row["target"] in targets)
    ]
    all_seeds = {row.get("seed") for row in found}
    kept = distinct_seeds(found)
    cells: dict[str, dict[Any, list[float]]] = {}
    for row in found:
        if row.get("seed") in kept:
            cells.setdefault(row["target"], {}).setdefault(row.get("seed"), []).append(float(row[column]))
    if not cells:
        return None
    complete = set.intersection(*(set(seeds) for seeds in cells.values()))
    by_seed = [fmean(fmean(seeds[seed]) for seeds in cells.values()) for seed in sorted(complete, key=str)]
    if len(by_seed) == max(len(seeds) for seeds in cells.values()):
        mean = fmean(by_seed)
    else:
        mean = fmean(fmean(map(fmean, seeds.values())) for seeds in cells.values())
    std, fixed = stdev(by_seed) if len(by_seed) > 1 else None, len(kept) == 1 < len(all_seeds)
    return Mean(mean, std, len(by_seed), len(cells), fixed)


def over_all(rows: Sequence[Row], targets: Collection[str]) -> Mean | None:
    """Return the mean of the scores over targets and seeds; None where one of the targets is lacking."""
    mean = average(rows, targets=targets)
    return mean if mean and mean.targets == len(targets) else None


def of_run_seeds(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows without those of seeds under which nothing was made but what other seeds have too: a guess, or
    an untuned encoder, is the same under every seed, and would make three of one.
    """
    seeds: dict[Any, set[Any]] = {}
    for row in rows:
        seeds.setdefault(row["artefact"], set()).add(row["seed"])
    run = {seed for found in seeds.values() if len(found) == 1 for seed in found}
    return [row for row in rows if row["seed"] in run or not run]


def ratio_to(other: Sequence[Row], own: Sequence[Row], column: str = "value") -> float | None:
    """Return how many times the other side's mean of a column one has, over the targets of which both have
    it; None where there are none, or the other's is not above 0.
    """
    sides = [[row for row in side if row.get(column) is not None] for side in (own, other)]
    ours, theirs = (average(side, column, common_targets(*sides)) for side in sides)
    return ours.mean / theirs.mean if ours and theirs and theirs.mean > 0 else None


def distinct_seeds(*sides: Iterable[Row]) -> list[Any]:
    """The seeds of rows, without those under which every side has what it has under an earlier one: the same
    scores of the same artefacts.
    """
    scores: dict[Any, set[Any]] = {}
    for side, rows in enumerate(sides):
        for row in rows:
            seed = row.get("seed")
            made = row.get("artefact") or f"seed {seed}"
            scores.setdefault(seed, set()).add((side, row["target"], row.get("metric"), made, row["value"]))
    kept: list[Any] = []
    rising = sorted(scores, key=lambda seed: (len(str(seed)), str(seed)))  # 2 before 10; a floor has none
    for seed in sorted(rising, key=lambda seed: -len(scores[seed])):
        if not any(scores[seed] <= scores[other] for other in kept):
            kept.append(seed)
    return [seed for seed in rising if seed in kept]


def in_groups(targets: Sequence[str], groups: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Return those of the targets that each group has, by its name; without groups each target by itself."""
    asked: Mapping[str, Sequence[str]] = groups or {target: [target] for target in targets}
    return {name: there for name, its in asked.items() if (there := [one for one in its if one in targets])}


def common_targets(*sides: Sequence[Row]) -> list[str]:
    """Return the targets that all sides were scored on, over which their means can be compared. A side
    without scores takes nothing from the others.
    """
    scored = [{row["target"] for row in side} for side in sides if side]
    return sorted(set.intersection(*scored)) if scored else []


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the numbers of the points on the Pareto front, cheapest first: no other point is as cheap and
    better, or as good and cheaper.

    Args:
        points: cost (less is better) and score (more is better) of each; of equal points all are on the front
            or none.
    """
    found: list[int] = []
    best = float("-inf")
    for number in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        cost, score = points[number]
        if score > best or (found and points[found[-1]] == (cost, score)):
            found.append(number)
            best = score
    return found


def _lrf(row: Row) -> int | None:
    return row.get("lrf") if is_student(row) or row["system"] not in SYSTEMS else None


def _order(row: Row) -> tuple[Any, ...]:
    parts = {
        column: (row[column] is not None, row[column] if row[column] is not None else 0)
        for column in IDENTITY
    }
    return tuple(
        value
        for column in IDENTITY
        for value in ([rank(row["system"])] if column == "system" else []) + [parts[column]]
    )


def _text(cell: Any) -> str:
    return "" if cell is None else repr(float(cell)) if isinstance(cell, float) else str(cell)


def _parse(column: str, cell: str) -> Any:
    if cell == "" or column in TEXT:
        return cell or None
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(f"{cell!r} is not finite")
    if column in INTEGERS and number != int(number):
        raise ValueError(f"{cell!r} is no whole number")
    return int(number) if column in INTEGERS else number
