"""The report's tables for LaTeX papers, by the package booktabs.

Notable: the same cells as on the page; what is needed in the preamble stands in a comment at the top of each
file."""

from collections.abc import Sequence

from bistil.evaluation.results import Row, Variant, settings
from bistil.report.tables import Cell, cost_table, score_tables, setting_name, setting_slugs

_ESCAPED = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "–": "--",
        "×": r"$\times$",
        "−": "$-$",
    }
)


def latex_tables(rows: Sequence[Row]) -> dict[str, str]:
    """By name, one table of the primary scores and one of the costs for each setting, as text of a .tex
    file.
    """
    found = {}
    for setting, name in setting_slugs(settings(rows)).items():
        scores, costs = score_tables(rows, setting)[0], cost_table(rows, setting)
        seeds = (
            f"mean ± one standard deviation over {scores['seeds']} seeds"
            if scores["seeds"] > 1
            else "one seed"
        )
        best = "student" if scores["students"] else "system"
        caption = (
            f"{setting_name(setting)}: {scores['metric']}{', zero-shot' if scores['zero_shot'] else ''},"
            f" {seeds}. Bold: best {best} of the column.{' ' if scores['same'] else ''}{scores['same']}"
        )
        found[f"scores-{name}"] = tabular(scores["head"], scores["lines"], caption, f"scores-{name}")
        if costs["head"] and costs["lines"]:
            head = [f"{label} ({unit})" for label, unit in costs["head"]]
            plain = [
                (variant, [Cell(cell.text, cell.small) for cell in cells])
                for variant, cells in costs["lines"]
            ]
            caption = (
                f"{setting_name(setting)}: what a system costs, mean over targets; small: relative to the"
                " teacher."
            )
            found[f"costs-{name}"] = tabular(head, plain, caption, f"costs-{name}")
    return found


def tabular(
    head: Sequence[str], lines: Sequence[tuple[Variant, Sequence[Cell]]], caption: str, label: str
) -> str:
    """A floating table: systems by columns, the best in bold, small print in a smaller size."""
    rows = [[escaped(variant.label), *map(_cell, cells)] for variant, cells in lines]
    body = [" & ".join(row) + r" \\" for row in [["system", *map(escaped, head)], *rows]]
    parts = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * len(head)}}}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """The text with everything that LaTeX would take for a command spelled out."""
    return text.translate(_ESCAPED)


def _cell(cell: Cell) -> str:
    text = rf"\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text)
    return text + (rf" {{\small {escaped(cell.small)}}}" if cell.small else "")
