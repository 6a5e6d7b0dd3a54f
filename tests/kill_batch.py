"""Kill a batch of 24 scores at random moments, start it again, and see that no stage was built twice and the
scores are as they should be.

Run `python tests/kill_batch.py --engine pool snakemake submit --times 5`. Each engine (the warm pool,
Snakemake's own processes, Snakemake through a cluster in miniature) gets a store of its own; the process
group of `bistil batch` gets SIGKILL when a randomly drawn number of stages is there and a random part of a
second later, five times. What was there at a kill must be the very same folder at the end, no stage may be
told of twice, and results.csv must be that of an uninterrupted run with two workers, cost columns aside.
Exits with 1 otherwise. The pool's processes are forked, which saves importing everything anew in each;
Snakemake's are real ones. Needs fork (Linux).
"""

import argparse
import gc
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import yaml
from kill_resume import finish, start
from tiny import entries, write_tiny_teacher, write_tiny_world

from bistil.batch import plan, pool
from bistil.batch.experiments import run_experiment
from bistil.batch.snakemake import Scheduling
from bistil.evaluation.results import read_results
from bistil.experiment import Experiment

ENGINES = ("pool", "snakemake", "submit")
GRID = {
    "name": "grid",
    "targets": {"parsing": ["qac"], "ner": ["qab", "qac"]},
    "systems": ["teacher-ltsft", "bistil-tf:2", "bistil-st:2", "floor"],
}
TIMED = ("latency_ms", "latency_spread_ms", "encoder_ms", "examples_per_second", "processor_share")


def work(root: Path, name: str, engine: str) -> None:
    """One `bistil batch`: what the child process does. What it tells goes to a file of its own, in lines."""
    forked = multiprocessing.get_context("fork")
    pool.multiprocessing.get_context = lambda method: forked  # type: ignore[assignment, misc, return-value]
    scheduling = (
        None if engine == "pool" else Scheduling(profile="submit" if engine == "submit" else "local", cores=2)
    )

    def say(text: str) -> None:
        with (root / f"{name}.log").open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    where = (root / "experiment.yaml", str(root / "world"), root / name, root / f"{name}-reports")
    if run_experiment(*where, workers=2, say=say, scheduling=scheduling, lectures=False):
        raise SystemExit("stages failed")


def there(store: Path) -> dict[str, tuple[int, int]]:
    """Every finished artefact, with what changes when it is built again: the inode and time of its
    manifest.
    """
    found = [
        path for path in store.glob("[a-z]*/*/manifest.json") if not path.parent.name.endswith(".partial")
    ]
    return {path.parent.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def told(log: Path) -> Counter[str]:
    """How often each stage was told to have been built, over all runs."""
    lines = log.read_text(encoding="utf-8").splitlines()
    return Counter(match[1] for line in lines if (match := re.fullmatch(r"\[\d+/\d+\] (.*): \d+ s", line)))


def running(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None


def killed_runs(root: Path, engine: str, times: int, stages: int, chance: random.Random) -> list[str]:
    """Start, kill at `times` random moments, and finish; return what went wrong."""
    wrong, seen, store = list[str](), dict[str, tuple[int, int]](), root / engine
    for number, enough in enumerate(sorted(chance.sample(range(1, stages - 3), times)), start=1):
        child = start(work, root, engine, engine)
        while running(child) and len(there(store)) < enough:
            time.sleep(0.02)
        after = chance.uniform(0.0, 1.0)
        time.sleep(after)
        if running(child):
            os.killpg(child, signal.SIGKILL)
        else:
            wrong.append(f"run {number} ended before its kill")
        os.waitpid(child, 0)
        now = there(store)
        print(
            f"{engine:10} kill {number}: {len(now)} of {stages} stages there, {after:.2f} s after the first"
            f" {enough}",
            flush=True,
        )
        wrong += [f"{name} was built again" for name, stamp in seen.items() if now.get(name) != stamp]
        seen = now
    finish(start(work, root, engine, engine))
    wrong += [f"{name} was built again" for name, stamp in seen.items() if there(store).get(name) != stamp]
    wrong += [
        f"{job} was told {count} times" for job, count in told(root / f"{engine}.log").items() if count > 1
    ]
    if len(there(store)) != stages:
        wrong.append(f"{stages} stages were expected, but {len(there(store))} are there")
    return wrong


def scores(reports: Path) -> list[Mapping[str, Any]]:
    """The rows of a results.csv without what is measured in seconds."""
    return [
        {name: value for name, value in row.items() if name not in TIMED}
        for row in read_results(reports / "grid" / "results.csv")
    ]


def main() -> int:
    """Run the engines and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--times", type=int, default=5, help="kills of each engine's batch (0: only compare its results)"
    )
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=["pool"])
    parser.add_argument(
        "--seed", type=int, default=None, help="of the moments (default: different every time)"
    )
    parser.add_argument(
        "--seeds", type=int, default=2, help="of the scores (default: 2, which are 24 scores)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    gc.freeze()  # every training collects, in forks of this process
    chance, wrong = random.Random(options.seed), list[str]()
    with tempfile.TemporaryDirectory(prefix="kill-batch-", ignore_cleanup_errors=True) as name:
        root, seeds = Path(name), list(range(1, options.seeds + 1))
        finish(start(lambda: write_tiny_teacher(root / "teacher", write_tiny_world(root / "world"))))
        (root / "experiment.yaml").write_text(
            yaml.safe_dump({**entries(root / "teacher"), **GRID, "seeds": seeds}), encoding="utf-8"
        )
        experiment = Experiment.read(root / "experiment.yaml")
        stages = len(plan(experiment))
        print(f"{len(experiment.cells())} scores, {stages} stages", flush=True)
        finish(start(work, root, "whole", "pool"))
        expected = scores(root / "whole-reports")
        for engine in options.engine:
            found = killed_runs(root, engine, options.times, stages, chance)
            if scores(root / f"{engine}-reports") != expected:
                found.append("other scores than those of the uninterrupted run")
            print(f"{engine:10} {'; '.join(found) or 'each stage built once, same scores'}", flush=True)
            wrong += found
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
