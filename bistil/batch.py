"""Run an experiment: its cells become stages, and worker processes build them as soon as what they need is there.

Notable: one thread a worker (two processes beat two threads at these sizes); a stage that fails takes only its dependants with it;
whoever asks is told of each new score; everything already in the store is skipped.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bistil.experiment import Experiment
from bistil.languages import DataFolder
from bistil.pipeline import Pipeline
from bistil.plan import Job, perform, plan
from bistil.store import NotBuilt, Store


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes."""

    data: Path
    store: Path


def run(
    experiment: Experiment,
    place: Place,
    *,
    workers: int,
    device: str | None = None,
    say: Callable[[str], None],
    on_score: Callable[[], None] = lambda: None,
    jobs: Mapping[Job, tuple[Job, ...]] | None = None,
) -> list[str]:
    """Build every stage; return the errors, each naming its stage. Ctrl-C ends the workers; the next call goes on from there.

    :param jobs: what to build and what each waits for, by default the experiment's plan.
    """
    waiting = dict(plan(experiment) if jobs is None else jobs)
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


def reader(experiment: Experiment, place: Place) -> Pipeline:
    """A pipeline that builds nothing."""
    return Pipeline(experiment, DataFolder(place.data), Store(place.store, read_only=True))


def rows(reader: Pipeline) -> list[dict[str, Any]]:
    """The result rows of every cell whose evaluation is in the store by now."""
    found: list[dict[str, Any]] = []
    for cell in reader.experiment.cells():
        with suppress(NotBuilt):
            found += reader.rows(cell)
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
    artefact = perform(_pipeline, job)
    seconds = time.perf_counter() - start
    return seconds, artefact.manifest["wall_seconds"] <= seconds


__all__ = ["Job", "Place", "perform", "plan", "reader", "rows", "run"]
