"""What every page of this folder has in common: its template's words for numbers, and the files that lie
beside it.

Notable: a folder holds what the last page was made of and nothing else of the same kind. Figures stand in the
page and beside it.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from bistil.plots.style import inches, svg, themed
from bistil.report.tables import number, setting_name, slug
from bistil.settings.files import read_text
from bistil.store.whole import write_whole

Figures = Mapping[str, tuple[Figure, str]]
"""By file name, each with its caption."""
Manifest = Mapping[str, Any]
WIDE = 6.0
"""Figures of more inches than this have a row of their own."""
LONG = 30
"""Tables with more lines, or more columns, than this are folded up."""
WHOLE_MANIFESTS = 500
"""With more manifests than this a page links to their files instead of holding them."""


def environment() -> Environment:
    """What fills the templates of this folder."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(score=_score, signed=signed, duration=duration, size=_size, json=_json)
    made.filters.update(manifest_name=_manifest_name, probability=probability, data_url=data_url)
    made.filters.update(number=number)
    made.globals.update(setting_name=setting_name, long=LONG, whole_manifests=WHOLE_MANIFESTS)
    return made


def save(folder: Path, pattern: str, files: Mapping[str, str]) -> None:
    """Write these files, and then remove what else an earlier page left there: it may be all that there is
    of them.
    """
    for name, text in files.items():
        write_whole(folder / name, text)
    for old in folder.glob(pattern):
        if old.name not in files:
            old.unlink()


def save_figures(
    folder: Path, figures: Figures, before: Mapping[str, str] | None = None
) -> list[tuple[bool, Markup, str]]:
    """Write figures as SVG and PNG; return what a page shows of each: is it wide, the image, and its
    caption.

    before: captions of figures that lie there and stay, by name.
    """
    before = dict(before or {})
    images = {name: svg(made, name) for name, (made, _) in figures.items()}
    images |= {name: read_text(folder / f"{name}.svg") for name in before}
    captions = {name: caption for name, (_, caption) in figures.items()} | before
    for old in [path for ending in ("png", "svg") for path in folder.glob(f"*.{ending}")]:
        if old.stem not in images:
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, (made, _) in figures.items():
        write_whole(folder / f"{name}.svg", images[name])
        dots = io.BytesIO()
        made.savefig(dots, format="png", metadata={"Software": None})
        write_whole(folder / f"{name}.png", dots.getvalue())
    shown = []
    for name, image in images.items():
        width, caption = inches(image), captions[name]
        shown.append((width > WIDE, Markup(_said(themed(image, width, name), name, caption)), caption))
    return shown


def _said(image: str, name: str, caption: str) -> str:
    """An image whose text for those who cannot see it is its caption."""
    return image.replace(f'aria-label="{name}"', f'aria-label="{escape(caption)}"', 1)


def save_manifests(folder: Path, manifests: Sequence[Manifest]) -> list[Manifest]:
    """Write manifests; return them as a page lists them."""
    save(folder, "*.json", {_manifest_name(manifest): _json(manifest) + "\n" for manifest in manifests})
    return sorted(
        manifests,
        key=lambda manifest: (manifest.get("kind", ""), manifest.get("finished", ""), manifest.get("id", "")),
    )


def software(manifests: Sequence[Manifest]) -> list[str]:
    """Names and versions of what made these artefacts."""
    return sorted(
        {
            f"{name} {number}"
            for manifest in manifests
            for name, number in manifest.get("versions", {}).items()
        }
    )


def signed(value: float | None) -> str:
    """A difference in points, with a real minus sign."""
    return "–" if value is None else f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def probability(p: float) -> str:
    """A p-value, no finer than the draws allow."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def data_url(text: str, kind: str) -> str:
    """A text as a link that holds it."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _manifest_name(manifest: Manifest) -> str:
    return f"{slug(str(manifest['kind']))}-{slug(str(manifest['id']))}.json"


def _size(size: float | None) -> str:
    return "–" if size is None else f"{size / 2**20:,.0f} MiB"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
