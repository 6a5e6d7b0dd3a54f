"""Options that several commands share."""

import argparse
import os
from pathlib import Path

from bistil.settings.places import CACHE, ROOT

Commands = argparse._SubParsersAction
"""What commands are declared in."""


def run_options(parser: argparse.ArgumentParser) -> None:
    """Where a command that runs stages finds its input, with what it runs them, and where its report goes."""
    place_options(parser)
    parser.add_argument(
        "--workers", "--cores", type=int, help=f"processes, one thread each (default: {os.cpu_count() or 1})"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    parser.add_argument(
        "--reports", type=Path, default=ROOT / "reports", help="where reports go (default: reports/)"
    )


def place_options(parser: argparse.ArgumentParser) -> None:
    """Where a command finds data and artefacts."""
    parser.add_argument("--data", help="data folder for experiments on real data; default: BISTIL_DATA")
    parser.add_argument(
        "--store",
        type=Path,
        default=CACHE / "store",
        help="where artefacts are kept (default: data/cache/store)",
    )
