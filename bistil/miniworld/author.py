"""The author: draws meanings from the world, sentence after sentence, staying with a topic for a while.

Notable: `fact_clause` states one fact of the world and is the same for text, treebank, NER, NLI and QA.
"""

from dataclasses import replace

from bistil.miniworld import concepts
from bistil.miniworld.choices import ADJECTIVE_TABLES, NOUN_CLASS, NOUN_TABLES, VERB_TABLES, Chooser
from bistil.miniworld.meaning import Clause, Noun, Oblique, Pair, Phrase, Pronoun
from bistil.miniworld.stream import Weighted
from bistil.miniworld.world import Fact, Name

_OTHERS = tuple(name for name in concepts.NOUNS if name != "idea")
_KINDS = Weighted(
    (
        "fact",
        "transitive",
        "intransitive",
        "ditransitive",
        "copular",
        "saying",
        "wanting",
        "adverbial",
        "coordinate",
        "gapping",
    ),
    (30, 20, 9, 8, 9, 7, 5, 6, 6, 2),
)
_MEANS_ADPOSITION = {"live": "in", "born": "in", "study": "in", "lie": "in", "happen": "in", "meet": "in"}


def fact_clause(
    fact: Fact, *, date: bool = True, place: bool = True, subject: Phrase | None = None, front: bool = False
) -> Clause:
    """Return the clause that states a fact; date and place can be left unsaid, the subject replaced (say, by
    a pronoun).
    """
    obliques: list[Oblique] = []
    goal: Name | None = fact.object
    if fact.relation in ("visit", "admire"):
        goal = fact.object or fact.place
    elif fact.relation == "serve":
        goal, obliques = None, [Oblique("for", fact.object)] if fact.object else []
    elif fact.place is not None and place:
        obliques = [Oblique(_MEANS_ADPOSITION[fact.relation], fact.place)]
    if fact.date is not None and date:
        obliques.append(Oblique("on" if fact.date.day else "in", fact.date, front=front))
    tense = "Pres" if fact.relation in ("live", "serve", "lead", "admire", "lie") else "Past"
    return Clause(
        fact.relation, tense, subject=subject or fact.subject, object=goal, obliques=tuple(obliques)
    )


class Author(Chooser):
    """Draws sentences; made with a world, a stream and `known_only` (no rare names, for NER training
    data).
    """

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

    def about(self, topic: int) -> Clause:
        """Return a meaning on a topic, told with common nouns."""
        self.topic = topic
        self.cast = [self._name(self.world.people) for _ in range(3)]
        return self._simple(self.stream.pick(("transitive", "intransitive", "copular")))

    def names_sentence(self) -> Clause:
        """Return a meaning for NER: mostly facts, some sentences without any name."""
        if self.left == 0 or self.stream.chance(35):
            return self.sentence()
        return self._told_fact()

    def filler(self) -> Clause:
        """Return a meaning with common nouns only, to stand between the facts of a paragraph."""
        self.topic = self.stream.below(concepts.DOMAINS)
        return self._simple("transitive", light=True)

    def _told_fact(self) -> Clause:
        stream, fact = self.stream, self._fact()
        subject: Phrase = self._short(fact.subject)
        draw = stream.below(20)
        if fact.subject.label == "PER":
            if draw < 3:
                subject = Noun(
                    stream.weighted(NOUN_TABLES["person", self.topic]),
                    name=subject if isinstance(subject, Name) else None,
                )
            elif draw < 5:
                subject = self._pronoun(fact.subject)
            elif draw < 7:
                subject = Pair(self._short(fact.subject), self._short(self._name(self.world.people)))
        elif draw < 4 and fact.subject.label == "ORG":
            subject = (
                Noun(fact.subject.parts[-1], inside=("in", self._name(self.world.places)))
                if len(fact.subject.parts) == 2
                else subject
            )
        clause = fact_clause(
            fact, date=not stream.chance(25), place=True, subject=subject, front=stream.chance(35)
        )
        if isinstance(clause.object, Name):
            clause = replace(clause, object=self._short(clause.object))
        if stream.chance(20):
            clause = replace(clause, obliques=(*clause.obliques, self._place(("building", "nature"))))
        if stream.chance(20):
            clause = replace(clause, obliques=(*clause.obliques, Oblique("with", self._with())))
        draw = stream.below(20)
        if draw < 3:
            return Clause(
                stream.weighted(VERB_TABLES["saying", self.topic]), subject=self._person(), complement=clause
            )
        if draw < 5:
            return replace(clause, adverbial=("because", self._simple("transitive", light=True)))
        if draw < 6:
            return replace(clause, negative=True)
        return clause

    def _adjuncts(self, clause: Clause, chance: int) -> Clause:
        stream = self.stream
        obliques = clause.obliques
        if stream.chance(chance):
            obliques = (*obliques, self._place())
        if stream.chance(chance // 5):
            obliques = (*obliques, Oblique("with", self._with()))
        if stream.chance(chance // 5):
            obliques = (*obliques, Oblique("on", self._date(), front=stream.chance(40)))
        manner = (
            stream.weighted(VERB_TABLES["manner", self.topic]) if clause.verb and stream.chance(22) else None
        )
        time = stream.weighted(VERB_TABLES["time", self.topic]) if stream.chance(22) else None
        return replace(clause, obliques=obliques, manner=manner, time=time, negative=stream.chance(8))

    def _simple(self, kind: str, *, light: bool = False) -> Clause:
        stream, topic = self.stream, self.topic
        if kind == "copular":
            return self._copular()
        if kind == "saying":
            inner = self._simple(("transitive", "intransitive", "copular")[stream.below(3)], light=True)
            clause = Clause(
                stream.weighted(VERB_TABLES["saying", topic]),
                self._tense(),
                subject=self._person(),
                complement=inner,
            )
            return replace(clause, negative=stream.chance(10))
        if kind == "wanting":
            inner = replace(
                self._simple("transitive", light=True),
                subject=None,
                infinitive=True,
                negative=False,
                time=None,
            )
            return Clause(
                stream.weighted(VERB_TABLES["wanting", topic]),
                self._tense(),
                subject=self._person(),
                complement=inner,
            )
        if kind == "ditransitive":
            verb = stream.weighted(VERB_TABLES["ditransitive", topic])
            gift = self._of(concepts.DITRANSITIVE[verb], light=stream.chance(50))
            clause = Clause(
                verb, self._tense(), subject=self._person(), object=gift, recipient=self._person()
            )
            return self._adjuncts(clause, 25)
        if kind == "intransitive":
            verb = stream.weighted(VERB_TABLES["intransitive", topic])
            clause = Clause(verb, self._tense(), subject=self._of(concepts.INTRANSITIVE[verb], light=light))
            return self._adjuncts(clause, 30 if light else 85)
        verb = stream.weighted(VERB_TABLES["transitive", topic])
        subjects, objects = concepts.TRANSITIVE[verb]
        clause = Clause(
            verb,
            self._tense(),
            subject=self._of(subjects, light=light),
            object=self._of(objects, light=light),
        )
        return clause if light else self._adjuncts(clause, 60)

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
        kind = NOUN_CLASS[noun.concept]
        adjective = stream.weighted(ADJECTIVE_TABLES[kind, self.topic])
        degree = "very" if stream.chance(20) else "too" if stream.chance(12) else None
        clause = Clause(
            tense=tense, subject=noun, predicate=adjective, degree=degree, negative=stream.chance(12)
        )
        return (
            replace(clause, time=stream.weighted(VERB_TABLES["time", self.topic]))
            if stream.chance(30)
            else clause
        )

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
        verb = stream.weighted(VERB_TABLES["transitive", self.topic])
        subjects, objects = concepts.TRANSITIVE[verb]
        second = Clause(
            verb, subject=self._of(subjects, light=True), object=self._of(objects, light=True), elided=True
        )
        first = Clause(verb, subject=self._of(subjects, light=True), object=self._of(objects, light=True))
        return replace(first, coordinate=("and", second))
