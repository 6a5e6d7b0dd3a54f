"""What a notebook shows besides the figures of `bistil.plots`: trees, marked sentences, typology, histories, all from plain data.

Notable: figures leave a notebook as small PNG images, so that a notebook with its pictures stays below 150 KB.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence

from IPython.display import HTML, Image
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from bistil.languages import DATA, DataFolder
from bistil.store import Artefact
from bistil.style import INK, PALETTE, figure
from bistil.workbench import html

COLUMNS = ("code", "name", "family", "seen", "corpus", "treebank", "ner")


def show(made: Figure, *, dots: int = 80) -> Image:
    """Return a figure as an image for the end of a cell; `dots` an inch."""
    return Image(png(made, dots=dots))


def png(made: Figure, *, dots: int = 80) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=dots, metadata={"Software": None})
    return buffer.getvalue()


def entities(words: Sequence[str], tags: Sequence[str]) -> HTML:
    """Return a sentence with its entities marked."""
    return HTML(html.marked(words, tags))


def typology(data: DataFolder, *, features: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Return the further columns of the language table, by code; `features` picks some. A table without further columns gives families."""
    own = data.root / "languages.csv"
    with (own if own.is_file() else DATA / "languages.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    further = [name for name in rows[0] if name not in COLUMNS and (not features or name in features)] or ["family", "seen"]
    return {row["code"]: {name: row[name] for name in further} for row in rows}


def history(artefact: Artefact) -> dict[str, list[dict[str, float]]]:
    """Return a stage's log by phase: `dense` and `sparse` for a sparse fine-tuning, one phase without a name for anything else."""
    entries: list[dict[str, float]] = json.loads(artefact.path("history.json").read_text(encoding="utf-8"))
    phases: list[list[dict[str, float]]] = [[]]
    for entry in entries:
        if phases[-1] and entry["step"] < phases[-1][-1]["step"]:
            phases.append([])
        phases[-1].append(entry)
    return dict(zip(("dense", "sparse") if len(phases) == 2 else ("",), phases, strict=False))


def tree(
    words: Sequence[str], heads: Sequence[int], relations: Sequence[str], *, guess: tuple[Sequence[int], Sequence[str]] = ((), ())
) -> Figure:
    """Draw a dependency tree as arcs above the words, and a second one, if given, below them, its wrong arcs in another colour.

    heads: counted from 1, 0 for the root. A guess's arc is wrong when its head or its universal relation differs.
    """
    places = _places(words)
    made, [ax] = figure(max(6.0, 0.105 * places[-1] + 1.0), 4.6 if guess[0] else 2.6)
    for place, word in zip(places, words, strict=True):
        ax.text(place, 0, word, ha="center", va="center", fontsize=10.5, color=INK)
    top = _arcs(ax, places, heads, relations, [INK] * len(words), 1)
    bottom = -1.0
    if guess[0]:
        right = [h == g and r.split(":")[0] == s for h, g, r, s in zip(heads, guess[0], relations, guess[1], strict=False)]
        bottom = -_arcs(ax, places, guess[0], guess[1], [PALETTE[2] if same else PALETTE[3] for same in right], -1)
    ax.set(xlim=(places[0] - 8, places[-1] + 8), ylim=(bottom - 1.2, top + 1.2))
    ax.set_axis_off()
    return made


def _places(words: Sequence[str]) -> list[float]:
    places, right = [], 0.0
    for word in words:
        half = max(len(word), 4) / 2 * 1.15
        places.append(right + half)
        right += 2 * half + 2.2
    return places


def _arcs(ax, places: Sequence[float], heads: Sequence[int], relations: Sequence[str], colours: Sequence[str], side: int) -> float:  # type: ignore[no-untyped-def]
    """Draw one tree on one side of the words; return how far it reaches."""
    reach = 1.0
    for word, (head, relation, shade) in enumerate(zip(heads, relations, colours, strict=True)):
        if head == 0:
            ax.annotate(
                relation, (places[word], 0.45 * side), (places[word], 1.5 * side), ha="center", va="center", fontsize=8, color=shade,
                arrowprops={"arrowstyle": "-|>", "color": shade, "linewidth": 1},
            )  # fmt: skip
            continue
        height = 0.75 + 0.62 * abs(word + 1 - head)
        x0, x1 = places[head - 1] + (0.9 if word + 1 > head else -0.9), places[word] - (0.5 if word + 1 > head else -0.5)
        points = [x0 + (x1 - x0) * i / 30 for i in range(31)]
        curve = [side * (0.45 + (height - 0.45) * (1 - abs(2 * i / 30 - 1) ** 3)) for i in range(31)]
        ax.plot(points, curve, color=shade, linewidth=1.1)
        ax.add_patch(FancyArrowPatch((x1, curve[-2]), (x1, 0.45 * side), arrowstyle="-|>", mutation_scale=8, color=shade, linewidth=0.6))
        ax.text((x0 + x1) / 2, side * (height + 0.28), relation, ha="center", va="center", fontsize=7.5, color=shade)
        reach = max(reach, height)
    return reach


def bars(values: Mapping[str, float], label: str, *, marked: Sequence[str] = ()) -> Figure:
    """Draw horizontal bars, the largest on top; those in `marked` in another colour."""
    order = sorted(values, key=lambda name: (values[name], name))
    made, [ax] = figure(7.0, 0.9 + 0.27 * len(order))
    ax.barh(order, [values[name] for name in order], color=[PALETTE[1] if name in marked else PALETTE[0] for name in order], height=0.7)
    ax.set(xlabel=label)
    ax.grid(False, axis="y")
    return made
