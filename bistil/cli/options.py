"""Options that several commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bistil.settings.places import CACHE, REPORTS, processors
from bistil.settings.ranges import Count, problems
from bistil.training.logs import FORMS, ask

Commands = argparse._SubParsersAction
"""What commands are declared in."""


def number(kind: Any) -> Callable[[str], float]:
    """A reader of numbers in the range that a type declares, to be the `type` of an option."""

    def read(text: str) -> float:
        try:
            value = float(text) if set(".eE") & set(text) else int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"should be a number, but is {text!r}") from None
        for problem in problems(kind, value):
            raise argparse.ArgumentTypeError(problem.told)
        return value

    return read


def codes(text: str) -> tuple[str, ...]:
    """The languages of an option, with commas between them."""
    found = tuple(filter(None, (code.strip() for code in text.split(","))))
    if not found:
        raise argparse.ArgumentTypeError("should name a language at least")
    return found


def run_options(parser: argparse.ArgumentParser) -> None:
    """Where a command that runs stages finds its input, with what it runs them, and where its report goes."""
    place_options(parser)
    parser.add_argument(
        "--workers",
        "--cores",
        type=number(Count),
        help=f"processes, one thread each (default: {processors()})",
    )
    device_option(parser)
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where reports go (default: reports/)")
    log_options(parser)


def device_option(parser: argparse.ArgumentParser) -> None:
    """On what models run."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")


def seeds_option(parser: argparse.ArgumentParser) -> None:
    """Which seeds of the experiment's file are meant."""
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=(),
        metavar="N",
        help="which of the file's seeds to run this time (default: all)",
    )


def log_options(parser: argparse.ArgumentParser) -> None:
    """Where the curves of every training go besides."""
    parser.add_argument("--log", choices=FORMS, help="also log every training for TensorBoard, or W&B")
    parser.add_argument(
        "--logs", type=Path, default=CACHE / "logs", help="folder of these logs (default: data/cache/logs)"
    )


def start_logs(options: argparse.Namespace) -> None:
    """Do what `log_options` asked for."""
    if options.log:
        ask(options.log, options.logs)


def place_options(parser: argparse.ArgumentParser) -> None:
    """Where a command finds data and artefacts."""
    parser.add_argument("--data", help="data folder for experiments on real data; default: BISTIL_DATA")
    parser.add_argument(
        "--store",
        type=Path,
        default=CACHE / "store",
        help="where artefacts are kept (default: data/cache/store)",
    )
