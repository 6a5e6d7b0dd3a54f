"""Text files as people save them: one rule for encodings and line ends, readers of JSON and CSV, the
loader of YAML, and the writer of CSV.

Notable:
* text is UTF-8, with or without a byte order mark; what is not is refused with the line, and with the
  encoding where that shows. Nothing is guessed;
* a line ends at \\n or \\r\\n, or at \\r in a file that has no \\n at all (old Mac). No other sign ends one,
  since files of translations are read side by side;
* JSON and CSV are taken strictly: half a surrogate pair, a key said twice, NaN, an open quotation mark or a
  row of another length is an error, not a guess.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml

from bistil.errors import InputError

MARK = b"\xef\xbb\xbf"
OTHERS = {b"\xff\xfe\x00\x00": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""How files in other encodings begin."""
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u([dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
"""Escapes of JSON; the group is half of a surrogate pair alone."""
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.]*(e[+-]?\d+)?$)")
"""How a cell begins that a spreadsheet would work out; numbers may have a sign."""


def open_bytes(path: Path) -> BinaryIO:
    """Open a file that a user named.

    Raises:
        InputError: where it is not there or cannot be read, with the system's reason.
    """
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(
            f"A file was expected at {path}, but there is none. Check the folder, and the table or settings"
            " that name it."
        ) from error
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"A readable file was expected at {path!s}, but: {reason}.") from error


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file system takes has none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, without their ends, as they are asked for.

    Raises:
        InputError: where the file cannot be read or is not UTF-8 text.
    """
    with open_bytes(path) as file:
        first = file.readline()
        _check_encoding(path, first)
        first = first.removeprefix(MARK)
        mac = b"\r" in first and not first.endswith(b"\n")
        raws = first.removesuffix(b"\r").split(b"\r") if mac else chain([first] if first else [], file)
        for number, raw in enumerate(raws, start=1):
            yield number, _decoded(path, raw, number).removesuffix("\n").removesuffix("\r")


def read_text(path: Path) -> str:
    """The text of a file, its line ends all `\\n`.

    Raises:
        InputError: where the file cannot be read or is not UTF-8 text.
    """
    with open_bytes(path) as file:
        return text_of(path, file.read())


def text_of(path: Path, data: bytes) -> str:
    """The text of a file's bytes, its line ends all `\\n`.

    Args:
        path: How errors call the file.

    Raises:
        InputError: where they are no UTF-8 text.
    """
    _check_encoding(path, data)
    text = _decoded(path, data.removeprefix(MARK), 1)
    return text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: for what is no JSON (a `json.JSONDecodeError` where there is a place), half a surrogate
            pair, a key said twice, NaN and Infinity, a number too long, and too deep a nesting.
    """
    for escape in _ESCAPES.finditer(text):
        if escape[1]:
            raise json.JSONDecodeError(
                f"half of a surrogate pair, {escape[0]}, as of an emoji cut in two", text, escape.start()
            )
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path, kind: type = object) -> Any:
    """The value of a JSON file.

    Args:
        kind: what the value has to be: `dict` or `list`.

    Raises:
        InputError: where the file cannot be read, is no JSON (with the line) or holds another kind.
    """
    text = read_text(path)
    try:
        found = parse_json(text)
    except ValueError as error:
        line, why = getattr(error, "lineno", None), getattr(error, "msg", error)
        where = f"{path}, line {line}" if line else f"{path}"
        raise InputError(
            f"{where}: expected JSON, but got text that is none ({why}). Get the file anew."
        ) from error
    if not isinstance(found, kind):
        name = "a mapping" if kind is dict else "a list"
        raise InputError(
            f"{path}: expected {name} in JSON, but got {type(found).__name__}. Get the file anew."
        )
    return found


MERGE = "tag:yaml.org,2002:merge"


class YamlLoader(yaml.SafeLoader):
    """yaml's own, but for merges (`<<: *other`) and places. A key that several merges bring is there once, or
    merges of merges would double with each level. What cannot be constructed has its place in the file.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct the value of a node; constructors fail in the ways of what they construct."""
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise yaml.constructor.ConstructorError(
                problem=str(error), problem_mark=node.start_mark
            ) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put in place what a mapping merges. Its own keys count before those, and the first mapping's before
        the next one's (yaml.org/type/merge.html); the order of yaml's own differs by version.
        """
        merges = [below for key, below in node.value if key.tag == MERGE]
        own = node.value = [(key, below) for key, below in node.value if key.tag != MERGE]
        merged = []
        for below in merges:
            for part in reversed(below.value if isinstance(below, yaml.SequenceNode) else [below]):
                if not isinstance(part, yaml.MappingNode):
                    told = f"expected a mapping, or a list of them, to merge, but found a {part.id}"
                    raise yaml.constructor.ConstructorError(problem=told, problem_mark=part.start_mark)
                self.flatten_mapping(part)
                merged += part.value
        last = {
            (key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)): (key, below)
            for key, below in (*merged, *own)
        }
        node.value = list(last.values())


def csv_text(rows: Iterable[Sequence[Any]], *, formulas: bool = False) -> str:
    """A table with commas, None an empty cell. Text that a spreadsheet would take for a formula gets an
    apostrophe before it, which marks it as text, unless cells are to be read again as they are (`formulas`).
    """
    text = io.StringIO(newline="")
    cells = rows if formulas else [map(_no_formula, row) for row in rows]
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def _no_formula(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header of a table with commas, and its rows by column, each with the number of its last line; empty
    rows are left out.

    Raises:
        InputError: where the file cannot be read, a column is named twice, or a row has another length than
            the header (with its line).
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cells):
                continue
            if not header:
                header = _header(path, cells)
            elif len(cells) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: a row of {len(header)} cells was expected, as in the"
                    f" header, but this one has {len(cells)}. A cell with a comma in it stands in quotation"
                    " marks."
                )
            else:
                rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: a table with commas between its cells was expected, but:"
            f" {error}. Is it another file?"
        ) from error
    return header, rows


def _header(path: Path, cells: list[str]) -> list[str]:
    [(name, times)] = Counter(filter(None, cells)).most_common(1)
    if times > 1:
        raise InputError(f"{path}: one column of each name was expected, but {name!r} is there twice.")
    return cells


def _check_encoding(path: Path, data: bytes) -> None:
    for mark, name in OTHERS.items():
        if data.startswith(mark):
            raise InputError(
                f"UTF-8 text was expected in {path}, but the file begins with the mark of {name}. Save it as"
                f" UTF-8 (in a shell: iconv -f {name} -t UTF-8)."
            )


def _decoded(path: Path, data: bytes, line: int) -> str:
    """Text of bytes that begin with a line of this number."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise InputError(
            f"UTF-8 text was expected in {path}, but line {line} holds the byte 0x{data[error.start]:02x}."
            " Convert the file to UTF-8 (for example with iconv) and run again."
        ) from error
    if "\0" in text:
        line += text.count("\n", 0, text.index("\0"))
        raise InputError(
            f"UTF-8 text was expected in {path}, but line {line} holds the byte 0x00, as files in UTF-16 and"
            " damaged ones do. Save it as UTF-8, or get it anew."
        )
    return text


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:100]!r} is there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
