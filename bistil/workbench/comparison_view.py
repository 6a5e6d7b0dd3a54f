"""The comparison panel: choices above, then tables, the Pareto front, bars by language, and the worst errors
on demand.

Notable: figures follow the theme; the panel holds nothing but what is chosen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w

from bistil.evaluation.results import Row
from bistil.pipeline import Pipeline
from bistil.tasks.parsing import Tree
from bistil.tasks.tagging import Tagged
from bistil.tasks.treebank import Sentence
from bistil.workbench import html
from bistil.workbench.comparison import Comparison, Wrong, comparison
from bistil.workbench.guard import Guard
from bistil.workbench.look import tree

STYLE = {"description_width": "70px"}


class ComparisonPanel(w.VBox):
    """The panel of a `Comparison`, `model`."""

    def __init__(self, model: Comparison) -> None:
        self.model = model
        self.tables, self.front, self.bars, self.cost, self.errors, self.error = (w.HTML() for _ in range(6))
        self.guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        wide = w.Layout(width="420px")
        self.setting = w.Dropdown(options=list(model.settings), description="task", style=STYLE, layout=wide)
        self.systems = w.SelectMultiple(
            options=list(model.offered), description="systems", style=STYLE, layout=wide, rows=6
        )
        self.systems.value = model.systems
        self.system = w.Dropdown(
            options=list(model.offered), description="errors of", style=STYLE, layout=wide
        )
        narrow = w.Layout(width="140px")
        self.target = w.Dropdown(
            options=model.targets, description="on", style={"description_width": "30px"}, layout=narrow
        )
        self.button = w.Button(
            description="Worst errors",
            icon="search",
            tooltip="ask the model again and show what goes most wrong",
        )
        self._changing = False
        self.setting.observe(self.guard(lambda change: self._other_setting()), names="value")
        self.systems.observe(self.guard(lambda change: self._other_systems()), names="value")
        for choice in (self.system, self.target):
            choice.observe(self.guard(lambda change: self._tell_cost()), names="value")
        self.button.on_click(self.guard(self._worst))
        asked = w.HBox([self.system, self.target, self.button], layout=w.Layout(flex_flow="row wrap"))
        super().__init__(
            [
                self.setting,
                self.systems,
                self.error,
                self.tables,
                self.front,
                self.bars,
                asked,
                self.cost,
                self.errors,
            ]
        )
        self.add_class("bistil-comparison")
        self.guard(self._draw)()

    def _other_setting(self) -> None:
        self._changing = True
        try:
            self.model.choose(setting=self.setting.value)
            self.systems.options = self.system.options = list(self.model.offered)
            self.systems.value, self.target.options = self.model.systems, self.model.targets
        finally:
            self._changing = False
        self._draw()

    def _other_systems(self) -> None:
        if not self._changing:
            self.model.choose(systems=self.systems.value)
            self._draw()

    def _draw(self) -> None:
        self.tables.value = self.model.tables()
        front = self.model.front()
        told = html.line(self.model.compared()) if self.model.compared() else ""
        self.front.value = told + (html.picture(front, "pareto") if front else "")
        self.bars.value = html.picture(self.model.bars(), "scores-by-language")
        self._tell_cost()

    def _tell_cost(self) -> None:
        self.errors.value = self.cost.value = ""
        if not self._changing and self.system.value and self.target.value:
            self.cost.value = html.line(self.model.cost_of_errors(self.system.value, self.target.value))

    def _worst(self, *_: Any) -> None:
        self.errors.value = html.line("asking the model …")
        try:
            found = self.model.worst(self.system.value, self.target.value)
        except Exception:
            self.errors.value = ""
            raise
        shown = [shown_error(number, one) for number, one in enumerate(found, start=1)]
        self.errors.value = "".join(shown) or html.line("No test example has an error.")


def shown_error(number: int, wrong: Wrong) -> str:
    """Return an error as HTML: what is gold beside what was said, and trees or marked entities where the task
    has them.
    """
    [said] = wrong.answers.said.values()
    title = html.line(f"{number}. {said.wrong} of {len(said.right)} wrong")
    match wrong.example, wrong.prediction:
        case Sentence(words=words, heads=heads, relations=relations), Tree() as guess:
            picture = tree(words, heads, relations, guess=(guess.heads, guess.relations))
            return (
                title + html.line("Gold above, the model's below.") + html.picture(picture, f"error-{number}")
            )
        case Tagged(words=words, tags=tags), guess if any(tag.startswith("B-") for tag in (*tags, *guess)):
            guess = (*guess, *["O"] * (len(words) - len(guess)))
            return (
                title
                + html.line("gold")
                + html.marked(words, tags)
                + html.line("the model")
                + html.marked(words, guess)
            )
    return title + wrong.answers._repr_html_()


def comparison_panel(
    results: Path | str | Sequence[Row], pipeline: Pipeline | None = None
) -> ComparisonPanel:
    """Return the panel over a results.csv or over rows; with the pipeline whose store holds the models,
    errors can be seen too.
    """
    return ComparisonPanel(comparison(results, pipeline))
