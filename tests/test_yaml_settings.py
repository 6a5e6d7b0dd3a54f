"""Settings files: every key is checked, and errors name the place."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pretrain import PretrainConfig
from bistil.settings import build, read_yaml

ROOT = Path(__file__).parent.parent


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


GOOD = {"steps": 3, "inner": {"rate": 1, "names": ["a", "b"]}, "many": {"x": {"rate": 0.5}}, "limit": None, "flag": True}


def test_nested_values_become_dataclasses() -> None:
    built = build(Outer, GOOD, "here")
    assert built == Outer(steps=3, inner=Inner(rate=1.0, names=("a", "b")), many={"x": Inner(rate=0.5)}, flag=True)
    assert isinstance(built.inner.rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stesp": 3}, "unknown key 'stesp'"),
        ({"steps": "3"}, "here: steps should be of type int, but is '3'"),
        ({"steps": True}, "steps should be of type int"),
        ({"steps": 3.0}, "steps should be of type int"),
        ({"flag": 1}, "flag should be of type bool"),
        ({"limit": "many"}, "limit should be of type int"),
        ({"inner": {}}, "here: inner lacks the key 'rate'"),
        ({"inner": 3}, "inner should be a mapping with the fields of Inner"),
        ({"inner": {"rate": "5e-4"}}, "inner: rate should be of type float, but is '5e-4'"),
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
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(Outer, path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(Outer, path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="should be a mapping"):
        read_yaml(Outer, path)


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_the_experiment_files_of_the_project_are_good(path: Path) -> None:
    experiment = read_yaml(Experiment, path)
    assert len(set(experiment.cells())) == len(experiment.cells()) > 0


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "teachers").glob("*.yaml")), ids=lambda path: path.name)
def test_the_teacher_files_of_the_project_are_good(path: Path) -> None:
    assert len(read_yaml(PretrainConfig, path).languages) > 1


def test_numbers_are_written_so_that_yaml_reads_them() -> None:
    for path in (ROOT / "data").glob("*/*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert yaml.safe_load("learning_rate: 5.0e-4") == {"learning_rate": 0.0005}, line
