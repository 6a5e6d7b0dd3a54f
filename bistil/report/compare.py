"""Two experiments side by side: what was asked differently, what only one has, which scores changed and by
how much, and the costs.

Notable: the text of the terminal and the page are the same tables.
"""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import stdev

from bistil.evaluation.results import (
    Mean,
    Row,
    Setting,
    Variant,
    average,
    common_targets,
    metric_label,
    primary_metric,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.evaluation.significance import RESAMPLES
from bistil.report.paired import Draws, Pair, draws, pair
from bistil.report.sides import Side, differing, of_rows
from bistil.report.tables import COSTS, Table, number, setting_name, slug
from bistil.report.templates import environment, probability, signed
from bistil.store.whole import write_whole

COLUMNS = {
    "task": "task",
    "teacher": "teacher",
    "source": "source language",
    "target": "target",
    "seed": "seed",
    "metric": "metric",
}
METHOD = (
    "Means over the targets that both have; differences are right minus left on the targets and seeds that"
    " both have, ± their standard deviation over seeds. Interval (95 %) and p by the paired bootstrap over"
    f" examples, {RESAMPLES:,} draws, where both sides kept outcomes of single examples of the same test"
    " files."
)


def compare(left: Side, right: Side) -> list[Table]:
    """All tables of a comparison; those with nothing to say are left out."""
    names = _names(left, right)
    found = [
        Table("Settings that differ", ("setting", *names), differing(*_settings(left, right))),
        Table(
            "Software that differs",
            ("", *names),
            differing(left.software, right.software) if left.software and right.software else [],
        ),
        Table("Only in one of them", ("", f"only in {names[0]}", f"only in {names[1]}"), _only(left, right)),
    ]
    for ours, theirs in _shared(left.rows, right.rows):
        a, b = rows_of(left.rows, ours), rows_of(right.rows, theirs)
        title = setting_name(ours) if ours == theirs else f"{setting_name(ours)} and {setting_name(theirs)}"
        metric = metric_label(primary_metric([*a, *b], ours.task))
        drawn = draws(a, left.kept), draws(b, right.kept)
        head = ("system", *names, "difference", "95 % interval", "p", "targets")
        common = [(one, select(a, one), select(b, one)) for one in _in_both(a, b)]
        lines = [_score_line(*one, drawn, names) for one in common]
        found.append(Table(f"{title}: {metric}", head, lines))
        found.append(_costs(title, names, common))
    return [table for table in found if table.lines]


def known_settings(left: Side, right: Side) -> str:
    """How settings were compared, in a sentence."""
    if left.asked is not None and right.asked is not None:
        return "Settings are those of the experiment files."
    if left.used is not None and right.used is not None:
        return (
            "Settings are those in the manifests of what was built, since not both experiment files are at"
            " hand."
        )
    return "Settings are not compared: neither experiment files nor manifests of both are at hand."


def as_text(tables: Sequence[Table]) -> list[str]:
    """The tables as lines of aligned columns."""
    lines: list[str] = []
    for table in tables:
        rows = [table.head, *table.lines]
        widths = [max(len(row[place]) for row in rows) for place in range(len(table.head))]
        shown = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        lines += ["", table.title, *(f"  {line}" for line in shown)]
    return lines


def write_comparison(reports: Path, left: Side, right: Side, tables: Sequence[Table]) -> Path:
    """Write the tables as a page of its own under `reports`; return its path."""
    names = _names(left, right)
    path = reports / f"{slug(names[0])}-and-{slug(names[1])}" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{names[0]} and {names[1]}: what changed"
    text = (
        environment()
        .get_template("compare.html.j2")
        .render(title=title, notes=[known_settings(left, right), METHOD], tables=tables)
    )
    write_whole(path, text)
    return path


def _names(left: Side, right: Side) -> tuple[str, str]:
    return (left.name, right.name) if left.name != right.name else (f"{left.name} (1)", f"{right.name} (2)")


def _settings(left: Side, right: Side) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """What both sides know of their settings: of the files, or else of the manifests."""
    both = (
        (left.asked, right.asked)
        if left.asked is not None and right.asked is not None
        else (left.used, right.used)
    )
    return (None if both[0] is None else dict(both[0]), None if both[1] is None else dict(both[1]))


def _only(left: Side, right: Side) -> list[tuple[str, str, str]]:
    """What the rows of one side alone speak of, by column; systems with their layer reduction factor."""
    sides = [
        {
            **{name: of_rows(side.rows, column) for column, name in COLUMNS.items()},
            "system": [variant.label for variant in variants(side.rows)],
        }
        for side in (left, right)
    ]
    found: list[tuple[str, str, str]] = []
    for name in ("system", *COLUMNS.values()):
        mine, theirs = sides[0][name], sides[1][name]
        alone = [[one for one in own if one not in other] for own, other in ((mine, theirs), (theirs, mine))]
        found += [(name, one, other) for one, other in zip_longest(*alone, fillvalue="")]
    return found


def _shared(left: Sequence[Row], right: Sequence[Row]) -> list[tuple[Setting, Setting]]:
    """Settings to compare: the same ones, and those of one task and source where each side has a single other
    teacher.
    """
    ours, theirs = settings(left), settings(right)
    pairs = [(one, one) for one in ours if one in theirs]
    for one in ours:
        alike = [
            [other for other in side if (other.task, other.source) == (one.task, one.source)]
            for side in (ours, theirs)
        ]
        if one not in theirs and [len(found) for found in alike] == [1, 1]:
            pairs.append((one, alike[1][0]))
    return sorted(pairs)


def _in_both(a: Sequence[Row], b: Sequence[Row]) -> list[Variant]:
    """The variants that both sides have: a system of one density on each side whatever these are, one of
    several by density.
    """
    alike = [one for one in variants(a) if one in set(variants(b))]
    others = [one for one in variants([*a, *b]) if one._replace(density=None) not in alike]
    return alike + [one for one in others if one not in alike and select(a, one) and select(b, one)]


def _score_line(
    variant: Variant, a: Sequence[Row], b: Sequence[Row], drawn: tuple[Draws, Draws], names: tuple[str, str]
) -> tuple[str, ...]:
    found = pair(b, a, (drawn[1], drawn[0]), (names[1], names[0]))
    means = (
        [average(side, targets=found.targets) for side in (a, b)]
        if found.targets
        else [average(a), average(b)]
    )
    return (
        variant.label,
        *map(_mean, means),
        _difference(found),
        *_certainty(found),
        str(len(found.targets)),
    )


def _mean(mean: Mean | None) -> str:
    if mean is None:
        return "–"
    return f"{mean.mean:.1f}" + (f" ± {mean.std:.1f}" if mean.std is not None else "")


def _difference(found: Pair) -> str:
    spread = f" ± {stdev(found.by_seed):.1f}" if len(found.by_seed) > 1 else ""
    return signed(found.mean) + spread


def _certainty(found: Pair) -> tuple[str, str]:
    if found.difference is None:
        return found.why, "–"
    return f"{signed(found.difference.low)} to {signed(found.difference.high)}", probability(
        found.difference.p
    )


def _costs(
    title: str, names: tuple[str, str], systems: Sequence[tuple[Variant, Sequence[Row], Sequence[Row]]]
) -> Table:
    """What each system costs on both sides, with the ratio of right to left where that is not 1."""
    lines = []
    for variant, a, b in systems:
        for column, label, unit, name, _ in COSTS:
            both = common_targets(a, b)
            left, right = average(a, column, both), average(b, column, both)
            if left and right and left.mean and abs(right.mean / left.mean - 1) >= 0.005:
                values = [f"{number(mean.mean / unit)} {name}" for mean in (left, right)]
                lines.append((variant.label, label, *values, f"{right.mean / left.mean:.2f}×"))
    return Table(f"{title}: costs that differ", ("system", "cost", *names, "ratio"), lines)
