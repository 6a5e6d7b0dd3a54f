"""Settings files: every key is checked, and errors name the place."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
import yaml

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pretrain import PretrainConfig
from bistil.settings.schema import as_json, schema
from bistil.settings.yaml import build, read_yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    inner: Inner
    many: dict[str, Inner] = field(default_factory=dict)
    limit: int | None = None
    flag: bool = False


GOOD = {
    "steps": 3,
    "inner": {"rate": 1, "names": ["a", "b"]},
    "many": {"x": {"rate": 0.5}},
    "limit": None,
    "flag": True,
}


def test_nested_values_become_dataclasses() -> None:
    built = build(Outer, GOOD, "here")
    assert built == Outer(
        steps=3, inner=Inner(rate=1.0, names=("a", "b")), many={"x": Inner(rate=0.5)}, flag=True
    )
    assert isinstance(built.inner.rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stesp": 3},
            (
                "here: Outer has the unknown key 'stesp'; did you mean 'steps'\\? Outer has: steps, inner,"
                " many, limit, flag"
            ),
        ),
        ({"nonsense": 3}, "unknown key 'nonsense'; Outer has: steps"),
        ({3: 3}, "unknown key 3; Outer has"),
        ({"steps": "3"}, "here: steps should be of type int, but is '3'"),
        ({"steps": True}, "steps should be of type int"),
        ({"steps": 3.0}, "steps should be of type int"),
        ({"flag": 1}, "flag should be true or false, but is 1"),
        ({"limit": "many"}, "limit should be of type int"),
        ({"inner": {}}, "here: inner lacks the key 'rate'"),
        ({"inner": 3}, "inner should be a mapping with the fields of Inner"),
        (
            {"inner": {"rate": "5e-4"}},
            r"inner.rate should be of type float, but is '5e-4'; write it with a point, as in 5.0e-4",
        ),
        ({"inner": {"rate": 1.0, "names": "ab"}}, "names should be a list"),
        ({"inner": {"rate": 1.0, "names": ["a", 2]}}, r"names\[1\] should be of type str"),
        ({"many": {"x": {"rte": 1.0}}}, "many.x has the unknown key 'rte'"),
        ({"many": []}, "many should be a mapping"),
    ],
)
def test_wrong_values_are_refused_with_their_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(Outer, {**GOOD, **change}, "here")


def test_a_file_that_is_missing_or_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    with pytest.raises(InputError, match="there is none"):
        read_yaml(Outer, path)
    path.write_text("a: [1, 2", encoding="utf-8")
    with pytest.raises(InputError, match="YAML was expected"):
        read_yaml(Outer, path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(Outer, path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="should be a mapping"):
        read_yaml(Outer, path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data" / "experiments").glob("*.yaml")), ids=lambda path: path.name
)
def test_the_experiment_files_of_the_project_are_good(path: Path) -> None:
    experiment = read_yaml(Experiment, path)
    assert len(set(experiment.cells())) == len(experiment.cells()) > 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data" / "teachers").glob("*.yaml")), ids=lambda path: path.name
)
def test_the_teacher_files_of_the_project_are_good(path: Path) -> None:
    config = read_yaml(PretrainConfig, path)
    assert len({*config.languages}) == len(config.languages)
    assert Path(config.start or "").name != path.stem, "nothing starts from itself"


def test_what_yaml_makes_of_words_is_told() -> None:
    for value, said in (
        (False, "yes, no, on and off for that: put it in quotes"),
        (None, "~ and an empty place for that"),
        (1, "but is 1; put it in quotes"),
    ):
        with pytest.raises(InputError, match=said):
            build(Inner, {"rate": 1.0, "names": [value]}, "here")


def test_settings_files_have_the_encodings_of_all_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfsteps: 3\rinner: {rate: 1}\r")
    assert read_yaml(Outer, path).steps == 3
    path.write_text("steps: 3", encoding="utf-16")
    with pytest.raises(InputError, match="begins with the mark of UTF-16"):
        read_yaml(Outer, path)


def test_merges_of_merges_do_not_double(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    levels = "".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n  k{i}: 1\n" for i in range(1, 40))
    path.write_text(f"a0: &a0 {{k0: 1}}\n{levels}", encoding="utf-8")
    started = time.process_time()
    with pytest.raises(InputError, match="unknown key 'a0'"):
        read_yaml(Outer, path)
    assert time.process_time() - started < 3


def test_merged_keys_are_those_of_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "many:\n  x: &x {rate: 1, names: [a]}\n  y: &y {<<: *x, rate: 2}\n  z: {<<: [*y, *x], names: [b]}\n"
        "steps: 1\ninner: {rate: 1}\n",
        encoding="utf-8",
    )
    many = read_yaml(Outer, path).many
    assert (many["y"], many["z"]) == (Inner(rate=2.0, names=("a",)), Inner(rate=2.0, names=("b",)))


def test_numbers_are_written_so_that_yaml_reads_them() -> None:
    for path in (ROOT / "data").glob("*/*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert yaml.safe_load("learning_rate: 5.0e-4") == {"learning_rate": 0.0005}, line


FILE = """steps: 3
inner:
  rate: 0.5
  names: [a, b]
many:
  x: {rate: 0.5}
"""


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("steps: 3", "steps: three", "1:8", "steps should be of type int, but is 'three'"),
        ("rate: 0.5\n", "rate: fast\n", "3:9", "inner.rate should be of type float, but is 'fast'"),
        ("[a, b]", "[a, 2]", "4:14", r"inner.names\[1\] should be of type str, but is 2"),
        (
            "{rate: 0.5}",
            "{rate: 0.5, naems: [a]}",
            "6:18",
            "many.x has the unknown key 'naems'; did you mean 'names'",
        ),
        ("{rate: 0.5}", "{names: [a]}", "6:6", "many.x lacks the key 'rate', which Inner needs"),
        ("steps: 3\n", "", "1:1", "Outer lacks the key 'steps'"),
        ("  x: {rate: 0.5}", "  - 3", "6:3", "many should be a mapping"),
        (
            "steps: 3\n",
            "steps: 3\nflag: true\nsteps: 4\n",
            "3:1",
            "the key 'steps' is there already, on line 1",
        ),
    ],
)
def test_an_error_in_a_file_has_its_line_and_column(
    old: str, new: str, place: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(FILE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=rf"settings\.yaml:{place}: {told}"):
        read_yaml(Outer, path)


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("a: 1\n\tb: 2\n", "2:1", "tabs cannot indent"),
        ("a: [1, 2\nb: 3\n", "2:2", "expected ',' or ']', but got ':'"),
        ('a: "x\n', "2:1", "found unexpected end of stream"),
        ("a: 1\nb: *y\n", "2:4", "found undefined alias 'y'"),
        ("a: 1\nb: 2020-13-45\n", "2:4", "month must be in 1..12"),
        ("a: 1\n---\nb: 2\n", "2:1", "expected, but found another document"),
        ("a: 1\nb: x\x01\n", "2:5", "special characters are not allowed"),
    ],
)
def test_what_is_no_yaml_has_its_line_and_column_in_one_line(
    text: str, place: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_yaml(Outer, path)
    assert str(refused.value).startswith(f"{path}:{place}: YAML was expected, but ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_fails_without_a_place_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text('a: "\\UFFFFFFFF"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"settings\.yaml: YAML was expected, but "):
        read_yaml(Outer, path)


def test_of_several_errors_the_first_in_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("many: {x: {rate: fast}}\ninner: 3\nsetps: 4\nsteps: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"yaml:1:18: many\.x\.rate"):
        read_yaml(Outer, path)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"systems": ["floor", "bistil"]}, "bistil"),
        ({"vocabulary": {"criterion": "bigram"}}, "bigram"),
        ({"name": "../out"}, "../out"),
        ({"targets": {"qa": ["qac"]}}, "- qac"),
        ({"data": "minworld"}, "minworld"),
        ({"groups": [[]]}, "- []"),
    ],
)
def test_what_an_experiment_itself_refuses_has_its_place_too(
    changes: dict[str, object], place: str, experiment_file
) -> None:
    path = experiment_file(**changes)
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if place in line)
    with pytest.raises(
        InputError, match=rf"experiment\.yaml:{number}:{lines[number - 1].index(place) + 1}: "
    ):
        Experiment.read(path)


def test_the_schema_for_editors_is_that_of_the_dataclasses() -> None:
    """`bistil schema > data/experiments/schema.json` makes them equal again."""
    assert (ROOT / "data" / "experiments" / "schema.json").read_text(encoding="utf-8") == as_json(Experiment)
    jsonschema.Draft202012Validator.check_schema(schema(Experiment))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data" / "experiments").glob("*.yaml")), ids=lambda path: path.name
)
def test_editors_find_the_schema_and_find_no_fault(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), schema(Experiment))


@pytest.mark.parametrize(
    "value", [{"steps": 3}, {"steps": 3, "inner": {"rate": "x"}}, {**GOOD, "stesp": 1}, {**GOOD, "many": []}]
)
def test_an_editor_refuses_what_is_refused_here(value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema(Outer))
    with pytest.raises(InputError):
        build(Outer, value, "here")
