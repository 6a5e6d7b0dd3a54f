"""The orderings that the papers claim (BiStil, LT-SFT, SpIEL), put to the test on one's own rows: each with
its numbers and a verdict.

Notable: two systems are compared on the targets both were run on; a difference smaller than its own spread
over seeds is called that.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from bistil.evaluation.results import Row, Setting, Variant, average, rows_of, select, settings
from bistil.systems.claims import ORDERINGS, RETAINED, Ordering
from bistil.systems.table import TEACHER, UNADAPTED

HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"


@dataclass(frozen=True)
class Claim:
    """An ordering and what the rows say to it. Scores are percent; `difference` is left minus right.

    For the retention claim `left` is the student's share of the teacher's score and `right` the share asked
    for, both percent. For the claim on adaptation they are the gains by language SFTs on unseen and on seen
    targets, in points. `spread` is the sample standard deviation of the difference over seeds, None with
    fewer than two common seeds. `wins` counts the targets on which the ordering holds by itself."""

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
        """Whether the difference is no larger than its spread over seeds, so that the verdict may be
        chance.
        """
        return self.difference is not None and self.spread is not None and abs(self.difference) <= self.spread


def orderings(
    rows: Iterable[Row],
    *,
    keep_percent: float = 97.0,
    targets: Mapping[str, Collection[str]] | None = None,
    seen: Collection[str] | None = None,
) -> list[Claim]:
    """Return the claims for every (task, teacher, source) in the rows, on the mean over targets and seeds.

    keep_percent: share of the teacher's score that BiStil-TF at lrf 2 is asked to keep. targets: for each
    task the targets that count (see `clearly_above_floor`), by default all. seen: the languages that the
    teacher saw, for the claim that adaptation lifts the others more. A claim of BiStil about a system that
    was not run has the verdict "not run"."""
    rows = list(rows)
    claims = []
    for setting in settings(rows):
        counted = None if targets is None else targets.get(setting.task)
        chosen = [row for row in rows_of(rows, setting) if counted is None or row["target"] in counted]
        told = [(one.always, _ordering(chosen, setting, one)) for one in ORDERINGS]
        claims += [claim for always, claim in told if always]
        claims.append(_retention(chosen, setting, keep_percent))
        further = [claim for always, claim in told if not always]
        further += [] if seen is None else [_adaptation(chosen, setting, seen)]
        claims += [claim for claim in further if claim.verdict != NOT_RUN]
    return claims


def _ordering(rows: list[Row], setting: Setting, claim: Ordering) -> Claim:
    return _compare(rows, setting, Variant(*claim.left), claim.sign, Variant(*claim.right), short=claim.short)


def _compare(
    rows: list[Row], setting: Setting, left: Variant, sign: str, right: Variant, *, short: float = 0.0
) -> Claim:
    """Compare two systems. short: points by which the left one may fall short, which the claim's text then
    says.
    """
    text = f"{left.label} {sign} {right.label}" + (f" less {short:g} point, as level" if short else "")
    a, b = select(rows, left), select(rows, right)
    common = tuple(sorted({row["target"] for row in a} & {row["target"] for row in b}))
    mean_a, mean_b = average(a, targets=common), average(b, targets=common)
    if mean_a is None or mean_b is None:
        return Claim(setting, text, NOT_RUN)
    differences = [
        fmean(_by_seed(a, common)[seed]) - fmean(_by_seed(b, common)[seed])
        for seed in _common_seeds(a, b, common)
    ]
    wins = sum(_holds(_mean(a, target) + short, sign, _mean(b, target)) for target in common)
    verdict = HOLDS if _holds(mean_a.mean + short, sign, mean_b.mean) else FAILS
    spread = stdev(differences) if len(differences) > 1 else None
    return Claim(
        setting, text, verdict, mean_a.mean, mean_b.mean, spread, wins, common, max(1, len(differences))
    )


def _retention(rows: list[Row], setting: Setting, keep_percent: float) -> Claim:
    asked = Variant(*RETAINED)
    text = f"{asked.label} keeps at least {keep_percent:g} % of {TEACHER}'s score"
    base = _compare(rows, setting, asked, "≥", Variant(TEACHER))
    if base.left is None or base.right is None or base.right <= 0:
        return Claim(setting, text, NOT_RUN)
    student, teacher = select(rows, asked), select(rows, Variant(TEACHER))
    seeds = _common_seeds(student, teacher, base.targets)
    if any(fmean(_by_seed(teacher, base.targets)[seed]) <= 0 for seed in seeds):
        seeds = []
    shares = [
        100 * fmean(_by_seed(student, base.targets)[seed]) / fmean(_by_seed(teacher, base.targets)[seed])
        for seed in seeds
    ]
    spread = stdev(shares) if len(shares) > 1 else None
    share = 100 * base.left / base.right
    wins = sum(
        _mean(student, target) >= keep_percent / 100 * _mean(teacher, target) for target in base.targets
    )
    return Claim(
        setting,
        text,
        HOLDS if share >= keep_percent else FAILS,
        share,
        keep_percent,
        spread,
        wins,
        base.targets,
        base.seeds,
    )


def _adaptation(rows: list[Row], setting: Setting, seen: Collection[str]) -> Claim:
    """Language SFTs help where the teacher knows least (LT-SFT section 5, thesis Table 4.5): gain on unseen
    targets against seen ones.
    """
    adapted, bare = select(rows, Variant(TEACHER)), select(rows, Variant(UNADAPTED))
    common = sorted({row["target"] for row in adapted} & {row["target"] for row in bare})
    sides = [[code for code in common if code not in seen], [code for code in common if code in seen]]
    text = "language SFTs lift unseen targets more than seen ones"
    if not all(sides):
        return Claim(setting, text, NOT_RUN)
    unseen_gain, seen_gain = (
        fmean(_mean(adapted, code) - _mean(bare, code) for code in side) for side in sides
    )
    ours, theirs = _by_seed(adapted, common), _by_seed(bare, common)
    seeds = _common_seeds(adapted, bare, common)
    gains = [[a - b for a, b in zip(ours[seed], theirs[seed], strict=True)] for seed in seeds]
    differences = [_mean_of(gain, common, sides[0]) - _mean_of(gain, common, sides[1]) for gain in gains]
    spread = stdev(differences) if len(differences) > 1 else None
    wins = sum(_mean(adapted, code) - _mean(bare, code) > seen_gain for code in sides[0])
    verdict = HOLDS if unseen_gain > seen_gain else FAILS
    return Claim(
        setting,
        text,
        verdict,
        unseen_gain,
        seen_gain,
        spread,
        wins,
        tuple(sides[0]),
        max(1, len(differences)),
    )


def _mean_of(values: list[float], names: list[str], chosen: list[str]) -> float:
    return fmean(value for value, name in zip(values, names, strict=True) if name in chosen)


def _holds(left: float, sign: str, right: float) -> bool:
    return left >= right - 1e-9 if sign == "≥" else left > right + 1e-9


def _mean(rows: list[Row], target: str) -> float:
    mean = average(rows, targets=[target])
    return mean.mean if mean else 0.0


def _by_seed(rows: list[Row], targets: Collection[str]) -> dict[object, list[float]]:
    """Return, for each seed that was run on every target, its scores; a score without a seed (a floor) is
    left out.
    """
    cells: dict[object, dict[str, list[float]]] = {}
    for row in rows:
        if row["target"] in targets:
            cells.setdefault(row.get("seed"), {}).setdefault(row["target"], []).append(row["value"])
    return {
        seed: [fmean(found[target]) for target in targets]
        for seed, found in cells.items()
        if set(found) == set(targets)
    }


def _common_seeds(a: list[Row], b: list[Row], targets: Collection[str]) -> list[object]:
    return sorted(_by_seed(a, targets).keys() & _by_seed(b, targets).keys(), key=str)
