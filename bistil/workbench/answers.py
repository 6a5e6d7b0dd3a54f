"""One example of any task beside what models say of it: words with their tags, arcs or entities, pairs with
labels, questions with spans.

Notable: an example is a list of units, each with one gold text and one text a model, so that one table shows
every task, a reader's own included; what a model lacks, a word cut off or a question without a span, is a
wrong `–`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

import ipywidgets as w

from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.plots.style import PALETTE
from bistil.tasks.choice import Candidates
from bistil.tasks.classification import Text
from bistil.tasks.nli import Pair
from bistil.tasks.parsing import Tree
from bistil.tasks.spans import exact_match
from bistil.tasks.squad import Question
from bistil.tasks.tagging import Tagged
from bistil.tasks.treebank import Sentence, universal
from bistil.workbench import html
from bistil.workbench.guard import Guard

NONE = "–"


@dataclass(frozen=True)
class Said:
    """What one model answers: a text for each unit, whether it counts as right, and how probable the model
    finds it, where that is known.
    """

    texts: tuple[str, ...]
    right: tuple[bool, ...]
    sure: tuple[float, ...] = ()

    @property
    def wrong(self) -> int:
        """How many units are wrong."""
        return self.right.count(False)


@dataclass(frozen=True)
class Answers:
    """An example: `about` is what is read besides the units (a context, a premise), `said` goes by the
    model's name.
    """

    about: str
    units: tuple[str, ...]
    gold: tuple[str, ...]
    said: Mapping[str, Said]

    def _repr_html_(self) -> str:
        """The paragraph it is about, and a table: a row a unit, a column a model, what is wrong in another
        colour and struck through.
        """
        judged = any(self.gold)
        rows = [[unit, gold] if judged else [unit] for unit, gold in zip(self.units, self.gold, strict=True)]
        for said in self.said.values():
            told = zip_longest(rows, said.texts, said.right, said.sure[: len(rows)])
            for row, text, right, sure in told:
                shown = html.Markup(escape(text)) if right else _struck(text)
                row.append(shown if sure is None else html.Markup(shown + _percent(sure)))
        about = f'<p style="max-width: 60em; line-height: 1.5">{escape(self.about)}</p>' if self.about else ""
        return about + html.table(["", *["gold"] * judged, *self.said], rows)


def _struck(text: str) -> html.Markup:
    return html.Markup(
        f'<span style="color: {PALETTE[3]}; text-decoration: line-through">{escape(text)}</span>'
    )


def _percent(sure: float) -> str:
    return f' <small style="{html.QUIET}">{100 * sure:.0f} %</small>'


def answers(pipeline: Pipeline, cells: Sequence[Cell], examples: Sequence[Any]) -> list[Answers]:
    """Return each example with what every cell's model says of it; models that are not there yet are trained.

    Raises:
        InputError: where there are no examples.
    """
    if not examples:
        raise InputError(
            "Examples to ask the models about were expected, but there are none. Read some with the task's"
            " `read`."
        )
    named = pipeline.experiment.named
    found = {named(cell): pipeline.predictions(cell, list(examples)) for cell in cells}
    return [
        beside(example, {name: said[number] for name, said in found.items()})
        for number, example in enumerate(examples)
    ]


def beside(
    example: Any,
    predictions: Mapping[str, Any],
    *,
    gold: bool = True,
    sure: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Answers:
    """Return one example with predictions of it, as `predict` of its task gives them, by the name of their
    model.

    gold: whether the example has any; without, nothing is right or wrong. sure: by the same names, how
    probable the model finds its text for each unit.
    """
    found = _beside(example, predictions, gold)
    said = {name: replace(one, sure=tuple(sure.get(name, ()))) for name, one in found.said.items()}
    return replace(found, said=said)


def _beside(example: Any, predictions: Mapping[str, Any], gold: bool) -> Answers:
    about, units, golds = _parts(example)
    if not gold:
        texts = {name: _texts(example, prediction) for name, prediction in predictions.items()}
        unjudged = {
            name: Said((*found, *[NONE] * (len(units) - len(found))), (True,) * len(units))
            for name, found in texts.items()
        }
        return Answers(about, units, ("",) * len(units), unjudged)
    said = {
        name: _said(example, golds, _texts(example, prediction)) for name, prediction in predictions.items()
    }
    if isinstance(example, Sentence):  # two words may have one form: arcs are compared by place
        own = _numbered(example)
        said = {
            name: replace(one, right=tuple(a == b for a, b in zip_longest(_numbered(predictions[name]), own)))
            for name, one in said.items()
        }
    return Answers(about, units, golds, said)


def _numbered(tree: Sentence | Tree) -> list[tuple[int, str]]:
    """Head and universal relation of each word."""
    return [(head, universal(name)) for head, name in zip(tree.heads, tree.relations, strict=True)]


def _parts(example: Any) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """What an example is about, its units and their gold texts."""
    match example:
        case Sentence():
            return "", example.words, _arcs(example.words, example.heads, example.relations)
        case Tagged():
            return "", example.words, example.tags
        case Pair():
            return example.premise, (example.hypothesis,), (example.label,)
        case Candidates():
            return example.context, (example.question,), (example.choices[example.label],)
        case Text():
            return "", (example.text,), (example.label,)
        case Question():
            return example.context, (example.question,), (example.answers[0][0],)
        case _:
            return "", (str(example),), ("",)


def _texts(example: Any, prediction: Any) -> tuple[str, ...]:
    """A model's text for each unit of an example, as far as it has any."""
    match example, prediction:
        case Sentence(), Tree():
            return _arcs(example.words, prediction.heads, prediction.relations)
        case Tagged(), _:
            return tuple(prediction)
        case Candidates(), _:
            return (example.choices[prediction],)
        case Question(), _:
            return tuple(example.context[best.start : best.end] for best in prediction[:1])
        case _:
            return (str(prediction),)


def _said(example: Any, gold: Sequence[str], texts: Sequence[str]) -> Said:
    """Which texts are right: equal to gold or, of a question, to any of its answers as SQuAD compares
    them.
    """
    if isinstance(example, Question):
        return Said(
            tuple(texts) or (NONE,),
            (any(exact_match(text, one) for text in texts for one, _ in example.answers),),
        )
    pairs = list(zip_longest(texts, gold, fillvalue=NONE))
    return Said(tuple(text for text, _ in pairs), tuple(text == one or not one for text, one in pairs))


def _arcs(words: Sequence[str], heads: Sequence[int], relations: Sequence[str]) -> tuple[str, ...]:
    """`relation of head` for each word that has a head."""
    return tuple(
        universal(relation) + (f" of {words[head - 1]}" if head else "")
        for head, relation in zip(heads, relations, strict=True)
    )


class AnswersPanel(w.VBox):
    """A choice of task and a slider over its examples, above the answers."""

    def __init__(self, tasks: Mapping[str, Sequence[Answers]]) -> None:
        if not tasks or not all(tasks.values()):
            raise InputError(
                "Answers to at least one example of each task were expected. Make them with"
                " workbench.answers."
            )
        self.tasks = tasks
        self.shown, self.error = w.HTML(), w.HTML()
        self.task = w.Dropdown(options=list(tasks), description="task")
        self.slider = w.IntSlider(value=1, min=1, description="example")
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.task.observe(guard(lambda change: self._choose()), names="value")
        self.slider.observe(guard(lambda change: self._draw()), names="value")
        super().__init__([w.HBox([self.task, self.slider]), self.error, self.shown])
        guard(self._choose)()

    def _choose(self) -> None:
        self.slider.max = len(self.tasks[self.task.value])
        self._draw()

    def _draw(self) -> None:
        self.shown.value = self.tasks[self.task.value][self.slider.value - 1]._repr_html_()


def answers_panel(tasks: Mapping[str, Sequence[Answers]]) -> AnswersPanel:
    """Return the panel over answers by task, as `answers` gives them."""
    return AnswersPanel(tasks)
