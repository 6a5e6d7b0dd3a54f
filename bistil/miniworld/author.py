"""The author: draws meanings from the world, sentence after sentence, staying with a topic for a while.

Notable: concepts follow Zipf's law with a topic boost and obey the selectional restrictions of `concepts`.
"""

from dataclasses import replace

from bistil.miniworld import concepts
from bistil.miniworld.meaning import Clause, Noun, Oblique, Pair, Phrase, Pronoun
from bistil.miniworld.stream import Stream, Weighted
from bistil.miniworld.world import Date, Fact, Name, World, zipf

_CLASSES = {**concepts.NOUNS, **concepts.EXTRA_CLASSES}
_NOUN_CLASS = {noun: name for name, nouns in concepts.NOUNS.items() for noun in nouns}
_OTHERS = tuple(name for name in concepts.NOUNS if name != "idea")


def _tables(items: dict[str, tuple[str, ...]]) -> dict[tuple[str, int], Weighted]:
    return {(name, topic): zipf(members, boost=topic) for name, members in items.items() for topic in range(concepts.DOMAINS)}


_NOUN_TABLES = _tables(_CLASSES)
_ADJECTIVE_TABLES = _tables({name: tuple(a for a, kinds in concepts.ADJECTIVES.items() if name in kinds) for name in concepts.NOUNS})
_VERB_TABLES = _tables(
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
_KINDS = Weighted(
    ("fact", "transitive", "intransitive", "ditransitive", "copular", "saying", "wanting", "adverbial", "coordinate", "gapping"),
    (30, 20, 9, 8, 9, 7, 5, 6, 6, 2),
)
_MEANS_ADPOSITION = {"live": "in", "born": "in", "study": "in", "lie": "in", "happen": "in", "meet": "in"}


def fact_clause(fact: Fact, *, date: bool = True, place: bool = True, subject: Phrase | None = None, front: bool = False) -> Clause:
    """Return the clause that states a fact; date and place can be left unsaid, the subject replaced (say, by a pronoun)."""
    obliques: list[Oblique] = []
    goal: Name | None = fact.object
    if fact.relation == "visit":
        goal = fact.place
    elif fact.relation == "serve":
        goal, obliques = None, [Oblique("for", fact.object)] if fact.object else []
    elif fact.place is not None and place:
        obliques = [Oblique(_MEANS_ADPOSITION[fact.relation], fact.place)]
    if fact.date is not None and date:
        obliques.append(Oblique("on" if fact.date.day else "in", fact.date, front=front))
    tense = "Pres" if fact.relation in ("live", "serve", "lead", "admire", "lie") else "Past"
    return Clause(fact.relation, tense, subject=subject or fact.subject, object=goal, obliques=tuple(obliques))


class Author:
    """Draws meanings from one stream; `known_only` keeps rare names out (for NER training data)."""

    def __init__(self, world: World, stream: Stream, *, known_only: bool = False) -> None:
        self.world, self.stream, self.known_only = world, stream, known_only
        self.topic = 0
        self.left = 0
        self.cast: list[Name] = []

    def sentence(self) -> Clause:
        """Return the next meaning; every three to eight sentences a new topic with new people begins."""
        stream = self.stream
        if self.left == 0:
            self.left, self.topic = 3 + stream.below(6), stream.below(concepts.DOMAINS)
            self.cast = [self._name(self.world.people) for _ in range(3)]
        self.left -= 1
        kind = stream.weighted(_KINDS)
        if kind == "fact":
            return self._told_fact()
        if kind in ("adverbial", "coordinate"):
            return self._two_clauses(kind)
        if kind == "gapping":
            return self._gapping()
        clause = self._simple(kind)
        if stream.chance(5):
            return replace(clause, mood="question")
        return clause

    def names_sentence(self) -> Clause:
        """Return a meaning for NER: mostly facts, some sentences without any name."""
        if self.left == 0 or self.stream.chance(35):
            return self.sentence()
        return self._told_fact()

    def filler(self) -> Clause:
        """Return a meaning with common nouns only, to stand between the facts of a paragraph."""
        return self._simple("transitive", light=True)

    # Names and facts

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
                subject = self._name(self.world.organisations if draw < 17 else self.world.events if draw < 19 else self.world.people)
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

    def _told_fact(self) -> Clause:
        stream, fact = self.stream, self._fact()
        subject: Phrase = self._short(fact.subject)
        draw = stream.below(20)
        if fact.subject.label == "PER":
            if draw < 3:
                subject = Noun(stream.weighted(_NOUN_TABLES["person", self.topic]), name=subject if isinstance(subject, Name) else None)
            elif draw < 5:
                subject = self._pronoun(fact.subject)
            elif draw < 7:
                subject = Pair(self._short(fact.subject), self._short(self._name(self.world.people)))
        elif draw < 4 and fact.subject.label == "ORG":
            subject = (
                Noun(fact.subject.parts[-1], inside=("in", self._name(self.world.places))) if len(fact.subject.parts) == 2 else subject
            )
        clause = fact_clause(fact, date=not stream.chance(25), place=True, subject=subject, front=stream.chance(35))
        if isinstance(clause.object, Name):
            clause = replace(clause, object=self._short(clause.object))
        if stream.chance(20):
            clause = replace(clause, obliques=(*clause.obliques, self._place(("building", "nature"))))
        if stream.chance(20):
            clause = replace(clause, obliques=(*clause.obliques, Oblique("with", self._with())))
        draw = stream.below(20)
        if draw < 3:
            return Clause(stream.weighted(_VERB_TABLES["saying", self.topic]), subject=self._person(), complement=clause)
        if draw < 5:
            return replace(clause, adverbial=("because", self._simple("transitive", light=True)))
        if draw < 6:
            return replace(clause, negative=True)
        return clause

    def _with(self) -> Phrase:
        return (
            self._short(stream_name) if (stream_name := self._name(self.world.people)) and self.stream.chance(60) else self._noun("person")
        )

    def _pronoun(self, person: Name) -> Pronoun:
        return Pronoun("she" if person.female else "he")

    def _date(self) -> Date:
        stream = self.stream
        if stream.chance(40):
            return Date(weekday=1 + stream.below(7))
        return Date(year=1900 + stream.below(120), month=stream.below(13)) if stream.chance(70) else Date(month=1 + stream.below(12))

    # Phrases

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
            return Pair(self._noun(name, light=True), self._noun(name, light=True), "and" if self.stream.chance(75) else "or")
        return self._noun(name, light=light)

    def _noun(self, name: str, *, light: bool = False) -> Noun:
        stream = self.stream
        concept = stream.weighted(_NOUN_TABLES[name, self.topic])
        plural, definite = stream.chance(28), stream.chance(60)
        kind = _NOUN_CLASS[concept]
        adjectives: tuple[str, ...] = ()
        degree = None
        if kind not in ("idea",) or stream.chance(50):
            count = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2)[stream.below(10)]
            table = _ADJECTIVE_TABLES[kind, self.topic]
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
            possessor = self._short(stream.pick(self.cast)) if stream.chance(45) else self._noun("person", light=True)
        elif draw < 16:
            inside = (
                stream.pick(("in", "near", "from")),
                self._name(self.world.places) if stream.chance(60) else self._noun("nature", light=True),
            )
        elif draw < 26:
            relative = self._relative(kind)
        return Noun(concept, plural, definite, adjectives, degree, number, determiner, possessor, inside, relative)

    def _relative(self, kind: str) -> Clause | None:
        """Return a relative clause whose missing subject or object is of the given noun class."""
        stream = self.stream
        heavy = "heavy" if stream.chance(40) else "statement"
        for _ in range(6):
            verb = stream.weighted(_VERB_TABLES["transitive", self.topic])
            subjects, objects = concepts.TRANSITIVE[verb]
            if kind in subjects and stream.chance(65):
                return Clause(verb, self._tense(), object=self._of(objects, light=True), gap="subject", mood=heavy)
            if kind in objects:
                return Clause(verb, self._tense(), subject=self._of(subjects, light=True), gap="object", mood=heavy)
        return None

    def _place(self, classes: tuple[str, ...] = _PLACES) -> Oblique:
        stream, kind = self.stream, self.stream.pick(classes)
        front = stream.chance(20)
        if kind == "place":
            return Oblique(stream.pick(("in", "near", "from")), self._name(self.world.places), front)
        return Oblique(stream.pick(concepts.LOCATIVE), self._noun(kind, light=True), front)

    def _tense(self) -> str:
        return ("Past", "Past", "Past", "Pres", "Pres", "Fut")[self.stream.below(6)]

    # Clauses

    def _adjuncts(self, clause: Clause, chance: int) -> Clause:
        stream = self.stream
        obliques = clause.obliques
        if stream.chance(chance):
            obliques = (*obliques, self._place())
        if stream.chance(chance // 5):
            obliques = (*obliques, Oblique("with", self._with()))
        if stream.chance(chance // 5):
            obliques = (*obliques, Oblique("on", self._date(), front=stream.chance(40)))
        manner = stream.weighted(_VERB_TABLES["manner", self.topic]) if clause.verb and stream.chance(22) else None
        time = stream.weighted(_VERB_TABLES["time", self.topic]) if stream.chance(22) else None
        return replace(clause, obliques=obliques, manner=manner, time=time, negative=stream.chance(8))

    def _simple(self, kind: str, *, light: bool = False) -> Clause:
        stream, topic = self.stream, self.topic
        if kind == "copular":
            return self._copular()
        if kind == "saying":
            inner = self._simple(("transitive", "intransitive", "copular")[stream.below(3)], light=True)
            clause = Clause(stream.weighted(_VERB_TABLES["saying", topic]), self._tense(), subject=self._person(), complement=inner)
            return replace(clause, negative=stream.chance(10))
        if kind == "wanting":
            inner = replace(self._simple("transitive", light=True), subject=None, infinitive=True, negative=False, time=None)
            return Clause(stream.weighted(_VERB_TABLES["wanting", topic]), self._tense(), subject=self._person(), complement=inner)
        if kind == "ditransitive":
            verb = stream.weighted(_VERB_TABLES["ditransitive", topic])
            gift = self._of(concepts.DITRANSITIVE[verb], light=stream.chance(50))
            clause = Clause(verb, self._tense(), subject=self._person(), object=gift, recipient=self._person())
            return self._adjuncts(clause, 25)
        if kind == "intransitive":
            verb = stream.weighted(_VERB_TABLES["intransitive", topic])
            clause = Clause(verb, self._tense(), subject=self._of(concepts.INTRANSITIVE[verb], light=light))
            return self._adjuncts(clause, 30 if light else 75)
        verb = stream.weighted(_VERB_TABLES["transitive", topic])
        subjects, objects = concepts.TRANSITIVE[verb]
        clause = Clause(verb, self._tense(), subject=self._of(subjects, light=light), object=self._of(objects, light=light))
        return clause if light else self._adjuncts(clause, 45)

    def _copular(self) -> Clause:
        stream = self.stream
        tense = "Past" if stream.chance(40) else "Pres"
        if stream.chance(35):
            subject = self._person()
            predicate = self._noun("person", light=True)
            if isinstance(subject, Noun):
                subject = Noun(subject.concept, definite=True, determiner="this")
            plural = isinstance(subject, Pronoun) and subject.plural
            return Clause(
                tense=tense,
                subject=subject,
                predicate=Noun(predicate.concept, plural, False, predicate.adjectives),
                negative=stream.chance(10),
            )
        kind = stream.pick(_OTHERS)
        noun = self._noun(kind)
        kind = _NOUN_CLASS[noun.concept]
        adjective = stream.weighted(_ADJECTIVE_TABLES[kind, self.topic])
        degree = "very" if stream.chance(20) else "too" if stream.chance(12) else None
        clause = Clause(tense=tense, subject=noun, predicate=adjective, degree=degree, negative=stream.chance(12))
        return replace(clause, time=stream.weighted(_VERB_TABLES["time", self.topic])) if stream.chance(30) else clause

    def _two_clauses(self, kind: str) -> Clause:
        stream = self.stream
        first = self._simple("transitive" if stream.chance(60) else "intransitive", light=stream.chance(60))
        second = self._simple(("transitive", "intransitive", "copular")[stream.below(3)], light=True)
        if kind == "adverbial":
            return replace(first, adverbial=(stream.pick(("because", "when", "if")), second))
        return replace(first, coordinate=("and" if stream.chance(60) else "but", second))

    def _gapping(self) -> Clause:
        """Return "Anna bought bread and Boris (bought) cheese": the second verb may be elided."""
        stream = self.stream
        verb = stream.weighted(_VERB_TABLES["transitive", self.topic])
        subjects, objects = concepts.TRANSITIVE[verb]
        second = Clause(verb, subject=self._of(subjects, light=True), object=self._of(objects, light=True), elided=True)
        first = Clause(verb, subject=self._of(subjects, light=True), object=self._of(objects, light=True))
        return replace(first, coordinate=("and", second))
