"""The settings of a world: a seed, sizes, sharing rates, families and languages, read from one YAML file.

Notable: an unknown key, a value outside its list or a code outside ISO 639's private range is an `InputError`
before anything is written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bistil.errors import InputError
from bistil.settings.ranges import Percent, Seed, Settings, Share, Tally
from bistil.settings.yaml import build, read_yaml

SPLITS = ("train", "dev", "test")
TYPOLOGY = (
    *("order", "adposition", "adjective", "possessor", "relative", "agreement", "affix", "script"),
    *("capitals", "case", "article", "copula", "contraction", "extraposition", "commas"),
)
Side = Literal["before", "after"]


@dataclass(frozen=True, kw_only=True)
class Splits(Settings):
    """Numbers of examples in each split.

    Attributes:
        train: Those to train on.
        dev: Those that pick a checkpoint.
        test: Those that are scored.
    """

    train: Tally
    dev: Tally
    test: Tally


@dataclass(frozen=True, kw_only=True)
class Sizes(Settings):
    """How much is written for each language.

    Attributes:
        corpus: Sentences of unlabelled text.
        treebank: Sentences with trees and parts of speech.
        ner: Sentences with names.
        nli: Pairs of sentences, rounded down to a multiple of three.
        topic: Texts with a topic.
        choice: Questions with candidates.
        qa: Questions.
        parallel: Sentence pairs of the source with each other language.
    """

    corpus: Tally = 12000
    treebank: Splits = Splits(train=1200, dev=200, test=300)
    ner: Splits = Splits(train=1200, dev=200, test=300)
    nli: Splits = Splits(train=600, dev=100, test=200)
    topic: Splits = Splits(train=1200, dev=200, test=300)
    choice: Splits = Splits(train=1200, dev=200, test=300)
    qa: Splits = Splits(train=600, dev=100, test=200)
    parallel: Tally = 1000


@dataclass(frozen=True, kw_only=True)
class Sharing(Settings):
    """What languages share beyond descent.

    Attributes:
        names: The share of names that a language takes in their international form.
        loans: The share of words that are borrowed across families.
    """

    names: Share = 0.6
    loans: Share = 0.12


@dataclass(frozen=True, kw_only=True)
class FamilySettings(Settings):
    """The sounds of a proto-language, as letters with spaces between.

    Attributes:
        consonants: What a syllable starts with.
        vowels: What it goes on with.
        codas: What it may end with.
        closed: The percentage of syllables that have a coda.
    """

    consonants: str
    vowels: str
    codas: str
    closed: Percent = 30


@dataclass(frozen=True, kw_only=True)
class GenusSettings(Settings):
    """A branch of a family: what its languages have in common and the rest of the family has not.

    Attributes:
        family: The family that it is a branch of.
        replaced: The share of words that are the branch's own.
        changes: Its sound changes in their order, before those of a language.
    """

    family: str
    replaced: Share = 0.0
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_changes(self.changes, f"a genus of {self.family}")


@dataclass(frozen=True, kw_only=True)
class LanguageSettings(Settings):
    """One language.

    Attributes:
        code: A code in ISO 639's private range, qaa to qtz.
        name: The name of the language.
        family: The family that its words descend from.
        seen: Whether the teacher is trained on it.
        order: The order of subject, verb and object.
        adposition: Where an adposition stands, seen from its noun.
        adjective: Where an adjective stands.
        possessor: Where a possessor stands.
        relative: Where a relative clause stands.
        agreement: What agrees: nothing, the verb, or adjectives too.
        case: Whether nouns have case.
        affix: On which side of a stem affixes stand.
        article: Whether nouns have articles.
        copula: Whether there is a copula.
        script: The script that it is written in.
        capitals: Which words have a capital letter.
        contraction: Whether words contract.
        extraposition: Whether relative clauses are extraposed.
        commas: Whether there are commas.
        replaced: The share of words that do not descend from the family.
        changes: Its sound changes in their order, each as `pattern>replacement`.
        genus: The branch of the family that it belongs to; empty for none.
    """

    code: str
    name: str
    family: str
    seen: bool
    order: Literal["SVO", "SOV", "VSO"]
    adposition: Side
    adjective: Side
    possessor: Side
    relative: Side
    agreement: Literal["none", "verb", "full"]
    case: bool
    affix: Literal["prefix", "suffix"]
    article: bool
    copula: bool
    script: Literal["latin", "cyrillic", "greek"]
    capitals: Literal["names", "nouns", "none"]
    contraction: bool
    extraposition: bool
    commas: bool
    replaced: Share
    changes: tuple[str, ...] = ()
    genus: str = field(default="", metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch("q[a-t][a-z]", self.code):
            told = f"A code in ISO 639's private range qaa..qtz was expected, but {self.code!r} came."
            raise InputError(told, at=("code",))
        _check_changes(self.changes, self.code)


@dataclass(frozen=True, kw_only=True)
class WorldSettings(Settings):
    """Everything that decides a world, to the byte.

    Attributes:
        seed: The seed of words, facts and sentences.
        source: The language that others are translated from and borrow from.
        sizes: How much is written.
        sharing: What languages share beyond descent.
        families: Families by name.
        languages: The languages.
        genera: Branches of families by name.
    """

    seed: Seed
    source: str
    sizes: Sizes
    sharing: Sharing
    families: Mapping[str, FamilySettings]
    languages: tuple[LanguageSettings, ...]
    genera: Mapping[str, GenusSettings] = field(default_factory=dict, metadata={"added_later": True})

    def __post_init__(self) -> None:
        """Raise InputError when the parts do not fit together."""
        super().__post_init__()
        codes = [language.code for language in self.languages]
        for name, genus in self.genera.items():
            self._check_family(genus.family, f"Genus {name}", ("genera", name, "family"))
        for number, language in enumerate(self.languages):
            if codes.index(language.code) < number:
                told = f"Each language needs its own code, but {language.code} is there twice."
                raise InputError(told, at=("languages", number, "code"))
            told = f"Language {language.code}"
            self._check_family(language.family, told, ("languages", number, "family"))
            genera = [name for name, genus in self.genera.items() if genus.family == language.family]
            if language.genus and language.genus not in genera:
                raise InputError(
                    f"{told} has the genus {language.genus!r}, but those of {language.family} are {genera}."
                    " Add it under `genera`.",
                    at=("languages", number, "genus"),
                )
        if self.source not in codes:
            told = f"The source language must be one of {codes}, but it is {self.source!r}."
            raise InputError(told, at=("source",))

    def _check_family(self, family: str, whose: str, at: tuple[str | int, ...]) -> None:
        if family not in self.families:
            told = f"{whose} has the family {family!r}, but the families are {sorted(self.families)}."
            raise InputError(f"{told} Add it there.", at=at)

    def genus(self, language: LanguageSettings) -> GenusSettings:
        """The branch of a language; where it has none, one that is all of its family."""
        return self.genera[language.genus] if language.genus else GenusSettings(family=language.family)


def load_settings(path: Path | str) -> WorldSettings:
    """Read settings from a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, has an unknown or missing key, or a value that cannot be
            used.
    """
    return read_yaml(WorldSettings, Path(path))


def parse_settings(found: Any) -> WorldSettings:
    """Turn nested mappings (as YAML gives them) into `WorldSettings`; every key is checked."""
    return build(WorldSettings, found, "the miniworld settings")  # type: ignore[no-any-return]


def _check_changes(changes: tuple[str, ...], whose: str) -> None:
    for number, change in enumerate(changes):
        if not re.fullmatch(r"[^>]+>[^>]*", change) or not _compiles(change.split(">")[0]):
            told = f"Sound changes `pattern>replacement` were expected, but {whose} has {change!r}."
            raise InputError(told, at=("changes", number))


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
