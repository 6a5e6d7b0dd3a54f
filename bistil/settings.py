"""Settings from YAML into frozen dataclasses: unknown keys, missing keys and wrong types are errors that name the place.

Notable: nested dataclasses, tuples and mappings of them are built from the type hints, so a config class is its own schema.
"""

import dataclasses
import reprlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from bistil.errors import InputError

T = TypeVar("T")
_SHOWN = reprlib.Repr()
"""How values are shown in errors: short, since aliases make a small file an endless value."""
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 3, 200, 200


def read_yaml(kind: type[T], path: Path) -> T:
    """Read a YAML file into the dataclass `kind`."""
    if not path.is_file():
        raise InputError(f"A settings file was expected at {path}, but there is none.")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # beside its own errors, yaml's constructors fail in the ways of what they construct
        raise InputError(f"{path} is not valid YAML in UTF-8: {error}") from error
    return build(kind, entries, str(path))


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain YAML values into `kind`; `where` is named in errors."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} should be a list, but is {_SHOWN.repr(value)}.")
        return tuple(build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise InputError(f"{where} should be a mapping, but is {_SHOWN.repr(value)}.")
        return {str(key): build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise InputError(f"{where} should be of type {kind.__name__}, but is {_SHOWN.repr(value)}.")
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where} should be a mapping with the fields of {kind.__name__}, but is {_SHOWN.repr(value)}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(map(str, value)) - set(fields))
    if unknown:
        raise InputError(f"{where} has the unknown key {unknown[0]!r}; {kind.__name__} has: {', '.join(fields)}.")
    missing = [
        name
        for name, field in fields.items()
        if name not in value and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{where} lacks the key {missing[0]!r}, which {kind.__name__} needs.")
    hints = get_type_hints(kind)
    return kind(**{name: build(hints[name], item, f"{where}: {name}") for name, item in value.items()})
