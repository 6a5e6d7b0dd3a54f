"""One guard for every callback of a panel: what goes wrong is said in words, in the panel.

Notable: ipywidgets swallows the exceptions of callbacks, and JupyterLab shows nothing of them, so a panel
without a guard fails in silence."""

from collections.abc import Callable
from typing import Any

from bistil.errors import InputError
from bistil.store.artefacts import NotBuilt


def in_words(error: BaseException) -> str:
    """Return what a reader is told: the paragraph of our own errors, what to do where a stage is missing,
    type and text of any other.
    """
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, NotBuilt):
        return "A stage of this is not in the store yet. Press Run in the workbench, or run its experiment."
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class Guard:
    """Wraps callbacks; `show` gets the text of an error, and the empty string when a callback starts."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def __call__(self, callback: Callable[..., Any]) -> Callable[..., None]:
        """Return the callback with every error shown instead of raised."""

        def guarded(*arguments: Any) -> None:
            self._show("")
            try:
                callback(*arguments)
            except Exception as error:
                self._show(in_words(error))

        return guarded
