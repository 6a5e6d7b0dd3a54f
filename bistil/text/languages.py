"""The language table, and where a data folder keeps each language's files.

Notable: miniworld and the real data share one layout, so nothing after this file knows which of the two it
works on."""

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bistil.errors import InputError
from bistil.settings.places import DATA

SPLITS = ("train", "dev", "test")
REQUIRED = ("code", "name", "family", "seen", "corpus")
OPTIONAL = ("treebank", "ner", "nli", "qa", "parallel")
COLUMN_OF = {"parsing": "treebank", "pos": "treebank", "retrieval": "parallel"}
"""Column of the task's files; any other task has the column of its own name."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """One row of the table: ISO 639-3 code, name, family, whether the teacher at hand has seen it, its text,
    and all further columns.

    `files` holds, by column, patterns in which {split} becomes train, dev or test; a pattern without it is a
    test file.
    """

    code: str
    name: str
    family: str
    seen: bool
    corpus: str
    files: Mapping[str, str]


def read_table(path: Path) -> dict[str, Language]:
    """Languages by code from a CSV file. The columns of OPTIONAL may be missing; those that no task knows are
    for people.

    :raises InputError: where the file is not UTF-8, lacks a required column, or a row is short (with its line
    number).
    """
    languages = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (table.fieldnames or ())]
            if missing:
                raise InputError(
                    f"A language table with the columns {', '.join(REQUIRED)} was expected in {path};"
                    f" {missing[0]!r} is missing."
                )
            for row in table:
                if None in row.values():
                    raise InputError(
                        f"{path}, line {table.line_num}: a row with all columns was expected, but this one is"
                        " short."
                    )
                further = {column: row[column] for column in table.fieldnames or () if column not in REQUIRED}
                named = {name: row[name] for name in REQUIRED if name != "seen"}
                languages[row["code"]] = Language(
                    **named, seen=row["seen"].lower() in ("true", "yes", "1"), files=further
                )
    except UnicodeDecodeError as error:
        raise InputError(
            f"A language table in UTF-8 was expected in {path}, but: {error}. Convert the file."
        ) from error
    except csv.Error as error:
        raise InputError(
            f"A table with commas between its cells was expected in {path}, but: {error}. Is it another file?"
        ) from error
    return languages


@dataclass(frozen=True)
class DataFolder:
    """A folder with `corpora/`, `ud/`, `ner/` …; its own languages.csv, or else the project's, says what is
    where.
    """

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(
                f"A data folder was expected at {self.root}, but there is none. Give --data FOLDER or set"
                " BISTIL_DATA."
            )

    @property
    def languages(self) -> dict[str, Language]:
        """All languages of the folder's table, by code."""
        own = self.root / "languages.csv"
        return read_table(own if own.is_file() else DATA / "languages.csv")

    def language(self, code: str) -> Language:
        """One language.

        :raises InputError: for an unknown code, naming the closest ones.
        """
        table = self.languages
        if code not in table:
            near = difflib.get_close_matches(code, table, n=3, cutoff=0.3)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise InputError(
                f"A language code of the table was expected, but {code!r} is not in it.{hint} Known:"
                f" {', '.join(sorted(table))}."
            )
        return table[code]

    def text(self, code: str) -> Path:
        """The unlabelled text of a language, one sentence or paragraph a line."""
        return self.root / self.language(code).corpus

    def file(self, task: str, code: str, split: str) -> Path:
        """The file of a task, a language and a split, for example ("nli", "aym", "test").

        :raises InputError: where the table names none, or the file is not there.
        """
        pattern = self.language(code).files.get(COLUMN_OF.get(task, task), "")
        if "{split}" not in pattern and split != "test":
            pattern = ""
        path = self.root / pattern.format(split=split)
        if not pattern or not path.is_file():
            raise InputError(
                f"A {split} file for {task} in {code} was expected"
                + (f" at {path}" if pattern else "")
                + ", but there is none."
            )
        return path

    def has(self, task: str, code: str, split: str) -> bool:
        """Whether that file is there."""
        try:
            return self.file(task, code, split).is_file()
        except InputError:
            return False
