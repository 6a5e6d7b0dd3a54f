"""The table of data sets, data/datasets.yaml.

Notable: it says where things are and under which licence; no data comes with the project.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from bistil.errors import InputError
from bistil.settings.ranges import Filled, Settings
from bistil.settings.yaml import read_yaml
from bistil.text.languages import DATA


@dataclass(frozen=True, kw_only=True)
class Without(Settings):
    """Texts that a data set shall not have, since another one is tested on them.

    Attributes:
        set: The other data set's name, which has a part of the same language.
        splits: Which of its splits.
        nearest: Whether the rows nearest to each of these texts are left out as well, for texts that were
            changed on their way from one set to the other.
    """

    set: str
    splits: Annotated[tuple[str, ...], Filled()] = ("test",)
    nearest: bool = False


@dataclass(frozen=True, kw_only=True)
class DataSet(Settings):
    """An entry of the table.

    Attributes:
        name: The name by which experiments and the command line know it.
        task: A task's name, `text` (unlabelled) or `parallel`.
        format: What its files are read as: lines, conllu, iob2, pairs (of sentences, tabs between), labels
            (each before its text), squad (JSON) or tsv, which nobody writes.
        licence: The licence as the data set states it.
        homepage: Where its public files are.
        languages: Our codes, each with the publisher's name of that part.
        hub: The data set's id at the hub, None where it is not taken from there.
        revision: The hub's branch, None for the main one.
        files: The address of its public files where these are taken as they are, with {part} for what
            `languages` says and {split} for what `splits` says; None where they are not.
        splits: train, dev and test, each with the publisher's name of it; a split that the hub lacks is left
            out.
        drop: Entity types that become O.
        without: Another data set's texts that are left out of every split but `test`.
        note: What else a user should know.
    """

    name: str
    task: str
    format: Literal["lines", "conllu", "iob2", "pairs", "labels", "squad", "tsv"]
    licence: str
    homepage: str
    languages: dict[str, str]
    hub: str | None = None
    revision: str | None = None
    files: str | None = None
    splits: dict[str, str] = field(
        default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"}
    )
    drop: tuple[str, ...] = ()
    without: Without | None = None
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.files and (self.hub or self.revision or self.drop or self.without):
            raise InputError(
                f"The files of {self.name} are taken as they are: leave out `hub`, `revision`, `drop` and"
                " `without`, or `files`.",
                at=("files",),
            )

    @property
    def fetched(self) -> bool:
        """Whether `bistil data get` can take it from somewhere."""
        return self.hub is not None or self.files is not None


@cache
def data_sets(path: Path = DATA / "datasets.yaml") -> dict[str, DataSet]:
    """All entries by name."""
    return {entry.name: entry for entry in read_yaml(tuple[DataSet, ...], path)}


def data_set(name: str) -> DataSet:
    """One entry.

    Raises:
        InputError: for an unknown name, with the closest ones.
    """
    known = data_sets()
    if name not in known:
        raise InputError(_unknown(name, known))
    return known[name]


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"A data set of the table was expected, but {name!r} is not in it.{hint} `bistil data list` shows"
        " them."
    )
