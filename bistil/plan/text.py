"""The plan of an experiment as text: what `bistil batch --dry-run` prints.

Notable: nothing is built and nothing is fetched; what a stage is made from decides whether the store can be
asked for it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.miniworld.settings import load_settings
from bistil.models.packaged import TO_INSTALL, lacks_package, teacher_config
from bistil.pipeline import Pipeline
from bistil.pipeline.check import check_shapes
from bistil.plan import Stage, foresee
from bistil.plan.epochs import has_epochs
from bistil.plan.estimate import Cost, Estimator
from bistil.plan.profiles import CPU_TFLOPS, misfits
from bistil.plan.rehearse import makespan
from bistil.settings.files import is_file
from bistil.settings.places import CACHE, processors, world_file
from bistil.sources.folder import open_data
from bistil.store.artefacts import Store
from bistil.tasks import RETRIEVAL, column
from bistil.text.languages import DATA, DataFolder, check_known

Rehearsal = Callable[[Mapping[str, Stage]], Mapping[str, float]]
BISTIL_TFLOPS = 5.7
"""What BiStil's own training sustained: 200,000 steps of stage 1 at lrf 2 in 9 hours on an RTX 3080 (paper
appendix A.1 and note 8).
"""
SMALL = 0.001
"""Hours that are as good as none."""
THERE = {True: "there", False: "not yet", None: "?"}


def plan_lines(
    experiment: Experiment,
    store: Path,
    *,
    tflops: float,
    data: str | None = None,
    rehearse: Rehearsal | None = None,
    workers: int = 1,
) -> Iterator[str]:
    """The lines of the plan: one a stage, the sums of each kind, and what the estimate rests on.

    Args:
        tflops: TFLOP/s that the device sustains in training.
        rehearse: tells the seconds of each stage that is left to do.
        workers: that share these stages.

    Raises:
        InputError: where that is no positive number.
    """
    if not tflops > 0:
        raise InputError(
            f"The sustained rate should be above 0 TFLOP/s, but is {tflops}. A number like 5.7 was expected."
        )
    folder = data_at_hand(experiment, data)
    check_names(experiment, folder)
    config = teacher_config(experiment.teacher)
    if config is not None:
        check_shapes(experiment, config)
    kept = Store(store, read_only=True)
    stages = foresee(experiment, folder, kept)
    estimator = Estimator(stages, config)
    costs = {name: estimator.cost(stage) for name, stage in stages.items()}
    seconds = rehearse(stages) if rehearse else {}
    shown, minutes = Shown(costs, seconds, tflops), "min".rjust(8) if seconds else ""
    number = {name: str(place) for place, name in enumerate(stages, start=1)}
    width = max(len(stage.name) for stage in stages.values())
    yield f"{experiment.name}: {len(stages)} stages for {len(experiment.cells())} scores"
    yield f"{'':>5} {'stage':{width}} {'scores':>6} {'store':>7} {'steps':>10} {'GPU h':>8}{minutes}  after"
    for name, stage in stages.items():
        after = ", ".join(number[one] for one in stage.after)
        told = (
            f"{number[name]:>5} {stage.name:{width}} {len(stage.cells):>6} {THERE[stage.there]:>7}"
            f" {shown.of([stage])}  {after}"
        )
        yield told.rstrip()
    yield ""
    for kind in dict.fromkeys(stage.kind for stage in stages.values()):
        yield shown.sum(kind, [stage for stage in stages.values() if stage.kind == kind], width)
    yield shown.sum("all", list(stages.values()), width)
    left = [stage for stage in stages.values() if not stage.there]
    if len(left) < len(stages):
        yield shown.sum("left to do", left, width)
    yield ""
    if rehearse:
        yield (
            f"About {makespan(stages, seconds, workers) / 60:.1f} min with {workers}"
            f" worker{'s' * (workers > 1)}, by a rehearsal on this machine: each kind of stage once, with"
            " phases of a few steps, alone. Starting up and notebooks of the results come on top."
        )
    if config is not None:
        yield _on_cpu(sum(costs[stage.id].flops for stage in left), processors())
    yield from _footnotes(experiment, stages, tflops, known=config is not None, folder=folder)
    for told in misfits(experiment):
        yield f"warning: {told}"
    if absent := [*_absent(experiment, folder, kept)]:
        yield f"not there yet: {', '.join(absent)}"


def _absent(experiment: Experiment, folder: DataFolder | None, store: Store) -> Iterator[str]:
    """The teacher and the files of data without which a run is refused at its start; files only where a data
    folder is at hand.
    """
    named, unknown = experiment.teacher, teacher_config(experiment.teacher) is None
    if unknown and not lacks_package(named):
        yield f"the teacher {named} (no folder here has that name; a run looks for it on the hub)"
    if folder is None:
        return
    pipeline = Pipeline(experiment, folder, store, device="cpu")
    if unknown:
        pipeline.__dict__["trims"] = False  # its vocabulary is not looked up for this
    pairs = [(RETRIEVAL, code, "test") for code in experiment.targets.get(RETRIEVAL, ())]
    for task, code, split in (*pipeline.task_files, *pairs):
        if not folder.has(column(task), code, split):
            lacking = f"a {split} file of {code} (no column `{column(task)}`)"
            yield str(folder.place(column(task), code, split) or lacking)
    for code in pipeline.codes:
        if not is_file(folder.text(code)):
            named = folder.language(code).corpus
            yield str(folder.text(code)) if named else f"text of {code} (its `corpus` is empty)"


def how_long(experiment: Experiment, device: str, cores: int | None = None) -> Iterator[str]:
    """What training all of an experiment takes on a device, in a sentence by FLOPs; nothing where the
    teacher's configuration is not known.

    Args:
        cores: of the processor; None: those of this machine.
    """
    config = teacher_config(experiment.teacher)
    if config is None:
        return
    stages = foresee(experiment)
    flops = sum(Estimator(stages, config).cost(stage).flops for stage in stages.values())
    yield _on_cpu(flops, cores or processors()) if device == "cpu" else _on_gpu(flops)


def _on_gpu(flops: float) -> str:
    hours = Cost(flops=flops).hours(BISTIL_TFLOPS)
    return (
        f"About {_span(hours)} of training on one GPU like the paper's (RTX 3080, {BISTIL_TFLOPS:g} TFLOP/s"
        " sustained), evaluations and scoring on top."
    )


def _on_cpu(flops: float, cores: int) -> str:
    hours = Cost(flops=flops).hours(CPU_TFLOPS * cores)
    told = f"About {_span(hours)} of training on {cores} processor core{'s' * (cores > 1)} by FLOPs."
    return told + (" That is long: take e5-small, or --device cuda." if hours > 72 else "")


def _span(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(60 * hours))} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def check_names(experiment: Experiment, folder: DataFolder | None) -> None:
    """Refuse languages and a teacher that can be seen not to be there, although a plan needs neither.

    Args:
        folder: with the language table; None where it is not at hand.

    Raises:
        InputError: for the first of them.
    """
    targets, groups = chain(*experiment.targets.values()), chain(*experiment.groups)
    generator = experiment.generator.languages if experiment.generator else ()
    codes = (
        *(experiment.source, *targets, *groups, *experiment.seen),
        *(*generator, *experiment.typology_among, *experiment.weighed),
    )
    if folder is not None:
        check_known(codes, folder.languages)
    elif world := world_file(experiment.data):
        check_known(codes, {one.code for one in load_settings(world).languages})
    named = experiment.teacher
    path = Path(named).expanduser()
    to_be_made = (DATA / "teachers" / f"{path.name}.yaml").is_file()
    if teacher_config(named) is None and not to_be_made and (path.is_absolute() or len(path.parts) != 2):
        if len(path.parts) == 1 and not named.startswith("."):
            return  # a name on the hub may have no owner
        raise InputError(
            f"The folder of a teacher was expected at {named}, but there is none with a config.json, and no"
            " name on the hub looks like that. Give a hub name such as xlm-roberta-base, e5-small, or a"
            " folder that is there."
        )


def data_at_hand(experiment: Experiment, named: str | None) -> DataFolder | None:
    """The data folder of an experiment where it is there already; nothing is written."""
    if world_file(experiment.data) and named is None:
        world = CACHE / experiment.data
        return DataFolder(world) if world.is_dir() else None
    try:
        return open_data(experiment.data, named)
    except InputError:
        if named is not None:
            raise
        return None


class Shown(NamedTuple):
    """What is shown of stages: steps, hours by FLOPs at a rate in TFLOP/s, and minutes by seconds, where they
    are known.
    """

    costs: Mapping[str, Cost]
    seconds: Mapping[str, float]
    tflops: float

    def of(self, stages: Sequence[Stage]) -> str:
        """The numbers of some stages together."""
        found = [self.costs[stage.id] for stage in stages]
        total = Cost(sum(cost.steps for cost in found), sum(cost.flops for cost in found))
        hours = total.hours(self.tflops)
        minutes = sum(self.seconds.get(stage.id, 0.0) for stage in stages) / 60
        few = f"{hours:.1g}" if hours >= SMALL else f"< {SMALL}"
        told = (f"{hours:.2f}" if hours >= 0.095 else few) if total.flops else "–"
        shown = (f"{minutes:.2f}" if minutes else "–").rjust(8) if self.seconds else ""
        return f"{f'{total.steps:,}' if total.steps else '–':>10} {told:>8}{shown}"

    def sum(self, kind: str, stages: Sequence[Stage], width: int) -> str:
        """A line of the sums."""
        return f"{len(stages):>5} {kind:{width}} {'':>14} {self.of(stages)}"


def _footnotes(
    experiment: Experiment, stages: dict[str, Stage], tflops: float, *, known: bool, folder: DataFolder | None
) -> Iterator[str]:
    if known:
        yield (
            f"GPU hours are an estimate: FLOPs of training by the teacher's configuration, at {tflops:g}"
            " TFLOP/s sustained (--tflops). Every sequence counts at its full length; heads, held-out"
            " evaluations and scoring are left out."
        )
    else:
        yield (
            f"No GPU hours: the configuration of {experiment.teacher} is neither in its folder nor in"
            " data/public-teachers.yaml. If it is no name on the hub either, the run stops at its start."
        )
    if any(stage.there is None for stage in stages.values()):
        lacking = (
            "the data folder (--data or BISTIL_DATA)"
            if folder is None
            else "some data files or the teacher's weights"
        )
        yield (
            f"? = cannot be told without {lacking}: what a stage is made from decides its place in the store."
        )
    if any(has_epochs(stage.config) for stage in stages.values()):
        yield (
            "Steps of schedules in epochs are counted once the data folder and the teacher are at hand; until"
            " then each has its `at_most`."
        )
    if stored := sum(stage.stores for stage in stages.values()):
        yield f"At most {stored / 2**20:.1f} MiB of stored labels, of which the disk needs a fifth more free."
    if lacks_package(experiment.teacher):
        yield f"Before the run: {experiment.teacher} {TO_INSTALL}"
    if experiment.data_sets:
        listed = "; ".join(f"{task}: {', '.join(names)}" for task, names in experiment.data_sets.items())
        yield f"Data sets ({listed}): `bistil data get`."
