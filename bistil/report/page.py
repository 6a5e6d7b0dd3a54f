"""One self-contained HTML page from result rows and manifests, for a reader who was not there.

Notable: nothing is fetched from anywhere (styles, figures and data are inside the page) and nothing in it depends on when or where it was
written, so the same rows give the same bytes. Needs the `batch` extra (jinja2, matplotlib).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from bistil import plots
from bistil.errors import InputError
from bistil.report.orderings import Claim, orderings
from bistil.report.tables import cost_table, headline, score_tables, setting_name
from bistil.results import (
    COLUMNS,
    Row,
    Setting,
    read_results,
    rows_of,
    settings,
    tidy,
    write_results,
)
from bistil.style import svg
from bistil.systems import rank, told

__all__ = ["COLUMNS", "Claim", "orderings", "read_results", "write_report", "write_results"]

Figures = Mapping[str, tuple[Figure, str]]


class Table(NamedTuple):
    """A further table of the page: plain text cells, the first column left-aligned."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def write_report(
    folder: Path,
    rows: Sequence[Row],
    *,
    title: str,
    manifests: Sequence[Mapping[str, Any]] = (),
    notes: str = "",
    claims: Sequence[Claim] | None = None,
    figures: Figures | None = None,
    tables: Sequence[Table] = (),
    links: Mapping[str, str] | None = None,
) -> Path:
    """Write `index.html`, `results.csv`, `manifests/<kind>-<id>.json` and `figures/*.svg|png`; return the path of `index.html`.

    manifests: those of every artefact behind the rows; those of an earlier report in this folder are removed. notes: plain text, blank
    lines between paragraphs. claims: from `orderings`, which is called on the rows when None. figures: further figures by file name, each
    with its caption. tables: further tables. links: places of executed notebooks, relative to the page, by title.
    No rows at all is an `InputError`.
    """
    rows = tidy(rows)
    if not rows:
        raise InputError("A report needs at least one result row, but none came. Run an experiment first.")
    claims = orderings(rows) if claims is None else claims
    found = settings(rows)
    drawn = {**_figures(rows, found), **(figures or {})}
    page = _environment().get_template("page.html.j2").render(
        title=title,
        notes=[" ".join(paragraph.split()) for paragraph in notes.split("\n\n") if paragraph.strip()],
        headlines=[first for setting in found if (first := headline(rows, setting))],
        facts=_facts(rows, manifests),
        systems=[(name, text) for name in sorted({row["system"] for row in rows}, key=rank) if (text := told(name))],
        claims=[(setting, [claim for claim in claims if claim.setting == setting]) for setting in found],
        scores=[(setting, score_tables(rows, setting)) for setting in found],
        costs=[(setting, cost_table(rows, setting)) for setting in found],
        figures=[(made.get_figwidth() > 9, Markup(svg(made, _slug(name), themed=True)), text) for name, (made, text) in drawn.items()],
        tables=tables,
        links=links or {},
        manifests=sorted(manifests, key=lambda manifest: (manifest.get("kind", ""), manifest.get("finished", ""), manifest.get("id", ""))),
        missing=sorted({row["artefact"] for row in rows if row["artefact"]} - {str(manifest.get("id")) for manifest in manifests}),
        software=sorted({f"{name} {number}" for manifest in manifests for name, number in manifest.get("versions", {}).items()}),
    )  # fmt: skip
    _save_figures(folder / "figures", drawn)
    write_results(folder / "results.csv", rows)
    _save_manifests(folder / "manifests", manifests)
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(score=_score, signed=_signed, duration=_duration, size=_size, json=_json)
    environment.globals.update(setting_name=setting_name)
    return environment


def _figures(rows: Sequence[Row], found: Sequence[Setting]) -> dict[str, tuple[Figure, str]]:
    """Draw the figures every report has: the trade-off where models were reduced, and the scores by language for each setting."""
    caption = "What a system costs against what it scores. Marker area is the number of parameters; up and to the left is better."
    reduced = any(row["lrf"] for row in rows)  # models of one size are no trade-off
    drawn = {"trade-off": (plots.trade_off(rows), caption)} if reduced else {}
    for setting in found:
        own = rows_of(rows, setting)
        if own:
            text = f"{setting_name(setting)}: zero-shot score on each target language; hatched bars are students of a higher lrf."
            name = f"scores-{_slug('-'.join(part for part in (setting if len(found) > _tasks(found) else setting[:1]) if part))}"
            drawn[name] = (plots.scores_by_language(own), text)
    return drawn


def _save_figures(folder: Path, drawn: Figures) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (made, _) in drawn.items():
        (folder / f"{_slug(name)}.svg").write_text(svg(made, _slug(name)), encoding="utf-8")
        made.savefig(folder / f"{_slug(name)}.png", metadata={"Software": None})


def _save_manifests(folder: Path, manifests: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for manifest in manifests:
        path = folder / f"{_slug(str(manifest['kind']))}-{_slug(str(manifest['id']))}.json"
        path.write_text(_json(manifest) + "\n", encoding="utf-8")


def _facts(rows: Sequence[Row], manifests: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    def listed(column: str) -> str:
        return ", ".join(str(value) for value in sorted({row[column] for row in rows if row[column] not in (None, "")}))

    names = {"experiment": "experiment", "teacher": "teacher", "source": "source language", "target": "target languages", "task": "tasks"}
    facts = [(name, listed(column)) for column, name in {**names, "seed": "seeds"}.items()]
    seconds = sum(manifest.get("wall_seconds") or 0 for manifest in manifests)
    facts += [("artefacts", f"{len(manifests)}, built in {_duration(seconds)} of machine time")] if manifests else []
    return [(name, value) for name, value in facts if value]


def _tasks(found: Sequence[Setting]) -> int:
    return len({setting.task for setting in found})


def _slug(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower()).strip("-") or "figure"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(size: float | None) -> str:
    return "–" if size is None else f"{size / 2**20:,.0f} MiB"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
