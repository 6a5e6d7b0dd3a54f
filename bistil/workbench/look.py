"""What a notebook shows besides the figures of `bistil.plots`: trees, marked sentences, typology, histories,
all from plain data.

Notable: figures leave a notebook as small PNG images, so that a notebook with its pictures stays below 150
KB.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from bistil.plots.style import INK, PALETTE, PAPER, figure
from bistil.settings.files import read_csv, read_json
from bistil.sft.train_sft import phases
from bistil.store.artefacts import Artefact
from bistil.text.languages import DATA, OPTIONAL, REQUIRED, DataFolder
from bistil.workbench import html

COLUMNS = (*REQUIRED, *OPTIONAL)


def show(made: Figure, *, dots: int = 90) -> Image:
    """Return a figure as an image for the end of a cell, `dots` an inch wide and twice as sharp."""
    return Image(png(made, dots=2 * dots), retina=True)


def png(made: Figure, *, dots: int = 80) -> bytes:
    """Return a figure as the bytes of a PNG file of at most 64 colours."""
    whole, small = io.BytesIO(), io.BytesIO()
    made.savefig(whole, format="png", dpi=dots, metadata={"Software": None})
    picture = PIL.Image.open(whole).convert("RGB").quantize(64, dither=PIL.Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def entities(words: Sequence[str], tags: Sequence[str]) -> HTML:
    """Return a sentence with its entities marked."""
    return HTML(html.marked(words, tags))


def typology(data: DataFolder, *, features: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Return the further columns of the language table, by code; `features` picks some. A table without
    further columns gives families.
    """
    own = data.root / "languages.csv"
    header, rows = read_csv(own if own.is_file() else DATA / "languages.csv")
    further = [name for name in header if name not in COLUMNS and (not features or name in features)] or [
        "family",
        "seen",
    ]
    return {row["code"]: {name: row[name] for name in further} for _, row in rows}


def history(artefact: Artefact) -> dict[str, list[dict[str, float]]]:
    """Return a stage's log by phase: `dense` and `sparse` for a sparse fine-tuning of two, one phase without
    a name for anything else.
    """
    found = phases(read_json(artefact.path("history.json"), list))
    return dict(zip(("dense", "sparse") if len(found) > 1 else ("",), found, strict=True))


def tree(
    words: Sequence[str],
    heads: Sequence[int],
    relations: Sequence[str],
    *,
    guess: tuple[Sequence[int], Sequence[str]] = ((), ()),
) -> Figure:
    """Draw a dependency tree as arcs above the words, and a second one, if given, below them, its wrong arcs
    in another colour.

    heads: counted from 1, 0 for the root. A guess's arc is wrong when its head or its universal relation
    differs.
    """
    places = _places(words)
    made, [ax] = figure(max(5.0, 0.105 * places[-1] + 0.6), 4.8 if guess[0] else 2.8)
    for place, word in zip(places, words, strict=True):
        ax.text(place, 0, word, ha="center", va="center", fontsize=10.5, color=INK)
    top = _arcs(ax, places, heads, relations, [INK] * len(words), 1)
    bottom = -1.0
    if guess[0]:
        right = [
            h == g and r.split(":")[0] == s
            for h, g, r, s in zip(heads, guess[0], relations, guess[1], strict=False)
        ]
        bottom = -_arcs(
            ax, places, guess[0], guess[1], [PALETTE[2] if same else PALETTE[3] for same in right], -1
        )
    ax.set(xlim=(places[0] - 8, places[-1] + 8), ylim=(bottom - 0.6, top + 0.6))
    ax.set_axis_off()
    return made


def _places(words: Sequence[str]) -> list[float]:
    places, right = [], 0.0
    for word in words:
        half = max(len(word), 4) / 2 * 1.15
        places.append(right + half)
        right += 2 * half + 2.2
    return places


def _arcs(
    ax: Any,
    places: Sequence[float],
    heads: Sequence[int],
    relations: Sequence[str],
    colours: Sequence[str],
    side: int,
) -> float:
    """Draw one tree on one side of the words; return how far it reaches."""
    levels = _levels(heads)
    plate = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}
    for word, (head, relation, shade) in enumerate(zip(heads, relations, colours, strict=True)):
        tip = places[word]
        height = 0.5 + 0.85 * levels[word]
        if head == 0:
            xs, ys = [tip, tip], [0.6, 1.35]
        else:
            start = places[head - 1] + (0.9 if word + 1 > head else -0.9)
            tip -= 0.5 if word + 1 > head else -0.5
            xs = [start + (tip - start) * i / 40 for i in range(41)]
            ys = [0.5 + (height - 0.5) * (1 - abs(2 * i / 40 - 1) ** 5) for i in range(41)]
        ax.plot(xs, [side * y for y in ys], color=shade, linewidth=1.1)
        ax.plot(tip, side * 0.6, marker="v" if side > 0 else "^", markersize=4.5, color=shade)
        middle = tip if head == 0 else (xs[0] + xs[-1]) / 2
        ax.text(
            middle,
            side * ys[len(ys) // 2],
            relation,
            ha="center",
            va="center",
            fontsize=7.5,
            color=shade,
            bbox=plate,
        )
    return 0.5 + 0.85 * max(levels)


def _levels(heads: Sequence[int]) -> list[int]:
    """How high each word's arc runs: one above the arcs below it. The root's has level 1."""
    spans = {word: (min(word, head), max(word, head)) for word, head in enumerate(heads, start=1) if head}
    levels = {word: 1 for word in range(1, len(heads) + 1)}
    for word in sorted(spans, key=lambda word: (spans[word][1] - spans[word][0], word)):
        low, high = spans[word]
        under = [
            levels[o]
            for o, (a, b) in spans.items()
            if o != word and low <= a and b <= high and b - a < high - low
        ]
        roots = (
            [2] if any(head == 0 and low < place < high for place, head in enumerate(heads, start=1)) else [1]
        )
        levels[word] = max([*(level + 1 for level in under), *roots])
    return [levels[word] for word in range(1, len(heads) + 1)]


def bars(values: Mapping[str, float], label: str, *, marked: Sequence[str] = ()) -> Figure:
    """Draw horizontal bars, the largest on top; those in `marked` in another colour."""
    order = sorted(values, key=lambda name: (values[name], name))
    made, [ax] = figure(7.0, 0.9 + 0.27 * len(order))
    ax.barh(
        order,
        [values[name] for name in order],
        color=[PALETTE[1] if name in marked else PALETTE[0] for name in order],
        height=0.7,
    )
    ax.set(xlabel=label)
    ax.grid(False, axis="y")
    return made
