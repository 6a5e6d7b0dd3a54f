"""Curves of a run as a widget: the browser draws them, the kernel sends numbers only.

Notable: to make a picture in the kernel would take a tenth of a second of the very thread that trains; to
send some hundreds of numbers takes a few thousandths, so curves follow a run at once."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anywidget
import traitlets

from bistil.plots.live import Facet


class Curves(anywidget.AnyWidget):
    """The widget. `state` is what curves.js draws: the title, facets, and when the newest numbers came."""

    _esm = Path(__file__).with_name("curves.js")
    _css = Path(__file__).with_name("curves.css")
    state = traitlets.Dict({"title": "", "facets": [], "at": 0.0}).tag(sync=True)

    def show(self, title: str, facets: Sequence[Facet], at: float) -> None:
        """Draw facets. at: when the newest numbers were told, in seconds since 1970."""
        self.state = {"title": title, "facets": [asdict(facet) for facet in facets], "at": at}

    def clear(self) -> None:
        """Draw nothing."""
        self.show("", [], 0.0)
