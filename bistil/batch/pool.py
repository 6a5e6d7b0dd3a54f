"""The engine of one machine: worker processes that live as long as the run, and take stages as these become
ready.

Notable: one thread a worker (two processes beat two threads at these sizes). A worker that is killed (out of
memory, say) takes the whole pool with it, so the pool is made anew and what was running is tried again one
stage at a time: the stage that kills its worker then too has failed, and the others have not. An error of a
stage's own is not tried again, since it would come again. The pool itself is the standard library's; what is
ours, which stage is ready and whose worker was killed, is not in joblib or loky either.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory

from bistil.batch.account import Account, Place, Waits
from bistil.batch.signals import as_interrupts
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Job, perform, plan
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder

POLL_SECONDS = 1.0
KILLED = (
    "its worker was killed twice, most likely for want of memory. Lower its batch size or the number of"
    " workers; the rest goes on"
)


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
    """Build every stage; return the errors, each naming its stage. Ctrl-C and other signals that end this
    process end the workers; the next call goes on from there.

    Args:
        jobs: what to build and what each waits for, by default the experiment's plan.
    """
    waiting = dict(plan(experiment) if jobs is None else jobs)
    account, suspects = Account(len(waiting), say, on_score), list[Job]()
    with TemporaryDirectory() as spare, as_interrupts():
        setting = (experiment, place, device, Waits(Path(spare, "waits")))
        while waiting or suspects:
            for suspect in suspects:
                if _turn({suspect: ()}, 1, setting, account):
                    account.failed(suspect, KILLED)
                if suspect not in account.done:  # killed again, or failed by its own error
                    _drop_dependants(waiting, suspect)
            suspects = _turn(waiting, workers, setting, account)
            if suspects:
                say(f"a worker was killed; trying again, one at a time: {'; '.join(map(str, suspects))}")
    return account.errors


def _turn(
    waiting: dict[Job, tuple[Job, ...]],
    workers: int,
    setting: tuple[Experiment, Place, str | None, Waits],
    account: Account,
) -> list[Job]:
    """Work off what waits, taking it out of `waiting`, until nothing is left or the pool breaks; return the
    jobs that broke with it.
    """
    context, running, broken = multiprocessing.get_context("spawn"), dict[Future, Job](), list[Job]()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=setting) as pool:
        try:
            while (waiting or running) and not broken:
                for job in _ready(waiting, account.done)[: workers - len(running)]:
                    running[pool.submit(_work, job)] = job
                    del waiting[job]
                finished, _ = wait(running, POLL_SECONDS, return_when=FIRST_COMPLETED)
                setting[-1].tell(account.say)
                for future in finished:
                    job, error = running.pop(future), future.exception()
                    if error is None:
                        seconds, new = future.result()
                        account.finished(job, seconds, new=new)
                    elif isinstance(error, BrokenProcessPool):
                        broken.append(job)
                    else:
                        account.failed(job, f"{type(error).__name__}: {error}")
                        _drop_dependants(waiting, job)
        except BrokenProcessPool:  # it broke before it was given the next
            pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return [*broken, *running.values()]


def _ready(waiting: Mapping[Job, Iterable[Job]], done: set[Job]) -> list[Job]:
    return [job for job, after in waiting.items() if done.issuperset(after)]


def _drop_dependants(waiting: dict[Job, tuple[Job, ...]], failed: Job) -> None:
    """Take out what waits for a failed stage, what waits for that, and so on."""
    lost = [failed]
    while lost:
        lost = [job for job, after in waiting.items() if set(lost).intersection(after)]
        for job in lost:
            del waiting[job]


_pipeline: Pipeline


def _start(experiment: Experiment, place: Place, device: str | None, waits: Waits) -> None:
    """Set up a worker: one thread, its own pipeline, Ctrl-C left to the parent, and an end with the parent's,
    however that comes.
    """
    import torch

    global _pipeline
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    _pipeline = Pipeline(experiment, DataFolder(place.data), Store(place.store, waits), device=device)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> tuple[float, bool]:
    """Build one stage; return its seconds and whether it was new."""
    import time

    start = time.perf_counter()
    artefact = perform(_pipeline, job)
    return time.perf_counter() - start, artefact.id in _pipeline.store.built
