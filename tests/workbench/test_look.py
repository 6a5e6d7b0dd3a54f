"""What notebooks show: trees, marked words, histories, typology, small pictures."""

import json
from pathlib import Path

import pytest

from bistil.errors import InputError
from bistil.store.artefacts import Artefact
from bistil.text.languages import DataFolder
from bistil.workbench import html
from bistil.workbench.look import _levels, bars, entities, history, png, show, tree, typology
from bistil.workbench.session import open_pipeline, read_experiment


def test_arcs_never_run_through_arcs_below_them() -> None:
    assert _levels([2, 0, 2]) == [1, 1, 1]
    assert _levels([3, 3, 0, 3, 1]) == [2, 1, 1, 1, 3]


def test_a_tree_and_a_guess_become_one_small_picture() -> None:
    words, heads, relations = ["anna", "sees", "ben"], [2, 0, 2], ["nsubj", "root", "obj"]
    made = tree(words, heads, relations, guess=([2, 0, 1], ["nsubj", "root", "obj"]))
    colours = {line.get_color() for line in made.axes[0].lines}
    assert len(colours) == 3
    image = show(made)
    assert len(image.data) < 40_000
    assert image.width == pytest.approx(90 * made.get_figwidth(), abs=1)
    assert int.from_bytes(image.data[16:20]) == 2 * image.width  # the width that the PNG's header says
    assert png(bars({"a": 1.0, "b": 2.0}, "points")).startswith(b"\x89PNG")


def test_entities_are_marked_and_everything_is_escaped() -> None:
    text = entities(["<b>", "Anna", "Bo", "went"], ["O", "B-PER", "I-PER", "O"]).data
    assert "&lt;b&gt;" in text
    assert "Anna Bo <small>PER" in text
    assert "&lt;i&gt;" in html.table(["<i>"], [["x"]])


def test_a_history_splits_where_steps_begin_anew(tmp_path: Path) -> None:
    entries = [{"step": 2, "loss": 3.0}, {"step": 4, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    (tmp_path / "history.json").write_text(json.dumps(entries))
    artefact = Artefact(tmp_path, {"id": "0" * 16, "kind": "student", "metrics": {}})
    assert history(artefact) == {"dense": entries[:2], "sparse": entries[2:]}
    (tmp_path / "history.json").write_text(json.dumps(entries[:2]))
    assert history(artefact) == {"": entries[:2]}
    short = [{"step": 2, "loss": 3.0}, {"step": 2, "eval_loss": 3.0}] * 2
    (tmp_path / "history.json").write_text(json.dumps(short))
    assert history(artefact) == {"dense": short[:2], "sparse": short[2:]}
    (tmp_path / "history.json").write_text(json.dumps(3 * entries[:2]))
    with pytest.raises(ValueError, match="zip"):
        history(artefact)


def test_typology_is_what_the_table_says_beyond_the_files(data: DataFolder) -> None:
    assert typology(data, features=("order", "script"))["qaa"] == {"order": "SVO", "script": "latin"}


def test_a_missing_experiment_or_data_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment
) -> None:
    with pytest.raises(InputError, match="experiment file"):
        read_experiment(tmp_path / "none.yaml")
    monkeypatch.delenv("BISTIL_DATA", raising=False)
    with pytest.raises(InputError, match="BISTIL_DATA"):
        open_pipeline(experiment(), tmp_path / "store")


def test_a_pipeline_with_another_source(tmp_path: Path, world: Path, experiment) -> None:
    pipeline = open_pipeline(experiment(), tmp_path / "store", source="qab", data=str(world))
    assert pipeline.experiment.source == "qab"
    assert read_experiment(pipeline.experiment) == pipeline.experiment
