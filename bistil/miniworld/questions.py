"""Reading tasks from the same facts: natural-language inference pairs and SQuAD-style questions.

Notable: each NLI hypothesis comes three times, once with each label, so the hypothesis alone says nothing.
Inference is about what follows from the premise, so premises may contradict the world; QA paragraphs never
do."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bistil.errors import InputError
from bistil.miniworld.author import Author, fact_clause
from bistil.miniworld.grammar import Grammar
from bistil.miniworld.meaning import Clause, Oblique, Pair, Pronoun
from bistil.miniworld.settings import SPLITS, WorldSettings
from bistil.miniworld.stream import Stream
from bistil.miniworld.surface import find, surface, text
from bistil.miniworld.world import Date, Fact, Name, World

LABELS = ("entailment", "neutral", "contradiction")
_NLI_RELATIONS = ("visit", "serve", "live", "born", "lead", "study", "admire", "leave")
_ONE_PLACE = ("born", "live")
_SWAPS = {
    "visit": ("admire",),
    "live": ("visit", "born", "admire"),
    "study": ("live", "admire"),
    "born": ("visit", "live", "study"),
}
_SWAPS |= {
    "serve": ("leave", "admire"),
    "lead": ("leave", "admire"),
    "leave": ("lead", "admire"),
    "admire": ("serve", "meet", "visit"),
}
_PATIENCE = 500
_WHERE = ("born", "live", "study", "meet", "lie", "happen")


class _Pairs:
    """Draws groups of three NLI pairs."""

    def __init__(self, world: World, stream: Stream) -> None:
        self.world, self.stream = world, stream

    def fact(self) -> Fact:
        """Return a fact about a person with a place or an organisation."""
        while True:
            facts = self.world.facts[self.stream.pick(self.world.people)]
            fact = self.stream.pick(facts)
            if fact.relation in _NLI_RELATIONS:
                return fact

    def group(self) -> tuple[Clause, tuple[Clause, Clause, Clause]]:
        """Return a hypothesis and its premises in the order of `LABELS`."""
        stream, fact = self.stream, self.fact()
        negative = stream.chance(35)
        hypothesis = replace(fact_clause(fact, date=False), negative=negative)
        same = self._stated(fact, negative=negative)
        opposite = self._stated(fact, negative=not negative)
        if not negative and fact.relation in _ONE_PLACE and stream.chance(50):
            opposite = self._stated(replace(fact, place=self._other_place(fact.place)), negative=False)
        return hypothesis, (same, self._neutral(fact), opposite)

    def _other_place(self, place: Name | None) -> Name:
        while (other := self.stream.pick(self.world.places)) == place:
            pass
        return other

    def _stated(self, fact: Fact, *, negative: bool) -> Clause:
        """State (or deny) a fact with more around it. A denial gets no adjuncts: they would be what is
        denied.
        """
        stream = self.stream
        clause = replace(
            fact_clause(fact, date=not negative and stream.chance(50), front=stream.chance(40)),
            negative=negative,
        )
        other = self.fact()
        draw = stream.below(4)
        if draw == 0:
            return replace(
                clause,
                subject=(
                    Pair(fact.subject, other.subject)
                    if stream.chance(50)
                    else Pair(other.subject, fact.subject)
                ),
            )
        if draw == 1 and not negative:
            return replace(clause, obliques=(*clause.obliques, Oblique("with", other.subject)))
        if draw == 2:
            return replace(self._plain(other), coordinate=("and" if stream.chance(50) else "but", clause))
        return replace(clause, coordinate=("and" if stream.chance(50) else "but", self._plain(other)))

    def _plain(self, fact: Fact) -> Clause:
        return replace(fact_clause(fact, date=self.stream.chance(30)), negative=self.stream.chance(30))

    def _neutral(self, fact: Fact) -> Clause:
        """Return a premise with the same names that leaves the hypothesis open."""
        stream, other = self.stream, self.fact()
        clause = replace(fact_clause(fact, date=False), negative=stream.chance(50))
        draw = stream.below(4)
        if draw == 0:
            verb = stream.pick(("say", "think", "believe", "doubt", "hope.v"))
            return Clause(
                verb, "Past" if stream.chance(50) else "Pres", subject=other.subject, complement=clause
            )
        if draw == 1 and fact.relation != "born":
            inner = replace(clause, subject=None, infinitive=True, negative=False)
            return Clause("want", "Past", subject=fact.subject, complement=inner, negative=stream.chance(40))
        if draw == 2 and other.subject != fact.subject:
            mine = fact_clause(Fact("admire", fact.subject, other.subject))
            return replace(
                mine,
                coordinate=("and" if stream.chance(50) else "but", replace(clause, subject=other.subject)),
            )
        swapped = replace(fact, relation=stream.pick(_SWAPS[fact.relation]), date=None)
        return replace(fact_clause(swapped), negative=swapped.relation != "visit" and stream.chance(40))


class Inference(NamedTuple):
    """A pair of sentences as meanings, and as the text they are in one language."""

    meanings: tuple[Clause, Clause]
    said: tuple[str, str]
    label: str


def write_nli(folder: Path, grammar: Grammar, world: World, settings: WorldSettings) -> None:
    """Write `nli/<code>-<split>.tsv` (header premise, hypothesis, label); hypotheses of one split occur in no
    other.
    """
    for split, pairs in inferences(grammar, world, settings):
        rows = [f"{pair.said[0]}\t{pair.said[1]}\t{pair.label}\n" for pair in pairs]
        content = "premise\thypothesis\tlabel\n" + "".join(rows)
        path = folder / "nli" / f"{grammar.language.code}-{split}.tsv"
        path.write_text(content, encoding="utf-8", newline="\n")


def inferences(
    grammar: Grammar, world: World, settings: WorldSettings
) -> Iterator[tuple[str, list[Inference]]]:
    """Yield the pairs of a language's NLI files, split by split."""
    code, used = grammar.language.code, set[str]()
    for split in SPLITS:
        stream = Stream(f"world/{settings.seed}/{code}/nli/{split}")
        pairs, rows, misses = _Pairs(world, stream), list[Inference](), 0
        while len(rows) < getattr(settings.sizes.nli, split) // 3 * 3:
            misses += 1
            if misses > _PATIENCE:
                raise InputError(
                    "Expected a number of NLI pairs that this world can fill with different hypotheses, but"
                    f" {code} ran dry after {len(used) * 3} pairs in {split}. Lower sizes.nli."
                )
            meaning, premises = pairs.group()
            hypothesis = say(grammar, meaning)
            said = [say(grammar, premise) for premise in premises]
            if hypothesis not in used and len({hypothesis, *said}) == 4:
                misses = 0
                used.add(hypothesis)
                rows += [
                    Inference((premise, meaning), (line, hypothesis), label)
                    for premise, line, label in zip(premises, said, LABELS, strict=True)
                ]
        _shuffle(rows, stream)
        yield split, rows


def _shuffle(rows: list[Inference], stream: Stream) -> None:
    for last in range(len(rows) - 1, 0, -1):
        other = stream.below(last + 1)
        rows[last], rows[other] = rows[other], rows[last]


def say(grammar: Grammar, meaning: Clause) -> str:
    """Return the text of a meaning in a language."""
    return text(surface(grammar.sentence(meaning), grammar))


def write_qa(folder: Path, grammar: Grammar, world: World, settings: WorldSettings) -> None:
    """Write `qa/<code>-<split>.json` in the SQuAD v1.1 format; sizes count questions."""
    code = grammar.language.code
    used: set[str] = set()
    for split in SPLITS:
        stream = Stream(f"world/{settings.seed}/{code}/qa/{split}")
        data: list[dict[str, Any]] = []
        left = getattr(settings.sizes.qa, split)
        while left > 0:
            paragraph = _paragraph(grammar, world, stream, f"{code}-{split}-{len(data)}", min(left, 3))
            if paragraph["context"] in used:
                continue
            used.add(paragraph["context"])
            left -= len(paragraph["qas"])
            data.append({"title": f"{code}-{split}-{len(data)}", "paragraphs": [paragraph]})
        content = json.dumps({"version": "1.1", "data": data}, ensure_ascii=False, indent=1) + "\n"
        (folder / "qa" / f"{code}-{split}.json").write_text(content, encoding="utf-8", newline="\n")


def _paragraph(grammar: Grammar, world: World, stream: Stream, name: str, most: int) -> dict[str, Any]:
    """Return one paragraph about a person, with another person's life in between, and up to `most`
    questions.
    """
    hero, other = stream.pick(world.people), stream.pick(world.people)
    facts = _chosen(world.facts[hero], 4, stream)
    if other != hero:
        facts = facts[:2] + _chosen(world.facts[other], 2, stream) + facts[2:]
    founded = stream.pick(world.organisations)
    facts += world.facts[founded][: 1 + stream.below(2)]
    context, places = "", list[tuple[Fact, int, str, object]]()
    author = Author(world, stream)
    previous: Name | None = None
    for fact in facts:
        pronoun = Pronoun("she" if fact.subject.female else "he")
        subject = (
            pronoun
            if fact.subject is previous and fact.subject.label == "PER" and stream.chance(40)
            else None
        )
        previous = fact.subject
        tokens = surface(
            grammar.sentence(fact_clause(fact, subject=subject, front=stream.chance(30))), grammar
        )
        start = len(context) + (1 if context else 0)
        context += (" " if context else "") + text(tokens)
        for target in (fact.object, fact.place, fact.date, fact.subject):
            found = find(tokens, target) if target is not None else None
            if found is not None:
                places.append((fact, start + found[0], found[1], target))
        if stream.chance(25):
            context += " " + say(grammar, author.filler())
    asked = [
        (question, offset, answer)
        for fact, offset, answer, target in places
        if (question := question_of(fact, target)) is not None
    ]
    qas: list[dict[str, Any]] = []
    while asked and len(qas) < most:
        question, offset, answer = asked.pop(stream.below(len(asked)))
        qas.append(
            {
                "id": f"{name}-{len(qas)}",
                "question": say(grammar, question),
                "answers": [{"text": answer, "answer_start": offset}],
            }
        )
    return {"context": context, "qas": qas}


def _chosen(facts: list[Fact], count: int, stream: Stream) -> list[Fact]:
    """Return facts of different relations, in a drawn order (so that no question has two answers)."""
    rest, chosen = list(facts), dict[str, Fact]()
    while rest and len(chosen) < count:
        fact = rest.pop(stream.below(len(rest)))
        chosen.setdefault(fact.relation, fact)
    return list(chosen.values())


def question_of(fact: Fact, target: object) -> Clause | None:
    """Return the question that `target` answers, or None when the fact does not lend itself to one."""
    statement = fact_clause(fact, date=False, place=fact.relation != "meet")
    if isinstance(target, Date):
        statement = replace(statement, obliques=(*statement.obliques, Oblique("in", Pronoun("when.wh"))))
    elif target is fact.subject:
        if fact.relation != "found":
            return None
        statement = replace(statement, subject=Pronoun("who"))
    elif target is fact.place and fact.relation in _WHERE:
        statement = replace(statement, obliques=(Oblique("in", Pronoun("where")),))
    elif fact.relation == "serve":
        statement = replace(statement, obliques=(Oblique("for", Pronoun("who")),))
    elif fact.relation == "found":
        return None
    else:
        person = isinstance(target, Name) and target.label == "PER"
        statement = replace(statement, object=Pronoun("who" if person else "what"))
    return replace(statement, mood="question")
