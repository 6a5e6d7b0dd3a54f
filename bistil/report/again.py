"""A report's page made anew from what lies beside it, where the store is not at hand; and one report of a run
in parts, such as one machine a seed.

Notable: rows, manifests, outcomes and settings are files of the report; title, notes and captions are read
from its old page. Figures of rows are drawn as today; those that only the store can draw stay as they are.
"""

import re
import shutil
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.evaluation.results import IDENTITY, of_run_seeds, read_results, write_results
from bistil.evaluation.significance import read_all_outcomes
from bistil.report.asked import Asked, keep_asked, read_asked, run_in_words
from bistil.report.claims import claims_in
from bistil.report.experiment import further_tables, notebooks
from bistil.report.page import write_report
from bistil.settings.files import read_json, read_text

TITLE = re.compile(r"<h1>(.*?)</h1>(.*?)<dl>", re.DOTALL)
NOTE = re.compile(r"^<p>(.*?)</p>$", re.DOTALL | re.MULTILINE)
SYSTEM = re.compile(r"<dt>(.*?)</dt><dd>(.*?)</dd>", re.DOTALL)
FIGURE = re.compile(r'<figure.*?id="([\w-]+?)-figure_1".*?<figcaption>(.*?)</figcaption>', re.DOTALL)
KEPT = ("manifests", "outcomes", "figures")
"""Folders of a report whose files are of single artefacts or figures."""
PARTS = ("seeds", "systems", "targets", "on_source")
"""What the parts of one experiment may differ in."""


def write_again(folder: Path, parts: Sequence[Path] = ()) -> Path:
    """Write the page of an experiment's report as today's bistil would; return its path.

    Args:
        parts: reports of the same experiment with other seeds, systems or targets, whose rows and what lies
            behind them are added to this one; what both have stays as it is here.

    Raises:
        InputError: where that is no report of an experiment, or a part is of another one.
    """
    pages = {one: _page(one) for one in (folder, *parts)}
    for part in parts:  # all before the first is added
        _check_same(folder, part)
    for part in parts:
        _add(folder, part)
    rows, asked = of_run_seeds(read_results(folder / "results.csv")), read_asked(folder)
    manifests: list[dict[str, Any]] = [
        read_json(path, dict) for path in sorted((folder / "manifests").glob("*.json"))
    ]
    title, below = pages[folder].groups()
    notes = [unescape(note) for note in NOTE.findall(below)]
    first = notes[:1] if asked is None else [run_in_words(asked, rows)]
    own_last = [page.string for page in reversed(pages.values())]
    return write_report(
        folder,
        rows,
        title=unescape(title),
        manifests=manifests,
        notes="\n\n".join([*first, *notes[1:]]),
        claims=claims_in(rows, asked),
        told={name: unescape(told) for page in own_last for name, told in SYSTEM.findall(page)},
        drawn_before={name: unescape(told) for page in own_last for name, told in FIGURE.findall(page)},
        tables=further_tables(rows, manifests, asked),
        groups=(asked or {}).get("target_groups"),
        links=notebooks(folder),
        kept=read_all_outcomes(folder / "outcomes"),
    )


def _page(folder: Path) -> re.Match[str]:
    """A report's page, by its title and what stands between that and the facts."""
    found = TITLE.search(read_text(folder / "index.html"))
    if not found:
        raise InputError(
            f"The page of an experiment's report was expected in {folder}, but its index.html is another one."
        )
    return found


def _check_same(folder: Path, part: Path) -> None:
    """Refuse a part of another experiment."""
    asked, more = read_asked(folder), read_asked(part)
    if asked is None or more is None:
        why = "one of them keeps no settings"
    else:
        names = sorted({*asked, *more} - {*PARTS})
        # what is empty may go unsaid
        different = [name for name in names if (asked.get(name) or None) != (more.get(name) or None)]
        if not different:
            return
        why = f"they differ in {', '.join(different)} too"
    raise InputError(
        f"Two reports of one experiment, which may differ in {', '.join(PARTS)}, were expected, but"
        f" {folder} and {part} are none: {why}."
    )


def _add(folder: Path, part: Path) -> None:
    """Add to a report's files those of another part of its experiment."""
    rows = {
        tuple(row[name] for name in IDENTITY): row
        for one in (part, folder)
        for row in read_results(one / "results.csv")
    }
    for path in sorted(path for kind in KEPT for path in (part / kind).glob("*")):
        here = folder / path.parent.name / path.name
        if not here.exists():
            here.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, here)
    write_results(folder / "results.csv", rows.values())
    asked, more = read_asked(folder) or {}, read_asked(part) or {}
    keep_asked(folder, asked | _both(asked, more))


def _both(asked: Asked, more: Asked) -> dict[str, Any]:
    """What two parts of an experiment asked for together."""
    tasks = [*asked["targets"], *(task for task in more["targets"] if task not in asked["targets"])]
    targets = {task: [*asked["targets"].get(task, ()), *more["targets"].get(task, ())] for task in tasks}
    return {
        "seeds": sorted({*asked["seeds"], *more["seeds"]}),
        "systems": list(dict.fromkeys([*asked["systems"], *more["systems"]])),
        "targets": {task: list(dict.fromkeys(codes)) for task, codes in targets.items()},
        "on_source": asked.get("on_source", False) or more.get("on_source", False),
    }
