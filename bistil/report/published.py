"""The papers' own numbers, and ours beside them where task, system, layer reduction and target are the same.

Notable: data/published/*.csv hold them, each with the table it was printed in. Teacher, texts and steps may
differ from ours, so both teachers are shown, and a mean is taken over the targets that both have."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
FILES = ("bistil", "ltsft", "madg", "holistic", "bui-downstream", "eliquare", "mergedistill")
NEEDED = {"reference", "task", "system", "target", "value"}
SHARES = {"bui-downstream", "eliquare"}
"""The files whose scores are printed as shares of 1, not in percent."""
STUDENTS = {"bui-downstream": 2, "eliquare": 2}
"""The layer reduction of a file's students, where it names none."""
TUNINGS = {"full": "", "full-target": "", "full-source": "-source", "head+2": "-head-2", "head+4": "-head-4"}
"""What a variant's name in the experiment files ends in, of Bui's tunings; the others are called alike."""
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

    Raises:
        InputError: with the line number, where a column is missing or a number is none.
    """
    return tuple(score for name in FILES for score in _read(folder / f"{name}.csv"))


def _read(path: Path) -> Iterator[Score]:
    header, rows = read_csv(path)
    if lacking := NEEDED - {*header}:
        raise InputError(f"{path} should have the columns {', '.join(sorted(lacking))}, too.")
    name, known = path.stem, {"sentiment": "classification"} if path.stem == "holistic" else {}
    for number, row in rows:
        task, system = known.get(row["task"], row["task"]), row["system"]
        if task not in TASKS:
            continue
        own = system.startswith("teacher") or system == "monolingual"
        lrf, usual = row.get("lrf", ""), TASKS[task].metric
        try:
            score = float(row["value"]) * (100 if name in SHARES else 1)
            factor = int(lrf) if lrf else None if own else STUDENTS.get(name)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: numbers were expected, but {error}.") from error
        more = [row["split"]] if row.get("split") == "dev" else []
        told = ", ".join([row["reference"], *more]) + (f" ({doubt})" if (doubt := row.get("doubt")) else "")
        in_target = "" if name in ("eliquare", "mergedistill") else "eng"
        yield Score(
            reference=told,
            task=task,
            metric=usual if task == "classification" else row.get("metric") or usual,
            system=_system(name, row),
            lrf=factor,
            teacher=row.get("teacher", ""),
            source=row.get("source") or in_target,
            target=row["target"],
            value=score,
        )


def _system(file: str, row: Mapping[str, str]) -> str:
    """What a row's system is called in the experiment file of its paper."""
    name = row["system"]
    match file:
        case "madg":
            few = {"teacher-madg-ft": "ft", "teacher-rand-ft": "rand"}
            if row["words"]:
                name = f"{few[name]}-{row['words']}"
            elif row["teacher"] != "bert-base-multilingual-cased":
                name = "xlmr-full"
            return name if row["sources"] == "1" else f"{name}@sources-{row['sources']}"
        case "holistic":
            sizes = {"nllb-200-distilled-600M": "-600m", "nllb-200-distilled-1.3B": "-1b3"}
            shots = f"-{row['shots']}" if row["shots"] not in ("0", "100") else ""
            regime = row["regime"] + shots + sizes.get(row["translator"], "")
            return f"{name}@{regime}" if regime else name
        case "bui-downstream":
            name += TUNINGS.get(row["tuning"], f"-{row['tuning']}")
            return name if row["shots"] == "0" else f"{name}@sequential-{row['shots']}"
    return name


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
