"""The notebook's progress listener: one line with a bar, which is gone when the work is done.

Notable: unlike tqdm's, it leaves no frozen bar behind in an executed notebook.
"""

from html import escape

import ipywidgets
from IPython.display import display

from bistil.training.progress import Event
from bistil.workbench import html
from bistil.workbench.recorder import Recorder


class NotebookProgress:
    """A listener for `open_pipeline(progress=...)`: shows the stage at work, and nothing for stages that were
    in the store already.
    """

    def __init__(self) -> None:
        self.line = ipywidgets.HTML()
        self._shown = False
        self._recorder = Recorder(self._draw)

    def __call__(self, event: Event) -> None:
        """Take an event; the line appears with the first one."""
        if not self._shown:
            self._shown = True
            display(self.line)
        self._recorder(event)

    def _draw(self) -> None:
        self.line.value = words(self._recorder.newest)


def words(event: Event | None) -> str:
    """Return an event as HTML: stage, bar, step and the newest loss; nothing at a stage's last step."""
    if event is None or event.step >= event.of:
        return ""
    losses = {
        name.replace("eval_", "held-out "): value
        for name, value in event.metrics.items()
        if name.endswith("loss")
    }
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    text = f"{escape(event.stage)}: {event.step} of {event.of}" + (f" · {escape(numbers)}" if numbers else "")
    return f'<div style="max-width: 48em">{text}{html.bar(event.step / max(event.of, 1))}</div>'
