"""What committed reports say of the orderings that papers claim."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bistil.evaluation.results import Row, metric_label, of_run_seeds, primary_metric, read_results
from bistil.report.asked import Asked, claims_of, read_asked, seen_by_teacher
from bistil.report.orderings import (
    AGAINST,
    FAILS,
    HERE,
    HOLDS,
    LEANS,
    NOT_HERE,
    NOT_RUN,
    OPEN,
    Claim,
    orderings,
)
from bistil.report.templates import signed

VERDICTS = (HOLDS, HERE, LEANS, OPEN, AGAINST, NOT_HERE, FAILS)


def claims_in(rows: Sequence[Row], asked: Asked | None) -> list[Claim]:
    """What a report's rows say of what its experiment claims, and of what every experiment is asked."""
    return orderings(
        of_run_seeds(rows),
        seen=None if asked is None else seen_by_teacher(asked),
        chains=[] if asked is None else claims_of(asked),
    )


def claims_table(results: Sequence[Path]) -> str:
    """The claims of some results.csv as markdown: a sentence that counts the verdicts, and a line for each
    claim whose systems were run.
    """
    rows = {path.parent: read_results(path) for path in results}
    found = [(folder, claim) for folder in rows for claim in claims_in(rows[folder], read_asked(folder))]
    told = [(folder, claim) for folder, claim in found if claim.verdict != NOT_RUN]
    if not told:
        return "*Not run yet.*"
    counts = Counter(claim.verdict for _, claim in told)
    counted = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS if counts[verdict])
    lacking = f"; not run {len(found) - len(told)}" if len(found) > len(told) else ""
    lines = [
        ["expected", "verdict", "points", "targets won", "report", "claimed in"],
        ["---", "---", "---:", "---:", "---", "---"],
    ]
    for folder, claim in told:
        metric = metric_label(claim.metric or primary_metric(rows[folder], claim.setting.task))
        lines.append(
            [
                claim.text,
                claim.verdict if claim.verdict in (LEANS, OPEN, AGAINST) else f"**{claim.verdict}**",
                signed(claim.difference) + _reach(claim),
                f"{claim.wins} of {len(claim.targets)}, {claim.seeds} seed{'s' * (claim.seeds != 1)}",
                f"{folder.name}, {claim.setting.task}: {metric.removesuffix(' (%)')}",
                claim.source or "–",
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{len(told)} orderings: {counted}{lacking}.\n\n{table}"


def _reach(claim: Claim) -> str:
    """The interval of a claim's difference over seeds, where there is one."""
    return "" if claim.over_seeds is None else f" ({' to '.join(map(signed, claim.over_seeds))})"
