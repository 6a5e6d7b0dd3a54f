"""Every field of every settings class has its range, which a file, a call in Python and an editor's schema
keep.
"""

import ast
import dataclasses
import importlib
import pkgutil
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jsonschema
import pytest
import yaml

import bistil
from bistil.distil.general import GeneralConfig
from bistil.errors import InputError
from bistil.pretrain import PretrainConfig
from bistil.settings.ranges import Count, Filled, Range, Settings, kinds, needed, optional, problems
from bistil.settings.schema import schema
from bistil.settings.yaml import build, read_yaml
from bistil.sft.config import SftConfig
from bistil.training.loop import Schedule

PHASE = {"steps": 3, "learning_rate": 1e-3}
PACKAGE = Path(bistil.__file__).parent
VALUES = {
    "Choice",
    "LabelSettings",
    "Wish",
    "Language",
    "System",
    "Form",
    "Architecture",
    "Block",
    "SparseDelta",
    "Adapter",
    "Followed",
}
"""Keyword-only dataclasses that no user fills in: parts of tables and of the workbench, and the delta."""


def below(kind: type) -> Iterator[type]:
    subclasses: list[type] = kind.__subclasses__()
    for one in subclasses:
        yield one
        yield from below(one)


for module in pkgutil.walk_packages([str(PACKAGE)], "bistil."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
OURS: set[type] = {one for one in below(Settings) if one.__module__.startswith("bistil.")}
CLASSES = sorted(OURS, key=lambda one: one.__qualname__)


def leaves(kind: Any, limits: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The scalars in a type, each with what is declared of it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from leaves(arguments[0], arguments[1:])
    elif origin in (Union, types.UnionType):
        yield from leaves(optional(kind), limits)
    elif origin is tuple:
        yield from leaves(arguments[0])
    elif origin in (dict, Mapping):
        yield from leaves(arguments[1])
    else:
        yield kind, limits


FIELDS = [(one, name) for one in CLASSES for name in kinds(one)]
NUMBERS = [
    (one, name, kind, limits)
    for one, name in FIELDS
    for kind, limits in leaves(kinds(one)[name])
    if kind in (int, float)
]


def named(value: object) -> str | None:
    return value.__qualname__ if isinstance(value, type) else value if isinstance(value, str) else None


@pytest.mark.parametrize(("settings", "name"), FIELDS, ids=named)
def test_every_number_of_every_settings_class_has_a_range(settings: type, name: str) -> None:
    for kind, limits in leaves(kinds(settings)[name]):
        ranges = [limit for limit in limits if isinstance(limit, Range)]
        if kind in (int, float):
            assert len(ranges) == 1
            assert ranges[0].least is not None or ranges[0].above is not None
            assert kind is float or ranges[0].most is not None, "or C libraries overflow"
        else:
            assert kind in (str, bool, Any) or get_origin(kind) is Literal or kind in CLASSES


def test_every_dataclass_that_is_made_by_keywords_is_settings_or_known_to_be_none() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(call, ast.Call) and any(word.arg == "kw_only" for word in call.keywords)
                for call in node.decorator_list
            ):
                found.add(node.name)
    assert found - {one.__qualname__ for one in CLASSES} - VALUES == {"Range"}
    assert len(CLASSES) > 20


@pytest.mark.parametrize("settings", CLASSES, ids=named)
def test_every_field_has_a_line_of_its_own_in_the_docstring(settings: type) -> None:
    told = schema(settings)["$defs"][settings.__name__]["properties"]
    assert [name for name in told if len(told[name].get("description", "")) < 8] == []


def sample(kind: Any) -> Any:
    """Some value that a type allows, as YAML has it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated and isinstance(arguments[1], Range):
        known = (0.5, 1, 64, 4)
        return next(one for one in known if arguments[1].holds(one) and isinstance(one, arguments[0] | int))
    if origin is Annotated:
        return sample(arguments[0])
    if origin in (Union, types.UnionType):
        return sample(optional(kind))
    if origin is tuple:
        return [sample(arguments[0])]
    if origin in (dict, Mapping):
        return {"a": sample(arguments[1])}
    if origin is Literal:
        return arguments[0]
    if dataclasses.is_dataclass(kind):
        return {name: sample(kinds(kind)[name]) for name in needed(kind)}  # type: ignore[arg-type]
    return {bool: True, str: "a"}[kind]


def around(kind: Any) -> tuple[str, Any]:
    """How YAML begins a value that holds one number, and how it ends."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return around(arguments[0])
    if origin in (Union, types.UnionType):
        return around(optional(kind))
    return ("[", "]") if origin is tuple else ("{a: ", "}") if origin in (dict, Mapping) else ("", "")


def just_outside(limit: Range) -> Iterator[float]:
    for bound, step in ((limit.least, -1), (limit.most, 1), (limit.above, 0), (limit.below, 0)):
        if bound is not None:
            yield bound + step
    if limit.multiple:
        yield limit.multiple + 1


@pytest.mark.parametrize(("settings", "name", "kind", "limits"), NUMBERS, ids=named)
def test_a_number_outside_is_refused_with_its_line_and_column(
    settings: type, name: str, kind: type, limits: tuple[Range], tmp_path: Path
) -> None:
    path, (before, after) = tmp_path / "settings.yaml", around(kinds(settings)[name])
    others = {key: sample(kinds(settings)[key]) for key in needed(settings) if key != name}
    lines = yaml.safe_dump(others) if others else ""
    place = f"{lines.count(chr(10)) + 1}:{len(f'{name}: {before}') + 1}"
    validator = jsonschema.Draft202012Validator(schema(settings))
    no_numbers = [".nan", ".inf", "-.inf", "true", "many", "'3'", "1" + "0" * 400, *["1.0"] * (kind is int)]
    bounds = [repr(kind(bound)) for bound in just_outside(limits[0])]
    for number in [*no_numbers, *bounds]:
        text = f"{lines}{name}: {before}{number}{after}\n"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=rf"yaml:{place}: {name}(\[0\]|\.a)? should be .*, but is"):
            read_yaml(settings, path)
        assert number not in bounds or not validator.is_valid(yaml.safe_load(text))
        with pytest.raises(InputError, match=rf"^{name}(\[0\]|\.a)? should be .*, but is"):
            settings(**others, **{name: yaml.safe_load(text)[name]})


@pytest.mark.parametrize(("settings", "name", "kind", "limits"), NUMBERS, ids=named)
def test_a_number_at_a_bound_is_taken(settings: type, name: str, kind: type, limits: tuple[Range]) -> None:
    known = kinds(settings)[name]
    for bound in (limits[0].least, limits[0].most):
        if bound is not None and (not limits[0].multiple or bound % limits[0].multiple == 0):
            value = yaml.safe_load(repr(kind(bound)).join(around(known)))
            assert list(problems(known, value)) == []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Both(Settings):
    """Two fields and a check of its own.

    Attributes:
        many: A number
            of things.

            After a blank line.
        some: Names.
    """

    many: Count
    some: Annotated[tuple[str, ...], Filled()] = ("a",)


def test_messages_say_what_is_wanted_what_came_and_what_to_do() -> None:
    told = {
        "many should be at least 1 and at most 2,147,483,647, but is 0.": {"many": 0},
        "many should be of type int, but is 3.0.": {"many": 3.0},
        "some should be a list with at least one entry, but is ().": {"many": 1, "some": ()},
        "some[1] should be of type str, but is 4; put it in quotes.": {"many": 1, "some": ("a", 4)},
    }
    for sentence, values in told.items():
        with pytest.raises(InputError) as caught:
            Both(**values)  # type: ignore[arg-type]
        assert str(caught.value) == sentence
    assert Both(many=1) == Both(many=1, some=("a",))


def test_a_key_that_is_no_text_is_refused() -> None:
    """YAML reads `no:` as false; it used to become the language False."""
    with pytest.raises(InputError, match="weights has the key False, which is no text; put it in quotes"):
        build(GeneralConfig, {"lrf": 2, "schedule": PHASE, "weights": {False: 2.0}}, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": -1}, "clip should be at least 0"),
        ({"warmup_share": 5}, "warmup_share should be at least 0 and at most 1"),
        ({"warmup_share": -1}, "warmup_share should be"),
        ({"learning_rate": 0}, "learning_rate should be above 0"),
        ({"learning_rate": float("inf")}, "learning_rate should be above 0, but is inf"),
        ({"steps": -1}, "steps should be at least 0"),
        ({"steps": 0}, "Either `steps` or `epochs`"),
        ({"evaluations": 10**30}, "evaluations should be at least 1 and at most 2,147,483,647"),
    ],
)
def test_a_schedule_made_in_python_keeps_its_ranges(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(Schedule(steps=3, learning_rate=1e-3), **change)  # type: ignore[arg-type]


def test_a_fields_line_may_go_on_and_is_handed_to_editors() -> None:
    found = schema(Both)["$defs"]["Both"]
    assert found["description"] == "Two fields and a check of its own."
    assert found["properties"]["many"]["description"].startswith("A number of things.")
    assert found["properties"]["some"]["minItems"] == 1


PRETRAIN = "languages: [qaa]\nschedule: {steps: 1, learning_rate: 0.1}\n"


@pytest.mark.parametrize(
    ("settings", "text", "place", "told"),
    [
        (PretrainConfig, f"{PRETRAIN}heads: 7\n", "3:8", "`heads` should divide"),
        (PretrainConfig, f"{PRETRAIN}translation_share: 0.5\n", "3:20", "`translation_share` needs"),
        (SftConfig, "spiel: {density: 0.1}\nsparse: {steps: 9, learning_rate: 0.1}\n", "2:17", "only 9"),
        (
            SftConfig,
            "sparse: {steps: 9, learning_rate: 0.1}\nspiel: {density: 0.1, estimation: 21}\n",
            "2:35",
            "got 21",
        ),
    ],
    ids=named,
)
def test_what_two_fields_cannot_be_together_has_its_place_too(
    settings: type, text: str, place: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"yaml:{place}: .*{told}"):
        read_yaml(settings, path)
