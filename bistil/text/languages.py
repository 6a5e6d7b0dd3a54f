"""The language table, and where a data folder keeps each language's files.

Notable: miniworld and the real data share one layout, so nothing after this file knows which of the two it
works on."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bistil.errors import InputError
from bistil.settings.files import is_file, read_csv
from bistil.settings.places import DATA

CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""What a language may be called, since files, figures and pages are named by it."""
SPLITS = ("train", "dev", "test")
REQUIRED = ("code", "name", "family", "seen", "corpus")
OPTIONAL = ("treebank", "ner", "nli", "classification", "choice", "qa", "parallel")
SAID: Mapping[str, set[str]] = {"yes": {"true", "yes", "1"}, "no": {"false", "no", "0", ""}}
"""How the column `seen` says it, in any case of letters."""


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

    Raises:
        InputError: where the file is no such table, or a row of it is wrong (with its line).
    """
    languages: dict[str, Language] = {}
    header, rows = read_csv(path)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        hint = " Its cells are separated by semicolons; save it with commas." if ";" in str(header) else ""
        raise InputError(
            f"A language table with the columns {', '.join(REQUIRED)} was expected in {path};"
            f" {missing[0]!r} is missing.{hint}"
        )
    for number, row in rows:
        wrong = _wrong(row) or ("is there already" if row["code"] in languages else "")
        if wrong:
            raise InputError(f"{path}, line {number}: the language {row['code']!r} {wrong}.")
        languages[row["code"]] = Language(
            **{name: row[name] for name in REQUIRED if name != "seen"},
            seen=row["seen"].lower() in SAID["yes"],
            files={column: row[column] for column in header if column not in REQUIRED},
        )
    return languages


@lru_cache(maxsize=8)
def _kept(path: Path, size: int, changed: int) -> Mapping[str, Language]:
    """The table of a file as it is now: a plan asks for it thousands of times."""
    return read_table(path)


def _wrong(row: Mapping[str, str]) -> str:
    """What is wrong with a row of the table, to be read after the code; empty for a good one."""
    if not CODE.fullmatch(row["code"]):
        return "should have a code of letters, digits, '-' and '_' (40 at most, no mark first)"
    if row["seen"].lower() not in SAID["yes"] | SAID["no"]:
        return f"should be seen by the teacher or not, yes or no, but `seen` is {row['seen']!r}"
    for column in ("corpus", *OPTIONAL):
        pattern = row.get(column, "")
        if set("{}\0") & set(pattern.replace("{split}", "")):
            return (
                f"should have a path under `{column}`, in braces nothing but {{split}}, but has {pattern!r}"
            )
    return ""


def check_known(codes: Iterable[str], table: Collection[str]) -> None:
    """Refuse codes that a table of languages does not have.

    Raises:
        InputError: for the first unknown code, naming the closest ones.
    """
    for code in codes:
        if code not in table:
            near = difflib.get_close_matches(code, table, n=3, cutoff=0.3)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise InputError(
                f"A language code of the table was expected, but {code!r} is not in it.{hint} Known:"
                f" {', '.join(sorted(table))}."
            )


def of_split(pattern: str, split: str) -> str:
    """The path that a pattern of the table means for a split."""
    return pattern.replace("{split}", split)


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
    def has_table(self) -> bool:
        """Whether the folder has a languages.csv of its own."""
        return (self.root / "languages.csv").is_file()

    @property
    def table(self) -> Path:
        """The file of the folder's own table, or else of the project's."""
        return (self.root if self.has_table else DATA) / "languages.csv"

    @property
    def languages(self) -> dict[str, Language]:
        """All languages of the folder's table, by code."""
        told = self.table.stat()
        return dict(_kept(self.table, told.st_size, told.st_mtime_ns))

    def language(self, code: str) -> Language:
        """One language.

        Raises:
            InputError: for an unknown code, naming the closest ones.
        """
        table = self.languages
        check_known([code], table)
        return table[code]

    def text(self, code: str) -> Path:
        """The unlabelled text of a language, one sentence or paragraph a line."""
        return self.root / self.language(code).corpus

    def file(self, column: str, code: str, split: str) -> Path:
        """The file that a column of the table names for a language and a split, as ("nli", "aym", "test").

        Args:
            column: a task says its own (`Task.column`).

        Raises:
            InputError: where the table names none, or the file is not there.
        """
        path = self.place(column, code, split)
        if path is None or not is_file(path):
            raise InputError(
                f"A {split} file of {code} was expected from the table's column `{column}`"
                + (f" at {path}" if path else "")
                + ", but there is none."
            )
        return path

    def place(self, column: str, code: str, split: str) -> Path | None:
        """Where that file has to be; None where the table names none."""
        pattern = self.language(code).files.get(column, "")
        named = pattern and ("{split}" in pattern or split == "test")
        return self.root / of_split(pattern, split) if named else None

    def translations(self, source: str, target: str) -> Path:
        """The file with sentences of one language and their translations into another.

        Raises:
            InputError: where there is none.
        """
        path = self.root / "translations" / f"{source}-{target}.tsv"
        if not is_file(path):
            raise InputError(
                f"Sentences of {source} with translations were expected at {path}: a line for each."
            )
        return path

    def has(self, column: str, code: str, split: str) -> bool:
        """Whether that file is there."""
        try:
            self.file(column, code, split)
        except InputError:
            return False
        return True
