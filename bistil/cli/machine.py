"""Commands about this machine: what it has, and what things cost on it."""

import argparse
from pathlib import Path

from bistil.cli.options import Commands, codes
from bistil.settings.places import CACHE, REPORTS

BENCH = (
    "step",
    "recipes",
    "sft",
    "adapters",
    "labels",
    "vocab",
    "switch",
    "eval",
    "inference",
    "scaling",
    "translation",
)
BENCH_SIZES = (
    ("layers", 12, "layers of the random BERT"),
    ("hidden", 768, "its hidden size, a multiple of 64"),
    ("vocabulary", 119547, "its vocabulary"),
    ("kept", 31000, "that of its student"),
    ("batch", 8, "sequences in a training batch"),
    ("length", 256, "tokens of each"),
    (
        "lines",
        100000,
        "lines of text to tokenise; a sentence to parse for every 750, two to compare for every 100",
    ),
    ("turns", 3, "how often each side is measured, after one turn to warm up"),
)


def add_commands(commands: Commands) -> None:
    """Declare them."""
    bench = commands.add_parser(
        "bench",
        help="what our way costs against the published way and the least any needs, in one run",
    )
    bench.add_argument(
        "part", nargs="?", default="all", choices=(*BENCH, "all"), metavar="|".join((*BENCH, "all"))
    )
    bench.add_argument(
        "--to",
        type=Path,
        default=REPORTS / "bench",
        help="folder of the JSON (default: reports/bench/)",
    )
    bench.add_argument(
        "--teacher",
        help="of sft and inference: a real one, by folder or name, beside itself cut to --languages",
    )
    bench.add_argument(
        "--languages", type=codes, default="eng,deu", help="of such a teacher (default: %(default)s)"
    )
    bench.add_argument("--data", help="data folder with their text, or `miniworld`; default: BISTIL_DATA")
    for name, default, help_text in BENCH_SIZES:
        bench.add_argument(f"--{name}", type=int, default=default, help=f"{help_text} (default: %(default)s)")
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser("doctor", help="what this machine has for bistil, and what is missing")
    doctor.add_argument(
        "--store",
        type=Path,
        default=CACHE / "store",
        help="where artefacts are kept (default: data/cache/store)",
    )
    doctor.set_defaults(run=_doctor)


def _bench(options: argparse.Namespace) -> int:
    from bistil.bench import Size, run_bench, run_real
    from bistil.sources.folder import open_data
    from bistil.store.whole import check_place
    from bistil.text.corpora import read_lines

    check_place(options.to, "The JSON")
    size = Size(**{name: getattr(options, name) for name, _, _ in BENCH_SIZES})
    if options.teacher:
        data = open_data("folder", options.data)
        corpora = {code: read_lines(data.text(code)) for code in options.languages}
        print(run_real(options.to, options.part, options.teacher, corpora, size, say=print), flush=True)
        return 0
    for part in BENCH if options.part == "all" else (options.part,):
        print(run_bench(options.to, part, size, say=print), flush=True)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from bistil.cli.doctor import examine

    broken = False
    for finding in examine(options.store):
        broken |= finding.state == "broken"
        print(f"{finding.state:8} {finding.what:18} {finding.told}", flush=True)
    return 1 if broken else 0
