"""The workbench as a panel: choices on the left, the training panel and what exists on the right, results and
the report below.

Notable: the view holds no state of its own; it draws what the view-model says, and every callback goes
through the guard.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w

from bistil.errors import InputError
from bistil.evaluation.results import Variant, metric_label, primary_metric
from bistil.experiment import Experiment
from bistil.settings.places import CACHE
from bistil.sources.folder import open_data
from bistil.workbench import html
from bistil.workbench.model import Workbench, under_way
from bistil.workbench.session import read_experiment, short
from bistil.workbench.stages import StageStatus, summary
from bistil.workbench.training_view import TrainingPanel, in_time

HELP = {
    "teacher": "The large multilingual model that is imitated: a folder or a name on the hub.",
    "source": "The language that has task data.",
    "target": "The language that is scored, without task data of its own.",
    "task": "What the models learn in the source language.",
    "system": "The method: a whole teacher, or a kind of student.",
    "lrf": "Layer reduction factor: 2 leaves half of the teacher's layers, 3 a third.",
    "drf": "Hidden reduction factor: 2 leaves half of the teacher's width, 1 all of it.",
    "density": "The share of parameters that language and task SFTs may change: one for both, or the file's.",
    "seed": "A whole number that the random choices start from; another one shows how much is chance.",
}
"""A sentence for each choice, shown under the pointer and in a list to unfold."""
LISTS = ("source", "target", "task", "system", "lrf", "drf", "density")
AS_IN_FILE = "as in the file"
"""The entry of the densities for none chosen, since the value None of a list is no entry."""


def workbench_panel(
    experiment: str | Path | Experiment,
    *,
    store: str | Path = CACHE / "store",
    data: str | None = None,
    device: str | None = None,
) -> "WorkbenchPanel":
    """Return the workbench of an experiment as a widget; put it at the end of a cell.

    While a run of the same experiment over the same store is under way in this kernel, it is the workbench of
    that run: a page that was loaded again finds it by running its cells.
    """
    read = read_experiment(experiment)
    folder = open_data(read.data, data)
    running = under_way(read, folder, store)
    return WorkbenchPanel(running or Workbench(read, folder, store, device=device))


class WorkbenchPanel(w.VBox):
    """The workbench; `model` is its view-model, which a notebook may use directly."""

    def __init__(self, model: Workbench) -> None:
        self.model, self._following = model, False
        self.training = TrainingPanel(model.training)
        self.training.children = self.training.children[:-1]  # the curves have the panel's whole width below
        self.guard = self.training.guard
        self.note, self.stages, self.results, self.page, self.pair = (w.HTML() for _ in range(5))
        self.inputs = self._inputs()
        self.look_button = w.Button(description="Refresh", icon="refresh", tooltip="read the store again")
        self.report_button = w.Button(
            description="Report",
            icon="file-text",
            tooltip="write and show a report of the experiment's scores that the store has",
        )
        self.look_button.on_click(self.guard(self.look))
        self.report_button.on_click(self.guard(self._report))
        model.on_choice.append(self._follow)
        model.on_stage = self.guard(self.look)
        model.training.on_end = self._ended
        buttons = w.HBox([self.look_button, self.report_button])
        left = w.VBox(
            [self.note, *self.inputs.values(), w.HTML(_help()), buttons, self.pair],
            layout=w.Layout(flex="0 0 330px"),
        )
        right = w.VBox([self.training, self.stages], layout=w.Layout(flex="1 1 420px"))
        box = w.Layout(display="flex", flex_flow="row wrap", grid_gap="8px 28px")
        super().__init__([w.Box([left, right], layout=box), self.training.curves, self.results, self.page])
        self.add_class("bistil-workbench")
        self.guard(self._follow)()

    def look(self, *_: Any) -> None:
        """Read the store again and draw what exists."""
        status, running = self.model.status(), self.model.run_status()
        self.stages.value = _stage_table(running or status)
        self.results.value = _result_table(self.model)
        self.model.training.cost = summary(status)
        next_one = "A run is under way. What is chosen here is for the next one: "
        self.note.value = html.line(next_one + summary(status) if running else "")
        self.training.draw()
        self.pair.value = _pair(self.model)

    def _inputs(self) -> dict[str, w.Widget]:
        """An input for each choice; `_follow` gives the lists their options, and all of them their values."""
        style, wide = {"description_width": "70px"}, w.Layout(width="310px")
        made: dict[str, w.Widget] = {
            "teacher": w.Combobox(
                options=[short(teacher) for teacher in self.model.teachers],
                description="teacher",
                style=style,
                layout=wide,
                continuous_update=False,
            )
        }
        for name in LISTS:
            made[name] = w.Dropdown(description=name, style=style, layout=wide)
        made["seed"] = w.Text(description="seed", style=style, layout=wide, continuous_update=False)
        for name, widget in made.items():
            widget.tooltip = HELP[name]
            widget.observe(
                self.guard(lambda change, name=name: self._choose(name, change["new"])), names="value"
            )
        return made

    def _choose(self, name: str, value: Any) -> None:
        if self._following or value == self._shown(name):
            return
        try:
            chosen = _seed(value) if name == "seed" else None if value == AS_IN_FILE else value
            self.model.choose(**{name: chosen})
        except Exception:
            self.inputs[name].value = self._shown(name)
            raise

    def _shown(self, name: str) -> Any:
        value = getattr(self.model.choice, name)
        if name == "density" and value is None:
            return AS_IN_FILE
        return short(value) if name == "teacher" else str(value) if name == "seed" else value

    def _follow(self) -> None:
        """Show the model's choice, whoever made it; what the inputs report meanwhile is no choice."""
        self._following = True
        try:
            for name, options in self._options().items():
                if list(self.inputs[name].options) != options:
                    self.inputs[name].options = options
            for name, widget in self.inputs.items():
                widget.value = self._shown(name)
            system = self.model.choice.system
            self.inputs["lrf"].disabled = not self.model.is_student(system)
            self.inputs["drf"].disabled = not self.model.narrows(system)
        finally:
            self._following = False
        self.look()

    def _options(self) -> dict[str, list[tuple[str, Any]]]:
        """What each list offers now, as (label, value); what is chosen is always among it."""
        model, choice = self.model, self.model.choice
        found: dict[str, list[tuple[str, Any]]] = {
            "task": [(task, task) for task in model.tasks],
            "system": [(system, system) for system in model.systems],
        }
        for name, codes in (("source", model.languages("train")), ("target", model.languages("test"))):
            offered = dict.fromkeys([*codes, getattr(choice, name)])
            found[name] = [(f"{model.data.languages[code].name} ({code})", code) for code in offered]
        for name, numbers in (("lrf", model.lrfs()), ("drf", model.drfs()), ("density", model.densities)):
            values = sorted({*numbers, getattr(choice, name)} - {None})
            found[name] = [(str(value), value) for value in values]
        of_file = f"{AS_IN_FILE}: {model.density_of_file(choice.task)}"
        found["density"].insert(0, (of_file, AS_IN_FILE))
        return found

    def _report(self, *_: Any) -> None:
        """Write the report and show it below: a page of its own, which needs nothing from elsewhere."""
        path = self.model.report()
        frame = html.frame(path.read_text(encoding="utf-8"))
        self.page.value = f"<p>The report, also in <code>{escape(str(path))}</code></p>{frame}"

    def _ended(self) -> None:
        self.training.ended(self.look)


def _help() -> str:
    """Every choice with its sentence, folded."""
    said = "".join(
        f"<dt><b>{name}</b></dt><dd style='margin: 0 0 4px'>{text}</dd>" for name, text in HELP.items()
    )
    return (
        f'<details class="bistil-help" style="line-height: 1.35"><summary>What these are</summary>'
        f'<dl style="margin: 6px 0">{said}</dl></details>'
    )


def _seed(text: str) -> int:
    """The seed that somebody typed.

    Raises:
        InputError: for what is no whole number of at least 0.
    """
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        raise InputError(f"A seed is a whole number from 0 on, such as 1, but {text!r} was typed.")
    return int(text)


def _pair(model: Workbench) -> str:
    """Of both languages: family, whether the teacher saw them, how much text there is, and how its vocabulary
    covers that.
    """
    head, columns = [""], []
    for code in (model.choice.source, model.choice.target):
        language, text, cover = model.data.languages[code], model.data.text(code), model.coverage(code)
        size = f"{text.stat().st_size / 1e6:.1f} MB" if text.is_file() else "none"
        covered = [f"{cover.tokens_per_word:.2f}", f"{100 * cover.unknown:.1f} %"] if cover else ["–", "–"]
        head.append(language.name)
        columns.append([language.family, "seen" if language.seen else "unseen", size, *covered])
    names = ("family", "by teacher", "text", "tokens a word", "unknown words")
    return html.table(head, [[name, *cells] for name, *cells in zip(names, *columns, strict=True)])


def _stage_table(status: list[StageStatus]) -> str:
    rows = []
    for stage in status:
        mark = "✓" if stage.there else "▶" if stage.at_work else "·"
        name = html.Markup(f"<b>{escape(stage.name)}</b>") if stage.at_work else stage.name
        steps = f"{stage.steps:,} steps" if stage.steps else ""
        rows.append([mark, name, "under way" if stage.at_work else duration(stage), steps])
    return html.table(["", "stage", "time", ""], rows)


def duration(stage: StageStatus) -> str:
    """Return what a stage took, or may take, in words."""
    if stage.seconds is None:
        return "not known yet"
    return f"{'took' if stage.there else 'about'} {in_time(stage.seconds)}"


def _result_table(model: Workbench) -> str:
    rows = model.rows()
    if not rows:
        return (
            f'<p style="{html.QUIET}">No score for {model.choice.task} on {model.choice.target} is in the'
            " store yet.</p>"
        )
    metric = primary_metric(rows, model.choice.task)
    lines = []
    for row in sorted((row for row in rows if row["metric"] == metric), key=lambda row: -row["value"]):
        name = Variant(row["system"], row["lrf"], drf=row["drf"]).label
        cell = model.cell
        chosen = (row["system"], row["lrf"] or 1, row["drf"] or 1) == (cell.system, cell.lrf, cell.drf)
        name = html.Markup(f"<b>{escape(name)}</b>") if chosen else name
        size = f"{row['parameters'] / 1e6:.2f}" if row["parameters"] else "–"
        flops = f"{row['flops_per_example'] / 1e9:.3f}" if row["flops_per_example"] else "–"
        lines.append([name, f"{row['value']:.1f}", size, flops])
    head = ["system", metric_label(metric), "parameters (M)", "FLOPs an example (G)"]
    language = model.data.languages[model.choice.target]
    title = f"<p>Scores on {escape(language.name)} ({escape(language.code)}), {model.choice.task}</p>"
    return title + html.table(head, lines, numbers=(1, 2, 3))
