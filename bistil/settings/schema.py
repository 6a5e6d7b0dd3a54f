"""JSON schemas of settings files, made from the dataclasses that the files are read into, and what is wrong
with a value by them.

Notable: the dataclasses are the only truth; `data/experiments/schema.json`, for editors, comes from `bistil
schema`. What a schema cannot say (a density above 0, a system that exists) the dataclasses check when they
are made. Numbers are taken strictly: 3.0 is no whole number, and true is no number. Messages show a value cut
short, since aliases make a small file an endless value.
"""

import dataclasses
import inspect
import json
import reprlib
import types
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from bistil.store.provenance import plain

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string"}
WORDS = {
    **{name: f"of type {kind.__name__}" for kind, name in SCALARS.items()},
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
KINDS: dict[str, tuple[type, ...]] = {
    **{name: (kind,) for kind, name in SCALARS.items()},
    **{"number": (int, float), "array": (list,), "object": (dict,), "null": (type(None),)},
}
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 3, 200, 200


class Problem(NamedTuple):
    """Something wrong with a value: where, as keys and positions from the top; what, to be read after that;
    the rule that was broken.
    """

    at: tuple[str | int, ...]
    told: str
    rule: str


def schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of what can be read into `kind`: a dataclass, a scalar, or a tuple, mapping or optional
    of such.
    """
    definitions: dict[str, Any] = {}
    return {"$schema": DIALECT, **_of(kind, definitions), "$defs": definitions}


def as_json(kind: Any) -> str:
    """The schema as the text of a file."""
    return json.dumps(schema(kind), indent=1, ensure_ascii=False) + "\n"


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one type; dataclasses are put among the definitions, by their names."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        name = str(getattr(kind, "__name__", ""))
        if name not in definitions:
            definitions[name] = {}  # for one that contains itself
            definitions[name] = _of_dataclass(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (Union, types.UnionType):
        inner = _of(next(one for one in arguments if one is not type(None)), definitions)
        return (
            {**inner, "type": [inner["type"], "null"]}
            if "type" in inner
            else {"anyOf": [inner, {"type": "null"}]}
        )
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    return {"type": SCALARS[kind]} if kind in SCALARS else {}


def _of_dataclass(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, fields = get_type_hints(kind), dataclasses.fields(kind)
    properties = {field.name: {**_of(hints[field.name], definitions), **_default(field)} for field in fields}
    needed = [field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING]
    about = {"title": kind.__name__, "description": inspect.cleandoc(kind.__doc__ or "")}
    return {
        **about,
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": needed,
    }


def _default(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    """The default of a field as a schema has it; of a field whose default is made anew each time, none."""
    return {} if field.default is dataclasses.MISSING else {"default": plain(field.default)}


def problems(kind: Any, value: Any) -> Iterator[Problem]:
    """What is wrong with a plain value that should become a `kind`."""
    for error in _validator(kind).iter_errors(value):
        yield Problem(tuple(error.absolute_path), error.message, str(error.validator))


@cache
def _validator(kind: Any) -> Any:
    """A validator of jsonschema, with our words; its own show whole values."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    def typed(validator: Any, wanted: Any, value: Any, rule: Mapping[str, Any]) -> Iterator[ValidationError]:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not any(_is(value, name) for name in names):
            of = f" with the fields of {rule['title']}" if "title" in rule else ""
            hint = _hint(names[0], value)
            yield ValidationError(
                f"should be {' or '.join(WORDS[name] for name in names)}{of}, but is"
                f" {_SHOWN.repr(value)}{hint}"
            )

    def one_of(validator: Any, rules: Any, value: Any, rule: Mapping[str, Any]) -> Iterator[ValidationError]:
        if value is not None:
            yield from validator.descend(value, rules[0], schema_path=0)

    def further(validator: Any, rules: Any, value: Any, rule: Mapping[str, Any]) -> Iterator[ValidationError]:
        own = rule.get("properties", {})
        for key in (key for key in value if key not in own) if isinstance(value, dict) else ():
            if rules is False:
                near = get_close_matches(str(key), own, 1)
                meant = f"did you mean {near[0]!r}? " if near else ""
                yield ValidationError(
                    f"has the unknown key {_SHOWN.repr(key)}; {meant}{rule['title']} has: {', '.join(own)}",
                    path=[key],
                )
            else:
                yield from validator.descend(value[key], rules, path=key)

    def needed(validator: Any, names: Any, value: Any, rule: Mapping[str, Any]) -> Iterator[ValidationError]:
        for name in names if isinstance(value, dict) else ():
            if name not in value:
                yield ValidationError(f"lacks the key {name!r}, which {rule['title']} needs")

    ours = {"type": typed, "anyOf": one_of, "additionalProperties": further, "required": needed}
    return validators.extend(Draft202012Validator, ours)(schema(kind))


def _is(value: Any, name: str) -> bool:
    """Whether a value is of the type that a schema calls so."""
    return isinstance(value, KINDS[name]) and (name == "boolean" or not isinstance(value, bool))


def _hint(wanted: str, value: Any) -> str:
    """What YAML has made of a value that was meant otherwise."""
    if wanted == "number" and _is_number(value):
        return "; write it with a point, as in 5.0e-4"
    if wanted == "string" and isinstance(value, bool):
        return "; YAML takes yes, no, on and off for that: write it in quotation marks, as in 'no'"
    if wanted == "string" and value is None:
        return "; YAML takes ~ and an empty place for that: write it in quotation marks"
    if wanted == "string" and not isinstance(value, dict | list):
        return "; write it in quotation marks"
    return ""


def _is_number(value: Any) -> bool:
    """Whether a text is a number that YAML took for text."""
    try:
        return isinstance(value, str) and bool(float(value) or True)
    except ValueError:
        return False
