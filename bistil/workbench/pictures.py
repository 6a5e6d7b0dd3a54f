"""Panels that choose what a picture of sparse fine-tuning shows: a few drop-down lists above a figure.

Notable: one view-model and one view serve every picture; a panel is only the choices it offers and the
function that draws them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure

from bistil import plots
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.sft.anatomy import densities
from bistil.sft.compose import trimmed
from bistil.sft.delta import SparseDelta
from bistil.sft.spiel.config import SpielConfig
from bistil.studies.densities import contour
from bistil.workbench import html
from bistil.workbench.guard import Guard

ALL = "all"


class Picture:
    """A figure and the choices it is drawn from, each a name with its options; the first of each is chosen at
    the start.
    """

    def __init__(self, draw: Callable[..., Figure], options: Mapping[str, Sequence[Any]]) -> None:
        if empty := [name for name, found in options.items() if not found]:
            raise InputError(f"There is nothing to choose from for {empty[0]}. Give at least one.")
        self._draw, self.options = draw, {name: list(found) for name, found in options.items()}
        self.choice: dict[str, Any] = {name: found[0] for name, found in self.options.items()}

    def choose(self, **changes: Any) -> None:
        """Change what is chosen.

        Raises:
            InputError: where that is none of the options; the choice is then as before.
        """
        for name, value in changes.items():
            if value not in self.options.get(name, ()):
                offered = ", ".join(map(str, self.options.get(name, ()))) or "nothing here"
                raise InputError(f"{name} can be one of {offered}, but {value} was chosen.")
        self.choice |= changes

    def figure(self) -> Figure:
        """The figure of what is chosen."""
        return self._draw(**self.choice)


class PicturePanel(w.VBox):
    """A list for every choice, and the figure."""

    def __init__(self, model: Picture, name: str) -> None:
        """Draw at once. name: what the figure shows, for screen readers."""
        self.model, self.name = model, name
        self.image, self.error = w.HTML(), w.HTML()
        self.lists = {
            name: w.Dropdown(
                options=found, value=model.choice[name], description=name, style={"description_width": "auto"}
            )
            for name, found in model.options.items()
        }
        self._guard = Guard(lambda text: setattr(self.error, "value", html.error(text)))
        for name, box in self.lists.items():
            box.observe(
                self._guard(lambda change, name=name: self._choose(name, change["new"])), names="value"
            )
        super().__init__([w.HBox(list(self.lists.values())), self.error, self.image])
        self._guard(self._show)()

    def _choose(self, name: str, value: Any) -> None:
        self.model.choose(**{name: value})
        self._show()

    def _show(self) -> None:
        self.image.value = html.picture(self.model.figure(), self.name)


def places_panel(deltas: Mapping[str, SparseDelta]) -> PicturePanel:
    """Return a panel that shows where in the network a delta's entries sit, the delta chosen by name."""
    return PicturePanel(
        Picture(lambda delta: plots.delta_map(*densities(deltas[delta])), {"delta": list(deltas)}), "places"
    )


def overlap_panel(
    deltas: Mapping[str, SparseDelta],
    n_parameters: int,
    *,
    families: Sequence[str] | None = None,
    control: Sequence[float] | None = None,
) -> PicturePanel:
    """Return a panel of the overlap of deltas when each keeps only the chosen share of its values, the
    largest.

    control: the share that two seeds of each have in common as a whole; shown with the whole deltas only.
    """

    def draw(largest: str) -> Figure:
        share = float(largest.removesuffix(" %")) / 100
        kept = {name: trimmed(delta, share) for name, delta in deltas.items()}
        matrix = [[one.overlap(other) for other in kept.values()] for one in kept.values()]
        chance = max(delta.size for delta in kept.values()) / n_parameters
        return plots.overlap(
            matrix, list(kept), chance=chance, families=families, control=control if share == 1 else None
        )

    if len(deltas) < 2:
        raise InputError(f"At least two deltas were expected, to compare them, but {len(deltas)} came.")
    return PicturePanel(
        Picture(draw, {"largest": [f"{percent} %" for percent in (100, 50, 25, 10, 5, 1)]}), "overlap"
    )


def ages_panel(born: Mapping[str, Any], config: SpielConfig) -> PicturePanel:
    """Return a panel of parameter ages beside what random drops would leave under the chosen peak rate and
    schedule.

    born: by label, as for `plots.parameter_ages`. config: of the run; its own settings are chosen first.
    """

    def draw(rate: float, schedule: str) -> Figure:
        other: Any = dataclasses.replace(config, rate=rate, schedule=schedule)  # type: ignore[arg-type]
        return plots.parameter_ages(born, steps=config.steps, chance=other.ages_by_chance())

    rates, schedules = (
        dict.fromkeys((config.rate, 0.1, 0.2, 0.4, 0.8)),
        dict.fromkeys((config.schedule, "linear", "cosine")),
    )
    return PicturePanel(Picture(draw, {"rate": list(rates), "schedule": list(schedules)}), "ages")


def densities_panel(rows: Sequence[dict[str, Any]]) -> PicturePanel:
    """Return a panel of the score over the densities of language and task SFTs, of a densities.csv's rows; of
    one seed or of all.
    """

    def draw(seed: str) -> Figure:
        return contour([row for row in rows if seed in (ALL, str(row["seed"]))])

    return PicturePanel(
        Picture(draw, {"seed": [ALL, *sorted({str(row["seed"]) for row in rows})]}), "densities"
    )


def data_panel(pipeline: Pipeline) -> PicturePanel:
    """Return a panel of the examples that a system learns a task from under each regime of the experiment:
    how many of which language and kind an epoch has, after upsampling.
    """
    experiment = pipeline.experiment
    cells: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in experiment.cells():
        learns = cell.task in experiment.tuned and not experiment.system(cell.system).guesses
        if learns and cell.seed == experiment.seeds[0]:
            named, _, regime = experiment.named(cell).partition("@")
            own = cells.setdefault((named, f"{cell.task}, {cell.target}"), {})
            own[regime or "zero-shot"] = cell

    def draw(system: str, score: str) -> Figure:
        own = cells[system, score].items()
        return plots.examples_by_language({name: pipeline.amounts(cell) for name, cell in own})

    systems, scores = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    return PicturePanel(Picture(draw, {"system": systems, "score": scores}), "examples")


def costs_panel(tunings: Mapping[str, Sequence[plots.Tuning]], *, label: str) -> PicturePanel:
    """Return a panel of score against time and memory of tuning, one of several sets (tasks, say) chosen by
    name.
    """
    return PicturePanel(
        Picture(lambda of: plots.costs_of_tuning(tunings[of], label=label), {"of": list(tunings)}),
        "costs",
    )
