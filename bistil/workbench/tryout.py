"""One text of the reader's own, asked of a teacher and its student side by side, with the time that each
takes.

Notable: a model is loaded once and kept; a model that is not there is no error of the reader's, so the panel
says what is missing and what training it will take. Nothing is built here."""

from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import ipywidgets as w

from bistil.deploy.predict import Sure
from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.experiment import Cell
from bistil.store.artefacts import NotBuilt
from bistil.tasks.asking import ASKED, asked, texts_of
from bistil.tasks.parsing import Tree
from bistil.tasks.tagging import Tagged
from bistil.tasks.treebank import Sentence
from bistil.workbench import html
from bistil.workbench.answers import Answers, beside
from bistil.workbench.guard import Guard
from bistil.workbench.look import tree
from bistil.workbench.model import Workbench

REPEATS = 5
STYLE = {"description_width": "90px"}


class Tried(NamedTuple):
    """What was asked, and by the name of each model its prediction, the median milliseconds it took, and how
    probable it finds each unit's text, where the task tells. gold: whether the example has any.
    """

    example: Any
    predictions: Mapping[str, Any]
    milliseconds: Mapping[str, float]
    sure: Mapping[str, Sequence[float]]
    gold: bool = False

    @property
    def answers(self) -> Answers:
        """The answers side by side, beside gold where there is any."""
        return beside(self.example, self.predictions, gold=self.gold, sure=self.sure)


class Tryout:
    """Asks the models of a workbench's choice: the chosen one and the language-adapted teacher."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self._models: dict[str, Any] = {}

    @property
    def cells(self) -> list[Cell]:
        """The scores whose models are asked, the teacher's first."""
        return list(dict.fromkeys([self.workbench.cell.of_teacher, self.workbench.cell]))

    @property
    def fields(self) -> tuple[str, ...]:
        """What there is to fill in for the chosen task."""
        return ASKED.get(self.workbench.choice.task, ())

    def ask(self, texts: Sequence[str]) -> Tried:
        """Return what each model says of the texts, one for each field.

        Raises:
            InputError: where a text is empty, the system is no model, or a model is not there yet.
        """
        cell = self.workbench.cell
        known = [one for one in self.workbench.examples() if texts_of(one) == tuple(texts)]
        example = known[0] if known else asked(self.workbench.choice.task, *texts)
        if self.workbench.experiment.system(cell.system).guesses:
            raise InputError(
                f"A system with a model was expected, but {cell.system} has none. Choose another system in"
                " the workbench."
            )
        length = self.workbench.experiment.task[cell.task].max_length
        models = {one: self._model(one) for one in reversed(self.cells)}  # what is chosen is missed first
        predictions, milliseconds, sure = {}, {}, {}
        for one in self.cells:
            model, task, tokenizer = models[one]
            name = self.workbench.experiment.named(one)
            with_sure: Any = Sure(task)
            [(predictions[name], found)] = predict_all(
                model, with_sure, [example], tokenizer, max_length=length
            )
            if found is not None:
                sure[name] = [found] if isinstance(found, float) else found
            times = []
            for _ in range(REPEATS):
                begun = perf_counter()
                predict_all(model, task, [example], tokenizer, max_length=length)
                times.append(1000 * (perf_counter() - begun))
            milliseconds[name] = median(times)
        return Tried(example, predictions, milliseconds, sure, gold=bool(known))

    def _model(self, cell: Cell) -> Any:
        """A model with its task and tokenizer; of another choice, the models kept are dropped."""
        reader = self.workbench.reader()
        try:
            key = f"{cell} {reader.task_sft(cell).id} {cell.target}"
            if key not in self._models:
                if len(self._models) > 3:
                    self._models.clear()
                self._models[key] = reader.task_model(cell, cell.target)
        except NotBuilt as error:
            chosen = cell == self.workbench.cell
            raise InputError(
                f"The model {self.workbench.experiment.named(cell)} for {cell.task} on {cell.target} is not"
                f" in the store yet. {self.workbench.summary(cell.system)}"
                f" {'Press' if chosen else f'Choose {cell.system} in the workbench and press'} Run."
            ) from error
        return self._models[key]


class TryPanel(w.VBox):
    """A list of test examples, fields for the chosen task, a button, and the answers beneath."""

    def __init__(self, model: Tryout) -> None:
        self.model = model
        self.about, self.shown, self.error = w.HTML(), w.HTML(), w.HTML()
        self.fields = w.VBox()
        wide = w.Layout(width="min(760px, 95%)")
        self.examples = w.Select(description="examples", rows=4, style=STYLE, layout=wide)
        self.button = w.Button(
            description="Ask", icon="comment", button_style="primary", tooltip="ask teacher and student"
        )
        guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        self.button.on_click(guard(self._ask))
        self._follow = guard(self.follow)
        self.examples.observe(guard(lambda change: self._fill()), names="value")
        model.workbench.on_choice.append(self._follow)
        super().__init__([self.about, self.examples, self.fields, self.button, self.error, self.shown])
        self.add_class("bistil-try")
        self._follow()

    def follow(self) -> None:
        """Offer the fields of the task that the workbench has chosen and the target's first test examples,
        the first one filled in.
        """
        workbench, names = self.model.workbench, self.model.fields
        language = workbench.data.languages[workbench.choice.target]
        models = " beside ".join(map(self.model.workbench.experiment.named, self.model.cells))
        self.about.value = html.line(f"{language.name} ({language.code}), {workbench.choice.task}: {models}")
        wide = w.Layout(width="min(760px, 95%)")
        self.fields.children = [
            w.Textarea(description=name, rows=3, layout=wide, style=STYLE)
            if name == "paragraph"
            else w.Text(description=name, layout=wide, style=STYLE, continuous_update=False)
            for name in names
        ]
        found = [texts_of(one) for one in workbench.examples()] if names else []
        self.examples.options = [
            (f"{n}. {' | '.join(texts)}", texts) for n, texts in enumerate(found, start=1)
        ]
        self.examples.index = 0 if found else None
        self.examples.layout.display = None if found else "none"
        self._fill()

    def _fill(self) -> None:
        """Put the example that is picked into the fields."""
        for field, text in zip(self.fields.children, self.examples.value or (), strict=False):
            field.value = text
        self.shown.value = ""

    def _ask(self, *_: Any) -> None:
        self.shown.value = html.line("asking …")
        try:
            tried = self.model.ask([field.value for field in self.fields.children])
        except Exception:
            self.shown.value = ""
            raise
        busy = (
            " A run is under way, so these times are too long."
            if self.model.workbench.training.running
            else ""
        )
        self.shown.value = (
            tried.answers._repr_html_() + html.line(in_words(tried.milliseconds) + busy) + _pictures(tried)
        )


def in_words(milliseconds: Mapping[str, float]) -> str:
    """Return how long each model took, and how many times faster the last is than the first."""
    each = ", ".join(f"{name} {took:.1f} ms" for name, took in milliseconds.items())
    times, name = [*milliseconds.values()], [*milliseconds][-1]
    faster = f"; {name} is {times[0] / times[-1]:.1f} times as fast" if times[0] > times[-1] else ""
    return f"Median of {REPEATS}: {each}{faster}."


def _pictures(tried: Tried) -> str:
    """Both parses in one picture, where they differ in another colour; both taggings with their entities
    marked.
    """
    match tried.example, list(tried.predictions.values()):
        case Sentence(words=words), [Tree() as first, *others] if len(first.heads) == len(words):
            guess = (others[-1].heads, others[-1].relations) if others else ((), ())
            caption = (
                "Above the teacher's parse, below the student's; arcs that differ are in another colour."
                if others
                else ""
            )
            return html.line(caption) + html.picture(
                tree(words, first.heads, first.relations, guess=guess), "parses"
            )
        case Tagged(words=words), taggings if any(tag.startswith("B-") for tags in taggings for tag in tags):
            lines = [
                html.line(name) + html.marked(words, tags)
                for name, tags in tried.predictions.items()
                if len(tags) == len(words)
            ]
            return "".join(lines)
    return ""


def try_panel(workbench: Workbench) -> TryPanel:
    """Return the panel that asks the models of a workbench's choice and follows it.

    Args:
        workbench: `panel.model` of a `WorkbenchPanel`.
    """
    return TryPanel(Tryout(workbench))
