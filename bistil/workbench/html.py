"""Small pieces of HTML for panels: tables and marked words, every text escaped.

Notable: colours are JupyterLab's own CSS variables with a fallback, so panels follow the light and the dark
theme."""

from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from bistil.plots.style import GRID, INK, PALETTE, PAPER, svg, themed

QUIET = "color: var(--jp-ui-font-color2, #5c6670)"


class Markup(str):
    """Text that is HTML already."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """Return a table; the columns in `numbers` are aligned to the right. `Markup` is taken as it is."""
    line = "border-bottom: 1px solid var(--jp-border-color2, #d9dee4); padding: 3px 12px 3px 0"

    def cell(kind: str, place: int, text: str) -> str:
        side = "right" if place in numbers else "left"
        inner = text if isinstance(text, Markup) else escape(text)
        return (
            f'<{kind} style="{line}; text-align: {side}; font-variant-numeric: tabular-nums">{inner}</{kind}>'
        )

    top = "".join(cell("th", place, name) for place, name in enumerate(head))
    body = "".join(
        f"<tr>{''.join(cell('td', place, text) for place, text in enumerate(row))}</tr>" for row in rows
    )
    return f'<table style="border-collapse: collapse; line-height: 1.35"><tr>{top}</tr>{body}</table>'


def picture(made: Figure, name: str) -> str:
    """Return a figure whose ink, ground and grid are those of JupyterLab's theme; `name`, for screen readers,
    is not in the page twice.
    """
    theme = {
        "--ink": f"--jp-content-font-color1, {INK}",
        "--card": f"--jp-layout-color0, {PAPER}",
        "--line": f"--jp-border-color2, {GRID}",
    }
    style = "; ".join(f"{name}: var({theirs})" for name, theirs in theme.items())
    return (
        f'<div style="{style}; max-width:'
        f' {115 * made.get_figwidth():.0f}px">{themed(svg(made, name), made, name)}</div>'
    )


def frame(page: str) -> str:
    """Return a frame with a report's page in it. Links to the page's own sections stay in it; otherwise they
    would lead the frame to the notebook's address.
    """
    inside = escape(page.replace("<head>", '<head>\n<base href="about:srcdoc">', 1))
    return (
        f'<iframe class="bistil-report" title="report" srcdoc="{inside}" style="width: 100%; height: 640px;'
        ' border: 0"></iframe>'
    )


def bar(share: float) -> str:
    """Return a progress bar, `share` from 0 to 1."""
    percent = 100 * min(max(share, 0.0), 1.0)
    return (
        '<div style="background: var(--jp-border-color2, #d9dee4); height: 8px; border-radius: 4px;'
        f' overflow: hidden"><div style="background: {PALETTE[0]}; width: {percent:.1f}%; height:'
        ' 8px"></div></div>'
    )


def line(text: str) -> str:
    """Return a quiet line of text, or nothing for the empty text."""
    return (
        f'<p style="{QUIET}; max-width: 70em; line-height: 1.4; margin: 4px 0">{escape(text)}</p>'
        if text
        else ""
    )


def error(text: str) -> str:
    """Return an error's paragraph, or nothing for the empty text."""
    style = f"border-left: 4px solid {PALETTE[3]}; padding: 4px 10px; max-width: 70em; line-height: 1.4"
    return f'<div class="bistil-error" style="{style}">{escape(text)}</div>' if text else ""


def marked(words: Sequence[str], tags: Sequence[str]) -> str:
    """Return a sentence with its entities (IOB2 tags) on coloured ground, each with its type after it."""
    kinds = sorted({tag[2:] for tag in tags if tag != "O"})
    pieces: list[str] = []
    start = 0
    while start < len(words):
        end = start + 1
        if tags[start] != "O":
            while end < len(words) and tags[end] == f"I-{tags[start][2:]}":
                end += 1
        text = escape(" ".join(words[start:end]))
        if tags[start] != "O":
            kind = tags[start][2:]
            shade = PALETTE[kinds.index(kind) % len(PALETTE)]
            text = (
                f'<span style="background: {shade}33; border-radius: 4px; padding: 1px 5px">{text}'
                f" <small>{escape(kind)}</small></span>"
            )
        pieces.append(text)
        start = end
    return f'<p style="line-height: 1.9">{" ".join(pieces)}</p>'
