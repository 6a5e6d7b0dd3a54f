"""The command that cuts a model to some languages."""

import argparse
from pathlib import Path

from bistil.cli.options import Commands, codes, number
from bistil.errors import InputError
from bistil.settings.ranges import Share
from bistil.sources.folder import open_data


def add_commands(commands: Commands) -> None:
    """Declare it."""
    trim = commands.add_parser("trim", help="cut a model and its tokenizer to some languages, exactly")
    trim.add_argument("model", help="folder, hub name or e5-small")
    trim.add_argument(
        "--languages", type=codes, default=(), help="codes with commas between them; text from --data"
    )
    trim.add_argument("--data", help="data folder, or `miniworld`; default: BISTIL_DATA")
    trim.add_argument("--text", nargs="+", type=Path, default=[], help="text files instead, a language each")
    trim.add_argument("--to", type=Path, required=True, help="the new folder")
    trim.add_argument(
        "--threshold", type=number(Share), default=1e-6, help="a token's least share of a language's text"
    )
    trim.add_argument(
        "--characters",
        choices=("kept", "scripts", "all"),
        default="scripts",
        help="single characters that stay: those in the text, those of its scripts, or all",
    )
    trim.set_defaults(run=_trim)


def _trim(options: argparse.Namespace) -> int:
    from bistil.text.corpora import read_lines
    from bistil.vocab.whole import trim

    if bool(options.languages) == bool(options.text):
        raise InputError("Either --languages, with --data, or --text with files was expected.")
    files = {path.stem: path for path in options.text}
    if len(files) < len(options.text):
        raise InputError("The --text files should have different names: each stands for a language.")
    if options.languages:
        data = open_data("folder", options.data)
        files = {code: data.text(code) for code in options.languages}
    corpora = {code: read_lines(path) for code, path in files.items()}
    found = trim(
        options.model, corpora, options.to, threshold=options.threshold, characters=options.characters
    )
    for name, (before, after) in (("tokens", found.tokens), ("parameters", found.parameters)):
        print(f"{name:12} {before:>13,} → {after:>13,}, {100 * (1 - after / before):.1f} % went")
    print(f"{'megabytes':12} {found.megabytes[0]:>13,.1f} → {found.megabytes[1]:>13,.1f}")
    for code, one in found.corpora.items():
        print(f"{code:12} {100 * one['share_identical']:.2f} % of {one['lines']:,} lines tokenise as before")
    if found.left:
        print(f"not taken over: {', '.join(found.left)}")
    print(f"same states and logits, to {found.apart:.2g} of the largest value\n{found.folder}")
    return 0
