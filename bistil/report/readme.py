"""Tables of a README that are written nowhere else: results from one results.csv each, and the notebooks from
their first cells.

Notable: each stands between two markers, so that it is never out of date; scores and claims only, so that the
same files always give the same text; running times of notebooks are read from the file that they were
measured into.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.evaluation.results import average, read_results, rows_of, select, settings
from bistil.report.tables import score_tables
from bistil.settings.files import read_json
from bistil.settings.places import ROOT
from bistil.store.whole import write_whole
from bistil.tasks import title

README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
INDEX = re.compile(r"(<!-- notebooks -->\n).*?(\n<!-- end -->)", re.DOTALL)
TIMES, TURNS = "times.json", ("first", "again")
"""The file beside the notebooks, and the turns in it: over an empty store in the order of the table, and over
what that built.
"""
CLAIM = re.compile(r"# (?P<title>[^\n]+)\n+\*\*(?P<claim>.+?)[.:]?\*\*", re.DOTALL)


def markdown(results: Path) -> str:
    """Return the zero-shot scores of a results.csv as markdown, one table a task; a sentence where there are
    no results yet.
    """
    if not results.is_file():
        return "*Not run yet.*"
    rows, parts = read_results(results), []
    for setting in settings(rows):
        table = score_tables(rows, setting)[0]
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
    return "\n\n".join(parts)


def refresh(folder: Path, readme: Path = README) -> bool:
    """Write a report folder's table between its markers in the README, if that folder is beside the README
    and has any; return whether.
    """
    if not readme.is_file() or folder.resolve() != (readme.parent / "reports" / folder.name).resolve():
        return False
    before = readme.read_text(encoding="utf-8")
    after = refreshed(before, readme.parent / "reports", only=folder.name)
    if after != before:
        write_whole(readme, after)
    return after != before


def refreshed(text: str, reports: Path, *, only: str | None = None) -> str:
    """Return a README's text with every table (or one experiment's) as the results in `reports` say."""

    def table(match: re.Match[str]) -> str:
        if only is not None and match[2] != only:
            return match[0]
        return match[1] + markdown(reports / match[2] / "results.csv") + match[3]

    return BLOCK.sub(table, text)


def index(notebooks: Sequence[Path], folder: Path) -> str:
    """Return a table of notebooks as markdown, with links from a file in `folder`: number and title of each,
    its claim, its running times.

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
        link = path.resolve().relative_to(folder.resolve()).as_posix()
        name, minutes = (
            f"{path.name.partition('_')[0]} {found['title']}",
            _minutes(times["seconds"].get(path.stem)),
        )
        lines.append(f"| [{name}]({link}) | {found['claim']} | {minutes} |")
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
            " over what that built."
        ),
    ]


def indexed(text: str, notebooks: Sequence[Path], folder: Path) -> str:
    """Return the text of a README in `folder` with the table of notebooks as they are."""
    return INDEX.sub(lambda match: match[1] + index(notebooks, folder) + match[2], text)
