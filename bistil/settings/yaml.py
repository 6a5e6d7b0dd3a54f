"""Settings from YAML into frozen dataclasses: unknown keys, missing keys, wrong types and values name file,
line and column.

Notable: a value is held against what the settings classes declare first (`ranges`), so that making them can
only fail by what they refuse of several fields together; that, too, is told with the place in the file."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml

from bistil.errors import InputError
from bistil.settings.files import YamlLoader, read_text
from bistil.settings.ranges import Problem, key, kinds, optional, problems

T = TypeVar("T")
At = Sequence[str | int]


def read_yaml(kind: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `kind`.

    Raises:
        InputError: naming the place as FILE:LINE:COLUMN, what was expected there and what came.
    """
    if not path.is_file():
        raise InputError(f"A settings file was expected at {path}, but there is none.")
    text = read_text(path)
    try:
        loader = YamlLoader(text)
        root = loader.get_single_node()
        twice = _said_twice(root)
        value = loader.construct_document(root) if root else None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
        raise InputError(f"{path}:{place}: {_no_yaml(error.reason)}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{path}:{_position(mark)}: {_no_yaml(error.problem)}") from error
    except Exception as error:  # yaml's scanner fails in the ways of what it reads, too: a strange escape
        raise InputError(f"{path}: {_no_yaml(str(error))}") from error
    if twice:
        first, second = twice
        raise InputError(
            f"{path}:{_place(second)}: the key {second.value!r} is there already, on line"
            f" {first.start_mark.line + 1}."
        )
    found = [
        (_node(root, problem.at, at_key=problem.rule == "unknown"), problem)
        for problem in problems(kind, value)
    ]
    for node, problem in sorted(found, key=lambda one: _order(*one)):
        raise InputError(f"{path}:{_place(node)}: {problem.sentence(kind)}")
    try:
        return _make(kind, value, ())  # type: ignore[no-any-return]
    except InputError as error:
        raise InputError(f"{path}:{_place(_node(root, error.at))}: {error}") from error


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain values into `kind`; `where` is named in errors."""
    for problem in problems(kind, value):
        raise InputError(f"{where}: {problem.sentence(kind)}")
    return _make(kind, value, ())


def _make(kind: Any, value: Any, at: At) -> Any:
    """Make `kind` of a value without problems; what a settings class refuses is told with the place of that
    class.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _make(arguments[0], value, at)
    if dataclasses.is_dataclass(kind) and not isinstance(value, kind):  # type: ignore[arg-type]
        names = {key(one.name): one.name for one in dataclasses.fields(kind)}
        fields = {names[name]: _make(kinds(kind)[name], item, (*at, name)) for name, item in value.items()}
        try:
            return kind(**fields)  # type: ignore[operator]
        except InputError as error:
            error.at = (*at, *error.at)
            raise
    if origin in (Union, types.UnionType):
        return None if value is None else _make(optional(kind), value, at)
    if origin is tuple:
        return tuple(_make(arguments[0], item, (*at, number)) for number, item in enumerate(value))
    if origin in (dict, Mapping):
        return {name: _make(arguments[1], item, (*at, name)) for name, item in value.items()}
    return float(value) if kind is float else value


def _node(root: yaml.Node | None, at: At, *, at_key: bool = False) -> yaml.Node | None:
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
    return name if at_key else node


def _order(node: yaml.Node | None, problem: Problem) -> int:
    """Where in the file a problem shows; that a mapping lacks a key shows at its end, after a key that was
    meant to be it.
    """
    if node is None:
        return 0
    return int((node.end_mark if problem.rule == "lacking" else node.start_mark).index)


def _place(node: yaml.Node | None) -> str:
    """Where a node begins."""
    return _position(node.start_mark if node else None)


def _position(mark: yaml.Mark | None) -> str:
    """Line and column, from 1."""
    return f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"


def _no_yaml(why: str | None) -> str:
    """What is told of text that is no YAML; a tab has yaml itself speak of tokens."""
    told = "tabs cannot indent, put blanks there" if "'\\t'" in str(why) else str(why).removeprefix("but ")
    return f"YAML was expected, but {told}. Correct the file."


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
            for said, below in node.value:
                if isinstance(said, yaml.ScalarNode) and said.value in keys:
                    return keys[said.value], said
                keys[str(said.value) if isinstance(said, yaml.ScalarNode) else str(id(said))] = said
                waiting.append(below)
    return None
