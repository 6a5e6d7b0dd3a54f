"""The plan is complete, a failure takes only its dependants along, and a finished batch has nothing to do."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from tiny import SYSTEMS

from bistil import batch
from bistil.batch import Place, pool
from bistil.batch.account import Account
from bistil.batch.signals import as_interrupts
from bistil.batch.stage import stages_of
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.plan import METHODS, Job, perform, plan
from bistil.store import artefacts
from bistil.store.artefacts import Store
from bistil.store.locks import alone
from bistil.text.languages import DataFolder

NEW = [
    *("teacher-full", "teacher-head", "teacher-lora", "teacher-bitfit", "teacher-rand-sft"),
    *("minilm:2", "distilmbert:2", "distilmbert-pair:2"),
]
GRID = {
    "systems": [*SYSTEMS, "bistil-tf:3", "bistil-tf:2x2", *NEW],
    "targets": {"parsing": ["qab", "qac"], "ner": ["qac"]},
    "seeds": [1, 2],
}


class Built(Store):
    """A store that builds nothing: it notes what was asked for, in which job, and pretends that it is
    there.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.made_in: dict[str, Job] = {}
        self.current: Job | None = None
        self.premature: list[str] = []

    def run(self, kind: str, config: Any, inputs: Any, build: Any) -> Any:
        from bistil.store.artefacts import Artefact, artefact_id

        name = artefact_id(kind, config, inputs)
        if name not in self.made_in:
            assert self.current is not None
            self.made_in[name] = self.current
            self.asked.append(kind)
        return Artefact(
            self.root / kind / name, {"id": name, "kind": kind, "wall_seconds": 0.0, "metrics": {}}
        )

    asked: list[str]


def test_in_the_order_of_the_plan_each_job_makes_one_artefact_at_most(
    experiment, data, tmp_path: Path
) -> None:
    store = Built(tmp_path)
    pipeline = Pipeline(experiment(**GRID), data, store)
    done: set[Job] = set()
    for job, after in plan(pipeline.experiment).items():
        assert done.issuperset(after), f"{job} comes before what it waits for"
        store.current, store.asked = job, []
        perform(pipeline, job)
        assert store.asked == [job.stage.replace("_", "-")], (
            f"{job} made {store.asked}: what it waits for is not complete"
        )
        done.add(job)
    made = set(store.made_in)
    store.current, store.asked = Job("afterwards", ()), []
    for cell in pipeline.experiment.cells():
        pipeline.evaluation(cell)
    assert set(store.made_in) == made


def test_targets_of_a_group_share_their_student_and_its_task_sfts(experiment, data, tmp_path: Path) -> None:
    grid = experiment(
        **{
            **GRID,
            "groups": [["qab", "qac"]],
            "systems": ["bistil-tf:2", "bistil-st:2", "scratch:2", "distilmbert-pair:2"],
        }
    )
    store = Built(tmp_path)
    pipeline = Pipeline(grid, data, store)
    jobs = plan(grid)
    for job, after in jobs.items():
        assert set(after) <= set(jobs)
        store.current, store.asked = job, []
        perform(pipeline, job)
        assert len(store.asked) == 1, f"{job} made {store.asked}"
    assert len([job for job in jobs if job.stage == "vocabulary"]) == 1
    assert len([job for job in jobs if job.stage == "student"]) == 3 * 2
    assert len([job for job in jobs if job.stage == "evaluation"]) == len(grid.cells())


def test_what_a_job_waits_for_is_enough_on_its_own(experiment, data, tmp_path: Path) -> None:
    """Whatever comes first: with only its own dependencies (and theirs) built, a job makes nothing but
    itself.
    """
    jobs = plan(experiment(**GRID))

    def needed(job: Job) -> list[Job]:
        found: dict[Job, None] = {}
        for one in jobs[job]:
            found.update(dict.fromkeys([*needed(one), one]))
        return list(found)

    for number, job in enumerate(jobs):
        store = Built(tmp_path / str(number))
        pipeline = Pipeline(experiment(**GRID), data, store)
        pipeline.__dict__["teacher"] = (
            Pipeline(experiment(**GRID), data, store).teacher if number == 0 else None
        )
        pipeline.__dict__["teacher_id"] = "sha256:tiny"
        for one in [*needed(job), job]:
            store.current, store.asked = one, []
            perform(pipeline, one)
        assert len(store.asked) == 1, f"{job} also made {store.asked}"


def test_every_cell_is_evaluated_once(experiment) -> None:
    grid = experiment(**GRID)
    evaluations = [job.arguments[0] for job in plan(grid) if job.stage == "evaluation"]
    assert sorted(evaluations) == sorted(
        cell for cell in grid.cells() if cell.system != "floor" or cell.seed == 1
    )  # seeds share the floor
    assert [job.arguments for job in plan(grid) if job.stage == "timing"] == [("parsing",), ("ner",)]
    assert len({str(job) for job in plan(grid)}) == len(plan(grid))


def test_seeds_and_targets_share_what_they_can(experiment) -> None:
    stages = [job for job in plan(experiment(**GRID))]
    sfts = [job.arguments for job in stages if job.stage == "language_sft"]
    assert [arguments for arguments in sfts if len(arguments) == 1] == [("qaa",), ("qab",), ("qac",)]
    assert {arguments[2] for arguments in sfts if len(arguments) == 3 and arguments[1] is None} == {
        "biases",
        "random",
    }
    assert (
        len([arguments for arguments in sfts if len(arguments) > 1 and isinstance(arguments[1], Job)])
        == 2 * 3 * 2
    )
    assert len([job for job in stages if job.stage == "vocabulary"]) == 2
    teachers = [
        job for job in stages if job.stage == "task_sft" and job.arguments[0].system == "teacher-ltsft"
    ]
    assert len(teachers) == 2 * 2
    multilingual = [
        job for job in stages if job.stage == "student" and job.arguments[0].system == "multilingual-distil"
    ]
    assert len(multilingual) == 2


class Here:
    """Stands for the process pool: jobs run at once, in this process, and some of them fail."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.ran: list[Job] = []

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *error: object) -> None: ...

    fails: Job
    last: "Here"

    def submit(self, function: Any, job: Job) -> Future:
        type(self).last = self
        self.ran.append(job)
        future: Future = Future()
        if job == self.fails:
            future.set_exception(ValueError("broken on purpose"))
        else:
            future.set_result((0.1, True))
        return future


def dependants(jobs: dict[Job, tuple[Job, ...]], failed: Job) -> set[Job]:
    lost = {failed}
    for job, after in jobs.items():
        if lost.intersection(after):
            lost.add(job)
    return lost


@pytest.mark.parametrize(
    "which", [14, *(pytest.param(which, marks=pytest.mark.slow) for which in (0, 28, 49))]
)
def test_a_failing_stage_takes_only_its_dependants(
    which: int, experiment, tmp_path: Path, monkeypatch
) -> None:
    grid = experiment(**GRID)
    jobs = plan(grid)
    failed = list(jobs)[which % len(jobs)]
    monkeypatch.setattr(Here, "fails", failed, raising=False)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", Here)
    said: list[str] = []
    errors = batch.run(grid, Place(tmp_path, tmp_path), workers=3, say=said.append)
    assert errors == [f"{failed}: ValueError: broken on purpose"]
    assert f"FAILED {errors[0]}" in said
    lost = dependants(jobs, failed)
    assert set(Here.last.ran) == (set(jobs) - lost) | {failed}
    assert len(Here.last.ran) == len(set(Here.last.ran))


def test_a_job_reads_like_a_sentence() -> None:
    assert str(Job("task_sft", (Cell("bistil-tf", "ner", "qac", 2, 1),))) == "task sft bistil-tf ner qac 2 1"
    assert str(Job("language_sft", ("qaa",))) == "language sft qaa"


def test_rows_of_an_empty_store_are_none_and_nothing_is_built(
    experiment, world: Path, tmp_path: Path
) -> None:
    assert batch.rows(batch.reader(experiment(**GRID), Place(world, tmp_path / "store"))) == []
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_two_workers_build_a_grid_and_a_second_run_builds_nothing(
    experiment, world: Path, tmp_path: Path
) -> None:
    grid = experiment(systems=["teacher-ltsft", "bistil-tf:2", "floor"], targets={"ner": ["qac"]})
    place, said, scores = Place(world, tmp_path / "store"), list[str](), list[int]()
    errors = batch.run(grid, place, workers=2, say=said.append, on_score=lambda: scores.append(1))
    assert errors == []
    told = [one for one in said if not one.startswith("warning: ")]
    assert len(told) == len(plan(grid))
    assert {one.partition(":")[2].split(", qac")[0] for one in set(said) - set(told)} <= {
        " ner, teacher-ltsft",
        " ner, bistil-tf",
    }, "two steps teach no entities, which is said at once"
    assert len(said) > len(told)
    assert len(scores) == 4
    rows = batch.rows(batch.reader(grid, place))
    assert {row["system"] for row in rows} == {"teacher-ltsft", "bistil-tf", "floor"}
    before = {path: path.stat().st_mtime_ns for path in place.store.rglob("manifest.json")}
    said.clear()
    assert batch.run(grid, place, workers=1, say=said.append) == []
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in place.store.rglob("manifest.json")} == before


SMALL: dict[str, Any] = {"systems": ["teacher-ltsft", "bistil-tf:2", "floor"], "targets": {"ner": ["qac"]}}


def killing(monkeypatch: pytest.MonkeyPatch, memory: Path, *, once: bool) -> None:
    """Make the vocabulary stage kill its process, as the kernel does for want of memory, until there is a
    file `memory`.
    """
    build = Pipeline.vocabulary

    @wraps(build)
    def killed(self: Pipeline, target: str) -> Any:
        if not self.store.read_only and not memory.exists():
            if once:
                memory.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return build(self, target)

    monkeypatch.setitem(METHODS, "vocabulary", killed)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_killed_worker_costs_no_score(experiment, world: Path, tmp_path: Path, monkeypatch) -> None:
    killing(monkeypatch, tmp_path / "memory", once=True)
    grid, place, said = experiment(**SMALL), Place(world, tmp_path / "store"), list[str]()
    assert batch.run(grid, place, workers=2, say=said.append) == []
    [told] = [line for line in said if "was killed" in line]
    assert "vocabulary qac" in told
    assert {row["system"] for row in batch.rows(batch.reader(grid, place))} == {
        "teacher-ltsft",
        "bistil-tf",
        "floor",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_stage_that_kills_every_worker_takes_only_its_dependants(
    experiment, world: Path, tmp_path: Path, monkeypatch
) -> None:
    killing(monkeypatch, tmp_path / "memory", once=False)
    grid, place = experiment(**SMALL), Place(world, tmp_path / "store")
    errors = batch.run(grid, place, workers=2, say=lambda text: None)
    assert [error.partition(":")[0] for error in errors] == ["vocabulary qac"]
    assert "memory" in errors[0]
    assert {row["system"] for row in batch.rows(batch.reader(grid, place))} == {"teacher-ltsft", "floor"}
    (tmp_path / "memory").touch()
    assert batch.run(grid, place, workers=1, say=lambda text: None) == []  # with more memory it goes on


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.usefixtures("forked")
def test_a_disk_that_is_full_for_one_stage_costs_its_dependants_only_and_no_work(
    experiment, world: Path, tmp_path: Path, monkeypatch
) -> None:
    """The manifest of a language SFT is written to /dev/full, in a worker."""
    grid, place = experiment(**SMALL), Place(world, tmp_path / "store")
    pipeline = Pipeline(grid, DataFolder(world), Store(place.store))
    [name] = [
        name for name, stage in stages_of(pipeline).items() if stage.job == Job("language_sft", ("qac",))
    ]
    partial, write = place.store / "language-sft" / f"{name}.partial", artefacts.write_whole

    def to_a_full_disk(path: Path, content: str) -> None:
        if path == partial / artefacts.MANIFEST and not (tmp_path / "room").exists():
            Path("/dev/full").write_text(content, encoding="utf-8")
        write(path, content)

    monkeypatch.setattr(artefacts, "write_whole", to_a_full_disk)
    [error] = batch.run(grid, place, workers=1, say=lambda text: None)
    assert error.startswith("language sft qac: StoreError")
    assert "The disk is full" in error
    assert {row["system"] for row in batch.rows(batch.reader(grid, place))} == {"floor"}
    assert (partial / "delta.safetensors").is_file()
    (tmp_path / "room").touch()
    assert batch.run(grid, place, workers=1, say=lambda text: None) == []
    assert Store(place.store).all("language-sft")[0].manifest["status"] == "complete"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_worker_outlives_its_batch(number: int, experiment_file, world: Path, tmp_path: Path) -> None:
    import psutil

    where = ["--data", world, "--store", tmp_path / "store", "--reports", tmp_path / "r", "--workers", "2"]
    words = [sys.executable, "-m", "bistil.cli", "batch", experiment_file(**SMALL), *where, "--no-notebooks"]
    process = subprocess.Popen(
        [*map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 240
        while not list(tmp_path.glob("store/*/*.partial")) and time.monotonic() < until:
            time.sleep(0.1)
        begun = psutil.Process(process.pid).children(recursive=True)
        assert len(begun) >= 2
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        _, alive = psutil.wait_procs(begun, timeout=30)
    finally:
        process.kill()
    assert alive == []
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "the same command goes on" in err


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_batch_that_waits_for_another_says_so(experiment, world: Path, tmp_path: Path) -> None:
    grid, place, job = experiment(**SMALL), Place(world, tmp_path / "store"), Job("language_sft", ("qac",))
    stages = stages_of(Pipeline(grid, DataFolder(world), Store(place.store)))
    [name] = [name for name, stage in stages.items() if stage.job == job]
    said, other = list[str](), ExitStack()
    (place.store / "language-sft").mkdir(parents=True)
    other.enter_context(alone(place.store / "language-sft" / f"{name}.lock"))

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("waiting"):
            other.close()

    assert batch.run(grid, place, workers=1, say=say, jobs={job: ()}) == []
    told = f"waiting for language-sft, which is built by process {os.getpid()} on this machine"
    assert said.count(told) == 1


def test_scores_are_told_for_a_share_of_the_time_at_most(monkeypatch) -> None:
    clock, told = [0.0], list[float]()

    def tell() -> None:
        clock[0] += 2.0
        told.append(clock[0])

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    often = batch.seldom(tell, share=0.1)
    for _ in range(50):
        often()
        clock[0] += 1.0
    assert told == [2.0, 22.0, 42.0], "two seconds in twenty"


def test_signals_are_interrupts_inside_and_what_they_were_outside() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), as_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "name", ["../tiny", "a/b", "", ".hidden", "-x", "a\n", "/etc", "=1+1", "LOG.md", "x.csv", "x.", "x" * 300]
)
def test_names_of_experiments_cannot_leave_their_folders(name: str, experiment) -> None:
    with pytest.raises(InputError, match="Folders get that name"):
        experiment(name=name)


def test_names_may_hold_versions(experiment) -> None:
    assert experiment(name="tiny-v1.2_b" + "x" * 60).name.startswith("tiny-v1.2")


def test_what_waits_for_a_retried_stage_that_fails_by_itself_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker is killed, its job is tried again alone and raises: the run ends."""
    first, second = Job("student", ("a",)), Job("evaluation", ("a",))
    turns: list[list[Job]] = []

    def turn(waiting: dict[Job, Any], workers: int, setting: Any, account: Account) -> list[Job]:
        turns.append([*waiting])
        if len(turns) == 1:
            del waiting[first]
            return [first]
        if first in waiting:
            account.failed(first, "MemoryError: none left")
        assert len(turns) < 5, "it goes on for ever"
        return []

    monkeypatch.setattr(pool, "_turn", turn)
    experiment: Any = None
    place: Any = None
    errors = pool.run(experiment, place, workers=1, say=lambda text: None, jobs={first: (), second: (first,)})
    assert turns == [[first, second], [first], []]
    assert errors == ["student a: MemoryError: none left"]
