"""Each student against each whole model over all cells of a table, by Wilcoxon's signed ranks (Singh et al.
2023, section 5).

Notable: a cell is a task and a target, its score the mean over seeds. Two models are compared where they
learnt from the same examples. The test says how alike the cells are, not what other examples or seeds would
give, which the paired bootstrap and the spread over seeds say.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import NamedTuple

from bistil.evaluation.results import Row, Setting, is_student, rows_of, select, settings, variants
from bistil.evaluation.significance import signed_rank
from bistil.report.tables import Table
from bistil.report.templates import signed
from bistil.systems.table import SYSTEMS

LEAST = 5
"""Cells with a difference below which no p can be small: 1/32 is the least that five give."""
Cells = Mapping[tuple[str, str], float]


class Model(NamedTuple):
    """What is compared: a variant by its label, whether a student, and what it learnt its tasks from."""

    label: str
    student: bool
    regime: str


def cells(rows: Sequence[Row], tasks: Iterable[Setting]) -> dict[Model, dict[tuple[str, str], float]]:
    """Means over seeds by task and target on each task's primary metric, for each model; tasks: of one
    teacher and source.
    """
    found = defaultdict[Model, dict[tuple[str, str], float]](dict)
    for setting in tasks:
        chosen = rows_of(rows, setting)
        for variant in variants(chosen):
            own = select(chosen, variant)
            guesses = variant.system in SYSTEMS and SYSTEMS[variant.system].guesses
            for target in {row["target"] for row in own} if not guesses else ():
                here = [row for row in own if row["target"] == target]
                model = Model(variant.label, any(map(is_student, own)), str(here[0].get("regime") or ""))
                found[model][setting.task, target] = fmean(row["value"] for row in here)
    return dict(found)


def rank_tables(rows: Iterable[Row]) -> list[Table]:
    """The test of each student against each whole model that it shares at least LEAST cells with, one table
    for each teacher and source; none where there are none.
    """
    rows, origins = list(rows), defaultdict[tuple[str, str], list[Setting]](list)
    for setting in settings(rows):
        origins[setting.teacher, setting.source].append(setting)
    title = "Signed ranks over tasks and targets"
    head = (
        "student",
        "against",
        "better in cells",
        "mean difference",
        "relative, by cell (RDT)",
        "p, one-sided",
    )
    return [
        Table(title + (f" ({teacher}, from {source})" if len(origins) > 1 else ""), head, lines)
        for (teacher, source), tasks in origins.items()
        if (lines := _lines(cells(rows, tasks)))
    ]


def _lines(found: Mapping[Model, Cells]) -> list[tuple[str, ...]]:
    lines = list[tuple[str, ...]]()
    students = [one for one in found if one.student]
    for one, whole in product(students, [one for one in found if not one.student]):
        own, theirs = found[one], found[whole]
        gaps = [own[at] - theirs[at] for at in own.keys() & theirs.keys()]
        if one.regime == whole.regime and sum(map(bool, gaps)) >= LEAST:
            better = f"{sum(gap > 0 for gap in gaps)} of {len(gaps)}"
            percent = f"{signed(relative_deviation(own, theirs))} %" if all(theirs.values()) else "–"
            far = signed(fmean(gaps)), percent
            lines.append((one.label, whole.label, better, *far, f"{signed_rank(gaps):.4f}"))
    return lines


def relative_deviation(students: Cells, teachers: Cells) -> float:
    """RDT, in percent: the mean over the cells that both have of (student - teacher) / teacher.

    It is positive where the student is better, as in the tables of Khanuja et al. 2021; their eq. 3 has the
    sign reversed. Cells where the teacher has 0 have none.
    """
    both = [at for at in students.keys() & teachers.keys() if teachers[at]]
    return 100 * fmean((students[at] - teachers[at]) / teachers[at] for at in both)
