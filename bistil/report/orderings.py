"""The orderings that the papers claim (BiStil, LT-SFT, SpIEL), put to the test on one's own rows: each with
its numbers and a verdict.

Notable: two systems are compared on the targets and seeds that both have, or on all seeds where they have
none in common. A claim holds only where its interval over seeds and its interval over targets both exclude
zero, since only then it speaks of other languages. It holds here where it does on each of the targets and its
interval over seeds alone excludes zero. What is less is called leaning or open, whatever the means say.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, stdev

from scipy.special import stdtrit

from bistil.evaluation.results import (
    Row,
    Setting,
    Variant,
    average,
    distinct_seeds,
    metric_label,
    rows_of,
    select,
    settings,
)
from bistil.systems.claims import ORDERINGS, RETAINED, Chain, Ordering, Sign
from bistil.systems.table import TEACHER, UNADAPTED

HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run"
HERE, NOT_HERE = "holds here", "does not hold here"
LEANS, AGAINST, OPEN = "leans towards it", "leans against it", "open"
CONFIDENCE = 0.95
LEAST = 1e-9
KEPT = 97
"""The percentage of the teacher's score that BiStil-TF at lrf 2 is asked to keep."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Claim:
    """An ordering and what the rows say to it. Scores are percent; `difference` is left minus right.

    For the retention claim `left` is the student's share of the teacher's score and `right` the share asked
    for, both percent. For the claim on adaptation they are the gains by language SFTs on unseen and on seen
    targets, in points. `spread` is the sample standard deviation of the difference over seeds, None with
    fewer than two common seeds. `wins` counts the targets on which the ordering holds by itself. `interval`
    is that of the difference (see `interval_of`), None where seeds or targets are too few for one;
    `over_seeds` speaks of other seeds alone, None with fewer than two. `source` is where it is claimed, ""
    for the papers of BiStil, LT-SFT and SpIEL. `metric` is by what it is judged, "" for the task's own."""

    setting: Setting
    text: str
    verdict: str
    left: float | None = None
    right: float | None = None
    spread: float | None = None
    wins: int = 0
    targets: tuple[str, ...] = ()
    seeds: int = 0
    interval: Interval | None = None
    over_seeds: Interval | None = None
    source: str = ""
    metric: str = ""

    @property
    def difference(self) -> float | None:
        """Left minus right, in points."""
        return None if self.left is None or self.right is None else self.left - self.right


def interval_of(differences: Sequence[Sequence[float]]) -> Interval | None:
    """Return a 95 % interval of a mean difference that speaks of other seeds and of other targets: from the
    lower to the higher end of two t-intervals, one over the means of seeds, one over the means of targets.

    Args:
        differences: By seed, by target. Shape: [S, T].

    Returns:
        The interval; None with fewer than two seeds or two targets, since then nothing tells how much another
        one would change.
    """
    if len(differences) < 2 or len(differences[0]) < 2:
        return None
    sides = [
        _t_interval([fmean(found) for found in axis])
        for axis in (differences, list(zip(*differences, strict=True)))
    ]
    return min(low for low, _ in sides), max(high for _, high in sides)


def _t_interval(values: Sequence[float]) -> Interval:
    half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


@dataclass(frozen=True)
class _Evidence:
    """What is known of a value, a difference in points.

    Attributes:
        found: Its interval over seeds and targets, over_seeds that over seeds alone; None where they are too
            few.
        spread: Its standard deviation over seeds.
        won: The targets, of so many, on which the claim is true by itself.
    """

    value: float
    found: Interval | None
    over_seeds: Interval | None
    spread: float | None
    won: int
    targets: int

    def plus(self, points: float) -> "_Evidence":
        """The same of a value that is larger by so much."""
        found, over_seeds = (
            one and (one[0] + points, one[1] + points) for one in (self.found, self.over_seeds)
        )
        return replace(self, value=self.value + points, found=found, over_seeds=over_seeds)


def _verdict(of: _Evidence) -> str:
    """What the evidence allows to say of a claim that a value is above zero."""
    everywhere, nowhere = of.won == of.targets, of.won == 0
    if of.found and of.found[0] > LEAST:
        return HOLDS
    if of.found and of.found[1] < -LEAST:
        return FAILS
    if of.over_seeds and of.over_seeds[0] > LEAST and everywhere:
        return HERE
    if of.over_seeds and of.over_seeds[1] < -LEAST and nowhere:
        return NOT_HERE
    if of.spread is not None and abs(of.value) <= of.spread:
        return OPEN
    if of.value > LEAST and everywhere:
        return LEANS
    return AGAINST if of.value < -LEAST and nowhere else OPEN


def _level(of: _Evidence, within: float) -> str:
    """What the evidence allows to say of a claim that a value is at most `within` from zero, on either side:
    it holds where the whole interval is, and fails where none of it is.
    """
    everywhere, nowhere = of.won == of.targets, of.won == 0
    if of.found and max(map(abs, of.found)) <= within:
        return HOLDS
    if of.found and _beyond(of.found, within):
        return FAILS
    if of.over_seeds and max(map(abs, of.over_seeds)) <= within and everywhere:
        return HERE
    if of.over_seeds and _beyond(of.over_seeds, within) and nowhere:
        return NOT_HERE
    if of.spread is not None and abs(abs(of.value) - within) <= of.spread:
        return OPEN
    if abs(of.value) <= within and everywhere:
        return LEANS
    return AGAINST if abs(of.value) > within and nowhere else OPEN


def _beyond(found: Interval, within: float) -> bool:
    return found[0] > within or found[1] < -within


def orderings(
    rows: Iterable[Row],
    *,
    seen: Collection[str] | None = None,
    chains: Sequence[Chain] = (),
) -> list[Claim]:
    """Return the claims for every (task, teacher, source) in the rows, on the mean over targets and seeds.

    seen: the languages that the
    teacher saw, for the claim that adaptation lifts the others more. chains: what the experiment asks
    besides, told first. A claim of BiStil about a system that was not run has the verdict "not run", and is
    left out where the experiment asks claims of its own."""
    rows = list(rows)
    claims = []
    asked = [one for chain in chains for one in chain.orderings]
    for setting in settings(rows):
        chosen = rows_of(rows, setting)
        for one in asked:
            if setting.task in (one.tasks or (setting.task,)):
                judged = rows_of(rows, setting, one.metric) if one.metric else chosen
                claims.append(_ordering(judged, setting, one))
        own = {claim.text for claim in claims if claim.setting == setting}
        told = [(one.always and not asked, _ordering(chosen, setting, one)) for one in ORDERINGS]
        told = [(always, claim) for always, claim in told if claim.text not in own]
        claims += [claim for always, claim in told if always]
        retention = _retention(chosen, setting)
        claims += [retention] if retention.verdict != NOT_RUN or not asked else []
        further = [claim for always, claim in told if not always]
        further += [] if seen is None else [_adaptation(chosen, setting, seen)]
        claims += [claim for claim in further if claim.verdict != NOT_RUN]
    return claims


def _ordering(rows: list[Row], setting: Setting, claim: Ordering) -> Claim:
    """Compare two systems, on the targets that the claim is about."""
    sides = [Variant(*side, drf=drf) for side, drf in zip((claim.left, claim.right), claim.drf, strict=True)]
    left, right = sides
    about = [row for row in rows if not claim.targets or row["target"] in claim.targets]
    found = _compare(about, setting, left, claim.sign, right, short=claim.short)
    where = f" on {', '.join(claim.targets)}" if claim.targets else ""
    by = f" by {metric_label(claim.metric).removesuffix(' (%)')}" if claim.metric else ""
    return replace(found, text=found.text + where + by, source=claim.source, metric=claim.metric)


def _compare(
    rows: list[Row], setting: Setting, left: Variant, sign: Sign, right: Variant, *, short: float = 0.0
) -> Claim:
    """Compare two systems. short: points by which the left one may fall short, which the claim's text then
    says.
    """
    within = {"≥": f" less {short:g} point, as level", "≈": f" within {short:g} point"}
    text = f"{left.label} {sign} {right.label}" + (within[sign] if short else "")
    a, b = select(rows, left), select(rows, right)
    common = tuple(sorted({row["target"] for row in a} & {row["target"] for row in b}))
    a, b, seeds = _of_common_seeds(a, b, common)
    mean_a, mean_b = average(a, targets=common), average(b, targets=common)
    if mean_a is None or mean_b is None:
        return Claim(setting, text, NOT_RUN)
    ours, theirs = _by_seed(a, common), _by_seed(b, common)
    return _told(
        setting,
        text,
        (mean_a.mean, mean_b.mean),
        [[one - other for one, other in zip(ours[seed], theirs[seed], strict=True)] for seed in seeds],
        short,
        [_mean(a, target) - _mean(b, target) for target in common],
        sign,
        common,
    )


def _told(
    setting: Setting,
    text: str,
    sides: tuple[float, float],
    differences: list[list[float]],
    short: float,
    by_target: Sequence[float],
    sign: Sign,
    targets: tuple[str, ...],
) -> Claim:
    """A claim with its verdict. differences: by seed, by target; by_target: their means."""
    by_seed = [fmean(one) for one in differences]
    meets = {
        ">": lambda value: value > LEAST,
        "≥": lambda value: value + short >= -LEAST,
        "≈": lambda value: abs(value) <= short + LEAST,
    }[sign]
    of = _Evidence(
        value=sides[0] - sides[1],
        found=interval_of(differences),
        over_seeds=_t_interval(by_seed) if len(by_seed) > 1 else None,
        spread=stdev(by_seed) if len(by_seed) > 1 else None,
        won=sum(map(meets, by_target)),
        targets=len(by_target),
    )
    verdict = _level(of, short) if sign == "≈" else _verdict(of.plus(short))
    seeds = max(1, len(differences))
    return Claim(setting, text, verdict, *sides, of.spread, of.won, targets, seeds, of.found, of.over_seeds)


def _retention(rows: list[Row], setting: Setting) -> Claim:
    asked = Variant(*RETAINED)
    text = f"{asked.label} keeps at least {KEPT} % of {TEACHER}'s score"
    base = _compare(rows, setting, asked, "≥", Variant(TEACHER))
    if base.left is None or base.right is None or base.right <= 0:
        return Claim(setting, text, NOT_RUN)
    student, teacher, seeds = _of_common_seeds(
        select(rows, asked), select(rows, Variant(TEACHER)), base.targets
    )
    ours, theirs = _by_seed(student, base.targets), _by_seed(teacher, base.targets)
    keep, percent = KEPT / 100, 100 / base.right
    short_of = [
        [percent * (one - keep * other) for one, other in zip(ours[seed], theirs[seed], strict=True)]
        for seed in seeds
    ]
    by_target = [_mean(student, target) - keep * _mean(teacher, target) for target in base.targets]
    sides = (100 * base.left / base.right, KEPT)
    return _told(setting, text, sides, short_of, 0.0, by_target, "≥", base.targets)


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
    adapted, bare, seeds = _of_common_seeds(adapted, bare, common)
    unseen_gain, seen_gain = (
        fmean(_mean(adapted, code) - _mean(bare, code) for code in side) for side in sides
    )
    ours, theirs = _by_seed(adapted, common), _by_seed(bare, common)
    gains = [[a - b for a, b in zip(ours[seed], theirs[seed], strict=True)] for seed in seeds]
    differences = [_mean_of(gain, common, sides[0]) - _mean_of(gain, common, sides[1]) for gain in gains]
    of = _Evidence(
        value=unseen_gain - seen_gain,
        found=_between(gains, common, sides, differences),
        over_seeds=_t_interval(differences) if len(differences) > 1 else None,
        spread=stdev(differences) if len(differences) > 1 else None,
        won=sum(_mean(adapted, code) - _mean(bare, code) > seen_gain for code in sides[0]),
        targets=len(sides[0]),
    )
    return Claim(
        setting,
        text,
        _verdict(of),
        unseen_gain,
        seen_gain,
        of.spread,
        of.won,
        tuple(sides[0]),
        max(1, len(differences)),
        of.found,
        of.over_seeds,
    )


def _between(
    gains: list[list[float]], names: list[str], sides: list[list[str]], differences: list[float]
) -> Interval | None:
    """The interval of a difference between two groups of targets: over seeds, and over targets by the smaller
    group's degrees of freedom; None where seeds or a group's targets are too few.
    """
    if len(differences) < 2 or min(map(len, sides)) < 2:
        return None
    means = dict(zip(names, map(fmean, zip(*gains, strict=True)), strict=True))
    groups = [[means[code] for code in side] for side in sides]
    error = sqrt(sum(stdev(group) ** 2 / len(group) for group in groups))
    half = float(stdtrit(min(map(len, groups)) - 1, 0.5 + CONFIDENCE / 2)) * error
    middle, over_seeds = fmean(groups[0]) - fmean(groups[1]), _t_interval(differences)
    return min(middle - half, over_seeds[0]), max(middle + half, over_seeds[1])


def _mean_of(values: list[float], names: list[str], chosen: list[str]) -> float:
    return fmean(value for value, name in zip(values, names, strict=True) if name in chosen)


def _mean(rows: list[Row], target: str) -> float:
    mean = average(rows, targets=[target])
    return mean.mean if mean else 0.0


def _by_seed(rows: list[Row], targets: Collection[str]) -> dict[object, list[float]]:
    """Return, for each seed that was run on every target, its scores."""
    cells: dict[object, dict[str, list[float]]] = {}
    for row in rows:
        if row["target"] in targets:
            cells.setdefault(row.get("seed"), {}).setdefault(row["target"], []).append(row["value"])
    return {
        seed: [fmean(found[target]) for target in targets]
        for seed, found in cells.items()
        if set(found) == set(targets)
    }


def _of_common_seeds(
    a: list[Row], b: list[Row], targets: Collection[str]
) -> tuple[list[Row], list[Row], list[object]]:
    """Rows of both sides by the seeds that both were run with on all targets, each pair of models once, and
    these seeds; all rows where there is no such seed.
    """
    common = _by_seed(a, targets).keys() & _by_seed(b, targets).keys()
    if not common:
        return a, b, []
    ours, theirs = (
        [row for row in side if row.get("seed") in common and row["target"] in targets] for side in (a, b)
    )
    seeds: list[object] = distinct_seeds(ours, theirs)
    ours, theirs = ([row for row in side if row.get("seed") in seeds] for side in (ours, theirs))
    return ours, theirs, seeds
