"""One self-contained HTML page from result rows and manifests, for a reader who was not there, and the same
tables for LaTeX.

Notable: nothing is fetched from anywhere (styles, figures and data are inside the page) and nothing in it
depends on when or where it was written, so the same rows give the same bytes. Needs the `batch` extra
(jinja2, matplotlib).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bistil import plots
from bistil.errors import InputError
from bistil.evaluation.results import (
    COLUMNS,
    Row,
    Setting,
    is_student,
    read_results,
    results_text,
    rows_of,
    settings,
    tidy,
    variants,
    write_results,
)
from bistil.evaluation.significance import RESAMPLES, write_outcomes
from bistil.report.latex import latex_tables
from bistil.report.orderings import Claim, orderings
from bistil.report.paired import LACKING, Kept, paired
from bistil.report.tables import (
    Table,
    cost_table,
    headline,
    learns_elsewhere,
    score_tables,
    setting_name,
    setting_slugs,
    slug,
)
from bistil.report.templates import (
    Figures,
    duration,
    environment,
    save,
    save_figures,
    save_manifests,
    software,
)
from bistil.store.whole import write_whole
from bistil.systems.table import SYSTEMS, TEACHER, rank

NARROW = " With a drf its hidden size, heads and feed-forward layers are that many times narrower too."
"""What is told of a system beside its sentence, where it was run with a hidden reduction factor."""
__all__ = ["COLUMNS", "Claim", "Table", "orderings", "read_results", "write_report", "write_results"]


def write_report(
    folder: Path,
    rows: Sequence[Row],
    *,
    title: str,
    manifests: Sequence[Mapping[str, Any]] = (),
    notes: str = "",
    claims: Sequence[Claim] | None = None,
    figures: Figures | None = None,
    drawn_before: Mapping[str, str] | None = None,
    tables: Sequence[Table] = (),
    links: Mapping[str, str] | None = None,
    kept: Kept | None = None,
    told: Mapping[str, str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write the report; return the path of its `index.html`. Beside it `results.csv`, `tables/*.tex`,
    `figures/*.svg|png`, `manifests/<kind>-<id>.json` and `outcomes/<id>.safetensors`.

    manifests: those of every artefact behind the rows; those of an earlier report in this folder are removed.
    kept: outcomes of single examples by evaluation, as far as there are any, for paired significance; an
    earlier report's go too. notes: plain text, blank lines between paragraphs. claims: from `orderings`,
    which is called on the rows when None. figures: further figures by file name, each with its caption.
    drawn_before: captions of figures that lie in `figures/` and stay, unless one of the name is drawn.
    tables: further tables. links: places of executed notebooks, relative to the page, by title. told:
    sentences of systems that the table does not have. groups: targets by the name of their group, by which
    scores are drawn. No rows at all is an `InputError`.
    """
    rows = tidy(rows)
    if not rows:
        raise InputError("A report needs at least one result row, but none came. Run an experiment first.")
    claims, kept = orderings(rows) if claims is None else claims, kept or {}
    found, elsewhere = settings(rows), learns_elsewhere(rows)
    drawn: dict[str, tuple[Figure, str]] = {
        slug(name): figure for name, figure in {**_figures(rows, found, groups), **(figures or {})}.items()
    }
    before = {
        name: told
        for name, told in (drawn_before or {}).items()
        if name not in drawn and (folder / "figures" / f"{name}.svg").is_file()
    }
    pairs = paired(rows, kept)
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            notes=[" ".join(paragraph.split()) for paragraph in notes.split("\n\n") if paragraph.strip()],
            headlines=[first for setting in found if (first := headline(rows, setting))],
            facts=_facts(rows, manifests),
            systems=_systems(rows, told or {}),
            elsewhere=elsewhere,
            zero_shot=not elsewhere or any(row.get("regime") == "source" for row in rows),
            claims=[(setting, [claim for claim in claims if claim.setting == setting]) for setting in found],
            pairs=[(setting, [pair for pair in own if LACKING not in pair.why]) for setting, own in pairs],
            older=sum(LACKING in pair.why for _, own in pairs for pair in own),
            resamples=RESAMPLES,
            teacher=TEACHER,
            compared=any(row["system"] == TEACHER for row in rows),
            students={row["system"] for row in rows if is_student(row)},
            scores=[(setting, score_tables(rows, setting)) for setting in found],
            costs=[(setting, cost_table(rows, setting)) for setting in found],
            figures=save_figures(folder / "figures", drawn, before),
            csv=results_text(rows),
            latex=latex_tables(rows),
            drawn=[*drawn, *before],
            tables=tables,
            links=links or {},
            manifests=save_manifests(folder / "manifests", manifests),
            missing=sorted(
                {row["artefact"] for row in rows if row["artefact"]}
                - {str(manifest.get("id")) for manifest in manifests}
            ),
            software=software(manifests),
        )
    )
    write_results(folder / "results.csv", rows)
    save(folder / "tables", "*.tex", {f"{name}.tex": text for name, text in latex_tables(rows).items()})
    write_outcomes(folder / "outcomes", kept)
    path = folder / "index.html"
    write_whole(path, page)
    return path


def _systems(rows: Sequence[Row], told: Mapping[str, str]) -> list[tuple[str, str]]:
    """The sentence of each system in the rows, in the order of the table."""
    names = sorted({str(row["system"]) for row in rows}, key=lambda name: (rank(name), name))
    narrow = {row["system"] for row in rows if row["drf"]}
    known = {**{name: system.told for name, system in SYSTEMS.items()}, **told}
    known = {name: text.replace(NARROW, "") for name, text in known.items()}  # of a page that is made again
    return [(name, known[name] + (NARROW if name in narrow else "")) for name in names if known.get(name)]


def _figures(
    rows: Sequence[Row], found: Sequence[Setting], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[Figure, str]]:
    """Draw the figures every report has: the trade-off where models were reduced, and the scores by language,
    or by group of languages, for each setting.
    """
    caption = (
        "What a system costs against what it scores. The area of a circle is the number of parameters; up and"
        " to the left is better."
    )
    reduced = any(row["lrf"] for row in rows)  # models of one size are no trade-off
    drawn = {"trade-off": (plots.trade_off(rows), caption)} if reduced else {}
    for setting, name in setting_slugs(found).items():
        own = rows_of(rows, setting)
        if own:
            zero = "" if learns_elsewhere(own) else "zero-shot "
            which = "group of target languages" if groups else "target language"
            text = f"{setting_name(setting)}: {zero}score on each {which}."
            drawn_systems = [variant.system for variant in variants(own)]
            if len(set(drawn_systems)) < len(drawn_systems):
                text += " Hatched bars are the further sizes of a system."
            drawn[f"scores-{name}"] = (plots.scores_by_language(own, groups), text)
    return drawn


def _facts(rows: Sequence[Row], manifests: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    def listed(column: str) -> str:
        return ", ".join(
            str(value) for value in sorted({row[column] for row in rows if row[column] not in (None, "")})
        )

    names = {
        "experiment": "experiment",
        "teacher": "teacher",
        "source": "source language",
        "target": "target languages",
        "task": "tasks",
    }
    facts = [(name, listed(column)) for column, name in {**names, "seed": "seeds"}.items()]
    seconds = sum(manifest.get("wall_seconds") or 0 for manifest in manifests)
    facts += (
        [("artefacts", f"{len(manifests)}, built in {duration(seconds)} of machine time")]
        if manifests
        else []
    )
    return [(name, value) for name, value in facts if value]
