"""The engine for schedulers: Snakemake gives every stage a process of its own, here, on Slurm, on Kubernetes,
or wherever a profile says.

Notable: Snakemake only decides what runs when. Ids of stages are known beforehand, so its file is one fixed
rule over a table of them, and the truth stays in the store: what is there is noted as done before Snakemake
starts, each job notes how it went, and the notes are read here as they come. A profile's own commands
(submit, status, cancel) may lie beside its config.yaml. It needs the `batch` extra.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bistil.batch.account import Account, Place, Waits
from bistil.batch.signals import as_interrupts
from bistil.batch.stage import WAITS, ended, failure, open_run, stages_of
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Stage
from bistil.settings.ranges import Count, Settings, Tally
from bistil.store.artefacts import Store
from bistil.store.locks import alone
from bistil.text.languages import DATA, DataFolder
from bistil.training import logs

PROFILES = DATA / "profiles"
SNAKEFILE = Path(__file__).with_name("Snakefile")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
"""How long Snakemake may take to cancel what it submitted."""
FIXED = (
    *(
        "--nolock",
        "--keep-going",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
        "--drop-metadata",
        "--scheduler",
        "greedy",
    ),
    *("--workflow-profile", "none", "--nocolor"),
)
"""What makes Snakemake leave the question of what is done to the notes: no metadata, no locks, no old
runs.
"""


@dataclass(frozen=True, kw_only=True)
class Scheduling(Settings):
    """How Snakemake runs an experiment.

    Attributes:
        profile: A folder with a config.yaml, or the name of one in data/profiles.
        cores: Jobs at once, None for as many as the profile says.
        retries: How often a failed stage is tried again.
        resources: Limits such as `gpu=2`, for so many stages that run a model at once.
    """

    profile: str = "local"
    cores: Count | None = None
    retries: Tally = 1
    resources: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The profile's folder.

        Raises:
            InputError: where there is none.
        """
        named = Path(self.profile)
        found = next((path for path in (named, PROFILES / named) if (path / "config.yaml").is_file()), None)
        if found is None:
            names = ", ".join(sorted(path.parent.name for path in PROFILES.glob("*/config.yaml")))
            raise InputError(
                f"A profile was expected, a folder with a config.yaml or one of {names}, but {self.profile!r}"
                " is neither."
            )
        return found.resolve()

    def check(self) -> None:
        """Fail now on whatever would fail later.

        Raises:
            InputError: for a profile that is not there, a limit that is none, or without Snakemake.
        """
        for limit in self.resources:
            name, _, number = limit.partition("=")
            if not name.isidentifier() or not number.isdecimal():
                raise InputError(
                    f"A resource is limited by its name and a whole number, as in gpu=1, but {limit!r} came."
                )
        if find_spec("snakemake") is None:
            raise InputError(
                "Snakemake is needed for profiles and --engine snakemake: pip install -e '.[batch]'."
            )
        _ = self.folder


def run(
    experiment: Experiment,
    file: Path,
    place: Place,
    *,
    scheduling: Scheduling,
    device: str | None = None,
    say: Callable[[str], None],
    on_score: Callable[[], None] = lambda: None,
) -> list[str]:
    """Build every stage of the experiment read from `file`; return the errors, each naming its stage.

    Ctrl-C and other signals that end this process end the jobs, those of other machines by the profile's
    cancel command; the next call goes on from there.

    Raises:
        InputError: where another process runs this experiment on this store, or Snakemake cannot use the
            profile.
    """
    folder = place.store.resolve() / ".runs" / experiment.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f"{folder.name}.lock")), as_interrupts():
        shutil.rmtree(folder, ignore_errors=True)
        stages = stages_of(Pipeline(experiment, DataFolder(place.data), Store(place.store), device=device))
        open_run(folder, stages)
        shutil.copyfile(
            file, folder / "experiment.yaml"
        )  # what is changed in the file meanwhile is for the next run
        gpu = {
            name: int(device != "cpu" and stage.kind not in ("vocabulary", "trimmed-teacher"))
            for name, stage in stages.items()
        }
        table = {name: {"after": stage.after, "gpu": gpu[name]} for name, stage in stages.items()}
        config = json.dumps({"stages": table, "command": _command(experiment, place, device, folder)})
        (folder / "config.json").write_text(config, encoding="utf-8")
        return _watch(folder, scheduling, stages, Account(len(stages), say, on_score))


def _command(experiment: Experiment, place: Place, device: str | None, folder: Path) -> str:
    """The command of a job, to which the stage's id is added; jobs run in the folder in which this process
    does.
    """
    words = [
        sys.executable,
        "-m",
        "bistil.cli",
        "stage",
        "--seeds",
        *experiment.seeds,
        "--data",
        place.data.resolve(),
        "--store",
        place.store.resolve(),
        "--run",
        folder,
    ]
    words += ["--anyway"] if experiment.at_floor == "continue" else []
    words += [*(["--device", device] if device else []), *logs.asked(), folder / "experiment.yaml"]
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join(map(str, words))}"


def _watch(folder: Path, scheduling: Scheduling, stages: Mapping[str, Stage], account: Account) -> list[str]:
    """Run Snakemake and tell of stages as they end."""
    profile, log = scheduling.folder, folder / "snakemake.log"
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        SNAKEFILE,
        "--directory",
        folder,
        "--configfile",
        folder / "config.json",
    ]
    command += [*FIXED, "--profile", profile, "--retries", scheduling.retries]
    command += ["--cores", scheduling.cores] if scheduling.cores else []
    command += ["--resources", *scheduling.resources] if scheduling.resources else []
    path = os.pathsep.join([str(profile), os.environ.get("PATH", os.defpath)])
    told = dict.fromkeys(ended(folder))
    account.done.update(stages[name].job for name in told)
    with log.open("w", encoding="utf-8") as out:
        words, found = [str(word) for word in command], {**os.environ, "PATH": path}
        process = subprocess.Popen(
            words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=found
        )
    waits = Waits(folder / WAITS)
    try:
        running = True
        while running:
            running = process.poll() is None
            waits.tell(account.say)
            for name, (seconds, new) in ended(folder).items():
                if name in stages and name not in told:
                    told[name] = None
                    account.finished(stages[name].job, seconds, new=new)
            if running:
                time.sleep(POLL_SECONDS)
    except BaseException:
        _end(process)
        raise
    _tell_failures(folder, stages, told, account)
    if account.errors:
        account.say(f"what the jobs said: {log}")
    elif process.returncode:
        raise InputError(
            f"Snakemake ended with status {process.returncode}; what it said last (all of it is in"
            f" {log}):\n{_last(log)}"
        )
    return account.errors


def _tell_failures(
    folder: Path, stages: Mapping[str, Stage], done: Mapping[str, None], account: Account
) -> None:
    """A stage has failed when it was begun and is not there; what waited for it was not begun, and goes
    without saying.
    """
    for name, stage in stages.items():
        if name not in done and (told := failure(folder, name)):
            account.failed(stage.job, told)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Snakemake and its jobs: an interrupt makes it cancel what it submitted; its own jobs, which it
    would wait for, end here.
    """
    import psutil

    jobs: Sequence[psutil.Process] = []
    try:
        jobs = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        for job in jobs:
            job.terminate()
        process.wait(PATIENCE_SECONDS)
    except (psutil.NoSuchProcess, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _last(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:])
