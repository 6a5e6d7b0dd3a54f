"""The world model: people, organisations, places and events, and one seeded set of facts about them.

Notable: entities are numbers, not words; each language names them by its lexicon, so the facts are the same
in all languages. A quarter of the names is `rare`: rare names never occur in NER training data, so NER tests
hold unseen names."""

from dataclasses import dataclass

from bistil.miniworld import concepts
from bistil.miniworld.lexicon import NAME_COUNTS
from bistil.miniworld.stream import Stream, Weighted

PEOPLE, ORGANISATIONS = 240, 60


@dataclass(frozen=True, slots=True)
class Name:
    """A proper name: `label` is PER, LOC, ORG or EVT (no entity type of the NER task); `parts` are lexicon
    keys in SVO order of the source.

    A part is a key of `Lexicon.names` (it has a colon) or a concept.
    """

    label: str
    parts: tuple[str, ...]
    rare: bool = False
    female: bool = False


@dataclass(frozen=True, slots=True)
class Date:
    """A point in time; zero means that the part is not said; `weekday` (1-7) stands alone."""

    year: int = 0
    month: int = 0
    day: int = 0
    weekday: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """`relation` holds between two entities, at a place and a date where these are known."""

    relation: str
    subject: Name
    object: Name | None = None
    place: Name | None = None
    date: Date | None = None

    @property
    def rare(self) -> bool:
        """Whether any of its names is kept out of NER training data."""
        return any(name.rare for name in (self.subject, self.object, self.place) if name is not None)


def zipf(items: tuple[str, ...], *, boost: int = -1) -> Weighted:
    """Return the items weighted by rank; the items of topic `boost` weigh six times more."""
    return Weighted(
        items,
        [
            120_000 // (rank + 3) * (6 if rank % concepts.DOMAINS == boost else 1)
            for rank in range(len(items))
        ],
    )


def is_rare(kind: str, index: int) -> bool:
    """Return whether a name is kept out of NER training data."""
    return index % 4 == (3 if kind in ("given", "family") else 2)


class World:
    """All entities and facts of a seed.

    Attributes:
        people, organisations, places, events: names, the most frequent first.
        facts: subject -> its facts, in a fixed order.
    """

    def __init__(self, seed: int) -> None:
        stream = Stream(f"world/{seed}/facts")
        self.places = [
            Name("LOC", (f"place:{index}",), is_rare("place", index)) for index in range(NAME_COUNTS["place"])
        ]
        self.events = [Name("EVT", (f"event:{index}",)) for index in range(NAME_COUNTS["event"])]
        self.people = self._make_people(stream)
        self.organisations = self._make_organisations(stream)
        self.facts: dict[Name, list[Fact]] = {}
        for org in self.organisations:
            self.facts[org] = [
                Fact("lie", org, place=self._common(stream, self.places)),
                Fact("found", self._common(stream, self.people), org, date=self._date(stream)),
            ]
        for event in self.events:
            self.facts[event] = [
                Fact("happen", event, place=self._common(stream, self.places), date=self._date(stream))
            ]
        for person in self.people:
            self.facts[person] = self._life(stream, person)

    def _life(self, stream: Stream, person: Name) -> list[Fact]:
        facts = [
            Fact("born", person, place=self._common(stream, self.places), date=self._date(stream)),
            Fact("live", person, place=self._common(stream, self.places)),
            Fact("serve", person, self._common(stream, self.organisations)),
            Fact(
                "study",
                person,
                place=self._common(stream, self.places),
                date=Date(year=1900 + stream.below(110)),
            ),
            Fact(
                "meet",
                person,
                self._other(stream, person),
                self._common(stream, self.places),
                self._date(stream),
            ),
            Fact("admire", person, self._other(stream, person)),
            Fact("leave", person, self._common(stream, self.organisations), date=self._date(stream)),
        ]
        facts += [
            Fact("visit", person, place=self._common(stream, self.places), date=self._date(stream))
            for _ in range(2)
        ]
        if stream.chance(25):
            facts.append(Fact("lead", person, self._common(stream, self.organisations)))
        return facts

    def _other(self, stream: Stream, person: Name) -> Name:
        while (other := self._common(stream, self.people)).parts == person.parts:
            pass
        return other

    @staticmethod
    def _common(stream: Stream, names: list[Name]) -> Name:
        """Pick a name, the earlier ones of the list more often."""
        return names[min(stream.below(len(names)), stream.below(len(names)))]

    @staticmethod
    def _date(stream: Stream) -> Date:
        year, kind = 1900 + stream.below(120), stream.below(10)
        if kind < 4:
            return Date(year=year, month=1 + stream.below(12), day=1 + stream.below(28))
        return Date(year=year, month=1 + stream.below(12)) if kind < 6 else Date(year=year)

    @staticmethod
    def _make_people(stream: Stream) -> list[Name]:
        people: dict[tuple[str, str], Name] = {}
        while len(people) < PEOPLE:
            given, family = stream.below(NAME_COUNTS["given"]), stream.below(NAME_COUNTS["family"])
            rare = is_rare("given", given) or is_rare("family", family)
            parts = (f"given:{given}", f"family:{family}")
            people[parts] = Name("PER", parts, rare, female=given % 2 == 1)
        return list(people.values())

    def _make_organisations(self, stream: Stream) -> list[Name]:
        organisations: dict[tuple[str, ...], Name] = {}
        while len(organisations) < ORGANISATIONS:
            kind, noun = stream.below(10), stream.pick(concepts.NOUNS["institute"])
            place, firm = stream.below(NAME_COUNTS["place"]), stream.below(NAME_COUNTS["firm"])
            parts: tuple[str, ...] = (
                (f"place:{place}", noun)
                if kind < 5
                else (f"firm:{firm}", noun)
                if kind < 7
                else (f"firm:{firm}",)
            )
            rare = is_rare("place", place) if kind < 5 else is_rare("firm", firm)
            if kind == 9:
                parts, rare = ("national", noun, f"place:{place}"), is_rare("place", place)
            organisations[parts] = Name("ORG", parts, rare)
        return list(organisations.values())
