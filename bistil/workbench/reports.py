"""The reports of a folder as a panel: narrow the list by words, open a page in it, set two side by side.

Notable: it shows what the folder's `index.html` shows, and compares as `bistil report A B` does.
"""

from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w

from bistil.errors import InputError
from bistil.report.compare import compare
from bistil.report.index import PAGE, Line, lines
from bistil.report.sides import read_side
from bistil.workbench import html
from bistil.workbench.guard import Guard

HEAD = ("report", "task", "teacher", "languages", "seeds", "teacher's score", "student's", "written")
NONE = "–"
"""What a list offers for no report."""


def _shown(score: float | None) -> str:
    return NONE if score is None else f"{score:.1f}"


class ReportsPanel(w.VBox):
    """A field for words above the list of reports, and two choices above what differs between them."""

    def __init__(self, reports: Path) -> None:
        self.reports = reports
        self.words = w.Text(placeholder="name, task, teacher or language", description="show only")
        self.left, self.right, self.opened = (
            w.Dropdown(options=[NONE], description=name) for name in ("compare", "with", "open")
        )
        self.refresh = w.Button(description="Refresh", icon="refresh", tooltip="read the folder again")
        self.list, self.error, self.difference, self.page = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.words.observe(guard(lambda change: self._draw()), names="value")
        for choice in (self.left, self.right):
            choice.observe(guard(lambda change: self._set_side_by_side()), names="value")
        self.opened.observe(guard(lambda change: self._open()), names="value")
        self.refresh.on_click(guard(self._read))
        choices = w.HBox([self.left, self.right, self.opened, self.refresh])
        super().__init__([self.words, self.list, choices, self.error, self.difference, self.page])
        guard(self._read)()

    def _read(self, *_: Any) -> None:
        """Read the folder, and offer what is there; a choice that still is stays."""
        self.found = list(lines(self.reports))
        names = list(dict.fromkeys(line.name for line in self.found))
        scored = [name for name in names if (self.reports / name / "results.csv").is_file()]
        for choice, offered in ((self.left, scored), (self.right, scored), (self.opened, names)):
            before = choice.value
            choice.options = [NONE, *offered]
            choice.value = before if before in choice.options else NONE
        self._draw()

    def _draw(self) -> None:
        words = self.words.value.casefold().split()
        chosen = [line for line in self.found if all(word in _text(line) for word in words)]
        rows = [
            [
                line.name,
                line.task,
                line.teacher,
                line.languages,
                str(line.seeds),
                _shown(line.left),
                _shown(line.right),
                line.written,
            ]
            for line in chosen
        ]
        self.list.value = html.table(HEAD, rows, numbers=(4, 5, 6)) if rows else html.line("No such report.")

    def _set_side_by_side(self) -> None:
        self.difference.value = self.error.value = ""
        names = (self.left.value, self.right.value)
        if NONE in names or names[0] == names[1]:
            return
        sides = [read_side(self.reports / name, self.reports) for name in names]
        self.difference.value = "".join(
            f"<h4>{escape(one.title)}</h4>{html.table(one.head, one.lines)}" for one in compare(*sides)
        )

    def _open(self) -> None:
        self.page.value = ""
        if self.opened.value == NONE:
            return
        page = self.reports / self.opened.value / PAGE
        if not page.is_file():
            raise InputError(f"A report's page was expected at {page}, but it is gone. Press Refresh.")
        self.page.value = html.frame(page.read_text(encoding="utf-8"))


def _text(line: Line) -> str:
    return f"{line.name} {line.task} {line.teacher} {line.languages}".casefold()


def reports_panel(reports: str | Path) -> ReportsPanel:
    """Return the panel over all reports of a folder, such as `../reports`."""
    return ReportsPanel(Path(reports))
