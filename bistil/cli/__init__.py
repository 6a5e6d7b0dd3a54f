"""The command line: `bistil new | demo | batch | stage | study | data | pretrain | translator | teacher |
trim | world | report | rm | bench | info | export | predict | doctor`.

Notable: commands only parse, call and print. Whatever ends one is told in a line or a paragraph: bad input in
the words of its `InputError`, what the machine lacks by name, and a fault of bistil with the file that keeps
its traceback. It stays argparse: typer declares the same options one by one too, and brings four packages
along.
"""

import argparse
import errno
import io
import os
import re
import select
import sys
import tempfile
import traceback
from collections.abc import Sequence

from bistil import __version__
from bistil.cli import machine, results, runs, sources, vocabulary
from bistil.errors import InputError

REFUSED, FAULT, INTERRUPTED, UNREAD = 2, 70, 130, 141
"""Exit statuses: bad input or a machine that lacks something, a fault of bistil, Ctrl-C, nobody reads on."""
FULL = (errno.ENOSPC, errno.EDQUOT)
OUTSIDE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENOTEMPTY, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ESTALE),
)
"""What a file system refuses, whatever the program."""


def parser() -> argparse.ArgumentParser:
    """The reader of command lines: `run` of what it reads is the command's function."""
    reader = argparse.ArgumentParser(
        prog="bistil",
        description="Small models for two languages out of large ones for a hundred. `bistil COMMAND --help`"
        " says more of each command.",
    )
    reader.add_argument("--version", action="version", version=f"bistil {__version__}")
    commands = reader.add_subparsers(required=True, metavar="COMMAND")
    for room in (runs, results, sources, vocabulary, machine):
        room.add_commands(commands)
    return reader


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(arguments)
    goes_on = getattr(options, "goes_on", False)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a sign that the terminal lacks ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = int(options.run(options) or 0)
        sys.stdout.flush()
        return status
    except InputError as error:
        return _ended(REFUSED, str(error))
    except KeyboardInterrupt:
        kept = " Finished stages are kept; the same command goes on from the last checkpoint."
        return _ended(INTERRUPTED, f"interrupted.{kept if goes_on else ''}")
    except ModuleNotFoundError as error:
        from bistil.cli.doctor import extra_with

        extra = extra_with(error.name or "")
        told = f"The package {error.name} is needed for this command: pip install -e '.[{extra}]'"
        return _ended(REFUSED, told) if extra else _fault(error)
    except BrokenPipeError as error:
        return UNREAD if _nobody_reads() else _fault(error)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return _ended(REFUSED, f"The memory is full ({error}). Give smaller batches, or fewer workers.")
        if (number := _system_number(error)) in FULL:
            again = "Free some space and give the same command again"
            return _ended(REFUSED, f"The disk is full ({error}). {again}{': it goes on' if goes_on else ''}.")
        if number in OUTSIDE:
            at = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            return _ended(REFUSED, f"The system refused a file or folder: {at}.")
        return _fault(error)


def _system_number(error: Exception) -> int | None:
    """The system's number of what went wrong; libraries in Rust, such as safetensors, tell it in words."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


def _ended(status: int, told: str) -> int:
    print(f"bistil: {told}", file=sys.stderr)
    return status


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone; then nothing more is written to it."""
    try:
        output, poll = sys.stdout.fileno(), select.poll()
    except OSError:  # something in memory
        return False
    poll.register(output, 0)
    gone = bool(poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _fault(error: Exception) -> int:
    """Keep the traceback of what nobody has foreseen, and say in a line what to report."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="bistil_fault_", suffix=".txt", encoding="utf-8", errors="replace", delete=False
    ) as file:
        print("bistil", *sys.argv[1:], file=file)
        traceback.print_exception(error, file=file)
    first = (str(error).splitlines() or [""])[0][:300]
    return _ended(
        FAULT,
        f"This is a fault of bistil ({type(error).__name__}: {first}). Please report it together with"
        f" {file.name}, which keeps the command and the traceback.",
    )
