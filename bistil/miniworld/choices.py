"""Noun phrases, names and facts that an author may use, drawn by Zipf's law with a topic boost.

Notable: all draws obey the selectional restrictions of `concepts`, which gives a masked language model
something to learn."""

from bistil.miniworld import concepts
from bistil.miniworld.meaning import Clause, Noun, Oblique, Pair, Phrase, Pronoun
from bistil.miniworld.stream import Stream, Weighted
from bistil.miniworld.world import Date, Fact, Name, World, zipf

_CLASSES = {**concepts.NOUNS, **concepts.EXTRA_CLASSES}
NOUN_CLASS = {noun: name for name, nouns in concepts.NOUNS.items() for noun in nouns}


def _tables(items: dict[str, tuple[str, ...]]) -> dict[tuple[str, int], Weighted]:
    return {
        (name, topic): zipf(members, boost=topic)
        for name, members in items.items()
        for topic in range(concepts.DOMAINS)
    }


NOUN_TABLES = _tables(_CLASSES)
ADJECTIVE_TABLES = _tables(
    {name: tuple(a for a, kinds in concepts.ADJECTIVES.items() if name in kinds) for name in concepts.NOUNS}
)
VERB_TABLES = _tables(
    {
        "intransitive": tuple(concepts.INTRANSITIVE),
        "transitive": tuple(concepts.TRANSITIVE),
        "ditransitive": tuple(concepts.DITRANSITIVE),
        "saying": concepts.SAYING,
        "wanting": concepts.WANTING,
        "manner": concepts.MANNER,
        "time": concepts.TIME,
    }
)
_PLACES = ("building", "nature", "place")


class Chooser:
    """Draws phrases from one stream; `known_only` keeps rare names out (for NER training data)."""

    def __init__(self, world: World, stream: Stream, *, known_only: bool = False) -> None:
        self.world, self.stream, self.known_only = world, stream, known_only
        self.topic = 0
        self.left = 0
        self.cast: list[Name] = []

    def _name(self, names: list[Name]) -> Name:
        stream = self.stream
        while True:
            name = names[min(stream.below(len(names)), stream.below(len(names)))]
            if not (self.known_only and name.rare):
                return name

    def _fact(self) -> Fact:
        stream = self.stream
        while True:
            draw = stream.below(20)
            if draw < 12:
                subject = stream.pick(self.cast)
            else:
                subject = self._name(
                    self.world.organisations
                    if draw < 17
                    else self.world.events
                    if draw < 19
                    else self.world.people
                )
            fact = stream.pick(self.world.facts[subject])
            if not (self.known_only and fact.rare):
                return fact

    def _short(self, person: Name) -> Name:
        """Call a person by both names, the family name or the given name."""
        if person.label != "PER":
            return person
        draw = self.stream.below(10)
        parts = person.parts if draw < 5 else person.parts[1:] if draw < 8 else person.parts[:1]
        return Name("PER", parts, person.rare, person.female)

    def _with(self) -> Phrase:
        return (
            self._short(stream_name)
            if (stream_name := self._name(self.world.people)) and self.stream.chance(60)
            else self._noun("person")
        )

    def _pronoun(self, person: Name) -> Pronoun:
        return Pronoun("she" if person.female else "he")

    def _date(self) -> Date:
        stream = self.stream
        if stream.chance(40):
            return Date(weekday=1 + stream.below(7))
        return (
            Date(year=1900 + stream.below(120), month=stream.below(13))
            if stream.chance(70)
            else Date(month=1 + stream.below(12))
        )

    def _person(self) -> Phrase:
        stream, draw = self.stream, self.stream.below(20)
        if draw < 7:
            return self._short(stream.pick(self.cast))
        if draw < 10:
            concept = stream.pick(("he", "she", "they", "I", "we"))
            return Pronoun(concept, concept in ("they", "we"))
        return self._noun("person")

    def _of(self, classes: tuple[str, ...], *, light: bool = False) -> Phrase:
        name = classes[min(self.stream.below(len(classes)), self.stream.below(len(classes)))]
        if name == "person":
            return self._noun("person", light=light) if light else self._person()
        if not light and self.stream.chance(6):
            return Pair(
                self._noun(name, light=True),
                self._noun(name, light=True),
                "and" if self.stream.chance(75) else "or",
            )
        return self._noun(name, light=light)

    def _noun(self, name: str, *, light: bool = False) -> Noun:
        stream = self.stream
        concept = stream.weighted(NOUN_TABLES[name, self.topic])
        plural, definite = stream.chance(28), stream.chance(60)
        kind = NOUN_CLASS[concept]
        adjectives: tuple[str, ...] = ()
        degree = None
        if kind not in ("idea",) or stream.chance(50):
            count = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2)[stream.below(10)]
            table = ADJECTIVE_TABLES[kind, self.topic]
            adjectives = tuple(dict.fromkeys(stream.weighted(table) for _ in range(count)))
            degree = "very" if adjectives and stream.chance(10) else None
        number = None
        if plural and stream.chance(35):
            number = stream.pick(concepts.NUMERALS) if stream.chance(75) else str(11 + stream.below(89))
            definite = stream.chance(25)
        if light:
            return Noun(concept, plural, definite, adjectives[:1], number=number)
        determiner = stream.pick(("this", "every", "no")) if not plural and stream.chance(8) else None
        possessor: Noun | Name | None = None
        inside = None
        relative = None
        draw = stream.below(100)
        if draw < 9 and determiner is None:
            possessor = (
                self._short(stream.pick(self.cast)) if stream.chance(45) else self._noun("person", light=True)
            )
        elif draw < 16:
            inside = (
                stream.pick(("in", "near", "from")),
                self._name(self.world.places) if stream.chance(60) else self._noun("nature", light=True),
            )
        elif draw < 26:
            relative = self._relative(kind)
        return Noun(
            concept, plural, definite, adjectives, degree, number, determiner, possessor, inside, relative
        )

    def _relative(self, kind: str) -> Clause | None:
        """Return a relative clause whose missing subject or object is of the given noun class."""
        stream = self.stream
        heavy = "heavy" if stream.chance(40) else "statement"
        for _ in range(6):
            verb = stream.weighted(VERB_TABLES["transitive", self.topic])
            subjects, objects = concepts.TRANSITIVE[verb]
            if kind in subjects and stream.chance(65):
                return Clause(
                    verb, self._tense(), object=self._of(objects, light=True), gap="subject", mood=heavy
                )
            if kind in objects:
                return Clause(
                    verb, self._tense(), subject=self._of(subjects, light=True), gap="object", mood=heavy
                )
        return None

    def _place(self, classes: tuple[str, ...] = _PLACES) -> Oblique:
        stream, kind = self.stream, self.stream.pick(classes)
        front = stream.chance(20)
        if kind == "place":
            return Oblique(stream.pick(("in", "near", "from")), self._name(self.world.places), front)
        return Oblique(stream.pick(concepts.LOCATIVE), self._noun(kind, light=True), front)

    def _tense(self) -> str:
        return ("Past", "Past", "Past", "Pres", "Pres", "Fut")[self.stream.below(6)]
