"""The language table, and where a data folder keeps each language's files.

Notable: miniworld and the real data share one layout, so nothing after this file knows which of the two it works on.
"""

import csv
import difflib
from dataclasses import dataclass
from pathlib import Path

from bistil.errors import InputError

DATA = Path(__file__).parent.parent / "data"
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class Language:
    """One row of the table: ISO 639-3 code, name, family, whether the teacher at hand has seen it, and its files' patterns."""

    code: str
    name: str
    family: str
    seen: bool
    corpus: str
    treebank: str = ""
    ner: str = ""


def read_table(path: Path) -> dict[str, Language]:
    """Languages by code from a CSV file; further columns are for people.

    :raises InputError: where the file is not UTF-8, lacks a column, or a row is short (with its line number).
    """
    names = ("code", "name", "family", "corpus", "treebank", "ner")
    languages = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in (*names, "seen") if name not in (table.fieldnames or ())]
            if missing:
                raise InputError(
                    f"A language table with the columns {', '.join([*names, 'seen'])} was expected in {path}; {missing[0]!r} is missing."
                )
            for row in table:
                if any(row[name] is None for name in (*names, "seen")):
                    raise InputError(f"{path}, line {table.line_num}: a row with all columns was expected, but this one is short.")
                seen = row["seen"].lower() in ("true", "yes", "1")
                languages[row["code"]] = Language(**{name: row[name] for name in names}, seen=seen)
    except UnicodeDecodeError as error:
        raise InputError(f"A language table in UTF-8 was expected in {path}, but: {error}. Convert the file.") from error
    return languages


@dataclass(frozen=True)
class DataFolder:
    """A folder with `corpora/`, `ud/`, `ner/` …; its own languages.csv, or else the project's, says what is where."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(f"A data folder was expected at {self.root}, but there is none. Give --data FOLDER or set BISTIL_DATA.")

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
                f"A language code of the table was expected, but {code!r} is not in it.{hint} Known: {', '.join(sorted(table))}."
            )
        return table[code]

    def text(self, code: str) -> Path:
        """The unlabelled text of a language, one sentence or paragraph a line."""
        return self.root / self.language(code).corpus

    def file(self, task: str, code: str, split: str) -> Path:
        """The task file (`parsing` or `ner`) of a language and split.

        :raises InputError: where the table names none, or the file is not there.
        """
        pattern = {"parsing": self.language(code).treebank, "ner": self.language(code).ner}.get(task, "")
        path = self.root / pattern.format(split=split)
        if not pattern or not path.is_file():
            raise InputError(
                f"A {split} file for {task} in {code} was expected" + (f" at {path}" if pattern else "") + ", but there is none."
            )
        return path

    def has(self, task: str, code: str, split: str) -> bool:
        """Whether that file is there."""
        try:
            return self.file(task, code, split).is_file()
        except InputError:
            return False
