"""Tables of README and documentation that are written nowhere else: results or means from one results.csv
each, headlines and claims from several, and the notebooks from their first cells.

Notable: each stands between two markers, so that it is never out of date; scores and claims only, so that the
same files always give the same text; running times of notebooks are read from the file that they were
measured into.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.evaluation.results import (
    Mean,
    Row,
    Variant,
    average,
    common_targets,
    metric_label,
    over_all,
    primary_metric,
    read_results,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.report.asked import read_asked
from bistil.report.claims import claims_table
from bistil.report.tables import score_tables
from bistil.settings.files import read_json
from bistil.settings.places import ROOT
from bistil.store.whole import write_whole
from bistil.systems.table import FLOOR, FORCED, OF_ALL, TEACHER
from bistil.tasks import title

PAGES = ("README.md", "docs/results.md", "docs/claims.md")
"""The pages with tables of results, below the project."""
INSIDE = r"(?:(?!<!-- ).)*"
"""What stands between two markers: anything but a third one."""
BLOCK = re.compile(rf"(<!-- results:([\w-]+) -->\n){INSIDE}(<!-- end -->)", re.DOTALL)
HEADLINE = re.compile(rf"(<!-- headline:([\w -]+) -->\n){INSIDE}(<!-- end -->)", re.DOTALL)
CLAIMS = re.compile(rf"(<!-- claims:([\w -]+) -->\n){INSIDE}(<!-- end -->)", re.DOTALL)
MEANS = re.compile(rf"(<!-- means:([\w-]+) -->\n){INSIDE}(<!-- end -->)", re.DOTALL)
INDEX = re.compile(rf"(<!-- notebooks -->\n){INSIDE}(<!-- end -->)", re.DOTALL)
TIMES, TURNS = "times.json", ("first", "again")
"""The file beside the notebooks, and the turns in it: over an empty store in the order of the table, and over
what that built.
"""
CLAIM = re.compile(r"# (?P<title>[^\n]+)\n+\*\*(?P<claim>.+?)[.:]?\*\*", re.DOTALL)


def markdown(results: Path) -> str:
    """Return the zero-shot scores of a results.csv as markdown, one table a task, its columns the targets or
    what the experiment groups them by; a sentence where there are no results yet.
    """
    if not results.is_file():
        return "*Not run yet.*"
    rows, parts, asked = read_results(results), [], read_asked(results.parent) or {}
    for setting in settings(rows):
        table = score_tables(rows, setting, asked.get("target_groups"))[0]
        chosen = rows_of(rows, setting)
        head = [f"{title(setting.task)}, {table['metric']}", *table["head"], "parameters"]
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for variant, cells in table["lines"]:
            size = average(select(chosen, variant), "parameters")
            texts = [
                " ".join(filter(None, (f"**{cell.text}**" if cell.best else cell.text, cell.small)))
                for cell in cells
            ]
            lines.append([variant.label, *texts, f"{size.mean / 1e6:.2f} M" if size else "–"])
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        if table["same"]:
            parts.append(table["same"])
    return "\n\n".join(parts)


def headline(results: Sequence[Path]) -> str:
    """Return the headlines of some results.csv as one markdown table: a line for each task and source, means
    over targets and seeds. The targets are those of both teacher and first student; a system that lacks one
    of them has no mean.
    """
    systems = {
        "teacher": Variant(TEACHER),
        "student, ½ of the layers": Variant(FORCED, 2),
        "student, ⅓ of the layers": Variant(FORCED, 3),
        "one student of all languages": Variant(OF_ALL, 2),
        FLOOR: Variant(FLOOR),
    }
    lines = [["", "seeds", *systems, "millions of parameters"], ["---", *["---:"] * (len(systems) + 2)]]
    for path in results:
        rows = read_results(path)
        for setting in settings(rows):
            own = {name: select(rows_of(rows, setting), one) for name, one in systems.items()}
            first = ("teacher", "student, ½ of the layers")
            targets = common_targets(*(own[name] for name in first))
            means = {
                name: average(its, targets=targets)
                if {row["target"] for row in its}.issuperset(targets)
                else None
                for name, its in own.items()
            }
            sizes = [average(own[name], "parameters", targets) for name in first]
            metric = metric_label(primary_metric(rows, setting.task)).removesuffix(" (%)")
            lines.append(
                [
                    f"{title(setting.task)}, {metric}: {setting.source} → {', '.join(targets)}",
                    str(max((mean.seeds for mean in means.values() if mean), default=0)),
                    *(f"{mean.mean:.1f}" if mean else "–" for mean in means.values()),
                    " → ".join(f"{size.mean / 1e6:.1f}" for size in sizes if size),
                ]
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def means(results: Path) -> str:
    """Return means of a results.csv over targets and seeds as one markdown table: methods by groups of
    targets where the experiment has some, otherwise methods by the regimes that they learn under.
    """
    if not results.is_file():
        return "*Not run yet.*"
    rows, asked = read_results(results), read_asked(results.parent) or {}
    groups = asked.get("target_groups")
    lines = _by_group(rows, groups) if groups else _by_regime(rows, list(asked.get("regimes", ())))
    lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_group(rows: Sequence[Row], groups: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """A line for each group and a column for each zero-shot method, tasks beside each other in a cell; a
    method that lacks a target of the group has no mean.
    """
    found = [(rows_of(rows, one), metric_label(primary_metric(rows, one.task))) for one in settings(rows)]
    methods = [one for one in variants(rows) if "@" not in one.system]
    lines = [[" / ".join(metric for _, metric in found), *(one.label for one in methods)]]
    for name, targets in groups.items():
        there = [{row["target"] for row in own} & {*targets} for own, _ in found]
        cells = [
            [over_all(select(own, one), its) for (own, _), its in zip(found, there, strict=True)]
            for one in methods
        ]
        lines.append([name, *(" / ".join(map(_shown, its)) for its in cells)])
    return lines


def _by_regime(rows: Sequence[Row], regimes: Sequence[str]) -> list[list[str]]:
    """A line for each task and method, a column for the source alone and for each regime; a method's means
    are over the targets that it has under all of its regimes.
    """
    lines = [["", "source alone", *regimes]]
    for setting in settings(rows):
        chosen = rows_of(rows, setting)
        metric = metric_label(primary_metric(rows, setting.task)).removesuffix(" (%)")
        for method in (one for one in variants(chosen) if "@" not in one.system):
            under = [method, *(method._replace(system=f"{method.system}@{name}") for name in regimes)]
            cells = [select(chosen, one) for one in under]
            targets = common_targets(*filter(None, cells))
            if len(list(filter(None, cells))) > 1:
                told = f"{title(setting.task)}, {metric}: {method.label}"
                lines.append([told, *(_shown(average(own, targets=targets)) for own in cells)])
    return lines


def _shown(mean: Mean | None) -> str:
    return f"{mean.mean:.1f}" if mean else "–"


def refresh(folder: Path, root: Path = ROOT) -> bool:
    """Write a report folder's tables between their markers in the pages of the project at `root`, if that
    folder is among its reports; return whether any page changed.
    """
    if folder.resolve() != (root / "reports" / folder.name).resolve():
        return False
    changed = False
    for page in filter(Path.is_file, (root / name for name in PAGES)):
        before = page.read_text(encoding="utf-8")
        after = refreshed(before, root / "reports", only=folder.name)
        if after != before:
            write_whole(page, after)
            changed = True
    return changed


def refreshed(text: str, reports: Path, *, only: str | None = None) -> str:
    """Return a page's text with every table (or one experiment's) as the results in `reports` say."""

    def table(made: Callable[[Path], str], match: re.Match[str]) -> str:
        if only is not None and match[2] != only:
            return match[0]
        return match[1] + made(reports / match[2] / "results.csv") + "\n" + match[3]

    def joint(made: Callable[[Sequence[Path]], str], match: re.Match[str]) -> str:
        names = match[2].split()
        if only is not None and only not in names:
            return match[0]
        there = [path for name in names if (path := reports / name / "results.csv").is_file()]
        return match[1] + made(there) + "\n" + match[3]

    for mark, made in ((BLOCK, markdown), (MEANS, means)):
        text = mark.sub(partial(table, made), text)
    for mark, of_all in ((HEADLINE, headline), (CLAIMS, claims_table)):
        text = mark.sub(partial(joint, of_all), text)
    return text


def index(notebooks: Sequence[Path], folder: Path) -> str:
    """Return a table of notebooks as markdown, with links from a file in `folder` where they are below it:
    number and title of each, its claim, its running times.

    Raises:
        InputError: where a notebook does not open with a title and a claim in bold.
    """
    kept = notebooks[0].parent / TIMES
    times = read_json(kept, dict) if kept.is_file() else {"seconds": {}}
    lines = ["| | shows | minutes |", "| --- | --- | ---: |"]
    for path in notebooks:
        first = "".join(read_json(path, dict)["cells"][0]["source"])
        found = CLAIM.match(first)
        if found is None:
            raise InputError(
                f"{path} should open with a cell of `# title` and a claim between two `**`, but opens with"
                f" {first[:60]!r}."
            )
        below = path.resolve().is_relative_to(folder.resolve())
        name, minutes = (
            f"{path.name.partition('_')[0]} {found['title']}",
            _minutes(times["seconds"].get(path.stem)),
        )
        shown = f"[{name}]({path.resolve().relative_to(folder.resolve()).as_posix()})" if below else name
        lines.append(f"| {shown} | {found['claim']} | {minutes} |")
    return "\n".join([*lines, *_measured(times)])


def _minutes(turns: Mapping[str, Mapping[str, float]] | None) -> str:
    """Whole processor minutes of both turns, – where none were measured."""
    minutes = [turns[turn]["processor"] / 60 for turn in TURNS] if turns else []
    return " / ".join(f"{one:.0f}" if one >= 1 else "< 1" for one in minutes) or "–"


def _measured(times: Mapping[str, Any]) -> list[str]:
    """What the minutes are, below the table; nothing where none were measured."""
    if not times["seconds"]:
        return []
    cores, threads = (times["machine"][name] for name in ("cores", "threads"))
    many = f"{threads} thread{'s' * (threads != 1)}, {cores} core{'s' * (cores != 1)}"
    return [
        "",
        (
            f"Minutes of processor time ({many}): the first time, in this order over an empty store / again,"
            " over what that built. –: not measured."
        ),
    ]


def indexed(text: str, notebooks: Sequence[Path], folder: Path) -> str:
    """Return the text of a README in `folder` with the table of notebooks as they are."""
    return INDEX.sub(lambda match: match[1] + index(notebooks, folder) + "\n" + match[2], text)
