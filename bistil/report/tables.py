"""The tables of the report as plain values: scores, costs and the sentence that comes first.

Notable: everything is computed from the rows at hand, so a cell that was not run is a dash and a mean over
fewer targets says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bistil.evaluation.results import (
    ON_SOURCE,
    Mean,
    Row,
    Setting,
    Variant,
    average,
    in_groups,
    is_student,
    metric_label,
    primary_metric,
    ratio_to,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.systems.table import FORCED, TEACHER, rank
from bistil.tasks import RETRIEVAL, title

COSTS = (
    ("parameters", "parameters", 1e6, "M", True),
    ("vocabulary", "vocabulary", 1e3, "k tokens", True),
    ("disk_bytes", "on disk", 1e6, "MB", True),
    ("flops_per_example", "FLOPs an example", 1e9, "G", True),
    ("latency_ms", "latency, batch of 1", 1, "ms", True),
    ("examples_per_second", "throughput", 1, "examples/s", False),
)


@dataclass(frozen=True)
class Cell:
    """A table cell: what it says, its small print, and whether it is the best of its column."""

    text: str
    small: str = ""
    best: bool = False


class Table(NamedTuple):
    """A further table of the page: plain text cells, the first column left-aligned."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def slug(name: str) -> str:
    """A name as a file name."""
    return (
        "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower()).strip(
            "-"
        )
        or "figure"
    )


def setting_slugs(found: Sequence[Setting]) -> dict[Setting, str]:
    """A file name for each setting: its task, with teacher and source only where a task has several."""
    several = len(found) > len({setting.task for setting in found})
    return {
        setting: slug("-".join(part for part in (setting if several else setting[:1]) if part))
        for setting in found
    }


def setting_name(setting: Setting) -> str:
    """Return how a setting is called on the page."""
    origin = ", ".join(
        part for part in (setting.teacher, f"from {setting.source}" if setting.source else "") if part
    )
    name = title(setting.task)
    return f"{name} ({origin})" if origin else name


QUIET, HEAVY = 0.9, 0.75
"""A machine is busy where a process has a processor for less of its time; a head is heavy where the encoder
takes less of the latency.
"""
WEAK = 50.0
"""A teacher's score below which a share of it says little, so that a headline gives points instead."""


def headline(rows: Sequence[Row], setting: Setting) -> dict[str, str] | None:
    """Return what the page says first about a setting: how much of the teacher the best-known student keeps,
    and at what price.
    """
    chosen = rows_of(rows, setting)
    variant = next((item for item in variants(chosen) if item.system == FORCED), None)
    if variant is None:
        return None
    student, teacher = select(chosen, variant), select(chosen, Variant(TEACHER))
    common = {row["target"] for row in student} & {row["target"] for row in teacher}
    ours, theirs = average(student, targets=common), average(teacher, targets=common)
    if ours is None or theirs is None or theirs.mean <= 0:
        return None
    columns = ("parameters", "flops_per_example", "latency_ms")
    smaller, flops, latency = (ratio_to(teacher, student, column) for column in columns)
    price = [
        f"{1 / smaller:.1f} times fewer parameters" if smaller else "",
        f"{flops:.2f} of the FLOPs" if flops else "",
        f"{latency:.2f} of the latency" if latency else "",
    ]
    told = [part for part in price if part]
    metric = metric_label(primary_metric(rows, setting.task)).removesuffix(" (%)")
    over = f"mean over {len(common)} target{'s' * (len(common) != 1)}"
    if theirs.mean < WEAK:
        share = f"{ours.mean:.1f}"
        text = f"{metric} by {variant.label}, {theirs.mean:.1f} by {TEACHER}, which is itself weak; {over}"
    else:
        share = f"{100 * ours.mean / theirs.mean:.1f} %"
        text = (
            f"of {TEACHER}'s score kept by {variant.label}: {ours.mean:.1f} against {theirs.mean:.1f}"
            f" {metric}, {over}"
        )
    return {
        "share": share,
        "task": setting_name(setting),
        "text": text,
        "price": " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told),
    }


def score_tables(
    rows: Sequence[Row], setting: Setting, groups: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """Return one table for each metric, the primary one first.

    Args:
        groups: targets by the name of their group: a column for each in the place of one for each target.
    """
    first = primary_metric(rows, setting.task)
    others = sorted({row["metric"] for row in rows if row["task"] == setting.task} - {first})
    return [_score_table(rows_of(rows, setting, metric), metric, groups) for metric in [first, *others]]


def learns_elsewhere(rows: Sequence[Row]) -> list[str]:
    """The systems that learn their task from other examples than the source's, or from others too: by their
    regime their scores need not be zero-shot.
    """
    own = {str(row["system"]) for row in rows if row.get("regime") not in (None, "", "source")}
    return sorted(own, key=lambda name: (rank(name), name))


def _zero_shot(chosen: Sequence[Row], metric: str) -> bool:
    """Whether scores are of languages without task data."""
    return not learns_elsewhere(chosen) and not metric.startswith(ON_SOURCE)


def group_tables(rows: Sequence[Row], groups: Mapping[str, Sequence[str]]) -> list[Table]:
    """Return the means over each group of targets as further tables of the page, one for each setting; none
    without groups.
    """
    made = []
    for setting in settings(rows) if groups else ():
        table = score_tables(rows, setting, groups)[0]
        lines = [
            [variant.label, *(f"{cell.text} {cell.small}".strip() for cell in cells)]
            for variant, cells in table["lines"]
        ]
        told = f"{setting_name(setting)}, {table['metric']}: means over groups of targets"
        made.append(Table(told, ["", *table["head"]], lines))
    return made


def _score_table(
    chosen: Sequence[Row], metric: str, groups: Mapping[str, Sequence[str]] | None
) -> dict[str, Any]:
    untuned = all(row["task"] == RETRIEVAL for row in chosen)
    same = one_model(chosen) if untuned else {}
    targets = sorted({row["target"] for row in chosen})
    systems = [variant for variant in variants(chosen) if variant not in same]
    named = in_groups(targets, groups)
    whole = len(targets) > 1 or not named
    columns: list[list[str]] = [*named.values(), *([targets] if whole else [])]
    means = {
        variant: [average(own, targets=column) for column in columns]
        for variant in systems
        if (own := select(chosen, variant))
    }
    students = [variant for variant in systems if any(map(is_student, select(chosen, variant)))]
    best = _best(means, students, [len(column) for column in columns])
    teacher = select(chosen, Variant(TEACHER))
    shares = {variant: ratio_to(teacher, select(chosen, variant)) for variant in means}
    shown_shares = shares.get(Variant(TEACHER)) is not None
    seeds = max((mean.seeds for cells in means.values() for mean in cells if mean), default=0)
    lines = []
    for variant, cells in means.items():
        shown = [Cell("–") if mean is None else _mean_cell(mean, len(column), seeds, best[place] == variant)
                 for place, (mean, column) in enumerate(zip(cells, columns, strict=True))]  # fmt: skip
        if shown_shares:
            shown.append(Cell("–" if (share := shares[variant]) is None else f"{100 * share:.1f}"))
        lines.append((variant, shown))
    head = [*named, *(["mean"] if whole else []), *(["% of teacher"] if shown_shares else [])]
    return {
        "metric": metric_label(metric),
        "head": head,
        "targets": len(named),
        "lines": lines,
        "seeds": seeds,
        "zero_shot": _zero_shot(chosen, metric),
        "students": bool(students),
        "same": _left_out(same),
    }


def one_model(chosen: Sequence[Row]) -> dict[Variant, Variant]:
    """The variants whose scores are another's, and that one: of retrieval, which reads models before any
    task, so that those which differ in how they learn one are the same.
    """
    found: dict[frozenset[tuple[str, float]], Variant] = {}
    same = {}
    for variant in variants(chosen):
        own = [row for row in select(chosen, variant) if row.get("artefact")]
        made = frozenset((str(row["artefact"]), float(row["value"])) for row in own)
        if made and (first := found.setdefault(made, variant)) != variant:
            same[variant] = first
    return same


def _left_out(same: Mapping[Variant, Variant]) -> str:
    """The sentence that says which lines a table does without; "" where none."""
    told = ", ".join(f"{variant.label} (as {first.label})" for variant, first in same.items())
    return f"Left out, being the same model here: {told}." if told else ""


def _best(
    means: Mapping[Variant, Sequence[Mean | None]], students: Sequence[Variant], columns: Sequence[int]
) -> list[Variant | None]:
    """Return the best student of each column (the best system where there is no student); a mean counts only
    over all of the so many targets of its column.
    """
    ranked = [variant for variant in means if variant in students] or list(means)
    best: list[Variant | None] = []
    for place, needed in enumerate(columns):
        full = [
            (mean.mean, variant)
            for variant in ranked
            if (mean := means[variant][place]) and mean.targets == needed
        ]
        best.append(max(full, key=lambda pair: pair[0])[1] if full else None)
    return best


def _mean_cell(mean: Mean, wanted: int, seeds: int, best: bool) -> Cell:
    small = [
        f"± {mean.std:.1f}" if mean.std is not None else "",
        f"({mean.targets} of {wanted} targets)" if mean.targets < wanted else "",
        f"({mean.seeds} of {seeds} seeds)" if mean.seeds < seeds and not mean.fixed else "",
    ]
    return Cell(f"{mean.mean:.1f}", "; ".join(part for part in small if part), best)


def cost_table(rows: Sequence[Row], setting: Setting) -> dict[str, Any]:
    """Return what each system costs, means over targets and seeds, each with its ratio to the teacher."""
    chosen = rows_of(rows, setting)
    teacher = select(chosen, Variant(TEACHER))
    columns = [cost for cost in COSTS if average(chosen, cost[0]) is not None]
    lines = []
    for variant in variants(chosen):
        own, cells = select(chosen, variant), []
        for column, _, unit, _, smaller in columns:
            mean, ratio = average(own, column), ratio_to(teacher, own, column)
            better = (
                variant.system != TEACHER
                and ratio is not None
                and (ratio < 0.995 if smaller else ratio > 1.005)
            )
            times = "" if ratio is None or variant.system == TEACHER else f"{ratio:.2f}×"
            if column == "latency_ms" and (spread := average(own, "latency_spread_ms")):
                times = f"± {number(spread.mean)} {times}".strip()
            cells.append(Cell("–") if mean is None else Cell(number(mean.mean / unit), times, better))
        if any(cell.text != "–" for cell in cells):
            lines.append((variant, cells))
    head = [(label, unit) for _, label, _, unit, _ in columns]
    return {"head": head, "lines": lines, "notes": _time_notes(chosen)}


def _time_notes(chosen: Sequence[Row]) -> list[str]:
    """What has to be known of the times of a cost table."""
    timed = [row for row in chosen if row.get("latency_ms")]
    in_turns = [row for row in timed if row.get("latency_spread_ms") is not None]
    notes = []
    if in_turns:
        notes.append("Latency is a median ± half of what lies between its quartiles, in turns.")
    if len(in_turns) < len(timed):
        notes.append("Times without ± were taken in passing, one model after the other: read them with care.")
    had = min((row["processor_share"] for row in in_turns if row["processor_share"]), default=1.0)
    if had < QUIET:
        notes.append(f"The machine was busy: a model had a processor for only {100 * had:.0f} % of its time.")
    for variant in variants(in_turns):
        own = select(in_turns, variant)
        latency, encoder = average(own, "latency_ms"), average(own, "encoder_ms")
        if variant.system == FORCED and latency and encoder and encoder.mean < HEAVY * latency.mean:
            share = 100 * (1 - encoder.mean / latency.mean)
            notes.append(
                f"Head and decoding take {share:.0f} % of {variant.label}'s latency, and fewer layers do not"
                " shorten them."
            )
    return notes


def number(value: float) -> str:
    """Return three significant digits, and no fewer than the whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
