"""The orderings that BiStil claims, put to the test on one's own rows: each with its numbers and a verdict.

Notable: two systems are compared on the targets both were run on; a difference smaller than its own spread over seeds is called that.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from bistil.results import TEACHER, Row, Setting, Variant, average, rows_of, select, settings

HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"
_EXPECTED = (
    (Variant(TEACHER), "≥", Variant("bistil-tf", 2)),
    (Variant("bistil-tf", 2), "≥", Variant("bistil-tf", 3)),
    (Variant("bistil-tf", 3), ">", Variant("multilingual-distil", 2)),
    (Variant("multilingual-distil", 2), ">", Variant("scratch", 2)),
    (Variant("bistil-tf", 2), "≥", Variant("bistil-st", 2)),
    (Variant("bistil-tf", 3), "≥", Variant("bistil-st", 3)),
    (Variant(TEACHER), ">", Variant("teacher-no-adaptation")),
)
_EXPECTED_OF_BASELINES = (
    (Variant("bistil-tf", 2), ">", Variant("distilmbert", 2)),
    (Variant("bistil-tf", 3), ">", Variant("distilmbert", 2)),
    (Variant("bistil-tf", 2), ">", Variant("minilm", 2)),
    (Variant(TEACHER), ">", Variant("teacher-rand-sft")),
    (Variant("teacher-rand-sft"), ">", Variant("teacher-bitfit")),
)
"""The papers' orderings of systems that many experiments leave out: told only where both sides were run."""


@dataclass(frozen=True)
class Claim:
    """An ordering and what the rows say to it. Scores are percent; `difference` is left minus right.

    For the retention claim `left` is the student's share of the teacher's score and `right` the share asked for, both percent.
    `spread` is the sample standard deviation of the difference over seeds, None with fewer than two common seeds. `wins` counts the
    targets on which the ordering holds by itself.
    """

    setting: Setting
    text: str
    verdict: str
    left: float | None = None
    right: float | None = None
    spread: float | None = None
    wins: int = 0
    targets: tuple[str, ...] = ()
    seeds: int = 0

    @property
    def difference(self) -> float | None:
        """Left minus right, in points."""
        return None if self.left is None or self.right is None else self.left - self.right

    @property
    def within_spread(self) -> bool:
        """Whether the difference is no larger than its spread over seeds, so that the verdict may be chance."""
        return self.difference is not None and self.spread is not None and abs(self.difference) <= self.spread


def orderings(rows: Iterable[Row], *, keep_percent: float = 97.0, targets: Mapping[str, Collection[str]] | None = None) -> list[Claim]:
    """Return the claims for every (task, teacher, source) in the rows, on the mean over targets and seeds.

    keep_percent: share of the teacher's score that BiStil-TF at lrf 2 is asked to keep. targets: for each task the targets that count
    (see `clearly_above_floor`), by default all. A claim of BiStil about a system that was not run has the verdict "not run".
    """
    rows = list(rows)
    claims = []
    for setting in settings(rows):
        counted = None if targets is None else targets.get(setting.task)
        chosen = [row for row in rows_of(rows, setting) if counted is None or row["target"] in counted]
        claims += [_compare(chosen, setting, left, sign, right) for left, sign, right in _EXPECTED]
        claims.append(_retention(chosen, setting, keep_percent))
        further = [_compare(chosen, setting, left, sign, right) for left, sign, right in _EXPECTED_OF_BASELINES]
        claims += [claim for claim in further if claim.verdict != NOT_RUN]
    return claims


def _compare(rows: list[Row], setting: Setting, left: Variant, sign: str, right: Variant) -> Claim:
    text = f"{left.label} {sign} {right.label}"
    a, b = select(rows, left), select(rows, right)
    common = tuple(sorted({row["target"] for row in a} & {row["target"] for row in b}))
    mean_a, mean_b = average(a, targets=common), average(b, targets=common)
    if mean_a is None or mean_b is None:
        return Claim(setting, text, NOT_RUN)
    differences = [fmean(_by_seed(a, common)[seed]) - fmean(_by_seed(b, common)[seed]) for seed in _common_seeds(a, b, common)]
    wins = sum(_holds(_mean(a, target), sign, _mean(b, target)) for target in common)
    verdict = HOLDS if _holds(mean_a.mean, sign, mean_b.mean) else FAILS
    spread = stdev(differences) if len(differences) > 1 else None
    return Claim(setting, text, verdict, mean_a.mean, mean_b.mean, spread, wins, common, max(1, len(differences)))


def _retention(rows: list[Row], setting: Setting, keep_percent: float) -> Claim:
    text = f"bistil-tf lrf 2 keeps at least {keep_percent:g} % of {TEACHER}'s score"
    base = _compare(rows, setting, Variant("bistil-tf", 2), "≥", Variant(TEACHER))
    if base.left is None or base.right is None or base.right <= 0:
        return Claim(setting, text, NOT_RUN)
    student, teacher = select(rows, Variant("bistil-tf", 2)), select(rows, Variant(TEACHER))
    seeds = _common_seeds(student, teacher, base.targets)
    if any(fmean(_by_seed(teacher, base.targets)[seed]) <= 0 for seed in seeds):
        seeds = []
    shares = [100 * fmean(_by_seed(student, base.targets)[seed]) / fmean(_by_seed(teacher, base.targets)[seed]) for seed in seeds]
    spread = stdev(shares) if len(shares) > 1 else None
    share = 100 * base.left / base.right
    wins = sum(_mean(student, target) >= keep_percent / 100 * _mean(teacher, target) for target in base.targets)
    return Claim(setting, text, HOLDS if share >= keep_percent else FAILS, share, keep_percent, spread, wins, base.targets, base.seeds)


def _holds(left: float, sign: str, right: float) -> bool:
    return left >= right - 1e-9 if sign == "≥" else left > right + 1e-9


def _mean(rows: list[Row], target: str) -> float:
    mean = average(rows, targets=[target])
    return mean.mean if mean else 0.0


def _by_seed(rows: list[Row], targets: Collection[str]) -> dict[object, list[float]]:
    """Return, for each seed that was run on every target, its scores; a score without a seed (a floor) is left out."""
    cells: dict[object, dict[str, list[float]]] = {}
    for row in rows:
        if row["target"] in targets:
            cells.setdefault(row.get("seed"), {}).setdefault(row["target"], []).append(row["value"])
    return {seed: [fmean(found[target]) for target in targets] for seed, found in cells.items() if set(found) == set(targets)}


def _common_seeds(a: list[Row], b: list[Row], targets: Collection[str]) -> list[object]:
    return sorted(_by_seed(a, targets).keys() & _by_seed(b, targets).keys(), key=str)
