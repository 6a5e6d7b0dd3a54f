"""Kill a stage-1 run, an LT-SFT run and a batch at random moments, start them again, and compare the final
weights bit for bit.

Run `python tests/kill_resume.py --times 20`. Each trial is a process of its own with a store of its own; it
gets SIGKILL (a batch together with its workers) at a moment drawn evenly from the time that the uninterrupted
run took, is started again, and must end in the same files as the uninterrupted run. Exits with 1 where one
trial did not. Processes are forked, a batch's workers too (a real batch spawns them): that saves importing
everything anew in each, and all of them run the code that was there at the start. Needs fork (Linux).
"""

import argparse
import gc
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from tiny import entries, write_tiny_teacher, write_tiny_world

from bistil import batch
from bistil.batch import pool
from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.settings.yaml import build
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder

CELL = Cell("bistil-tf", "ner", "qac", 2, 1)
KINDS = ("stage 1", "LT-SFT", "batch")


class Trial(NamedTuple):
    """One killed and restarted run."""

    kind: str
    after: float
    hit: bool
    where: str
    equal: bool


def experiment_of(root: Path, kind: str) -> Experiment:
    """The experiment of a kind: long enough to be hit in the middle, with several checkpoints."""
    phase = (
        {"steps": 30, "learning_rate": 1e-3, "evaluations": 3}
        if kind == "LT-SFT"
        else {"steps": 4, "learning_rate": 1e-3}
    )
    schedule = (
        {"steps": 100, "learning_rate": 1e-3, "evaluations": 10}
        if kind == "stage 1"
        else {"steps": 8, "learning_rate": 1e-3}
    )
    lottery = {"density": 0.1, "l1": 0.1, "freeze_layer_norms": True}
    changes = {
        "targets": {"ner": ["qac"]},
        "systems": ["teacher-ltsft", "bistil-tf:2"],
        "language_sft": {"lottery": lottery, "dense": phase, "sparse": phase},
        "general": {"lrf": 2, "batch_size": 4, "schedule": schedule},
    }
    found: Experiment = build(Experiment, {**entries(root / "teacher"), **changes}, kind)
    return found


def work(root: Path, kind: str, store: Path) -> None:
    """The run itself: what the child process does."""
    experiment = experiment_of(root, kind)
    pipeline = Pipeline(experiment, DataFolder(root / "world"), Store(store))
    if kind == "stage 1":
        pipeline.student(CELL)
    elif kind == "LT-SFT":
        pipeline.language_sft("qac")
    else:
        forked = multiprocessing.get_context("fork")
        pool.multiprocessing.get_context = lambda method: forked  # type: ignore[assignment, misc, return-value]
        errors = batch.run(experiment, batch.Place(root / "world", store), workers=1, say=lambda text: None)
        if errors:
            raise SystemExit("\n".join(errors))


def prepare(root: Path, kind: str, store: Path) -> None:
    """What comes before the run, so that the kill falls into the run."""
    if kind == "stage 1":
        pipeline = Pipeline(experiment_of(root, kind), DataFolder(root / "world"), Store(store))
        pipeline.vocabulary("qac")
        for code in ("qaa", "qac"):
            pipeline.language_sft(code)
    store.mkdir(exist_ok=True)


def start(function: Callable[..., None], *arguments: object) -> int:
    """Call the function in a forked process, the leader of a group of its own; return its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        function(*arguments)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def finish(child: int) -> None:
    """Wait for a process that must end well."""
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"a run ended with status {status}")


def wait_until_begun(child: int, before: set[Path], store: Path) -> None:
    """Return when the run has begun its first artefact, or has ended."""
    while (
        set(store.glob("*/*.partial")) <= before
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
    ):
        time.sleep(0.005)


def weights(store: Path) -> dict[str, str]:
    """The hash of every tensor file of every finished artefact. Keys are paths below the store."""
    found = [
        path
        for path in store.rglob("*.safetensors")
        if not any(part.endswith(".partial") for part in path.parts)
    ]
    return {str(path.relative_to(store)): sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


def place(store: Path) -> str:
    """How far the killed run had come, for the table."""
    partial = [folder for folder in store.glob("*/*.partial") if folder.is_dir()]
    checkpoints = sum(1 for folder in partial for _ in folder.rglob("checkpoint-*/complete"))
    half = sum(
        1
        for folder in partial
        for path in folder.rglob("checkpoint-[0-9]*")
        if path.is_dir() and not (path / "complete").exists()
    )
    done = len(
        [folder for folder in store.glob("*/*/manifest.json") if not folder.parent.name.endswith(".partial")]
    )
    return f"{done} artefacts, {checkpoints} checkpoints" + (f", {half} half-written" if half else "")


def one_trial(
    root: Path, kind: str, template: Path, expected: dict[str, str], seconds: float, chance: random.Random
) -> Trial:
    """Copy the prepared store, run, kill, run again, compare."""
    with tempfile.TemporaryDirectory(dir=root) as name:
        store = Path(shutil.copytree(template, Path(name) / "store"))
        child = start(work, root, kind, store)
        wait_until_begun(child, set(), store)
        after = chance.uniform(0.0, seconds)
        time.sleep(after)
        hit = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        if hit:
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        where = place(store)
        finish(start(work, root, kind, store))
        return Trial(kind, after, hit, where, weights(store) == expected)


def run(kind: str, times: int, root: Path, chance: random.Random) -> list[Trial]:
    """All trials of a kind."""
    template, whole = root / f"{kind} prepared", root / f"{kind} whole"
    finish(start(prepare, root, kind, template))
    shutil.copytree(template, whole)
    child = start(work, root, kind, whole)
    wait_until_begun(child, set(), whole)
    begun = time.monotonic()
    finish(child)
    seconds, expected = time.monotonic() - begun, weights(whole)
    trials: list[Trial] = []
    while sum(trial.hit for trial in trials) < times:
        trials.append(one_trial(root, kind, template, expected, seconds, chance))
        trial, number = trials[-1], len(trials)
        verdict = "same" if trial.equal else "DIFFERENT"
        when = "killed" if trial.hit else "ended before the kill"
        print(
            f"{kind:8} {number:>3}  {trial.after:6.2f} of {seconds:.2f} s  {when}, {trial.where}: {verdict}",
            flush=True,
        )
    return trials


def main() -> int:
    """Run the trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="kills of each kind that hit a running process")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the moments (default: different every time)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    gc.freeze()  # every training collects, in forks of this process
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill-resume-") as name:
        root = Path(name)
        finish(start(lambda: write_tiny_teacher(root / "teacher", write_tiny_world(root / "world"))))
        trials = [trial for kind in options.kinds for trial in run(kind, options.times, root, chance)]
    print("\n| run | trials | killed while running | same weights |\n| --- | ---: | ---: | ---: |")
    for kind in options.kinds:
        mine = [trial for trial in trials if trial.kind == kind]
        print(f"| {kind} | {len(mine)} | {sum(t.hit for t in mine)} | {sum(t.equal for t in mine)} |")
    return 0 if all(trial.equal for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
