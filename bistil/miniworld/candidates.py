"""Questions with candidate answers, from the same facts as inference and question answering.

Notable: a context states one relation of two people; the candidates differ in a name alone, which is that of
the right person, of the other one or of neither. So a candidate says nothing without the context, and one
name in the context is as frequent as the other.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.miniworld.author import Author, fact_clause
from bistil.miniworld.grammar import Grammar
from bistil.miniworld.questions import question_of, say
from bistil.miniworld.settings import SPLITS, WorldSettings
from bistil.miniworld.stream import Stream
from bistil.miniworld.world import Fact, Name, World

RELATIONS = ("visit", "serve", "live", "born", "study", "admire", "leave")
CANDIDATES = {"train": 3, "dev": 3, "test": 2}
_PATIENCE = 500


def write_choice(folder: Path, grammar: Grammar, world: World, settings: WorldSettings) -> None:
    """Write `choice/<code>-<split>.jsonl`, three candidates a question to train on and two to test with; no
    context is there twice.
    """
    code, used = grammar.language.code, set[str]()
    for split in SPLITS:
        stream, lines, misses = Stream(f"world/{settings.seed}/{code}/choice/{split}"), list[str](), 0
        while len(lines) < getattr(settings.sizes.choice, split):
            row = _drawn(grammar, world, stream, CANDIDATES[split])
            misses += 1
            if misses > _PATIENCE:
                raise InputError(
                    f"Expected sizes that this world can fill with different contexts, but {code} ran dry"
                    f" after {len(used)}. Lower sizes.choice."
                )
            if row["context"] not in used and len(set(row["choices"])) == len(row["choices"]):
                used.add(row["context"])
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
                misses = 0
        path = folder / "choice" / f"{code}-{split}.jsonl"
        path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _drawn(grammar: Grammar, world: World, stream: Stream, count: int) -> dict[str, Any]:
    """Return one question with `count` candidates."""
    people = [stream.pick(world.people) for _ in range(3)]
    relation = stream.pick(RELATIONS)
    facts = [next(one for one in world.facts[person] if one.relation == relation) for person in people]
    told = [say(grammar, fact_clause(fact, front=stream.chance(30))) for fact in facts[:2]]
    if stream.chance(50):
        told.reverse()
    if stream.chance(25):
        told.append(say(grammar, Author(world, stream).filler()))
    wrong = facts[1:]
    if stream.chance(50):
        wrong.reverse()
    label = stream.below(count)
    named = [*wrong[: count - 1]]
    named.insert(label, facts[0])
    question = question_of(facts[0], _named(facts[0]))
    assert question is not None, "each of RELATIONS can be asked for"
    choices = [say(grammar, fact_clause(_with(facts[0], _named(one)), date=False)) for one in named]
    context = " ".join(told)
    return {"context": context, "question": say(grammar, question), "choices": choices, "label": label}


def _named(fact: Fact) -> Name | None:
    return fact.object or fact.place


def _with(fact: Fact, name: Name | None) -> Fact:
    """Return the fact of another object or place."""
    return replace(fact, object=name) if fact.object else replace(fact, place=name)
