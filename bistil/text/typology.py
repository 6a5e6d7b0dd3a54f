"""Typology: languages as vectors of features that are there or not, and which languages are near by them.

Notable: a data folder's own features and those of lang2vec are read into one value. Nothing of lang2vec is
copied, and its package is never imported, only one file of it read.
"""

import difflib
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bistil.errors import InputError
from bistil.settings.files import read_csv
from bistil.settings.ranges import Settings
from bistil.text.languages import OPTIONAL, DataFolder

TABLE, PACKAGE, PREDICTED = "typology.csv", "lang2vec", "data/feature_predictions.npz"
GROUPS: Mapping[str, str] = {"S": "syntax", "P": "phonology", "INV": "inventory"}
"""What lang2vec's names of features begin with."""
ALIASES: Mapping[str, str] = {"nah": "nhn", "oto": "otq"}
"""Codes of several languages, and the one whose features lang2vec has."""


@dataclass(frozen=True, kw_only=True)
class TypologyConfig(Settings):
    """Where features of languages come from.

    Attributes:
        from_: `table`, the typology.csv of the data folder or else the further columns of its languages.csv,
            or `lang2vec`, the 289 features of the installed package of that name.
        features: Groups of features: of a table what stands before the `=` in their names, of lang2vec
            `syntax`, `phonology` and `inventory`; empty for all.
        among: Languages whose adapters stand in for those of languages that have none; empty for those that
            the generator is trained on.
    """

    from_: Literal["table", "lang2vec"] = "table"
    features: tuple[str, ...] = ()
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class Typology:
    """The features of languages.

    Attributes:
        names: of the features.
        rows: by code which of them a language has. Shape: [F] each, 0 or 1.
    """

    names: tuple[str, ...]
    rows: Mapping[str, np.ndarray]

    def vector(self, code: str) -> np.ndarray:
        """Which features a language has. Shape: [F], float32.

        Raises:
            InputError: where it has none, naming the codes nearest to it that have some.
        """
        self.check([code])
        return self.rows[code]

    def check(self, codes: Iterable[str]) -> None:
        """Refuse languages without features.

        Raises:
            InputError: for all of them at once, naming the nearest codes that have some.
        """
        if lacking := [code for code in codes if code not in self.rows]:
            near = difflib.get_close_matches(lacking[0], self.rows, n=3, cutoff=0.3)
            raise InputError(
                f"Languages with typological features were expected, but {', '.join(lacking)} have none."
                f" Nearest to {lacking[0]!r} in spelling are {', '.join(near) or 'none'}; give it features in"
                f" {TABLE} of the data folder, or leave it out."
            )

    def features(self, code: str) -> list[str]:
        """The names of the features that a language has."""
        return [name for name, one in zip(self.names, self.vector(code), strict=True) if one]

    def likeness(self, code: str, other: str) -> float:
        """The cosine of two languages' features, from 0 to 1."""
        a, b = (self.vector(one).astype(np.float64) for one in (code, other))
        return float(a @ b) / max(float(a @ a) * float(b @ b), 1.0) ** 0.5

    def nearest(self, code: str, among: Collection[str]) -> list[str]:
        """Some languages, those nearest to one by the cosine of their features first; equal ones by code."""
        return sorted(among, key=lambda other: (-round(self.likeness(code, other), 12), other))

    def digest(self, codes: Iterable[str]) -> str:
        """The content of what some languages have, as an input of a stage."""
        found = sha256("\n".join(self.names).encode())
        for code in sorted(codes):
            found.update(code.encode() + b"\0" + self.vector(code).astype(np.uint8).tobytes())
        return f"sha256:{found.hexdigest()}"


def read_typology(config: TypologyConfig, data: DataFolder) -> Typology:
    """Read the features that an experiment asks for.

    Raises:
        InputError: where there are none, they cannot be read, or a group is unknown.
    """
    whole = _lang2vec() if config.from_ == PACKAGE else _table(data)
    groups = [GROUPS.get(name.partition("_")[0], "") if config.from_ == PACKAGE else name.partition("=")[0]
              for name in whole.names]  # fmt: skip
    if unknown := [one for one in config.features if one not in groups]:
        raise InputError(
            f"Groups of features were expected under `features`, {', '.join(dict.fromkeys(groups))}, but got"
            f" {unknown[0]!r}.",
            at=("typology", "features"),
        )
    kept = [number for number, group in enumerate(groups) if not config.features or group in config.features]
    rows = {code: row[kept] for code, row in whole.rows.items()}
    return Typology(tuple(whole.names[number] for number in kept), rows)


def _table(data: DataFolder) -> Typology:
    """A folder's own: `typology.csv` with a `code` and columns of 0 and 1, or else each value that occurs in
    the columns of its languages.csv that name no files, as a feature of its own.
    """
    path = data.root / TABLE
    if not path.is_file():
        table = data.languages if data.has_table else {}
        columns = {column for one in table.values() for column in one.files} - set(OPTIONAL)
        columns -= {column for one in table.values() for column in columns if "/" in one.files[column]}
        said = {
            code: {f"{column}={value}" for column, value in one.files.items() if column in columns and value}
            for code, one in table.items()
        }
        names = tuple(sorted(set().union(*said.values())))
        if not names:
            raise InputError(
                f"Features of languages were expected in {path}, a table with the columns `code` and one of 0"
                " and 1 for each feature, but there is none. Write it, or take `from: lang2vec`."
            )
        return Typology(
            names, {code: _vector([name in own for name in names]) for code, own in said.items() if own}
        )
    header, lines = read_csv(path)
    if header[:1] != ["code"] or len(header) < 2:
        raise InputError(
            f"The columns `code` and one for each feature were expected in {path}, got {header}."
        )
    rows: dict[str, np.ndarray] = {}
    for number, row in lines:
        code, *values = row.values()
        if code in rows or set(values) - {"0", "1"}:
            raise InputError(f"{path}, line {number}: a language once, with 0 or 1 a feature, was expected.")
        rows[code] = _vector([value == "1" for value in values])
    return Typology(tuple(header[1:]), rows)


def _lang2vec() -> Typology:
    """URIEL's features with gaps filled from their nearest neighbours, as the package has them on disk."""
    try:  # not by its module, whose name is also a script's that it puts beside `bistil`
        path = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/{PREDICTED}")))
    except PackageNotFoundError as error:
        raise InputError(
            "Features `from: lang2vec` need the files of that package: pip install -e '.[typology]'."
        ) from error
    try:
        with np.load(path, allow_pickle=False) as file:
            names, codes, values = (np.asarray(file[key]) for key in ("feats", "langs", "data"))
        values = values.reshape(len(codes), len(names))
        if not np.isin(values, (0, 1)).all():
            raise ValueError("there are values beside 0 and 1")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Features of languages were expected in {path}, but it cannot be used ({error!r}). Install"
            " lang2vec again."
        ) from error
    rows = {str(code): row.astype(np.float32) for code, row in zip(codes, values, strict=True)}
    rows |= {alias: rows[code] for alias, code in ALIASES.items() if code in rows}
    return Typology(tuple(map(str, names)), rows)


def _vector(features: Sequence[Any]) -> np.ndarray:
    return np.array(features, dtype=np.float32)
