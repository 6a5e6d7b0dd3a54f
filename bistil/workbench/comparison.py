"""Results side by side: scores with their spread, costs, the Pareto front, bars by language, and the
sentences that go most wrong.

Notable: tables and figures are the report's own. Errors are not kept with a score, so a model is asked again
for them, when the reader wants to see them and not before; that needs the pipeline whose store holds it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from bistil import plots
from bistil.errors import InputError
from bistil.evaluation.results import (
    Row,
    Variant,
    average,
    is_student,
    primary_metric,
    read_results,
    rows_of,
    select,
    settings,
    tidy,
    variants,
)
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.report.tables import cost_table, score_tables, setting_name
from bistil.store.artefacts import NotBuilt
from bistil.systems.system import System
from bistil.systems.table import SYSTEMS
from bistil.tasks import task as find_task
from bistil.workbench import html
from bistil.workbench.answers import Answers, beside
from bistil.workbench.training_view import in_time

WORST = 5


class Wrong(NamedTuple):
    """An example with a model's prediction, beside gold."""

    example: Any
    prediction: Any
    answers: Answers


class Comparison:
    """What is compared: a setting (task, teacher, source) of the rows, and which of its systems; all of them
    at the start.
    """

    def __init__(self, rows: Sequence[Row], pipeline: Pipeline | None = None) -> None:
        self.rows, self.pipeline = tidy(rows), pipeline
        if not self.rows:
            raise InputError(
                "At least one result row was expected, but none came. Run an experiment first, or name"
                " another results.csv."
            )
        self.settings = {setting_name(one): one for one in settings(self.rows) if rows_of(self.rows, one)}
        if not self.settings:
            raise InputError(
                "At least one zero-shot score was expected, but all rows are of models on their own source."
                " Run an experiment with other targets, or name another results.csv."
            )
        self.setting = next(iter(self.settings.values()))
        self.systems: tuple[str, ...] = tuple(self.offered)

    @property
    def offered(self) -> dict[str, Variant]:
        """The systems of the setting by label."""
        return {variant.label: variant for variant in variants(rows_of(self.rows, self.setting))}

    @property
    def targets(self) -> list[str]:
        """The target languages of the setting."""
        return sorted({str(row["target"]) for row in rows_of(self.rows, self.setting)})

    def choose(self, *, setting: str = "", systems: Sequence[str] | None = None) -> None:
        """Change what is compared; another setting begins with all its systems.

        Raises:
            InputError: for a setting or a system that the rows do not have, or no system at all; the choice
                is then as before.
        """
        if setting and setting not in self.settings:
            raise InputError(f"One of {', '.join(self.settings)} was expected, but {setting!r} came.")
        if setting:
            self.setting = self.settings[setting]
            self.systems = tuple(self.offered)
        if systems is not None:
            if not systems or (set(systems) - self.offered.keys()):
                raise InputError(
                    f"One or more of {', '.join(self.offered)} were expected, but"
                    f" {', '.join(systems) or 'none'} came."
                )
            self.systems = tuple(name for name in self.offered if name in systems)

    @property
    def chosen(self) -> list[Row]:
        """The rows of the chosen systems in the setting, every metric."""
        mine = [row for row in self.rows if row["task"] == self.setting.task]
        return [row for name in self.systems for row in select(mine, self.offered[name])]

    def tables(self) -> str:
        """Scores by target, ± one standard deviation over seeds, and costs with their ratio to the teacher's,
        as HTML.
        """
        scores, costs = score_tables(self.chosen, self.setting)[0], cost_table(self.chosen, self.setting)
        found = html.line(
            f"{scores['metric']}; ± one standard deviation over {scores['seeds']} seeds."
            if scores["seeds"] > 1
            else f"{scores['metric']}, one seed."
        )
        found += _table(["system", *scores["head"]], scores["lines"])
        found += html.line(scores["same"]) if scores["same"] else ""
        if costs["lines"]:
            found += html.line("Cost, and how many times the teacher's.")
            found += _table(
                ["system", *(f"{label} ({unit})" for label, unit in costs["head"])], costs["lines"]
            )
        return found

    def bars(self) -> Figure:
        """Scores by target language."""
        return plots.scores_by_language(rows_of(self.chosen, self.setting))

    @property
    def _costly(self) -> dict[str, list[Row]]:
        """The rows with costs by system, for the chosen systems that have any."""
        rows = [
            row
            for row in rows_of(self.chosen, self.setting)
            if row["parameters"] and row["flops_per_example"]
        ]
        found = {name: select(rows, self.offered[name]) for name in self.systems}
        return {name: own for name, own in found.items() if own}

    @property
    def common(self) -> list[str]:
        """The targets on which the front compares: those that every chosen system with costs was run on."""
        targets = [{str(row["target"]) for row in own} for own in self._costly.values()]
        return sorted(set.intersection(*targets)) if targets else []

    def front(self) -> Figure | None:
        """Score over parameters and FLOPs with the Pareto front, means over the `common` targets; None where
        there are none.
        """
        common, options = self.common, {}
        for name, own in self._costly.items() if common else ():
            size, flops, score = (
                average(own, column, common) for column in ("parameters", "flops_per_example", "value")
            )
            if size and flops and score:
                options[name] = (size.mean, flops.mean, score.mean)
        return plots.pareto(options, metric=primary_metric(self.rows, self.setting.task)) if options else None

    def compared(self) -> str:
        """Over which targets the front compares, in words, where these are not all."""
        if not self._costly or self.common == self.targets:
            return ""
        return (
            f"The front is of {', '.join(self.common)}, on which all of these systems were scored."
            if self.common
            else "There is no front, since no target was scored with all of these systems."
        )

    def cost_of_errors(self, system: str, target: str) -> str:
        """What finding the worst errors will take, by what the score's row says."""
        row = self._row(system, target)
        if (known := self._system(row)) and known.guesses:
            return f"{system} is a guess. It has no model that could be asked."
        rate, number = row.get("examples_per_second"), row.get("n_examples")
        time = f"about {in_time(number / rate)}" if rate and number else "a moment"
        return (
            f"The model is asked about {number or 'all'} test examples again: {time}, and a moment to"
            " load it."
        )

    def worst(self, system: str, target: str, *, most: int = WORST) -> list[Wrong]:
        """Return the test examples with most wrong units, the worst first; none without an error.

        Raises:
            InputError: without a pipeline, for a system without a model, or where the store does not hold the
                model.
        """
        row, pipeline = self._row(system, target), self.pipeline
        name = str(row["system"])
        known = self._system(row)
        if pipeline is None or known is None or known.guesses:
            why = f"{system} is none" if pipeline else "no pipeline was given whose store holds it"
            raise InputError(
                f"To see errors, a model has to be asked again, but {why}. Choose a model of a store at hand."
            )
        asked = pipeline.experiment
        if (self.setting.teacher, self.setting.source) != (Path(asked.teacher).name, asked.source):
            raise InputError(
                f"A model of {Path(asked.teacher).name} and {asked.source} was expected, which the experiment"
                f" at hand is about, but this score is of {self.setting.teacher} and {self.setting.source}."
            )
        cell = Cell(
            name,
            self.setting.task,
            target,
            int(row["lrf"] or 1) if is_student(row) else 1,
            1 if row["seed"] is None else int(row["seed"]),
            int(row["drf"] or 1),
        )
        task = find_task(cell.task)
        try:
            examples = task.read(pipeline.test_path(cell))
            predictions = pipeline.predictions(cell, examples)
        except NotBuilt as error:
            raise InputError(
                f"The model {system} for {cell.task} on {target} is not in the store at"
                f" {pipeline.store.root}. Run its experiment there."
            ) from error
        judged = [
            Wrong(*pair, beside(pair[0], {system: pair[1]}))
            for pair in zip(examples, predictions, strict=True)
        ]
        wrong = [one for one in judged if one.answers.said[system].wrong]
        return sorted(wrong, key=lambda one: -one.answers.said[system].wrong)[:most]

    def _system(self, row: Row) -> System | None:
        """What the system of a row is, where the pipeline's experiment or the table of systems has it."""
        name = str(row["system"])
        plain, pipeline = name.partition("@")[0], self.pipeline
        if pipeline is not None and plain in pipeline.experiment.all_systems:
            return pipeline.experiment.system(name)
        return SYSTEMS.get(plain)

    def _row(self, system: str, target: str) -> Row:
        """The row of a system's first seed on a target."""
        own = select(rows_of(self.rows, self.setting), self.offered[system])
        found = [row for row in own if row["target"] == target]
        if not found:
            raise InputError(
                f"A score of {system} on {target} was expected, but the rows have none. Choose another"
                " target."
            )
        return found[0]


def _table(head: Sequence[str], lines: Sequence[tuple[Variant, Sequence[Any]]]) -> str:
    """A table of the report's cells: the best bold, small print after the number."""
    rows = [
        [
            variant.label,
            *(
                html.Markup(f"{'<b>' * cell.best}{cell.text}{'</b>' * cell.best} <small>{cell.small}</small>")
                for cell in cells
            ),
        ]
        for variant, cells in lines
    ]
    return html.table(head, rows, numbers=range(1, len(head)))


def comparison(results: Path | str | Sequence[Row], pipeline: Pipeline | None = None) -> Comparison:
    """Return the comparison of a results.csv or of rows; `pipeline` is whose store holds their models."""
    rows = read_results(Path(results)) if isinstance(results, Path | str) else results
    return Comparison(rows, pipeline)
