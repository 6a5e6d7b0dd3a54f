"""What a field of a settings class may hold, said once in its type: `density: Density`.

Notable: a settings class is a frozen dataclass on `Settings`. The same declarations check values as they come
from a file (`yaml`), check every other construction, and become the bounds of the JSON schema (`schema`).
Numbers are taken strictly: 3.0 is no whole number, true is no number, and no number is infinite. Messages
show a value cut short, since aliases make a small file an endless value.

This room is our own because pydantic, which was tried (2.14), would save little of it: its strict mode takes
no mapping for a dataclass and no list for a tuple, the other one takes '3' for 3, dataclasses made in Python
would need a second check, places and messages would still be ours; cattrs has no schema.
"""

import dataclasses
import reprlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sized
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from bistil.errors import InputError

LARGEST = 2**31 - 1
"""The largest whole number that a setting takes: what C libraries below us hold."""
SCALARS: dict[Any, type] = {bool: bool, int: Integral, float: Real, str: str}
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 3, 200, 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers between two bounds.

    Attributes:
        least: the smallest number that is allowed.
        most: the largest one.
        above: a bound below all numbers that are allowed, instead of `least`.
        below: a bound above them, instead of `most`.
        multiple: a number that divides those that are allowed.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    multiple: int | None = None

    def holds(self, value: float) -> bool:
        """Whether a number is inside; one that is not finite never is."""
        return (
            abs(value) <= sys.float_info.max
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.multiple is None or value % self.multiple == 0)
        )

    def __str__(self) -> str:
        words = {
            "least": "at least",
            "above": "above",
            "most": "at most",
            "below": "below",
            "multiple": "a multiple of",
        }
        told = {name: getattr(self, name) for name in words}
        return " and ".join(f"{words[name]} {bound:,}" for name, bound in told.items() if bound is not None)

    @property
    def keywords(self) -> dict[str, float]:
        """The bounds as a JSON schema has them."""
        names = {
            "least": "minimum",
            "most": "maximum",
            "above": "exclusiveMinimum",
            "below": "exclusiveMaximum",
            "multiple": "multipleOf",
        }
        bounds = {told: getattr(self, name) for name, told in names.items()}
        return {told: bound for told, bound in bounds.items() if bound is not None}


@dataclasses.dataclass(frozen=True)
class Filled:
    """A list or mapping with at least one entry."""

    def holds(self, value: Sized) -> bool:
        """Whether there is an entry."""
        return len(value) > 0

    def __str__(self) -> str:
        return "a list with at least one entry"

    @property
    def keywords(self) -> dict[str, float]:
        """The same in a JSON schema."""
        return {"minItems": 1}


Count = Annotated[int, Range(least=1, most=LARGEST)]
"""A number of things of which there is one at least."""
Tally = Annotated[int, Range(least=0, most=LARGEST)]
"""A number of things of which there may be none."""
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]
"""A seed, as numpy takes them."""
Length = Annotated[int, Range(least=8, most=LARGEST)]
"""Sub-words of a sequence, its special tokens among them."""
Layers = Annotated[int, Range(least=1, most=1000)]
"""Layers of an encoder."""
Factor = Annotated[int, Range(least=1, most=99)]
"""How many times fewer layers or dimensions a student has."""
Share = Annotated[float, Range(least=0, most=1)]
"""A share; none and all are shares."""
Density = Annotated[float, Range(above=0, most=1)]
"""A share that is not nothing."""
Dropout = Annotated[float, Range(least=0, below=1)]
"""A share that leaves something."""
Part = Annotated[float, Range(above=0, below=1)]
"""A share that is neither nothing nor all."""
Percent = Annotated[int, Range(least=0, most=100)]
"""A whole number of hundredths."""
Weight = Annotated[float, Range(least=0)]
"""What a term or gradient counts; 0 is for not at all."""
Positive = Annotated[float, Range(above=0)]
"""A rate or factor that cannot be 0."""


class Problem(NamedTuple):
    """Something wrong with a value.

    at: keys and positions from the top. told: what, to be read after that place. rule: `unknown` or `lacking`
    where a key is, otherwise empty.
    """

    at: tuple[str | int, ...]
    told: str
    rule: Literal["", "unknown", "lacking"] = ""

    def sentence(self, whole: Any) -> str:
        """The problem, said of its place in a `whole`: inner.names[1] should be …"""
        at = self.at[:-1] if self.rule == "unknown" else self.at
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).removeprefix(".")
        return f"{name or getattr(whole, '__name__', 'it')} {self.told}."


class Settings:
    """The base of settings classes, which are dataclasses: no field holds what its type does not allow.

    A class with checks of its own, over several fields, calls `super().__post_init__()` first.
    """

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InputError: naming the field, its range and what came.
        """
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            name = key(one.name)
            for problem in problems(kinds(type(self))[name], getattr(self, one.name), (name,)):
                raise InputError(problem.sentence(type(self)), at=problem.at)


def key(field: str) -> str:
    """What files call a field; where that is a word of Python's own, the field has an underscore after it."""
    return field.removesuffix("_")


def kinds(settings: Any) -> dict[str, Any]:
    """The types of a dataclass' fields by their keys, with what they declare."""
    return _kinds(settings)


@cache
def _kinds(settings: Any) -> dict[str, Any]:
    hints = get_type_hints(settings, include_extras=True)
    return {key(field.name): hints[field.name] for field in dataclasses.fields(settings)}


def problems(kind: Any, value: Any, at: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    """What is wrong with a value that is, or should become, a `kind`: a settings class, a scalar, or a list,
    mapping or optional of such.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = list(problems(arguments[0], value, at))
        broken = (limit for limit in arguments[1:] if not found and not limit.holds(value))
        yield from found or (Problem(at, _instead(str(limit), value)) for limit in broken)
    elif origin in (Union, types.UnionType):
        if value is not None:
            yield from problems(optional(kind), value, at)
    elif origin is Literal:
        if value not in arguments:
            yield Problem(at, _instead(f"one of {', '.join(map(str, arguments))}", value))
    elif origin is tuple:
        if not isinstance(value, list | tuple):
            yield Problem(at, _instead("a list", value))
        else:
            for number, item in enumerate(value):
                yield from problems(arguments[0], item, (*at, number))
    elif origin in (dict, Mapping):
        yield from _of_mapping(arguments[1], value, at)
    elif dataclasses.is_dataclass(kind):
        yield from _of_settings(kind, value, at)
    elif kind in SCALARS and (
        not isinstance(value, SCALARS[kind]) or (kind is not bool and isinstance(value, bool))
    ):
        wanted = "true or false" if kind is bool else f"of type {kind.__name__}"
        yield Problem(at, _instead(wanted, value) + _hint(kind, value))


def optional(kind: Any) -> Any:
    """The type of which a type also allows None."""
    return next(one for one in get_args(kind) if one is not type(None))


def _of_mapping(kind: Any, value: Any, at: tuple[str | int, ...]) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(at, _instead("a mapping", value))
        return
    for name, item in value.items():
        if isinstance(name, str):
            yield from problems(kind, item, (*at, name))
        else:
            yield Problem(at, f"has the key {_SHOWN.repr(name)}, which is no text; put it in quotes")


def _of_settings(kind: Any, value: Any, at: tuple[str | int, ...]) -> Iterator[Problem]:
    if isinstance(value, kind):  # checked when it was made
        return
    if not isinstance(value, Mapping):
        yield Problem(at, _instead(f"a mapping with the fields of {kind.__name__}", value))
        return
    own = kinds(kind)
    for name, item in value.items():
        if name in own:
            yield from problems(own[name], item, (*at, name))
        else:
            yield Problem((*at, name), _unknown(name, own, kind.__name__), "unknown")
    for name in needed(kind):
        if name not in value:
            yield Problem(at, f"lacks the key {name!r}, which {kind.__name__} needs", "lacking")


def needed(settings: Any) -> list[str]:
    """The fields of a dataclass that have no default."""
    fields = dataclasses.fields(settings)
    return [key(one.name) for one in fields if one.default is one.default_factory is dataclasses.MISSING]


def _unknown(found: Any, own: Iterable[str], name: str) -> str:
    near = get_close_matches(str(found), own, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"has the unknown key {_SHOWN.repr(found)}; {meant}{name} has: {', '.join(own)}"


def _instead(wanted: str, value: Any) -> str:
    return f"should be {wanted}, but is {_SHOWN.repr(value)}"


def _hint(kind: Any, value: Any) -> str:
    """What to do where YAML reads something else than was meant."""
    if kind is str and isinstance(value, bool):
        return "; YAML takes yes, no, on and off for that: put it in quotes, as in 'no'"
    if kind is str and value is None:
        return "; YAML takes ~ and an empty place for that: put it in quotes"
    if kind is str and isinstance(value, int | float):
        return "; put it in quotes"
    try:
        numeric = kind is float and isinstance(value, str) and float(value) is not None
    except ValueError:
        numeric = False
    return "; write it with a point, as in 5.0e-4" if numeric else ""
