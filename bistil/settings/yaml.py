"""Settings from YAML into frozen dataclasses: unknown keys, missing keys, wrong types and values name file,
line and column.

Notable: a value is held against the JSON schema of the dataclass first, so that making it can only fail by
what the dataclass itself refuses; that, too, is told with the place in the file."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from bistil.errors import InputError
from bistil.settings.schema import Problem, problems
from bistil.text.files import YamlLoader, read_text

T = TypeVar("T")
At = Sequence[str | int]
UNKNOWN = "additionalProperties"
"""The rule of a schema that an unknown key breaks."""


def read_yaml(kind: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `kind`.

    :raises InputError: naming the place as FILE:LINE:COLUMN, what was expected there and what came.
    """
    if not path.is_file():
        raise InputError(f"A settings file was expected at {path}, but there is none.")
    text = read_text(path)
    try:
        loader = YamlLoader(text)
        root = loader.get_single_node()
        twice = _said_twice(root)
        value = loader.construct_document(root) if root else None
    except (
        Exception
    ) as error:  # beside its own errors, yaml's constructors fail in the ways of what they construct
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if twice:
        first, second = twice
        raise InputError(
            f"{path}:{_place(second)}: the key {second.value!r} is there already, on line"
            f" {first.start_mark.line + 1}."
        )
    found = [
        (_node(root, problem.at, key=problem.rule == UNKNOWN), problem) for problem in problems(kind, value)
    ]
    for node, problem in sorted(found, key=lambda one: _order(*one)):
        raise InputError(f"{path}:{_place(node)}: {_told(kind, problem)}.")
    try:
        return _make(kind, value, ())  # type: ignore[no-any-return]
    except InputError as error:
        raise InputError(f"{path}:{_place(_node(root, error.at))}: {error}") from error


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain values into `kind`; `where` is named in errors."""
    for problem in problems(kind, value):
        raise InputError(f"{where}: {_told(kind, problem)}.")
    return _make(kind, value, ())


def _told(kind: Any, problem: Problem) -> str:
    """A problem as a sentence about the value at that place: inner.names[1] should be …"""
    at = problem.at[:-1] if problem.rule == UNKNOWN else problem.at
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).removeprefix(".")
    return f"{name or getattr(kind, '__name__', 'it')} {problem.told}"


def _make(kind: Any, value: Any, at: At) -> Any:
    """Make `kind` of a value that fits its schema; what a dataclass refuses is told with the place of that
    dataclass.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        fields = {name: _make(hints[name], item, (*at, name)) for name, item in value.items()}
        try:
            return kind(**fields)  # type: ignore[operator]
        except InputError as error:
            error.at = (*at, *error.at)
            raise
    if origin in (Union, types.UnionType):
        return (
            None
            if value is None
            else _make(next(one for one in arguments if one is not type(None)), value, at)
        )
    if origin is tuple:
        return tuple(_make(arguments[0], item, (*at, number)) for number, item in enumerate(value))
    if origin in (dict, Mapping):
        return {str(key): _make(arguments[1], item, (*at, str(key))) for key, item in value.items()}
    return float(value) if kind is float else value


def _node(root: yaml.Node | None, at: At, *, key: bool = False) -> yaml.Node | None:
    """The part of a file that a place in its value comes from, as far down as there is one; the key itself
    where that is asked for.
    """
    node, name = root, root
    for step in at:
        if isinstance(node, yaml.MappingNode):
            name, below = next(
                ((one, under) for one, under in node.value if one.value == str(step)), (None, None)
            )
        else:
            below = name = (
                node.value[step] if isinstance(node, yaml.SequenceNode) and isinstance(step, int) else None
            )
        if below is None:
            return node
        node = below
    return name if key else node


def _order(node: yaml.Node | None, problem: Problem) -> int:
    """Where in the file a problem shows; that a mapping lacks a key shows at its end, after a key that was
    meant to be it.
    """
    if node is None:
        return 0
    return int((node.end_mark if problem.rule == "required" else node.start_mark).index)


def _place(node: yaml.Node | None) -> str:
    """Line and column, from 1."""
    return f"{node.start_mark.line + 1}:{node.start_mark.column + 1}" if node else "1:1"


def _said_twice(root: yaml.Node | None) -> tuple[yaml.Node, yaml.Node] | None:
    """Two keys of one mapping that are the same, of which YAML would take the last; None where there are
    none.
    """
    waiting, seen = [root] if root else [], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, yaml.Node] = {}
            for key, below in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    return keys[key.value], key
                keys[str(key.value) if isinstance(key, yaml.ScalarNode) else str(id(key))] = key
                waiting.append(below)
    return None
