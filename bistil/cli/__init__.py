"""The command line: `bistil demo | batch | stage | study | data | pretrain | world | report | bench | info |
export | predict | doctor`.

Notable: commands only parse, call and print; an `InputError` is shown as its paragraph, without a traceback,
and Ctrl-C says how to go on. It stays argparse: typer declares the same options one by one too, and brings
four packages along.
"""

import argparse
import errno
import sys
from collections.abc import Sequence

from bistil.cli import machine, results, runs, sources
from bistil.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bistil", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in (runs, results, sources, machine):
        room.add_commands(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except InputError as error:
        print(f"bistil: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"bistil: The disk is full ({error}). Free some space and give the same command again: it"
            " goes on.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(
            "\nbistil: interrupted. Finished stages are kept; the same command goes on from the last"
            " checkpoint.",
            file=sys.stderr,
        )
        return 130
