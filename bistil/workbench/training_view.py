"""The training panel: Run, Pause, Stop, what a run is at, and its curves as they grow.

Notable: numbers and curves follow several times a second; the browser draws them (`curves.js`)."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as w

from bistil.plots.live import facets
from bistil.training.progress import Event
from bistil.workbench import html
from bistil.workbench.curves import Curves
from bistil.workbench.guard import Guard
from bistil.workbench.progress_view import words
from bistil.workbench.training import Training, Work


class TrainingPanel(w.VBox):
    """The panel of a `Training`, `model`, which a notebook may use directly."""

    def __init__(self, model: Training) -> None:
        self.model = model
        self.message, self.progress, self.error = (w.HTML() for _ in range(3))
        self.curves = Curves()
        self.guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.run_button = w.Button(
            description="Run", icon="play", button_style="primary", tooltip="build what is missing"
        )
        self.pause_button = w.Button(
            description="Pause", icon="pause", tooltip="hold after this step; what is learnt stays in memory"
        )
        self.stop_button = w.Button(
            description="Stop",
            icon="stop",
            tooltip="stop after this step and keep it; Run goes on from there",
        )
        self.run_button.on_click(self.guard(self._run))
        self.pause_button.on_click(self.guard(self._pause))
        self.stop_button.on_click(self.guard(self._stop))
        model.on_change = self.draw
        model.on_end = self.ended
        super().__init__(
            [
                w.HBox([self.run_button, self.pause_button, self.stop_button]),
                self.message,
                self.progress,
                self.error,
                self.curves,
            ]
        )
        self.add_class("bistil-training")
        self.draw()

    def draw(self) -> None:
        """Show what the model says."""
        model, event = self.model, self.model.recorder.newest
        self.run_button.disabled = model.running
        self.pause_button.disabled = self.stop_button.disabled = not model.running or model.stopping
        self.pause_button.description, self.pause_button.icon = (
            ("Resume", "play") if model.pausing else ("Pause", "pause")
        )
        cost = "" if model.running else model.cost
        lines = [
            f"<b>{escape(model.status)}</b> {escape(cost)}" if model.status else f"<b>{escape(cost)}</b>"
        ]
        if model.status and model.job:
            lines.insert(0, escape(("Running: " if model.running else "Last run: ") + model.job))
        self.message.value = f'<div style="line-height: 1.4; margin: 4px 0">{"<br>".join(lines)}</div>'
        self.progress.value = words(event) + numbers(event) if model.running else ""
        told = facets(model.recorder.curves().get(event.stage, {})) if event is not None else []
        if event is not None and told:  # scoring tells no curve: that of the stage before it stays
            self.curves.show(event.stage, told, model.recorder.at)

    def ended(self, draw: Callable[[], None] | None = None) -> None:
        """Show that the run is over, and what it raised if it did. draw: in the place of the panel's own."""
        self.guard(draw or self.draw)()
        if self.model.error:
            self.error.value = html.error(self.model.error)

    def _run(self, *_: Any) -> None:
        self.curves.clear()
        self.model.run()
        self.draw()

    def _pause(self, *_: Any) -> None:
        if self.model.pausing:
            self.model.resume()
        else:
            self.model.pause()
        self.draw()

    def _stop(self, *_: Any) -> None:
        self.model.stop()
        self.draw()


def numbers(event: Event | None) -> str:
    """Return learning rate, tokens a second and the time left, as far as an event tells them; nothing at a
    stage's last step.
    """
    if event is None or event.step >= event.of:
        return ""
    known = event.metrics
    texts = {
        "learning rate": f"{known['learning_rate']:.3g}" if "learning_rate" in known else "",
        "tokens a second": f"{known['tokens_per_second']:,.0f}" if "tokens_per_second" in known else "",
        "left in this phase": in_time(known["seconds_left"]) if "seconds_left" in known else "",
    }
    return (
        f'<div style="{html.QUIET}">'
        + " · ".join(f"{name} {text}" for name, text in texts.items() if text)
        + "</div>"
    )


def in_time(seconds: float) -> str:
    """Return a time in words: seconds below 100, then minutes, then hours and minutes."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def training_panel(work: Work, *, cost: str = "") -> TrainingPanel:
    """Return a training panel for work of one's own: a function of a progress listener and a stop event, such
    as

    `lambda progress, stop: open_pipeline(experiment, store, progress=progress, stop=stop).student(cell)`.

    Args:
        cost: what exists and what a click will take, in words.
    """
    return TrainingPanel(Training(work, cost=cost))
