"""An experiment from its file to its report: checked, built by an engine, told in a results.csv as scores
come, in notebooks, on a page.

Notable: everything that can be refused is refused before anything runs; a second call finds what the first
one made and says so.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bistil import batch
from bistil.batch import Place, notebooks
from bistil.batch.notebooks import Copy
from bistil.batch.snakemake import Scheduling
from bistil.batch.snakemake import run as run_by_snakemake
from bistil.errors import InputError
from bistil.evaluation.results import Row, results_id, write_results
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan.profiles import misfits
from bistil.report import fresh
from bistil.report.experiment import write_experiment_report
from bistil.report.readme import refresh
from bistil.sources.folder import open_data
from bistil.store.artefacts import Store
from bistil.store.whole import check_place
from bistil.systems.table import FORCED, SELF_TAUGHT, TEACHER

Say = Callable[[str], None]


def run_experiment(
    file: Path,
    data: str | None,
    store: Path,
    reports: Path,
    *,
    workers: int,
    say: Say,
    device: str | None = None,
    scheduling: Scheduling | None = None,
    lectures: bool = True,
    anyway: bool = False,
    seeds: Sequence[int] = (),
) -> int:
    """Check, run and report an experiment; return how many stages failed (1 where only the
    report did).

    Args:
        workers: processes of this machine.
        scheduling: run by Snakemake instead.
        lectures: whether results shall open as notebooks in `reports/NAME/notebooks`.
        anyway: whether students whose teacher learnt nothing of the task are built too.
        seeds: the seeds that run this time; all of the experiment's where none is named. The report has what
            there is of all of them.

    Raises:
        InputError: before anything runs, for whatever would fail later.
    """
    experiment = Experiment.read(file)
    if anyway:
        experiment = dataclasses.replace(experiment, at_floor="continue")
    if scheduling:
        scheduling.check()
    part = experiment.of_seeds(seeds)
    # what is measured once, or drawn of one seed, is of the first that runs
    experiment = dataclasses.replace(
        experiment, seeds=(*part.seeds, *(seed for seed in experiment.seeds if seed not in part.seeds))
    )
    folder_of_data = open_data(experiment.data, data)
    place, folder = Place(folder_of_data.root, store), reports / experiment.name
    copies = lecture_copies(experiment, file, store) if lectures else []
    for copy in copies:
        notebooks.check_parameters(copy.notebook, copy.parameters)
    odd = Pipeline(experiment, folder_of_data, Store(place.store), device=device).check()
    check_place(place.store, "Artefacts")
    check_place(folder, "The report")
    by = f"Snakemake, profile {scheduling.profile}" if scheduling else f"{workers} workers"
    say(f"{experiment.name}: {len(batch.plan(part))} stages, {by}, artefacts in {place.store}")
    for told in (*odd, *misfits(experiment)):
        say(f"warning: {told}")
    reader = batch.reader(experiment, place)

    def keep_scores() -> None:
        if found := batch.rows(reader):
            write_results(folder / "results.csv", found)

    on_score = batch.seldom(keep_scores)
    try:
        if scheduling:
            errors = run_by_snakemake(
                part, file, place, scheduling=scheduling, device=device, say=say, on_score=on_score
            )
        else:
            errors = batch.run(part, place, workers=workers, device=device, say=say, on_score=on_score)
    except BaseException:
        with suppress(OSError, InputError):
            keep_scores()
        raise
    rows = batch.rows(reader)
    shown = 0 if errors else _show(copies, folder / "notebooks", folder_of_data.root, experiment, rows, say)
    shows = fresh.shown(folder, experiment, rows, Store(place.store), errors)
    if not errors and not shown and fresh.is_fresh(folder, shows):
        refresh(folder)
        say("everything was there already; nothing to do")
        return 0
    if not rows:
        say(f"no score is there, so there is no report; {len(errors)} stages failed")
        return len(errors)
    try:
        write_experiment_report(
            folder, experiment, rows, Store(place.store), failures=errors, seen=reader.seen
        )
        fresh.note(folder, shows)
    except OSError as error:
        say(f"FAILED report: {error}. Every score is in the store; the same command writes the report.")
        return max(1, len(errors))
    say(f"report: {folder / 'index.html'}" + (f"; {len(errors)} stages failed" if errors else ""))
    return len(errors)


def lecture_copies(experiment: Experiment, file: Path, store: Path) -> list[Copy]:
    """The notebooks that show an experiment's results: 05 for every task, 06 for the first, where it has the
    systems that they compare.
    """
    students = [
        cell
        for cell in experiment.cells()
        if cell.system == FORCED and cell.drf == 1 and cell.task in experiment.tuned
    ]
    if not students or TEACHER not in experiment.systems:
        return []
    paths = {
        "experiment": notebooks.from_notebooks(file),
        "store": notebooks.from_notebooks(store),
        "source": experiment.source,
    }
    found = []
    for number, task in enumerate(experiment.tuned):
        cell = next(cell for cell in students if cell.task == task)
        chosen = {**paths, "target": cell.target, "task": task, "lrf": cell.lrf, "seed": cell.seed}
        if cell._replace(system=SELF_TAUGHT) in experiment.cells():
            found.append(Copy(notebooks.numbered("05"), chosen, f"-{task}"))
        if number == 0:
            found.append(Copy(notebooks.numbered("06"), chosen))
    return found


def _show(
    copies: Sequence[Copy], to: Path, data: Path, experiment: Experiment, rows: Sequence[Row], say: Say
) -> int:
    """Execute the copies that are not there yet; a notebook that fails is told of, and costs no score."""
    if copies and not notebooks.can_execute():
        say("no notebooks: they need pip install -e '.[lab]'")
        return 0
    if experiment.data != "folder" and data.resolve() != open_data(experiment.data).root.resolve():
        say(f"no notebooks: they read {experiment.data} itself, and this run read another folder")
        return 0
    before = os.environ.get("BISTIL_DATA")
    if experiment.data == "folder":
        os.environ["BISTIL_DATA"] = str(data.resolve())  # where a notebook's kernel looks
    try:
        return notebooks.execute(copies, to, results=results_id(rows), say=say)
    except (InputError, OSError) as error:
        say(f"FAILED notebook: {error}")
        return 1
    finally:
        os.environ.pop("BISTIL_DATA", None)
        if before is not None:
            os.environ["BISTIL_DATA"] = before
