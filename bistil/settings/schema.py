"""JSON schemas of settings files, made from the settings classes that the files are read into.

Notable: the classes are the only truth; `data/experiments/schema.json`, for editors, comes from `bistil
schema`. What a schema cannot say (a system that exists, a warm-up that fits the steps) the classes check when
they are made."""

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from bistil.settings.ranges import key, kinds, needed, optional

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of what can be read into `kind`: a settings class, a scalar, or a tuple, mapping or
    optional of such.
    """
    definitions: dict[str, Any] = {}
    return {"$schema": DIALECT, **_of(kind, definitions), "$defs": definitions}


def as_json(kind: Any) -> str:
    """The schema as the text of a file."""
    return json.dumps(schema(kind), indent=1, ensure_ascii=False) + "\n"


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one type; settings classes are put among the definitions, by their names."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = {name: bound for limit in arguments[1:] for name, bound in limit.keywords.items()}
        return {**_of(arguments[0], definitions), **bounds}
    if dataclasses.is_dataclass(kind):
        name = str(getattr(kind, "__name__", ""))
        if name not in definitions:
            definitions[name] = {}  # for one that contains itself
            definitions[name] = _of_settings(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(optional(kind), definitions), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    return {"type": SCALARS[kind]} if kind in SCALARS else {}


def _of_settings(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    text = inspect.cleandoc(kind.__doc__ or "")
    told, fields = _told(kind), dataclasses.fields(kind)
    properties = {
        key(field.name): {
            **_of(kinds(kind)[key(field.name)], definitions),
            **({"description": told[field.name]} if field.name in told else {}),
            **_default(field),
        }
        for field in fields
    }
    return {
        "title": kind.__name__,
        "description": text.partition("\n\nAttributes:")[0].replace("\n", " "),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": needed(kind),
    }


def _told(kind: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field, under `Attributes:`."""
    told: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", inspect.cleandoc(one.__doc__ or ""), re.M)
        for name, text in re.findall(
            r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section.group(1) if section else "", re.M
        ):
            told[name] = " ".join(text.split())
    return told


def _default(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    """The default of a field as a schema has it; of a field whose default is made anew each time, none."""
    if field.default is dataclasses.MISSING:
        return {}
    return {"default": json.loads(json.dumps(field.default, default=dataclasses.asdict))}
