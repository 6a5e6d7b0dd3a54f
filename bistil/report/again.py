"""A report's page made anew from what lies beside it, where the store is not at hand.

Notable: rows, manifests, outcomes and settings are files of the report; title, notes and captions are read
from its old page. Figures of rows are drawn as today; those that only the store can draw stay as they are.
"""

import re
from html import unescape
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.evaluation.significance import read_all_outcomes
from bistil.report.experiment import claims_of, further_tables, notebooks, seen_by_teacher
from bistil.report.orderings import orderings
from bistil.report.page import write_report
from bistil.settings.files import read_json, read_text

TITLE = re.compile(r"<h1>(.*?)</h1>(.*?)<dl>", re.DOTALL)
NOTE = re.compile(r"^<p>(.*?)</p>$", re.DOTALL | re.MULTILINE)
SYSTEM = re.compile(r"<dt>(.*?)</dt><dd>(.*?)</dd>", re.DOTALL)
FIGURE = re.compile(r'<figure.*?id="([\w-]+?)-figure_1".*?<figcaption>(.*?)</figcaption>', re.DOTALL)


def write_again(folder: Path) -> Path:
    """Write the page of an experiment's report as today's bistil would; return its path.

    Raises:
        InputError: where that is no report of an experiment.
    """
    page = folder / "index.html"
    old, rows = read_text(page), read_results(folder / "results.csv")
    head = TITLE.search(old)
    if not head:
        raise InputError(f"The page of an experiment's report was expected at {page}, but it is another one.")
    manifests: list[dict[str, Any]] = [
        read_json(path, dict) for path in sorted((folder / "manifests").glob("*.json"))
    ]
    return write_report(
        folder,
        rows,
        title=unescape(head[1]),
        manifests=manifests,
        notes="\n\n".join(unescape(note) for note in NOTE.findall(head[2])),
        claims=orderings(rows, seen=seen_by_teacher(folder), chains=claims_of(folder)),
        told={name: unescape(told) for name, told in SYSTEM.findall(old)},
        drawn_before={name: unescape(caption) for name, caption in FIGURE.findall(old)},
        tables=further_tables(rows, manifests),
        links=notebooks(folder),
        kept=read_all_outcomes(folder / "outcomes"),
    )
