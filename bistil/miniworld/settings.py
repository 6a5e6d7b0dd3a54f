"""The settings of a world: a seed, sizes, sharing rates, families and languages, read from one YAML file.

Notable: an unknown key, a value outside its list or a code outside ISO 639's private range is an `InputError`
before anything is written."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bistil.errors import InputError
from bistil.text.files import read_yaml

T = TypeVar("T")
SPLITS = ("train", "dev", "test")
CHOICES: dict[str, tuple[object, ...]] = {
    "order": ("SVO", "SOV", "VSO"),
    "adposition": ("before", "after"),
    "adjective": ("before", "after"),
    "possessor": ("before", "after"),
    "relative": ("before", "after"),
    "agreement": ("none", "verb", "full"),
    "affix": ("prefix", "suffix"),
    "script": ("latin", "cyrillic", "greek"),
    "capitals": ("names", "nouns", "none"),
}
TYPOLOGY = (*CHOICES, "case", "article", "copula", "contraction", "extraposition", "commas")


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Numbers of examples in each split."""

    train: int
    dev: int
    test: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of sentences, pairs or questions for each language; `parallel` is for each pair with the source
    language.
    """

    corpus: int = 12000
    treebank: Splits = Splits(train=1200, dev=200, test=300)
    ner: Splits = Splits(train=1200, dev=200, test=300)
    nli: Splits = Splits(train=600, dev=100, test=200)
    qa: Splits = Splits(train=600, dev=100, test=200)
    parallel: int = 1000


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What languages share beyond descent: the share of names in their international form, and of words
    borrowed across families.
    """

    names: float = 0.6
    loans: float = 0.12


@dataclass(frozen=True, kw_only=True)
class FamilySettings:
    """The sounds of a proto-language, as space-separated letters; `closed` is the percentage of syllables
    with a coda.
    """

    consonants: str
    vowels: str
    codas: str
    closed: int = 30


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """One language: its family, its typology vector, the share of replaced words and its ordered sound
    changes (`pattern>replacement`).
    """

    code: str
    name: str
    family: str
    seen: bool
    order: str
    adposition: str
    adjective: str
    possessor: str
    relative: str
    agreement: str
    case: bool
    affix: str
    article: bool
    copula: bool
    script: str
    capitals: str
    contraction: bool
    extraposition: bool
    commas: bool
    replaced: float
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """Everything that decides a world, to the byte."""

    seed: int
    source: str
    sizes: Sizes
    sharing: Sharing
    families: Mapping[str, FamilySettings]
    languages: tuple[LanguageSettings, ...]

    def __post_init__(self) -> None:
        """Raise InputError when the parts do not fit together."""
        codes = [language.code for language in self.languages]
        if len(set(codes)) != len(codes):
            raise InputError(
                f"Each language needs its own code, but the miniworld settings name {codes}. Give each one a"
                " different code."
            )
        if self.source not in codes:
            raise InputError(
                f"The source language must be one of {codes}, but it is {self.source!r}. Correct `source`."
            )
        _check_sizes(self.sizes, "sizes")
        _check_share("sharing.names", self.sharing.names)
        _check_share("sharing.loans", self.sharing.loans)
        for language in self.languages:
            if language.family not in self.families:
                known = sorted(self.families)
                raise InputError(
                    f"Language {language.code} has the family {language.family!r}, but the families are"
                    f" {known}. Add it there."
                )
            _check_language(language)


def load_settings(path: Path | str) -> WorldSettings:
    """Read settings from a YAML file.

    Raises: InputError: the file is missing, is not YAML, has an unknown or missing key, or a value that
        cannot be used.
    """
    return parse_settings(read_yaml(Path(path)))


def parse_settings(found: Any) -> WorldSettings:
    """Turn nested mappings (as YAML gives them) into `WorldSettings`; every key is checked."""
    top = _fields(WorldSettings, found, "the top level")
    sizes = _fields(Sizes, top["sizes"], "sizes")
    for key in ("treebank", "ner", "nli", "qa"):
        if key in sizes:
            sizes[key] = _make(Splits, sizes[key], f"sizes.{key}")
    languages = []
    for index, entry in enumerate(top["languages"]):
        values = _fields(LanguageSettings, entry, f"languages[{index}]")
        languages.append(LanguageSettings(**{**values, "changes": tuple(values.get("changes", ()))}))
    top["sizes"] = Sizes(**sizes)
    top["sharing"] = _make(Sharing, top["sharing"], "sharing")
    families = _mapping(top["families"], "families")
    top["families"] = {
        name: _make(FamilySettings, family, f"families.{name}") for name, family in families.items()
    }
    top["languages"] = tuple(languages)
    return WorldSettings(**top)


def _check_language(language: LanguageSettings) -> None:
    if not re.fullmatch("q[a-t][a-z]", language.code):
        raise InputError(
            f"Expected a code in ISO 639's private range qaa..qtz, but a language has {language.code!r}."
            " Choose another code."
        )
    for name, choices in CHOICES.items():
        value = getattr(language, name)
        if value not in choices:
            raise InputError(
                f"Expected {name} of {language.code} to be one of {list(choices)}, but it is {value!r}."
                " Correct the settings."
            )
    for name in ("seen", "case", "article", "copula", "contraction", "extraposition", "commas"):
        if not isinstance(getattr(language, name), bool):
            raise InputError(
                f"Expected {name} of {language.code} to be true or false, not {getattr(language, name)!r}."
                " Correct the settings."
            )
    _check_share(f"replaced of {language.code}", language.replaced)
    for change in language.changes:
        if not re.fullmatch(r"[^>]+>[^>]*", change) or not _compiles(change.split(">")[0]):
            raise InputError(
                f"Expected sound changes `pattern>replacement`, but {language.code} has {change!r}. Correct"
                " the settings."
            )


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _check_share(name: str, share: object) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InputError(
            f"Expected {name} to be a share between 0 and 1, but it is {share!r}. Correct the miniworld"
            " settings."
        )


def _check_sizes(sizes: object, place: str) -> None:
    for name, value in vars(sizes).items():
        if isinstance(value, Splits):
            _check_sizes(value, f"{place}.{name}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(
                f"Expected {place}.{name} to be a whole number from 0 on, but it is {value!r}. Correct the"
                " miniworld settings."
            )


def _mapping(found: Any, place: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise InputError(
            f"Expected a mapping at {place} of the miniworld settings, but found {found!r}. Correct the file."
        )
    return dict(found)


def _fields(kind: type, found: Any, place: str) -> dict[str, Any]:
    values = _mapping(found, place)
    names = [field.name for field in dataclasses.fields(kind)]
    needed = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    unknown, missing = sorted(set(values) - set(names)), sorted(set(needed) - set(values))
    if unknown or missing:
        raise InputError(
            f"Expected the keys {names} at {place} of the miniworld settings, but unknown keys came:"
            f" {unknown}, and these were missing: {missing}. Correct the spelling or remove the key."
        )
    return values


def _make(kind: type[T], found: Any, place: str) -> T:
    return kind(**_fields(kind, found, place))
