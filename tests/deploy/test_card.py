"""The front of a model card is YAML that says what was meant, whatever languages and teachers are called."""

from types import SimpleNamespace
from typing import Any

import yaml
from test_pipeline import NER

from bistil.deploy.card import Measured, _costs, _front, _learnt_from, _licences, _teachers
from bistil.distil.merge import MergeConfig
from bistil.sources.table import data_set


def test_the_front_of_a_card_is_read_back_as_it_was_written() -> None:
    codes, teacher = ["no", "on", "null", "e: [n", "1e3", "a\nb: c"], "me/{x}: #teacher"
    text = _front(NER, codes, [data_set("wikipedia")], [teacher])
    assert text.startswith("---\n")
    assert text.endswith("\n---")
    assert yaml.safe_load(text.strip("-")) == {
        "language": codes,
        "library_name": "transformers",
        "tags": ["bistil", "distillation", "cross-lingual"],
        "pipeline_tag": "token-classification",
        "base_model": teacher,
        "datasets": [data_set("wikipedia").hub],
    }
    two = yaml.safe_load(_front(NER, codes, [], ["a/b", "c/d"]).strip("-"))
    assert two["base_model"] == ["a/b", "c/d"]
    assert set(yaml.safe_load(_front(NER._replace(task="parsing"), ["qaa"], [], []).strip("-"))) == {
        "language",
        "library_name",
        "tags",
    }


def test_a_card_names_the_teachers_that_the_model_is_of() -> None:
    """Those that teach a merged student, the first of its language for one that is its teacher, a model."""
    taught = {"qaa": ("north",), "qab": ("wide", "south")}
    teachers = {
        "north": SimpleNamespace(model=None),
        "south": SimpleNamespace(model=None),
        "wide": SimpleNamespace(model="hub/wide"),
    }

    def names(vocabulary: str = "union", **kind: Any) -> dict[str, bool]:
        system = SimpleNamespace(**{"model": None, "own_teacher": False, "merges": False, **kind})
        experiment = SimpleNamespace(teachers=teachers, teacher="hub/all")
        pipeline: Any = SimpleNamespace(
            experiment=experiment,
            system=lambda cell: system,
            merging=lambda cell: MergeConfig(taught_by=taught, vocabulary=vocabulary),
        )
        return _teachers(pipeline, NER._replace(target="qab"))

    assert names() == {"hub/all": False}
    assert names(merges=True) == {"north": True, "hub/wide": False, "south": True}
    assert names("south", merges=True) == {"south": True}
    assert names(own_teacher=True) == {"hub/wide": False}
    assert names(model="south") == {"south": True}


def test_a_card_names_all_that_a_further_tuned_model_learnt_from() -> None:
    def pipeline(then: object) -> Any:
        return SimpleNamespace(
            system=lambda cell: SimpleNamespace(then=then),
            learnt_from=lambda cell: ("qab",) if cell.regime else ("qaa",),
        )

    cell = NER._replace(target="qab", system="bistil-tf@sequential-100")
    assert _learnt_from(pipeline(object()), cell) == ("qaa", "qab")
    assert _learnt_from(pipeline(None), cell) == ("qab",)


def test_a_model_of_a_cut_teacher_is_as_large_as_its_folder() -> None:
    told: Any = SimpleNamespace(metrics={"parameters": 10_000, "vocabulary": 500})
    measured = Measured("folder", "f1", 50.0, 50.0, 0.0, 1.0, 1.0, 0.1)
    for tokens, parameters in ((500, "10,000"), (300, "8,400")):  # 200 rows of 8 values went
        config = SimpleNamespace(vocab_size=tokens, hidden_size=8)
        assert _costs(told, measured, config).startswith(f"{parameters} parameters, {tokens} tokens")


def test_a_card_says_which_licences_nobody_wrote_down() -> None:
    text = data_set("wikipedia")
    assert "* task data: from a folder" in _licences("folder", {"text": [text], "task data": []}, "teacher")
    assert "* text and task data: from a folder" in _licences(
        "folder", {"text": [], "task data": []}, "teacher"
    )
    assert "look them up" not in _licences("folder", {"text": [text]}, "teacher"), "retrieval learns no task"
    assert "look them up" not in _licences("miniworld", {"text": [], "task data": []}, "teacher")
