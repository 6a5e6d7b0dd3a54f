"""Features of languages: read from tables and from lang2vec's file, and which languages are near by them."""

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bistil.errors import InputError
from bistil.miniworld import load_settings
from bistil.pipeline.inputs import Inputs
from bistil.settings.schema import schema
from bistil.settings.yaml import build, read_yaml
from bistil.store.provenance import plain
from bistil.text.languages import DATA, DataFolder
from bistil.text.typology import Typology, TypologyConfig, read_typology

HEADER = "code,name,family,seen,corpus"


def folder(path: Path, typology: str = "", columns: str = "") -> DataFolder:
    names, *rows = [f"{HEADER}{columns}", *(f"{code},{code},F,no,{code}.txt" for code in ("xaa", "xab"))]
    ends = ["" if not columns else ",SVO,a note" if row.startswith("xaa") else ",SOV," for row in rows]
    lines = [names, *(row + end for row, end in zip(rows, ends, strict=True))]
    (path / "languages.csv").write_text("\n".join(lines))
    if typology:
        (path / "typology.csv").write_text(typology)
    return DataFolder(path)


TABLE = "code,order=SVO,order=SOV,tone\nxaa,1,0,0\nxab,0,1,1\nxac,1,0,1\n"


def test_a_table_says_which_features_a_language_has(tmp_path: Path) -> None:
    typology = read_typology(TypologyConfig(), folder(tmp_path, TABLE))
    assert typology.features("xab") == ["order=SOV", "tone"]
    assert typology.vector("xaa").tolist() == [1, 0, 0]
    some = read_typology(TypologyConfig(features=("tone",)), folder(tmp_path, TABLE))
    assert (some.names, some.vector("xac").tolist()) == (("tone",), [1])


def test_without_a_table_the_values_of_further_columns_are_features(tmp_path: Path, data) -> None:
    own = folder(tmp_path, columns=",order,note")
    typology = read_typology(TypologyConfig(features=("order",)), own)
    assert (typology.names, typology.features("xab")) == (("order=SOV", "order=SVO"), ["order=SOV"])
    world = read_typology(TypologyConfig(), data)
    [settings] = [one for one in load_settings(DATA / "miniworld.yaml").languages if one.code == "qac"]
    assert f"order={settings.order}" in world.features("qac")
    assert len(world.features("qac")) == 15
    assert not any("{split}" in name for name in world.names)


def test_nearest_by_hand() -> None:
    rows = {"a": [1, 1, 0, 0], "b": [1, 0, 0, 0], "c": [0, 1, 0, 0], "d": [0, 0, 1, 1], "e": [0, 0, 0, 0]}
    typology = Typology(tuple("wxyz"), {code: np.array(row, dtype=np.float32) for code, row in rows.items()})
    assert typology.nearest("a", ["d", "c", "b", "e"]) == ["b", "c", "d", "e"]
    assert typology.likeness("a", "b") == pytest.approx(1 / np.sqrt(2))
    assert typology.likeness("a", "e") == 0
    assert typology.digest(["a", "b"]) == typology.digest(["b", "a"]) != typology.digest(["a", "c"])


def test_a_language_without_features_is_told_with_the_nearest_codes() -> None:
    typology = Typology(("x",), {"swa": np.ones(1, dtype=np.float32)})
    with pytest.raises(InputError, match=r"swb, zzz have none.*'swb' in spelling are swa"):
        typology.check(["swa", "swb", "zzz"])


@pytest.mark.parametrize(
    ("table", "features", "told"),
    [
        ("code,x\nxaa,2\n", (), "line 2: a language once, with 0 or 1"),
        ("code,x\nxaa,1\nxaa,1\n", (), "line 3"),
        ("language,x\nxaa,1\n", (), "The columns `code`"),
        (TABLE, ("ordre",), "order, tone, but got 'ordre'"),
        ("", (), "typology.csv, a table with the columns"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, table: str, features, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_typology(TypologyConfig(features=features), folder(tmp_path, table))


def fabricated(path: Path, **changed: np.ndarray) -> None:
    """A package of lang2vec's name with three languages and a feature of each group in its file."""
    arrays = {
        "feats": np.array(["S_SVO", "P_TONE", "INV_VOWEL"]),
        "langs": np.array(["eng", "nhn", "swa"]),
        "data": np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]], dtype=np.float32)[:, :, None],
        "sources": np.array(["predicted"]),
        **changed,
    }
    (path / "lang2vec" / "data").mkdir(parents=True)
    (path / "lang2vec" / "__init__.py").write_text("raise RuntimeError('imported')")
    np.savez(path / "lang2vec" / "data" / "feature_predictions.npz", **arrays)  # type: ignore[arg-type]
    (path / "lang2vec-1.1.2.dist-info").mkdir()
    (path / "lang2vec-1.1.2.dist-info" / "METADATA").write_text("Name: lang2vec\nVersion: 1.1.2\n")


LANG2VEC = build(TypologyConfig, {"from": "lang2vec"}, "test")


def test_lang2vec_is_read_and_never_imported(tmp_path: Path, data, monkeypatch) -> None:
    fabricated(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    typology = read_typology(LANG2VEC, data)
    assert typology.features("swa") == ["S_SVO", "P_TONE"]
    assert typology.features("nah") == typology.features("nhn") == ["INV_VOWEL"]
    some = read_typology(TypologyConfig(from_="lang2vec", features=("inventory",)), data)
    assert some.names == ("INV_VOWEL",)
    with pytest.raises(InputError, match="syntax, phonology, inventory, but got 'S'"):
        read_typology(TypologyConfig(from_="lang2vec", features=("S",)), data)
    assert "lang2vec" not in sys.modules


def test_a_script_of_its_name_beside_the_command_is_not_taken_for_it(tmp_path, data, monkeypatch) -> None:
    fabricated(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lang2vec.py").write_text("raise RuntimeError('run')")
    monkeypatch.syspath_prepend(tmp_path / "bin")
    assert read_typology(LANG2VEC, data).features("swa") == ["S_SVO", "P_TONE"]


@pytest.mark.parametrize(
    "changed",
    [
        {"data": np.full((3, 3, 1), -1.0)},
        {"data": np.zeros((3, 2, 1))},
        {"langs": np.array(["eng", None, "swa"], dtype=object)},
    ],
)
def test_a_damaged_file_of_lang2vec_is_bad_input(tmp_path: Path, data, monkeypatch, changed) -> None:
    fabricated(tmp_path, **changed)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="Install lang2vec again"):
        read_typology(LANG2VEC, data)


def test_without_lang2vec_the_extra_is_named(data, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("bistil.text.typology.distribution", missing)
    with pytest.raises(InputError, match=r"pip install -e '\.\[typology\]'"):
        read_typology(LANG2VEC, data)


def test_a_key_that_is_a_word_of_python_is_said_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "typology.yaml"
    file.write_text("from: lang2vec\n")
    assert read_yaml(TypologyConfig, file) == LANG2VEC == TypologyConfig(from_="lang2vec")
    assert plain(LANG2VEC) == {"from": "lang2vec", "features": [], "among": []}
    told = schema(TypologyConfig)["$defs"]["TypologyConfig"]["properties"]["from"]
    assert told["enum"] == ["table", "lang2vec"]
    assert "typology.csv" in told["description"]
    assert json.dumps(told)
    with pytest.raises(InputError, match="from should be one of table, lang2vec"):
        build(TypologyConfig, {"from": "wals"}, "test")


def test_a_language_with_an_adapter_wears_its_own_though_another_has_the_same_features() -> None:
    rows = {code: np.array([1, 0], dtype=np.float32) for code in ("qab", "qac", "qad")}
    experiment = SimpleNamespace(typology_among=("qab", "qac"))
    inputs: Any = SimpleNamespace(experiment=experiment, typology=Typology(("x", "y"), rows))
    assert [Inputs.nearest(inputs, code) for code in ("qab", "qac", "qad")] == ["qab", "qac", "qab"]
