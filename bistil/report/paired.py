"""Differences between systems with paired significance: each student against the teacher, BiStil against the
best other student.

Notable: only what was scored on the same test files is paired; where an evaluation is older than the keeping
of outcomes, the pair says so instead of a number."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from bistil.evaluation.results import (
    Row,
    Setting,
    Variant,
    average,
    distinct_seeds,
    is_student,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.evaluation.significance import Difference, Outcomes, difference, resampled
from bistil.systems.table import FORCED, SYSTEMS, TEACHER
from bistil.tasks import TASKS
from bistil.tasks.task import Counted

Kept = Mapping[str, Outcomes]
"""Outcomes by the artefact that they are of."""
LACKING = "evaluations kept no outcomes"
UNCOUNTED = "no sum over examples, so none are drawn"
"""Why a pair has no interval: evaluations of older versions, and a score that has none in any."""
Draws = Mapping[str, tuple[str, np.ndarray]]
"""By artefact, its test file and its scores on every draw of that."""


@dataclass(frozen=True)
class Pair:
    """Left minus right in points, the mean over the targets and seeds that both have.

    by_seed: the same for each seed by itself. difference: with its interval and p, None where `why` says what
    is missing for that."""

    left: str
    right: str
    targets: tuple[str, ...]
    by_seed: tuple[float, ...]
    difference: Difference | None
    why: str = ""

    @property
    def mean(self) -> float | None:
        """The mean over targets and seeds; None where there are none in common."""
        return fmean(self.by_seed) if self.by_seed else None


def draws(rows: Iterable[Row], kept: Kept) -> dict[str, tuple[str, np.ndarray]]:
    """The scores of every evaluation behind the rows, which are of one metric, on the same draws of its test
    file.
    """
    tests: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        outcomes = kept.get(row["artefact"] or "")
        if outcomes and row["metric"] in outcomes.sums:
            tests[outcomes.test, row["metric"]].append(row["artefact"])
    found: dict[str, tuple[str, np.ndarray]] = {}
    for (test, metric), names in tests.items():
        names = list(dict.fromkeys(names))
        scores = resampled(np.stack([kept[name].sums[metric] for name in names]), test)
        found |= {name: (test, own) for name, own in zip(names, scores, strict=True)}
    return found


def pair(
    left: Sequence[Row], right: Sequence[Row], drawn: tuple[Draws, Draws], names: tuple[str, str]
) -> Pair:
    """Compare two systems, each given by its rows of one metric, on the targets both have and the seeds that
    both have of all of these.

    Args:
        drawn: of each side by itself: an id says what a score was made from, and the same made twice, on
            other machines, may differ.
    """
    a, b = ({(row["target"], row["seed"]): row for row in side} for side in (left, right))
    targets = tuple(sorted({target for target, _ in a} & {target for target, _ in b}))
    complete = {
        seed
        for seed in {seed for _, seed in a}
        if targets and all((target, seed) in a and (target, seed) in b for target in targets)
    }
    places = [(target, seed) for seed in complete for target in targets]
    seeds = distinct_seeds(*([side[at] for at in places] for side in (a, b)))
    by_seed = tuple(
        fmean(a[target, seed]["value"] - b[target, seed]["value"] for target in targets) for seed in seeds
    )
    cells = [
        (a[target, seed]["artefact"] or "", b[target, seed]["artefact"] or "")
        for seed in seeds
        for target in targets
    ]
    why = _missing(cells, drawn)
    found = (
        None
        if why
        else difference([drawn[0][one][1] for one, _ in cells], [drawn[1][other][1] for _, other in cells])
    )
    return Pair(*names, targets, by_seed, found, why)


def _missing(cells: Sequence[tuple[str, str]], drawn: tuple[Draws, Draws]) -> str:
    """Why two systems cannot be compared example by example; "" where they can."""
    if not cells:
        return "no target and seed in common"
    names = {(side, name) for cell in cells for side, name in enumerate(cell)}
    if lacking := [name for side, name in names if name not in drawn[side]]:
        return f"{len(lacking)} of {len(names)} {LACKING}"
    return (
        ""
        if all(drawn[0][one][0] == drawn[1][other][0] for one, other in cells)
        else "not the same test files"
    )


def paired(rows: Iterable[Row], kept: Kept) -> list[tuple[Setting, list[Pair]]]:
    """For each setting, on its primary metric: students against the teacher, BiStil's against the best other
    student.
    """
    rows = list(rows)
    found = []
    for setting in settings(rows):
        chosen = rows_of(rows, setting)
        drawn, own = draws(chosen, kept), {variant: select(chosen, variant) for variant in variants(chosen)}
        students = [variant for variant, its in own.items() if any(map(is_student, its))]
        teachers = {variant: Variant("@".join([TEACHER, *_regime(variant)])) for variant in students}
        asked = [(variant, teacher) for variant, teacher in teachers.items() if teacher in own]
        ours = [variant for variant in students if variant.system.partition("@")[0] == FORCED]
        asked += [(variant, best) for variant in ours if (best := _best(own, students, variant))]
        pairs = [
            pair(own[left], own[right], (drawn, drawn), (left.label, right.label)) for left, right in asked
        ]
        if not isinstance(TASKS.get(setting.task), Counted):
            pairs = [replace(one, why=UNCOUNTED) if LACKING in one.why else one for one in pairs]
        found += [(setting, pairs)] if pairs else []
    return found


def _best(
    own: Mapping[Variant, Sequence[Row]], students: Sequence[Variant], student: Variant
) -> Variant | None:
    """The best student by another recipe than BiStil that learns from the same examples, of those that share
    the most targets with this one, on these.
    """
    targets = {row["target"] for row in own[student]}
    recipes = {one: SYSTEMS.get(one.system.partition("@")[0]) for one in students}
    others = [
        one
        for one, recipe in recipes.items()
        if not (recipe and recipe.ours) and _regime(one) == _regime(student)
    ]
    means = {variant: mean for variant in others if (mean := average(own[variant], targets=targets))}
    return max(means, key=lambda one: (means[one].targets, means[one].mean)) if means else None


def _regime(variant: Variant) -> list[str]:
    """What follows the @ of a system's name; nothing where there is none."""
    return variant.system.split("@")[1:]
