"""Run an experiment: its cells become stages, and worker processes build them as soon as what they need is there.

Notable: one thread a worker (two processes beat two threads at these sizes); a stage that fails takes only its dependants with it;
results.csv is written again whenever a score comes in; everything already in the store is skipped.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bistil.experiment import RETRIEVAL, Cell, Experiment
from bistil.languages import DataFolder
from bistil.pipeline import Pipeline
from bistil.store import NotBuilt, Store
from bistil.systems import SYSTEMS, shared_student


class Job(NamedTuple):
    """One call of a pipeline method."""

    stage: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return " ".join([self.stage.replace("_", " "), *(str(argument) for argument in self.arguments if argument is not None)])


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes."""

    data: Path
    store: Path


def plan(experiment: Experiment) -> dict[Job, tuple[Job, ...]]:
    """Every stage of the grid with the stages it waits for, in an order that can be run."""
    jobs: dict[Job, tuple[Job, ...]] = {}

    def need(stage: str, *arguments: Any, after: tuple[Job, ...] = ()) -> Job:
        job = Job(stage, arguments)
        jobs.setdefault(job, after)
        return job

    def home(cell: Cell) -> Cell:
        """The cell whose base is made for all targets that share it: any for a teacher, the first of a student's languages."""
        system = SYSTEMS[cell.system]
        own = system.recipe and system.languages == "pair"
        return cell._replace(target=experiment.languages(cell.target)[1] if own else "")

    def student(cell: Cell) -> Job:
        system = SYSTEMS[cell.system]
        general = home(cell)._replace(system=shared_student(cell.system), task="")
        if system.languages == "seen":
            return need("student", general)
        after: tuple[Job, ...] = (need("vocabulary", general.target),)
        if system.recipe == "bilingual":
            after += tuple(need("language_sft", code) for code in experiment.languages(cell.target))
        return need("student", general, after=after)

    def adapted(cell: Cell, code: str) -> tuple[Job, ...]:
        system = SYSTEMS[cell.system]
        if not system.adapted:
            return ()
        if not system.recipe:
            return (need("language_sft", code, *([None, system.select] if system.select else [])),)
        base = student(cell)
        return (need("student_language_sft", code, base.arguments[0], after=(base,)),)

    def tuned(cell: Cell) -> Job:
        system = SYSTEMS[cell.system]
        after = adapted(cell, experiment.source)
        if system.recipe:
            after += (student(cell),)
        if system.forced:
            after += (tuned(cell.of_teacher),)
        return need("task_sft", home(cell), after=after)

    for cell in experiment.cells():
        if cell.task == RETRIEVAL and cell.system != "floor":
            base = (student(cell),) if SYSTEMS[cell.system].recipe else ()
            need("evaluation", cell, after=(*base, *adapted(cell, experiment.source), *adapted(cell, cell.target)))
        elif cell.system != "floor":
            need("evaluation", cell, after=(tuned(cell), *adapted(cell, cell.target)))
        else:
            need("evaluation", cell)
    for task, targets in experiment.targets.items():
        cells = [c for c in experiment.cells() if c.task == task and c.target in targets[:1] and c.system != "floor"]
        worn = dict.fromkeys(job for cell in cells if cell.seed == experiment.seeds[0] for job in adapted(cell, cell.target))
        if targets and task != RETRIEVAL:
            need("timing", task, after=(*(j for j in jobs if j.stage == "task_sft" and j.arguments[0].task == task), *worn))
    return jobs


def run(
    experiment: Experiment,
    place: Place,
    *,
    workers: int,
    device: str | None = None,
    say: Callable[[str], None],
    on_score: Callable[[], None] = lambda: None,
) -> list[str]:
    """Build every stage; return the errors, each naming its stage. Ctrl-C ends the workers; the next call goes on from there."""
    waiting = plan(experiment)
    total, done, failed, errors = len(waiting), set[Job](), set[Job](), list[str]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(experiment, place, device)) as pool:
        running: dict[Future, Job] = {}
        try:
            while waiting or running:
                for job in [j for j, after in waiting.items() if failed.intersection(after)]:
                    failed.add(job)
                    del waiting[job]
                for job in _ready(waiting, done):
                    if len(running) == workers:
                        break
                    running[pool.submit(_work, job)] = job
                    del waiting[job]
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    error = future.exception()
                    if error is None:
                        done.add(job)
                        seconds, new = future.result()
                        if new:
                            say(f"[{len(done)}/{total}] {job}: {seconds:.0f} s")
                        if new and job.stage in ("evaluation", "timing"):
                            on_score()
                    else:
                        failed.add(job)
                        errors.append(f"{job}: {type(error).__name__}: {error}")
                        say(f"FAILED {errors[-1]}")
                        if isinstance(error, BrokenProcessPool):
                            raise error
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return errors


def _ready(waiting: dict[Job, tuple[Job, ...]], done: set[Job]) -> Iterator[Job]:
    return iter([job for job, after in waiting.items() if done.issuperset(after)])


def rows(experiment: Experiment, place: Place) -> list[dict[str, Any]]:
    """The result rows of every cell whose evaluation is in the store; nothing is built."""
    pipeline = Pipeline(experiment, DataFolder(place.data), Store(place.store, read_only=True))
    found: list[dict[str, Any]] = []
    for cell in experiment.cells():
        with suppress(NotBuilt):
            found += pipeline.rows(cell)
    return found


_pipeline: Pipeline


def _start(experiment: Experiment, place: Place, device: str | None) -> None:
    """Set up a worker: one thread, its own pipeline, Ctrl-C left to the parent."""
    import torch

    global _pipeline
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    _pipeline = Pipeline(experiment, DataFolder(place.data), Store(place.store), device=device)


def _work(job: Job) -> tuple[float, bool]:
    """Build one stage; return its seconds and whether it was new."""
    import time

    start = time.perf_counter()
    if job.stage == "student_language_sft":
        code, cell = job.arguments
        artefact = _pipeline.language_sft(code, _pipeline.student(cell))
    else:
        artefact = getattr(_pipeline, job.stage)(*job.arguments)
    seconds = time.perf_counter() - start
    return seconds, artefact.manifest["wall_seconds"] <= seconds


__all__ = ["Job", "Place", "plan", "rows", "run"]
