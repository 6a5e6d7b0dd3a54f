"""The bench of a real teacher: what cutting it saves, and what a user carries away in every form."""

import json
from pathlib import Path

import pytest

from bistil import cli
from bistil.bench import Size, forms, run_real
from bistil.bench.cutting import cutting
from bistil.bench.measure import OURS
from bistil.deploy import graph
from bistil.errors import InputError
from bistil.text.corpora import read_lines
from bistil.text.languages import DataFolder

TINY = Size(batch=2, length=16, turns=1)


@pytest.fixture(scope="module")
def corpora(data: DataFolder) -> dict[str, list[str]]:
    return {code: read_lines(data.text(code), 60) for code in ("qaa", "qac")}


def test_a_cut_teacher_is_set_against_itself(teacher_folder: Path, corpora) -> None:
    (row,) = cutting(str(teacher_folder), corpora, TINY, apart=False)
    assert set(row["columns"]) == {OURS, "uncut"}
    assert set(row["ratios"]) == {
        "seconds of a dense step",
        "seconds of a sparse step",
        "seconds of a step of both",
        "peak of the process, bytes",
        "peak beyond the libraries, bytes",
    }
    assert "qaa, qac" in row["name"]


@pytest.mark.slow
@pytest.mark.skipif(bool(graph.missing()), reason="the extra onnx is missing")
def test_every_form_of_every_model_is_in_the_table(
    teacher_folder: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr(forms, "has_bfloat16", lambda device: False)
    command = ["bench", "inference", "--teacher", str(teacher_folder), "--languages", "qaa,qac"]
    assert cli.main([*command, "--data", str(world), "--to", str(tmp_path), "--turns", "1"]) == 0
    found = json.loads((tmp_path / "inference-tiny.json").read_text(encoding="utf-8"))
    (row,) = found["comparisons"]
    models = ("tiny", "tiny qaa+qac", "student lrf 2", "student lrf 3")
    kinds = ("float32", "bfloat16", "ONNX", "ONNX int8")
    assert list(row["columns"]) == [f"{model} {kind}" for model in models for kind in kinds]
    assert "not timed" in row["note"]
    for name, column in row["columns"].items():
        assert column["MB on disk"] > 0
        assert column["MB of memory, peak"] > 20
        assert ("ms a sentence" in column) == ("sentences a second" in column) == ("bfloat16" not in name)
    sizes = [row["columns"][f"{model} float32"]["MB on disk"] for model in models]
    assert sizes == sorted(sizes, reverse=True)
    table = (tmp_path / "inference-tiny.md").read_text(encoding="utf-8")
    assert table.count("\n| ") == 1 + len(row["columns"])


def test_a_part_of_random_models_takes_no_teacher(teacher_folder: Path, corpora, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sft or inference"):
        run_real(tmp_path, "step", str(teacher_folder), corpora, TINY, say=print)
