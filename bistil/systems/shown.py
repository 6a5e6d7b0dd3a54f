"""A system as lines of text: its terms as a table, and whatever else is not as usual."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from bistil.systems.recipe import Student, Term
from bistil.systems.system import System

COLUMNS = ("term", "of", "by", "weight", "over", "positions", "per", "temperature", "layers")
LEFT_OUT = ("terms", "title", "named")


def lines(name: str, system: System) -> Iterator[str]:
    """What a system is; of a student's own fields every one is told, of all others those that were set."""
    yield f"{name}: {system.told}" + (f" ({system.source})" if system.source else "")
    if system.guesses:
        return
    if system.student is None:
        yield "\nmodel: the whole teacher"
    else:
        yield "\nstudent"
        yield from _table(system.student.terms)
        yield from _set(system.student, every=_telling(system.student))
    yield "\nadaptation"
    yield from _set(system.adaptation, otherwise="nothing is worn for a language")
    yield "\nlearning"
    if system.forced:
        yield from _table(system.learning.terms)
    yield from _set(system.learning, otherwise="by the method of the experiment's settings, on gold labels")
    for what, value in system.merge.items():
        yield f"  merge, {what}: {_words(value)}"


def _table(terms: Mapping[str, Term]) -> Iterator[str]:
    """A row a term; columns that are the same in all and as usual are left out."""
    usual = {one.name: one.default for one in fields(Term)}
    shown = [
        column
        for column in COLUMNS[1:]
        if column in ("of", "by", "weight")
        or any(getattr(term, column) != usual[column] for term in terms.values())
    ]
    rows = [["term", *shown]]
    rows += [[name, *(_words(getattr(term, column)) for column in shown)] for name, term in terms.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if terms else []:
        told = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {told}".rstrip()
    if not terms:
        yield "  no terms: nothing is distilled"


def _telling(student: Student) -> tuple[str, ...]:
    """Fields that say something of this student even where they are as usual."""
    told = ["languages", "vocabulary", "start"]
    told += ["layers"] if student.follows and not student.merges else []
    told += ["share"] if student.family else []
    return (*told, "trim") if student.vocabulary == "trimmed" else tuple(told)


def _set(part: Any, *, every: tuple[str, ...] = (), otherwise: str = "") -> Iterator[str]:
    """The fields that are not as usual, and `every` one of those named; `otherwise` where there is none."""
    found = False
    for one in fields(part):
        value = getattr(part, one.name)
        usual = one.default_factory() if callable(one.default_factory) else one.default
        if one.name not in LEFT_OUT and (value != usual or one.name in every):
            found = True
            yield f"  {one.name}: {_words(value)}"
    if not found and otherwise:
        yield f"  {otherwise}"


def _words(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
