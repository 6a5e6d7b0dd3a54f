"""Commands that run something: experiments, their stages, studies, the demo."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bistil.cli.options import (
    Commands,
    log_options,
    number,
    place_options,
    run_options,
    seeds_option,
    start_logs,
)
from bistil.errors import InputError
from bistil.settings.places import given, processors
from bistil.settings.ranges import Count, Positive, Tally
from bistil.sources.folder import open_data

if TYPE_CHECKING:
    from bistil.batch.snakemake import Scheduling
    from bistil.experiment import Experiment
    from bistil.plan.text import Rehearsal

NEW = {
    "teacher": ("a hub name such as xlm-roberta-base, a folder, or e5-small", "xlm-roberta-base"),
    "source": ("code of the language that has task data", "eng"),
    "target": ("code of the language that has none", ""),
    "task": ("ner, parsing, pos, nli, classification, choice or qa", "ner"),
    "device": ("cpu or cuda, for the estimate of time", "cpu"),
}
"""What `bistil new` asks for, and what it proposes."""


def add_commands(commands: Commands) -> None:
    """Declare them."""
    batch = commands.add_parser("batch", help="run an experiment file and write its report")
    batch.add_argument("experiment", type=given, help="for example data/experiments/miniworld-claims.yaml")
    run_options(batch)
    seeds_option(batch)
    batch.add_argument(
        "--dry-run",
        action="store_true",
        help="print every stage, what it needs and an estimate of its cost, and stop",
    )
    batch.add_argument(
        "--tflops",
        type=number(Positive),
        help="TFLOP/s sustained, for that estimate (default: what BiStil's own training did on an RTX 3080)",
    )
    batch.add_argument(
        "--rehearse",
        action="store_true",
        help="with --dry-run: run each kind of stage for a few steps and say minutes",
    )
    batch.add_argument(
        "--no-notebooks", action="store_true", help="leave out the executed notebooks of the results"
    )
    _anyway_option(batch)
    _scheduling_options(
        batch.add_argument_group(
            "Snakemake", "what gives every stage a process of its own, here or through a scheduler"
        )
    )
    batch.set_defaults(run=_batch, goes_on=True)

    new = commands.add_parser(
        "new",
        help="a first experiment of one's own: its file, fitted to the teacher, and a language table",
        description="Write an experiment file with settings fitted to the teacher's size, and the language"
        " table of its data folder. What is not given is asked for; the device only tells how long it takes.",
    )
    new.add_argument("name", help="of the experiment, and of its folder")
    for name, (asked, _) in NEW.items():
        new.add_argument(f"--{name}", help=f"{asked}")
    new.add_argument(
        "--size", choices=("tiny", "small", "base"), help="of the teacher; default: by its configuration"
    )
    new.add_argument("--to", type=Path, help="the folder, which may hold data already (default: NAME here)")
    new.set_defaults(run=_new)

    stage = commands.add_parser(
        "stage", help="build one stage of an experiment, as a scheduler's job does; without an id, list them"
    )
    stage.add_argument("experiment", type=given)
    stage.add_argument("id", nargs="?", help="the 16 digits that name it in the store")
    place_options(stage)
    stage.add_argument("--device", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    log_options(stage)
    seeds_option(stage)
    stage.add_argument("--run", dest="folder", type=Path, help="folder of a run, to note there how it went")
    _anyway_option(stage)
    stage.set_defaults(run=_stage, goes_on=True)

    schema = commands.add_parser("schema", help="the JSON schema of experiment files, for editors")
    schema.set_defaults(run=_schema)

    study = commands.add_parser(
        "study", help="shared parameters, densities, budgets, alignment, decoders, or typological features"
    )
    study.add_argument("study", type=given, help="for example data/studies/miniworld-anatomy.yaml")
    run_options(study)
    study.set_defaults(run=_study, goes_on=True)

    demo = commands.add_parser("demo", help="the whole tour on miniworld: stages, notebooks, report")
    demo.add_argument(
        "--workers",
        type=number(Count),
        default=processors(),
        help="processes, one thread each (default: %(default)s)",
    )
    demo.add_argument(
        "--tiny", action="store_true", help="a handful of steps a stage and no notebooks: does it run at all?"
    )
    demo.set_defaults(run=_demo, goes_on=True)


def _batch(options: argparse.Namespace) -> int:
    from bistil.experiment import Experiment
    from bistil.plan.text import BISTIL_TFLOPS, plan_lines

    if options.dry_run:
        experiment, rehearsal = (
            Experiment.read(options.experiment).of_seeds(options.seeds),
            (_rehearsal(options) if options.rehearse else None),
        )
        asked = {
            "tflops": options.tflops or BISTIL_TFLOPS,
            "data": options.data,
            "workers": options.workers or processors(),
        }
        for line in plan_lines(experiment, options.store, rehearse=rehearsal, **asked):
            print(line)
        return 0
    if options.rehearse or options.tflops:
        raise InputError("--rehearse and --tflops are for what a run will take: give --dry-run with them.")
    from bistil.batch.experiments import run_experiment

    start_logs(options)
    failed = run_experiment(
        options.experiment,
        options.data,
        options.store,
        options.reports,
        workers=options.workers or processors(),
        say=_clock(),
        device=options.device,
        scheduling=_scheduling(options),
        lectures=not options.no_notebooks,
        anyway=options.anyway,
        seeds=options.seeds,
    )
    return 1 if failed else 0


def _rehearsal(options: argparse.Namespace) -> "Rehearsal":
    """Tells the seconds of stages by a rehearsal as a worker of the pool would work, with one thread."""
    import torch

    from bistil.experiment import Experiment
    from bistil.plan.rehearse import rehearse

    torch.set_num_threads(1)
    experiment, beside = Experiment.read(options.experiment).of_seeds(options.seeds), options.store.parent
    data = open_data(experiment.data, options.data)
    return partial(
        rehearse, experiment, data, beside=beside if beside.is_dir() else None, device=options.device
    )


def _anyway_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="build students whose teacher learnt nothing of the task, too (at_floor: continue)",
    )


def _read(options: argparse.Namespace) -> "Experiment":
    """The experiment as its file and --anyway say."""
    from bistil.experiment import Experiment

    experiment = Experiment.read(options.experiment)
    return dataclasses.replace(experiment, at_floor="continue") if options.anyway else experiment


def _scheduling_options(parser: argparse._ArgumentGroup) -> None:
    """How Snakemake runs stages; each of these options asks for it."""
    parser.add_argument(
        "--engine", choices=("pool", "snakemake"), help="default: warm workers of this machine (pool)"
    )
    parser.add_argument(
        "--profile", help="where stages run: local, slurm, kubernetes, submit, or a folder with a config.yaml"
    )
    parser.add_argument(
        "--retries", type=number(Tally), help="how often a failed stage is tried again (default: 1)"
    )
    parser.add_argument(
        "--resources",
        nargs="+",
        metavar="NAME=N",
        help="limits, as gpu=2: so many stages that run a model at once",
    )


def _scheduling(options: argparse.Namespace) -> "Scheduling | None":
    """What was asked of Snakemake, None where it was not asked for."""
    from bistil.batch.snakemake import Scheduling

    asked = {
        "profile": options.profile,
        "retries": options.retries,
        "resources": tuple(options.resources or ()) or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if options.engine == "pool" and given:
        raise InputError(
            f"--engine pool goes without --{next(iter(given))}, which is for Snakemake. Leave out one of the"
            " two."
        )
    if options.engine != "snakemake" and not given:
        return None
    return Scheduling(cores=options.workers, **given)


def _clock() -> Callable[[str], None]:
    """Prints lines after the seconds since now."""
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - start:7.0f} s  {text}", flush=True)

    return say


def _new(options: argparse.Namespace) -> int:
    from bistil.plan.begin import EXPERIMENT, Wish, begin, unknown
    from bistil.plan.text import how_long

    alone = all(getattr(options, name) for name in NEW if name != "device")
    if alone and options.device is None:
        options.device = "cpu"
    given = {name: getattr(options, name) or _asked(name, *NEW[name]) for name in NEW}
    device, folder = given.pop("device"), options.to or Path(options.name)
    wish = Wish(name=options.name, size=options.size, **given)
    experiment, fitted = begin(wish, folder)
    file = folder / EXPERIMENT
    print(f"{file}: settings for a teacher of size {fitted.name}, {fitted.source}")
    at = "" if wish.miniworld else f" --data {folder}"
    if not wish.miniworld:
        print(
            f"{folder / 'languages.csv'}: which file is where; say under `seen` whether your teacher has read"
            " a language"
        )
    for line in unknown(wish):
        print(line)
    for line in how_long(experiment, device):
        print(line)
    print("Next:")
    if experiment.data_sets:
        print(
            f"  bistil data get {file} --to {folder} --most {fitted.most}   # or put files of your own where"
            " languages.csv says"
        )
    if not wish.miniworld:
        print(f"  bistil data check {folder}")
    print(f"  bistil batch {file}{at} --dry-run")
    print(f"  bistil batch {file}{at}" + (f" --device {device} --cores 1" if device != "cpu" else ""))
    return 0


def _asked(name: str, what: str, proposed: str) -> str:
    """What the user answers, or the proposal for an empty line.

    Raises:
        InputError: where nobody can be asked, or nothing comes and nothing is proposed.
    """
    told = f"--{name} was expected: {what}."
    if not sys.stdin.isatty():
        raise InputError(told)
    try:
        answer = input(f"{name} ({what}){f' [{proposed}]' if proposed else ''}: ").strip()
    except EOFError:
        answer = ""
    if not (answer or proposed):
        raise InputError(told)
    return answer or proposed


def _stage(options: argparse.Namespace) -> int:
    from bistil.batch import Place
    from bistil.batch.stage import build_stage, stages_of
    from bistil.pipeline import Pipeline
    from bistil.plan.text import THERE
    from bistil.store.artefacts import Store

    start_logs(options)
    experiment = _read(options).of_seeds(options.seeds)
    data = open_data(experiment.data, options.data)
    if options.id:
        place = Place(data.root, options.store)
        print(build_stage(experiment, place, options.id, device=options.device, run=options.folder).folder)
        return 0
    for name, stage in stages_of(
        Pipeline(experiment, data, Store(options.store, read_only=True), device=options.device)
    ).items():
        print(f"{name}  {THERE[stage.there]:7}  {stage.name}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    from bistil.experiment import Experiment
    from bistil.settings.schema import as_json

    print(as_json(Experiment), end="")
    return 0


def _study(options: argparse.Namespace) -> int:
    from bistil.batch import Place
    from bistil.report import tables
    from bistil.studies import Study, run_study
    from bistil.studies.kept import read_table

    start_logs(options)
    study = Study.read(options.study)
    place, folder = (
        Place(open_data(study.base().data, options.data).root, options.store),
        options.reports / study.name,
    )
    workers = options.workers or processors()
    errors = run_study(
        study, place, folder, workers=workers, device=options.device, say=lambda text: print(text, flush=True)
    )
    for row in read_table(folder / "verdicts.csv") if (folder / "verdicts.csv").is_file() else ():
        left, right = (tables.number(float(row[side])) for side in ("left", "right"))
        print(f"{row['verdict']}: {row['claim']} ({left} against {right})")
    print(folder / "index.html")
    return 1 if errors else 0


def _demo(options: argparse.Namespace) -> int:
    from bistil.batch.demo import TINY, run_demo

    if options.tiny:
        return run_demo(workers=options.workers, experiment=TINY, tour=())
    return run_demo(workers=options.workers)
