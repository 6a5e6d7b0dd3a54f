"""The demo: every stage on miniworld, a student to take away, the notebooks executed, and one report over all
of it.

Notable: each part asks what is there already, so a second run only says so, and one that was interrupted goes
on where it was.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from bistil.batch import Place, notebooks, reader, rows
from bistil.batch.experiments import run_experiment
from bistil.errors import InputError
from bistil.evaluation.results import results_id
from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.report import fresh
from bistil.report.experiment import write_experiment_report
from bistil.settings.places import CACHE, DATA, REPORTS, ROOT
from bistil.sources.folder import open_data
from bistil.store.artefacts import NotBuilt, Store
from bistil.systems.table import FORCED
from bistil.text.languages import DataFolder

EXPERIMENT = DATA / "experiments" / "demo.yaml"
TINY = DATA / "experiments" / "small.yaml"
"""The same with a handful of steps a stage: everything runs, nothing is learnt."""
TOUR = "0[0-6]_*.ipynb"
"""The notebooks that show what the demo's stages built; those after them train what they need themselves."""


def run_demo(
    workers: int,
    *,
    experiment: Path = EXPERIMENT,
    store: Path = CACHE / "store",
    reports: Path = REPORTS,
    tour: Sequence[Path] | None = None,
) -> int:
    """Run the demo in `workers` processes; return the exit status.

    Args:
        tour: the notebooks to execute; by default those of TOUR.

    Raises:
        InputError: before long work, where the teacher is missing or a notebook has no parameters.
    """
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - start:7.0f} s  {text}", flush=True)

    plan = Experiment.read(experiment)
    tour = sorted((ROOT / "notebooks").glob(TOUR)) if tour is None else tour
    here = {"experiment": notebooks.from_notebooks(experiment), "store": notebooks.from_notebooks(store)}
    for notebook in tour:
        notebooks.check_parameters(notebook, here)
    place = Place(open_data(plan.data).root, store)
    folder = reports / plan.name
    new = not _is_finished(plan, place)
    if new:
        if run_experiment(experiment, None, store, reports, workers=workers, say=say, lectures=False):
            return 1
        for cell in _to_take_away(plan)[:1]:
            student = Pipeline(plan, DataFolder(place.data), Store(store)).deployed(cell)
            say(f"a student to take away, for plain transformers: {student.path('model')}")
    found = rows(reader(plan, place))
    copies = [notebooks.Copy(notebook, here) for notebook in tour]
    ran, failures = 0, list[str]()
    try:
        ran = notebooks.execute(copies, folder / "notebooks", results=results_id(found), say=say)
    except InputError as error:
        failures.append(f"notebook: {error}")
        say(f"FAILED {failures[-1]}")
    shows = fresh.shown(folder, plan, found, Store(store), failures)
    if not new and not ran and not failures and fresh.is_fresh(folder, shows):
        say(f"everything is there already, nothing to do: {folder / 'index.html'}")
        return 0
    write_experiment_report(
        folder, plan, found, Store(store), failures=failures, seen=reader(plan, place).seen
    )
    fresh.note(folder, shows)
    say(f"done: {folder / 'index.html'}")
    return len(failures)


def _to_take_away(plan: Experiment) -> list[Cell]:
    """The cells whose students the demo offers for use: BiStil's at lrf 2 for NER."""
    return [cell for cell in plan.cells() if (cell.system, cell.task, cell.lrf) == (FORCED, "ner", 2)]


def _is_finished(plan: Experiment, place: Place) -> bool:
    """Whether every score, the timings and the student to take away are in the store."""
    pipeline = reader(plan, place)
    try:
        for cell in plan.cells():
            pipeline.evaluation(cell)
        for task in plan.tuned:
            pipeline.timing(task)
        for cell in _to_take_away(plan)[:1]:
            pipeline.deployed(cell)
    except NotBuilt:
        return False
    return True
