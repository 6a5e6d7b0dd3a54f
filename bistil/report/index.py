"""One page over all reports of a folder.

Notable: a report that cannot be read has its line too, with nothing but its name.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bistil.errors import InputError
from bistil.evaluation.results import (
    Variant,
    average,
    common_targets,
    read_results,
    rows_of,
    select,
    settings,
)
from bistil.report.templates import environment
from bistil.settings.files import read_json
from bistil.store.whole import write_whole
from bistil.systems.table import FORCED, TEACHER
from bistil.tasks import title

PAGE = "index.html"


@dataclass(frozen=True)
class Line:
    """A report and what it is about: one line for each of its tasks, teachers and sources.

    Attributes:
        written: The day on which the newest artefact behind it was finished.
        left: The teacher's score in percent.
        right: That of the student with half of its layers.
    """

    name: str
    place: str
    task: str = "–"
    teacher: str = "–"
    languages: str = "–"
    seeds: int | str = "–"
    written: str = "–"
    left: float | None = None
    right: float | None = None


def lines(reports: Path) -> Iterator[Line]:
    """The lines of every report in a folder of reports, by name."""
    for page in sorted(reports.glob(f"*/{PAGE}")):
        name, place = page.parent.name, f"{page.parent.name}/{PAGE}"
        results = page.parent / "results.csv"
        try:
            rows = read_results(results) if results.is_file() else []
        except InputError:
            rows = []
        written = _written(page.parent)
        for setting in settings(rows):
            own = rows_of(rows, setting)
            sides = [select(own, one) for one in (Variant(TEACHER), Variant(FORCED, 2))]
            teacher, student = (average(side, targets=common_targets(*sides)) for side in sides)
            targets = sorted({row["target"] for row in own})
            seeds = len({row["seed"] for row in own if row["seed"] is not None})
            yield Line(
                name,
                place,
                title(setting.task),
                setting.teacher,
                f"{setting.source} → {', '.join(targets)}",
                seeds,
                written,
                teacher.mean if teacher else None,
                student.mean if student else None,
            )
        if not rows:
            yield Line(name, place, written=written)


def _written(report: Path) -> str:
    """The day on which the newest artefact behind a report was finished; a dash where no manifest tells."""
    days = []
    for path in report.glob("manifests/*.json"):
        with suppress(InputError):
            days.append(str(read_json(path, dict).get("finished") or "")[:10])
    return max(days, default="") or "–"


def write_index(reports: Path) -> Path:
    """Write `index.html` over all reports of a folder; return its path."""
    told = (
        environment()
        .get_template("index.html.j2")
        .render(title="bistil: reports", lines=list(lines(reports)))
    )
    write_whole(reports / PAGE, told)
    return reports / PAGE
