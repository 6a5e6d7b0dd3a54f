"""The command line: `bistil demo | batch | stage | study | data | pretrain | world | report | bench | info | export | predict | doctor`.

Notable: commands only parse, call and print; an `InputError` is shown as its paragraph, without a traceback, and Ctrl-C says how to go on.
"""

import argparse
import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bistil.errors import InputError
from bistil.places import CACHE, ROOT, open_data

if TYPE_CHECKING:
    from bistil.batch.snakemake import Scheduling

BISTIL_TFLOPS = 5.7
"""What BiStil's own training sustained: 200,000 steps of stage 1 at lrf 2 in 9 hours on an RTX 3080 (paper appendix A.1 and note 8)."""


BENCH = ("step", "sft", "vocab", "switch", "eval", "inference")
BENCH_SIZES = (
    ("layers", 12, "layers of the random BERT"),
    ("hidden", 768, "its hidden size, a multiple of 64"),
    ("vocabulary", 119547, "its vocabulary"),
    ("kept", 31000, "that of its student"),
    ("batch", 8, "sequences in a training batch"),
    ("length", 256, "tokens of each"),
    ("lines", 20000, "lines of text to tokenise; a sentence to parse for every 150"),
    ("turns", 3, "how often each side is measured, after one turn to warm up"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bistil", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    batch = commands.add_parser("batch", help="run an experiment file and write its report")
    batch.add_argument("experiment", type=Path, help="for example data/experiments/miniworld-claims.yaml")
    _run_options(batch)
    batch.add_argument("--dry-run", action="store_true", help="print every stage, what it needs and an estimate of its cost, and stop")
    batch.add_argument("--tflops", type=float, default=BISTIL_TFLOPS, help="TFLOP/s sustained, for that estimate (default: %(default)s)")
    batch.add_argument("--no-notebooks", action="store_true", help="leave out the executed notebooks of the results")
    _scheduling_options(batch.add_argument_group("Snakemake", "what gives every stage a process of its own, here or through a scheduler"))
    batch.set_defaults(run=_batch)

    stage = commands.add_parser("stage", help="build one stage of an experiment, as a scheduler's job does; without an id, list them")
    stage.add_argument("experiment", type=Path)
    stage.add_argument("id", nargs="?", help="the 16 digits that name it in the store")
    _place_options(stage)
    stage.add_argument("--device", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    stage.add_argument("--run", dest="folder", type=Path, help="folder of a run, to note there how it went")
    stage.set_defaults(run=_stage)

    schema = commands.add_parser("schema", help="the JSON schema of experiment files, for editors")
    schema.set_defaults(run=_schema)

    data = commands.add_parser("data", help="list data sets, get them from the hub, check a data folder").add_subparsers(
        required=True, metavar="list | get | check"
    )
    listed = data.add_parser("list", help="the data sets of data/datasets.yaml")
    listed.set_defaults(run=_data_list)
    got = data.add_parser("get", help="put data sets from the hub into a data folder, as the public files")
    got.add_argument("names", nargs="+", help="data sets, or experiment files, for all that these name")
    got.add_argument("--to", type=Path, required=True, help="the data folder")
    got.add_argument("--languages", default="", help="codes with commas between them (default: all, or the experiment's)")
    got.add_argument("--most", type=int, help="at most so many rows of each split")
    got.set_defaults(run=_data_get)
    checked = data.add_parser("check", help="read every file of a data folder: counts, labels, what is malformed, what overlaps")
    checked.add_argument("folder", type=Path)
    checked.set_defaults(run=_data_check)

    demo = commands.add_parser("demo", help="the whole tour on miniworld: stages, notebooks, report")
    demo.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    demo.set_defaults(run=_demo)

    pretrain = commands.add_parser("pretrain", help="make a small multilingual teacher")
    pretrain.add_argument("config", type=Path, help="for example data/teachers/teacher-small.yaml")
    pretrain.add_argument("--data", help="data folder, or `miniworld`; default: BISTIL_DATA")
    pretrain.add_argument("--to", type=Path, required=True, help="folder of the finished teacher")
    pretrain.add_argument("--processes", type=int, default=1, help="data-parallel processes, one thread each (default: %(default)s)")
    pretrain.add_argument("--half", action="store_true", help="save the weights as fp16")
    pretrain.set_defaults(run=_pretrain)

    world = commands.add_parser("world", help="write the miniworld data folder")
    world.add_argument("--to", type=Path, default=CACHE / "miniworld")
    world.set_defaults(run=_world)

    report = commands.add_parser("report", help="write an experiment's report again from what is in the store, or compare two of them")
    report.add_argument(
        "experiments", type=Path, nargs="+", metavar="A [B]", help="an experiment file; to compare, also a report's folder or a results.csv"
    )
    _place_options(report)
    report.add_argument("--reports", type=Path, default=ROOT / "reports")
    report.set_defaults(run=_report)

    study = commands.add_parser("study", help="which parameters sparse fine-tunings share, their ages, and the best densities")
    study.add_argument("study", type=Path, help="for example data/studies/miniworld-anatomy.yaml")
    _run_options(study)
    study.set_defaults(run=_study)

    bench = commands.add_parser("bench", help="what our way costs against the published way and a floor, in one run on this machine")
    bench.add_argument("part", nargs="?", default="all", choices=(*BENCH, "all"), metavar="|".join((*BENCH, "all")))
    bench.add_argument("--to", type=Path, default=ROOT / "reports" / "bench", help="folder of the JSON (default: reports/bench/)")
    for name, default, help_text in BENCH_SIZES:
        bench.add_argument(f"--{name}", type=int, default=default, help=f"{help_text} (default: %(default)s)")
    bench.set_defaults(run=_bench)

    info = commands.add_parser("info", help="describe a delta file or an artefact folder")
    info.add_argument("path", type=Path)
    info.set_defaults(run=_info)

    export = commands.add_parser("export", help="a finished student as a folder for transformers or ONNX Runtime, with its model card")
    export.add_argument("which", metavar="RUN", help="an experiment file, or the id of an evaluation in a results.csv under reports/")
    export.add_argument("--to", default="folder", choices=("folder", "onnx", "onnx-int8", "hub"), help="in which form (default: folder)")
    for name in ("system", "task", "target"):
        export.add_argument(f"--{name}", help=f"which {name} of the experiment's; default: the first")
    export.add_argument("--seed", type=int, help="which seed of the experiment's; default: the first")
    export.add_argument("--out", type=Path, help="the new folder (default: data/cache/exports/NAME)")
    export.add_argument("--repo", help="OWNER/NAME on the hub, for --to hub")
    _place_options(export)
    export.add_argument("--reports", type=Path, default=ROOT / "reports", help="where results.csv files are looked for")
    export.set_defaults(run=_export)

    predict = commands.add_parser("predict", help="what a finished student says of a text file: tags, parses, labels of pairs, answers")
    predict.add_argument("model", type=Path, help="folder of a finished student")
    predict.add_argument("file", type=Path, help="one sentence a line; for inference and questions two texts with a tab between them")
    predict.set_defaults(run=_predict)

    doctor = commands.add_parser("doctor", help="what this machine has for bistil, and what is missing")
    doctor.add_argument("--store", type=Path, default=CACHE / "store", help="where artefacts are kept (default: data/cache/store)")
    doctor.set_defaults(run=_doctor)

    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except InputError as error:
        print(f"bistil: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"bistil: The disk is full ({error}). Free some space and give the same command again: it goes on.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbistil: interrupted. Finished stages are kept; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130


def _run_options(parser: argparse.ArgumentParser) -> None:
    """Where a command that runs stages finds its input, with what it runs them, and where its report goes."""
    _place_options(parser)
    parser.add_argument("--workers", "--cores", type=int, help=f"processes, one thread each (default: {os.cpu_count() or 1})")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="where reports go (default: reports/)")


def _place_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="data folder for experiments on real data; default: BISTIL_DATA")
    parser.add_argument("--store", type=Path, default=CACHE / "store", help="where artefacts are kept (default: data/cache/store)")


def _scheduling_options(parser: argparse._ArgumentGroup) -> None:
    """How Snakemake runs stages; each of these options asks for it."""
    parser.add_argument("--engine", choices=("pool", "snakemake"), help="default: warm workers of this machine (pool)")
    parser.add_argument("--profile", help="where stages run: local, slurm, kubernetes, submit, or a folder with a config.yaml")
    parser.add_argument("--retries", type=int, help="how often a failed stage is tried again (default: 1)")
    parser.add_argument("--resources", nargs="+", metavar="NAME=N", help="limits, as gpu=2: so many stages that run a model at once")


def _batch(options: argparse.Namespace) -> int:
    from bistil.experiment import Experiment
    from bistil.plan.text import plan_lines

    if options.dry_run:
        for line in plan_lines(Experiment.read(options.experiment), options.store, tflops=options.tflops, data=options.data):
            print(line)
        return 0
    from bistil.run import run_experiment

    failed = run_experiment(
        options.experiment,
        options.data,
        options.store,
        options.reports,
        workers=options.workers or os.cpu_count() or 1,
        say=_clock(),
        device=options.device,
        scheduling=_scheduling(options),
        lectures=not options.no_notebooks,
    )
    return 1 if failed else 0


def _scheduling(options: argparse.Namespace) -> "Scheduling | None":
    """What was asked of Snakemake, None where it was not asked for."""
    from bistil.batch.snakemake import Scheduling

    asked = {"profile": options.profile, "retries": options.retries, "resources": tuple(options.resources or ()) or None}
    given = {name: value for name, value in asked.items() if value is not None}
    if options.engine == "pool" and given:
        raise InputError(f"--engine pool goes without --{next(iter(given))}, which is for Snakemake. Leave out one of the two.")
    if options.engine != "snakemake" and not given:
        return None
    return Scheduling(cores=options.workers, **given)


def _clock() -> Callable[[str], None]:
    """Prints lines after the seconds since now."""
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - start:7.0f} s  {text}", flush=True)

    return say


def _stage(options: argparse.Namespace) -> int:
    from bistil.batch import Place
    from bistil.batch.stage import build_stage, stages_of
    from bistil.experiment import Experiment
    from bistil.pipeline import Pipeline
    from bistil.plan.text import THERE
    from bistil.store import Store

    experiment = Experiment.read(options.experiment)
    data = open_data(experiment.data, options.data)
    if options.id:
        place = Place(data.root, options.store)
        print(build_stage(experiment, place, options.id, device=options.device, run=options.folder).folder)
        return 0
    for name, stage in stages_of(Pipeline(experiment, data, Store(options.store, read_only=True), device=options.device)).items():
        print(f"{name}  {THERE[stage.there]:7}  {stage.name}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    from bistil.experiment import Experiment
    from bistil.schema import as_json

    print(as_json(Experiment), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    if len(options.experiments) == 2:
        left, right = options.experiments
        return _compare(left, right, options.reports)
    if len(options.experiments) > 2:
        raise InputError(f"One experiment file to report on, or two to compare, were expected, but got {len(options.experiments)}.")
    from bistil import batch
    from bistil.experiment import Experiment
    from bistil.report.experiment import write_experiment_report
    from bistil.store import Store

    experiment = Experiment.read(options.experiments[0])
    place = batch.Place(open_data(experiment.data, options.data).root, options.store)
    folder = options.reports / experiment.name
    reader = batch.reader(experiment, place)
    write_experiment_report(folder, experiment, batch.rows(reader), Store(place.store), failures=[], seen=reader.seen)
    print(folder / "index.html")
    return 0


def _compare(left: Path, right: Path, reports: Path) -> int:
    from bistil.report.compare import METHOD, as_text, compare, known_settings, write_comparison
    from bistil.report.sides import read_side

    a, b = read_side(left, reports), read_side(right, reports)
    tables = compare(a, b)
    for line in as_text(tables):
        print(line)
    print(f"\n{known_settings(a, b)} {METHOD}\n{write_comparison(reports, a, b, tables)}")
    return 0


def _study(options: argparse.Namespace) -> int:
    from bistil.batch import Place
    from bistil.studies import Study, run_study
    from bistil.studies.kept import read_table

    study = Study.read(options.study)
    place, folder = Place(open_data(study.base().data, options.data).root, options.store), options.reports / study.name
    workers = options.workers or os.cpu_count() or 1
    errors = run_study(study, place, folder, workers=workers, device=options.device, say=lambda text: print(text, flush=True))
    for row in read_table(folder / "verdicts.csv") if (folder / "verdicts.csv").is_file() else ():
        verdict = "holds" if row["holds"] == "True" else "does not hold"
        print(f"{verdict}: {row['claim']} ({float(row['left']):.1f} against {float(row['right']):.1f})")
    print(folder)
    return 1 if errors else 0


def _data_list(options: argparse.Namespace) -> int:
    from bistil.sources.table import data_sets

    for entry in data_sets().values():
        print(f"{entry.name:12} {entry.task:9} {len(entry.languages):>3} languages  {entry.hub or entry.homepage}\n{'':13}{entry.licence}")
        if entry.note:
            print(f"{'':13}{entry.note}")
    return 0


def _data_get(options: argparse.Namespace) -> int:
    from bistil.sources.get import get, wanted

    codes = tuple(filter(None, options.languages.split(",")))
    for entry, languages in wanted(options.names, codes):
        get(entry, options.to, languages, most=options.most, say=print)
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from bistil.languages import DataFolder
    from bistil.sources.check import check_folder, lines

    checked = check_folder(DataFolder(options.folder))
    for line in lines(checked, options.folder):
        print(line)
    return 1 if checked.malformed else 0


def _demo(options: argparse.Namespace) -> int:
    from bistil.demo import run_demo

    return run_demo(workers=options.workers)


def _pretrain(options: argparse.Namespace) -> int:
    import torch

    from bistil.pretrain import PretrainConfig, pretrain, read_text, save_teacher
    from bistil.progress import Terminal, silent
    from bistil.settings import read_yaml

    config = read_yaml(PretrainConfig, options.config)
    if (options.to / "history.json").is_file():  # what is written last
        raise InputError(f"There is a finished teacher in {options.to} already. Delete it, or name another folder with --to.")
    data = open_data("folder", options.data)
    text = read_text(
        config, {code: data.text(code) for code in config.languages}, data.root / "parallel" if config.parallel_share else None
    )
    rank = os.environ.get("RANK")
    if options.processes > 1 and rank is None:
        return _in_processes(options)
    if rank is not None:
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo")
    work = options.to.with_name(options.to.name + ".partial")
    mlm, tokenizer, history = pretrain(config, text, work, progress=Terminal() if rank in (None, "0") else silent)
    if rank is not None:
        torch.distributed.barrier()  # all have read their best state from the folder that goes now
    if rank in (None, "0"):
        save_teacher(options.to, mlm, tokenizer, history, half=options.half)
        shutil.rmtree(work)
        print(options.to)
    return 0


def _in_processes(options: argparse.Namespace) -> int:
    """The same command once a process, joined by torchrun."""
    import subprocess

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options.processes)]
    command += [
        "-m",
        "bistil.cli",
        "pretrain",
        str(options.config),
        "--to",
        str(options.to),
        *(["--data", options.data] if options.data else []),
    ]
    command += ["--half"] if options.half else []
    return subprocess.call(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _world(options: argparse.Namespace) -> int:
    from bistil.miniworld import ensure_world

    print(ensure_world(options.to))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from bistil.bench import Size, run_bench

    size = Size(**{name: getattr(options, name) for name, _, _ in BENCH_SIZES})
    for part in BENCH if options.part == "all" else (options.part,):
        print(run_bench(options.to, part, size, say=print), flush=True)
    return 0


def _info(options: argparse.Namespace) -> int:
    from bistil.sft.anatomy import by_layer, by_tensor
    from bistil.sft.delta import SparseDelta

    if options.path.is_dir():
        print((options.path / "manifest.json").read_text(encoding="utf-8"))
        return 0
    delta = SparseDelta.load(options.path)
    print(f"base {delta.base}\n{delta.size} values in {len(delta.tensors)} tensors, {len(delta.full)} whole tensors")
    for parts in ({f"layer {layer}": part for layer, part in by_layer(delta).items()}, by_tensor(delta)):
        for name, part in parts.items():
            density = "" if part.density is None else f"  density {100 * part.density:8.4f} %"
            print(f"{name:70} {part.entries:>9}{density}  norm {part.norm:.4f}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from bistil import deploy
    from bistil.experiment import Experiment
    from bistil.pipeline import Pipeline
    from bistil.store import Store

    file, asked = Path(options.which), deploy.Asked(options.system, options.task, options.target, options.seed)
    if file.suffix not in (".yaml", ".yml"):
        file, asked = deploy.of_evaluation(options.which, sorted(options.reports.glob("*/results.csv")), ROOT / "data" / "experiments")
    experiment = Experiment.read(file)
    cell = deploy.choose(experiment, asked)
    if options.to == "hub":
        deploy.check_hub(options.repo)
    pipeline = Pipeline(experiment, open_data(experiment.data, options.data), Store(options.store))
    form = "folder" if options.to == "hub" else options.to
    name = "-".join((experiment.name, cell.named.replace(":", "-"), cell.task, cell.target, str(cell.seed), form))
    folder = options.out or CACHE / "exports" / name
    deploy.export(pipeline, cell, form, folder, say=print)
    print(folder)
    if options.to == "hub":
        print(deploy.upload(folder, options.repo))
    return 0


def _predict(options: argparse.Namespace) -> int:
    from bistil.predict import predict

    for line in predict(options.model, options.file):
        print(line)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from bistil.doctor import examine

    broken = False
    for finding in examine(options.store):
        broken |= finding.state == "broken"
        print(f"{finding.state:8} {finding.what:18} {finding.told}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
