"""Commands on what has been made: reports and comparisons, export, predictions, a look into a file."""

import argparse
import io
import os
import re
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from bistil.cli.options import Commands, number, place_options
from bistil.errors import InputError
from bistil.settings.places import CACHE, DATA, REPORTS, given
from bistil.settings.ranges import Seed
from bistil.sources.folder import open_data
from bistil.text.languages import CODE


def add_commands(commands: Commands) -> None:
    """Declare them."""
    report = commands.add_parser(
        "report", help="write an experiment's report again from what is in the store, or compare two of them"
    )
    report.add_argument(
        "experiments",
        type=given,
        nargs="*",
        metavar="A [B]",
        help="nothing, to write the index of all reports; an experiment file, or a report's folder, whose"
        " page is then made anew from what lies beside it; to compare, two of these or of results.csv",
    )
    report.add_argument(
        "--add",
        type=Path,
        nargs="+",
        default=[],
        metavar="REPORT",
        help="to a report's folder: what others have of the same experiment, run elsewhere with other seeds,"
        " systems or targets",
    )
    place_options(report)
    report.add_argument("--reports", type=Path, default=REPORTS)
    report.set_defaults(run=_report)

    remove = commands.add_parser(
        "rm",
        help="delete what a store holds of an experiment, and what was made of that; without --yes only tell",
    )
    remove.add_argument("experiment", type=given)
    remove.add_argument("--keep", type=given, nargs="+", default=[], help="experiment files that stay whole")
    remove.add_argument("--yes", action="store_true", help="delete it")
    place_options(remove)
    remove.add_argument("--reports", type=Path, default=REPORTS, help="where it is told which name it")
    remove.set_defaults(run=_remove)

    info = commands.add_parser(
        "info", help="describe a system, a delta file, an artefact folder, or a language by its features"
    )
    info.add_argument("path", type=Path, metavar="PATH | SYSTEM | CODE")
    info.add_argument("--data", help="of a language: data folder, or `miniworld`; default: BISTIL_DATA")
    info.add_argument(
        "--from",
        dest="features",
        choices=("table", "lang2vec"),
        default="table",
        help="of a language: where its features come from (default: the folder's table)",
    )
    info.set_defaults(run=_info)

    export = commands.add_parser(
        "export",
        help="a finished student as a folder for transformers, sentence-transformers or ONNX Runtime, with"
        " its model card",
    )
    export.add_argument(
        "which",
        metavar="RUN",
        help="an experiment file, or the id of an evaluation in a results.csv under reports/",
    )
    export.add_argument(
        "--to",
        default="folder",
        choices=("folder", "sentence-transformers", "onnx", "onnx-int8", "hub"),
        help="in which form (default: folder)",
    )
    export.add_argument("--system", help="which system of the experiment's; default: the first student")
    for name in ("task", "target"):
        export.add_argument(f"--{name}", help=f"which {name} of the experiment's; default: the first")
    export.add_argument(
        "--seed", type=number(Seed), help="which seed of the experiment's; default: the first"
    )
    export.add_argument(
        "--adapter", metavar="CODE", help="only the adapter that the system wears for a language, as one file"
    )
    export.add_argument("--out", type=Path, help="the new folder (default: data/cache/exports/NAME)")
    export.add_argument("--repo", help="OWNER/NAME on the hub, for --to hub")
    export.add_argument(
        "--public", action="store_true", help="upload to the repository although anybody can read it"
    )
    place_options(export)
    export.add_argument(
        "--reports", type=Path, default=REPORTS, help="where results.csv files are looked for"
    )
    export.set_defaults(run=_export)

    predict = commands.add_parser(
        "predict", help="what a finished student says of a text file: tags, parses, labels of pairs, answers"
    )
    predict.add_argument("model", type=given, help="folder of a finished student")
    predict.add_argument(
        "file",
        type=given,
        help="one sentence a line; for inference and questions two texts with a tab between them; -: standard"
        " input",
    )
    predict.add_argument(
        "--json", action="store_true", help="one JSON object a line instead, confidences included"
    )
    predict.add_argument(
        "--confidence",
        action="store_true",
        help="a further column: how probable the model finds each tag or label",
    )
    predict.set_defaults(run=_predict)


def _report(options: argparse.Namespace) -> int:
    from bistil.report.index import write_index

    if not options.experiments:
        print(write_index(options.reports))
        return 0
    if len(options.experiments) == 2:
        left, right = options.experiments
        return _compare(left, right, options.reports)
    if len(options.experiments) > 2:
        raise InputError(
            "One experiment file to report on, or two to compare, were expected, but got"
            f" {len(options.experiments)}."
        )
    from bistil import batch
    from bistil.experiment import Experiment
    from bistil.report.again import write_again
    from bistil.report.experiment import write_experiment_report
    from bistil.report.readme import refresh
    from bistil.store.artefacts import NotBuilt, Store

    if options.experiments[0].is_dir():
        page = write_again(options.experiments[0], options.add)
        refresh(page.parent)
        if (page.parent.parent / "index.html").is_file():
            write_index(page.parent.parent)
        print(page)
        return 0
    if options.add:
        raise InputError(
            f"A report's folder was expected for --add to add to, but {options.experiments[0]} is none."
        )
    experiment = Experiment.read(options.experiments[0])
    place = batch.Place(open_data(experiment.data, options.data).root, options.store)
    folder = options.reports / experiment.name
    reader = batch.reader(experiment, place)
    rows = batch.rows(reader)
    if not rows:
        with suppress(NotBuilt):  # what cannot be read at all, such as the teacher, says so itself
            reader.rows(experiment.cells()[0])
    write_experiment_report(folder, experiment, rows, Store(place.store), failures=[], seen=reader.seen)
    print(folder / "index.html")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from bistil.batch.remove import begun, cited, going, remove, size
    from bistil.experiment import Experiment
    from bistil.pipeline import Pipeline
    from bistil.store.artefacts import Store

    store = Store(options.store, read_only=True)
    pipelines = [
        Pipeline(one, open_data(one.data, options.data), store)
        for one in map(Experiment.read, (options.experiment, *options.keep))
    ]
    found, unfinished = going(pipelines[0], pipelines[1:]), begun(pipelines[0], pipelines[1:])
    for kind in sorted({one.kind for one in found}):
        sizes = [size(one.folder) for one in found if one.kind == kind]
        print(f"{len(sizes):>5} {kind:16} {sum(sizes) / 2**20:>9,.1f} MiB")
    if unfinished:
        print(f"{len(unfinished):>5} {'not finished':16} {sum(map(size, unfinished)) / 2**20:>9,.1f} MiB")
    for folder in cited(found, options.reports):
        print(f"{folder} names some of them; it stays as it is")
    if options.yes:
        remove([*(one.folder for one in found), *unfinished], store)
    print(f"{len(found)} artefacts {'are deleted' if options.yes else 'would go: give --yes to delete them'}")
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


def _info(options: argparse.Namespace) -> int:
    from bistil.systems.claims import NAME
    from bistil.systems.shown import lines
    from bistil.systems.table import SYSTEMS

    asked = str(options.path)
    if not options.path.exists():
        if (name := re.split("[:@]", asked)[0]) in SYSTEMS:
            if not NAME.fullmatch(asked):
                raise InputError(
                    f"A system, alone or with reduction factors and a regime, as in {name}:2, {name}:2x2 or"
                    f" {name}@in-language, was expected, but got {asked!r}."
                )
            print(*lines(name, SYSTEMS[name]), sep="\n")
            return 0
        if close := get_close_matches(name, SYSTEMS, 1, 0.8):
            raise InputError(f"There is no system, file or language {name}. Did you mean {close[0]}?")
        if CODE.fullmatch(asked):
            if options.data or os.environ.get("BISTIL_DATA"):
                return _language(asked, options)
            raise InputError(
                "A path, a system (docs/concepts/systems.md lists them) or, with --data FOLDER, the code of a"
                f" language was expected, but {asked!r} is none."
            )
    if options.path.suffix in (".yaml", ".yml"):
        raise InputError(
            f"A delta file or an artefact's folder was expected, but {asked} is a YAML file. What an"
            f" experiment runs, `bistil batch {asked} --dry-run` says."
        )
    if options.path.is_dir():
        manifest = options.path / "manifest.json"
        if not manifest.is_file():
            student = (options.path / "README.md").is_file()
            raise InputError(
                f"A delta file, or an artefact's folder with its manifest.json, was expected at"
                f" {options.path}, but this folder has none."
                + (" Its README.md says what it is; `bistil predict` runs a student." if student else "")
            )
        print(manifest.read_text(encoding="utf-8", errors="replace"))
        return 0
    from bistil.sft.anatomy import by_layer, by_tensor
    from bistil.sft.delta import SparseDelta

    delta = SparseDelta.load(options.path)
    print(
        f"base {delta.base}\n{delta.size} values in {len(delta.tensors)} tensors, {len(delta.full)} whole"
        " tensors"
    )
    for parts in ({f"layer {layer}": part for layer, part in by_layer(delta).items()}, by_tensor(delta)):
        for name, part in parts.items():
            density = "" if part.density is None else f"  density {100 * part.density:8.4f} %"
            print(f"{name:70} {part.entries:>9}{density}  norm {part.norm:.4f}")
    return 0


def _language(code: str, options: argparse.Namespace) -> int:
    """A language's features, and the other languages of the folder, the nearest by them first."""
    from bistil.text.typology import TypologyConfig, read_typology

    data = open_data("folder", options.data)
    name, typology = data.language(code).name, read_typology(TypologyConfig(from_=options.features), data)
    own = typology.features(code)
    print(f"{code} {name}: {len(own)} of {len(typology.names)} features\n{', '.join(own)}\nnearest by them:")
    for other in typology.nearest(code, {one for one in data.languages if one in typology.rows} - {code}):
        print(f"{typology.likeness(code, other):5.2f}  {other} {data.language(other).name}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from bistil.deploy import write as deploy
    from bistil.experiment import Experiment
    from bistil.pipeline import Pipeline
    from bistil.store.artefacts import Store

    file, asked = (
        given(options.which),
        deploy.Asked(options.system, options.task, options.target, options.seed),
    )
    if file.suffix not in (".yaml", ".yml"):
        file, asked = deploy.of_evaluation(
            options.which, sorted(options.reports.glob("*/results.csv")), DATA / "experiments"
        )
    if options.adapter and options.to != "folder":
        raise InputError(
            f"An adapter is written as one file, but --to {options.to} came with --adapter. Leave one of them"
            " out."
        )
    experiment = Experiment.read(file)
    cell = deploy.choose(experiment, asked, options.to)
    if options.to == "hub":
        deploy.check_hub(options.repo, public=options.public)
    pipeline = Pipeline(experiment, open_data(experiment.data, options.data), Store(options.store))
    form = "folder" if options.to == "hub" else options.to
    system = experiment.named(cell).replace(":", "-")
    what = f"adapter-{options.adapter}" if options.adapter else form
    name = "-".join((experiment.name, system, cell.task, cell.target, str(cell.seed), what))
    folder = options.out or CACHE / "exports" / name
    if options.adapter:
        print(deploy.write_adapter(pipeline, cell, options.adapter, folder))
        return 0
    deploy.export(pipeline, cell, form, folder, say=print)
    print(folder)
    if options.to == "hub":
        print(deploy.upload(folder, options.repo, public=options.public))
    return 0


def _predict(options: argparse.Namespace) -> int:
    from bistil.deploy.predict import predict
    from bistil.training.progress import Terminal, silent

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as the text that is read
    file: Path | bytes = sys.stdin.buffer.read() if str(options.file) == "-" else options.file
    for line in predict(
        options.model,
        file,
        as_json=options.json,
        confidence=options.confidence,
        warn=lambda told: print(f"warning: {told}", file=sys.stderr),
        progress=Terminal() if sys.stderr.isatty() and not sys.stdout.isatty() else silent,
    ):
        print(line)
    return 0
