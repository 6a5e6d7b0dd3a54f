"""Meanings: language-independent trees of clauses and noun phrases, which each language turns into words.

Notable: order, agreement, case, articles and adpositions are not here; they belong to a language (`grammar`).
"""

from dataclasses import dataclass
from typing import Union

from bistil.miniworld.world import Date, Name


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun phrase with a common noun. `number` is a numeral concept or digits; `definite` chooses the
    article.
    """

    concept: str
    plural: bool = False
    definite: bool = True
    adjectives: tuple[str, ...] = ()
    degree: str | None = None
    number: str | None = None
    determiner: str | None = None
    possessor: Union["Noun", Name, None] = None
    inside: tuple[str, Union["Noun", Name]] | None = None
    relative: Union["Clause", None] = None
    name: Name | None = None


@dataclass(frozen=True, slots=True)
class Pronoun:
    """A personal or question pronoun, or (as an oblique) a question adverb."""

    concept: str
    plural: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two coordinated noun phrases."""

    first: Noun | Name
    second: Noun | Name
    conjunction: str = "and"


Phrase = Noun | Name | Pronoun | Pair


@dataclass(frozen=True, slots=True)
class Oblique:
    """An adjunct: an adposition concept with a phrase or date. `front` asks for the start of the clause."""

    adposition: str
    phrase: Phrase | Date
    front: bool = False


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause. With `predicate` it is a copular clause (noun phrase or adjective concept), otherwise `verb`
    is its head.

    `gap` ("subject" or "object") marks a relative clause; `infinitive` a controlled clause without subject;
    `mood` is "statement" or "question"; `complement` is a that-clause or (if infinitive) an infinitive;
    `adverbial` is a mark concept with a clause; `elided` says that a coordinated clause repeats the verb and
    may leave it out.
    """

    verb: str = ""
    tense: str = "Past"
    negative: bool = False
    subject: Phrase | None = None
    object: Phrase | None = None
    recipient: Phrase | None = None
    obliques: tuple[Oblique, ...] = ()
    manner: str | None = None
    time: str | None = None
    predicate: Noun | str | None = None
    degree: str | None = None
    complement: Union["Clause", None] = None
    adverbial: tuple[str, "Clause"] | None = None
    coordinate: tuple[str, "Clause"] | None = None
    gap: str | None = None
    infinitive: bool = False
    mood: str = "statement"
    elided: bool = False
