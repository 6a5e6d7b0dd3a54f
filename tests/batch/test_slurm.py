"""A real Slurm of one node: the results are those of the warm pool, a job that is killed is tried again, and
no daemon stays behind.

Notable: munge, slurmctld and slurmd run in the foreground out of a folder of their own, with a key, ports and
sockets that nothing else uses. They need root, since slurmd does.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from bistil import batch
from bistil.batch import Place, snakemake
from bistil.batch.snakemake import Scheduling
from bistil.experiment import Experiment
from bistil.pipeline.scores import TIMES

CONF = Path("/etc/slurm/slurm.conf")
COMMANDS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PLUGIN = "snakemake_executor_plugin_slurm"
HASTE = "slurm-init-seconds-before-status-checks: 1\n"
"""What the shipped profile leaves at 40 seconds, for the sake of big clusters."""
THREE_JOBS = {"systems": ["teacher-no-adaptation", "minilm:2"], "targets": {"retrieval": ["qac"]}}
"""Two scores, one of a student that is made first: the plugin asks ever more seldom until a job has ended."""
PATIENCE_SECONDS = 600


def missing() -> str:
    """Why no Slurm can be brought up here; "" where one can."""
    lacking = [name for name in COMMANDS if not shutil.which(name)]
    if lacking:
        return f"{', '.join(lacking)} not installed (apt-get install slurmctld slurmd slurm-client munge)"
    if os.getuid():
        return "slurmd needs root"
    if CONF.exists() and not CONF.is_symlink():
        return f"{CONF} says that there is another Slurm here"
    return "" if find_spec(PLUGIN) else f"{PLUGIN} is not installed (bistil[slurm])"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "there is one")]


@contextmanager
def daemon(log: Path, *command: str | Path) -> Iterator[None]:
    """A program in the foreground, ended in the end."""
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
        assert process.poll() is None, log.read_text(errors="replace")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def settings(folder: Path) -> str:
    """A slurm.conf for this machine as the only node, which says that it has memory for every job."""
    name = socket.gethostname().partition(".")[0]
    return f"""
ClusterName=one
SlurmctldHost={name}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={name} NodeAddr=127.0.0.1 CPUs={len(os.sched_getaffinity(0))} RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes={name} Default=YES MaxTime=INFINITE State=UP
"""


def until(what: str, true: object, seconds: float = 60) -> None:
    """Wait until a question is answered by yes."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what} did not come to pass in {seconds} seconds"
        time.sleep(0.2)


def asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Slurm of one node, ready for jobs; where every program looks for its settings is a link meanwhile."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(settings(folder), encoding="utf-8")
    key, door = folder / "munge.key", folder / "munge.socket"
    subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
    munge = ("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={door}")
    files = (f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed"))
    with ExitStack() as running:
        running.enter_context(FileLock(Path(tempfile.gettempdir()) / "bistil-slurm.lock"))
        CONF.unlink(missing_ok=True)
        CONF.symlink_to(folder / "slurm.conf")
        running.callback(CONF.unlink)
        running.enter_context(daemon(folder / "munged.out", *munge, *files))
        running.enter_context(daemon(folder / "slurmctld.out", "slurmctld", "-D", "-c"))
        running.enter_context(daemon(folder / "slurmd.out", "slurmd", "-D"))
        try:
            until("munge", door.exists)
            until("an idle node", lambda: asked("sinfo", "--noheader", "--format=%T") == "idle")
        except AssertionError as error:
            pytest.skip(f"this machine brings up no Slurm: {error}")
        yield folder
        subprocess.run(["scancel", "--user=root", "--signal=KILL"])
        until("an empty queue", lambda: not asked("squeue", "--noheader"))


def scores(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Result rows without what a machine's hour decides."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def test_slurm_gives_the_pools_results_and_tries_a_killed_job_again(
    slurm: Path, experiment_file, world: Path, tmp_path: Path, monkeypatch
) -> None:
    file = experiment_file(**THREE_JOBS)
    experiment = Experiment.read(file)
    pool, place = Place(world, tmp_path / "pool"), Place(world, tmp_path / "store")
    assert batch.run(experiment, pool, workers=1, device="cpu", say=lambda text: None) == []

    killed: list[str] = []
    watch = snakemake.ended

    def kill_once(run: Path) -> object:
        """Kill the first job that has begun, while it runs, and do not wait for ever."""
        assert time.monotonic() < end, (run / "snakemake.log").read_text(errors="replace")[-4000:]
        if not killed and any((run / "begun").iterdir()):
            running = asked("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()
            killed.extend(running[:1])
            subprocess.run(["scancel", *killed], check=True)
        return watch(run)

    monkeypatch.setattr(snakemake, "ended", kill_once)
    profile = tmp_path / "slurm"
    profile.mkdir()
    shipped = (snakemake.PROFILES / "slurm" / "config.yaml").read_text(encoding="utf-8")
    (profile / "config.yaml").write_text(shipped + HASTE, encoding="utf-8")
    scheduling = Scheduling(profile=str(profile), retries=1)
    said: list[str] = []
    end = time.monotonic() + PATIENCE_SECONDS
    errors = snakemake.run(experiment, file, place, scheduling=scheduling, device="cpu", say=said.append)
    log = (place.store.resolve() / ".runs" / experiment.name / "snakemake.log").read_text(errors="replace")
    assert not errors, log[-4000:]
    assert killed, "no job was seen"
    assert "Trying to restart" in log, log[-4000:]
    found, expected = (scores(batch.rows(batch.reader(experiment, one))) for one in (place, pool))
    assert found == expected
