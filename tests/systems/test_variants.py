"""`variants` of an experiment file: what they change, what they are told as, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import entries

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.systems.recipe import Term
from bistil.systems.rows import Rows
from bistil.systems.table import SYSTEMS


def system(experiment, name: str, **variants: Any):
    return experiment(variants=variants).system(name)


def test_a_change_is_merged_by_key_and_null_drops_a_term(experiment) -> None:
    change = {"terms": {"cosine": None, "soft": {"temperature": 4.0}}, "layers": "bottom"}
    found = system(experiment, "x", x={"of": "distilmbert-pair", "recipe": change})
    assert found.student is not None
    assert found.student.terms == {
        "soft": Term(of="prediction", by="kl", weight=5.0, temperature=4.0),
        "masked": Term(of="prediction", by="ce", weight=2.0),
    }
    assert found.student.layers == "bottom"
    assert found.student.vocabulary == "trimmed"
    assert found.told == (
        "As distilmbert-pair, but without the term cosine, with the term soft (temperature 4.0), layers"
        " bottom."
    )
    assert isinstance(found.student.settings, dict)
    assert found.learning == SYSTEMS["distilmbert-pair"].learning


def test_what_a_variant_takes_away_is_told_in_words(experiment) -> None:
    found = system(
        experiment, "x", x={"of": "monoshot", "recipe": {"share": []}, "learning": {"select": None}}
    )
    assert found.told == "As monoshot, but no share, no select."
    parts = {"adaptation": {"part": "outer"}, "learning": {"part": "middle"}}
    apart = system(experiment, "x", x={"of": "teacher-ltsft", **parts})
    told = "As teacher-ltsft, but part outer for the language, part middle for the task."
    assert apart.told == told


def test_a_variant_of_a_variant_and_one_without_a_change_to_the_recipe(experiment) -> None:
    first = {"of": "bistil-tf", "learning": {"rows": [{"language": "target", "most": 20}]}}
    second = {"of": "a", "learning": {"follows": "gold"}, "told": "Mine."}
    found = system(experiment, "b", a=first, b=second)
    assert found.student is SYSTEMS["bistil-tf"].student
    assert found.learning.rows == (Rows(language="target", most=20),)
    assert (found.told, found.forced, found.ours) == ("Mine.", False, False)
    assert found.learning.regime == "target:20"


def test_a_variant_says_how_spiels_support_moves(experiment) -> None:
    sparse = {"steps": 30, "learning_rate": 1e-3, "evaluations": 1}
    sft = {"lottery": {"density": 0.1}, "dense": sparse, "sparse": sparse}
    moved = {"of": "teacher-spiel-ag", "learning": {"interval": 7, "falls": "cosine"}}
    small = experiment(
        systems=["moved", "teacher-spiel-ag"],
        variants={"moved": moved},
        targets={"ner": ["qac"]},
        task={"ner": {"sft": sft}},
    )
    own, plain = (small.task_config(cell).sft.spiel for cell in small.cells())
    assert (own.interval, own.schedule, own.density) == (7, "cosine", 0.1)
    assert (plain.interval, plain.schedule, plain.method) == (20, "linear", own.method)
    assert small.system("moved").axes["learning"] == "spiel-ag every 7 cosine"
    with pytest.raises(InputError, match="how SpIEL's support moves"):
        experiment(variants={"x": {"of": "teacher-lora", "learning": {"interval": 7}}})


def test_explicit_pairs_come_as_text(experiment) -> None:
    found = system(experiment, "p", p={"of": "bistil-st", "recipe": {"start": "1-1 2-4 3-6"}})
    assert found.student is not None
    assert found.student.start == "1-1 2-4 3-6"


@pytest.mark.parametrize(
    ("variants", "told", "line"),
    [
        ({"scratch": {"of": "bistil-tf"}}, "that no system has was expected", "of: bistil-tf"),
        ({"a": {"of": "b"}, "b": {"of": "a"}}, "A variant of itself: a of b of a", "of: b"),
        ({"a": {"of": "bistil"}}, "Did you mean bistil-", "of: bistil"),
        ({"a": {"of": "teacher-full", "recipe": {"layers": "top"}}}, "is no student", "layers: top"),
        ({"a": {"of": "bistil-tf", "recipe": {"layrs": "top"}}}, "did you mean 'layers'", "layrs: top"),
        ({"a": {"of": "bistil-tf", "recipe": {"terms": {"soft": {"by": "kl"}}}}}, "lacks the key 'of'", ""),
        (
            {"a": {"of": "bistil-tf", "adaptation": {"terms": {"soft": None}}}},
            "unknown key 'terms'",
            "terms:",
        ),
        (
            {"a": {"of": "bistil-tf", "recipe": {"terms": {"hidden": {"terms": {"soft": None}}}}}},
            "unknown key 'terms'",
            "terms:",
        ),
        (
            {"a": {"of": "floor", "learning": {"rows": [{"language": "target"}]}}},
            "A guess wears nothing",
            "learning:",
        ),
        ({"a": {"of": "floor", "adaptation": {"worn": "sft"}}}, "A guess wears nothing", "adaptation:"),
        ({"a": {"of": "teacher-ltsft", "learning": {"follows": "teacher"}}}, "is a whole model", "learning:"),
        (
            {"a": {"of": "teacher-full", "learning": {"exposed": "target"}}},
            "for systems that wear",
            "learning:",
        ),
        (
            {"a": {"of": "teacher-madx", "adaptation": {"select": "biases"}}},
            "`select` is for language SFTs",
            "select:",
        ),
        (
            {
                "a": {
                    "of": "teacher-of-language",
                    "adaptation": {"worn": "adapter"},
                    "learning": {"adapter": True, "select": None},
                }
            },
            "another model wears language SFTs",
            "adaptation:",
        ),
    ],
)
def test_variants_that_cannot_be_are_refused_at_their_place(variants, told, line, tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump({**entries(tmp_path), "variants": variants}), encoding="utf-8")
    with pytest.raises(InputError, match=told) as caught:
        Experiment.read(path)
    number = int(str(caught.value).split(":")[1])
    assert line in path.read_text(encoding="utf-8").splitlines()[number - 1]


def test_a_variant_stands_under_systems_with_its_factors(experiment) -> None:
    variants = {"bistil-top": {"of": "bistil-tf", "recipe": {"start": "top"}}}
    small = experiment(variants=variants, systems=["bistil-top:2"])
    assert small.parsed == [("bistil-top", 2, 1)]
    with pytest.raises(InputError, match="is not a system"):
        experiment(variants=variants, systems=["bistil-top:2x2"])  # only an even start can be narrowed
    wears = {"wears": {"of": "bistil-st", "adaptation": {"worn": "sft"}}}
    with pytest.raises(InputError, match="is not a system"):  # the teacher's head does not fit its states
        experiment(variants=wears, systems=["wears:2x2"])
