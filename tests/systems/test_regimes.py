"""Regimes as values: which rows a system under one learns from, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.plan import foresee
from bistil.systems.regimes import Regime, find, under
from bistil.systems.rows import Rows, Then
from bistil.systems.table import SYSTEMS

TRANSLATORS = {"mt": {"kind": "table"}, "mini": {"kind": "oracle"}}
DEV = Rows(language="source", split="dev")


@pytest.mark.parametrize(
    ("said", "rows", "validated", "told"),
    [
        ({"sources": ["qaa", "qba", "qca"], "total": 1200}, "qaa:400+qba:400+qca:400", "", "1200 in all"),
        ({"sources": ["qaa", "qba", "qca"], "total": 1201}, "qaa:401+qba:400+qca:400", "", "qba and qca"),
        (
            {"shots": 100, "of": "target"},
            "source+target:100 drawn x10",
            "",
            "100 examples of the target",
        ),
        (
            {"shots": 100, "of": "targets"},
            "source+targets:100 drawn x10",
            "",
            "each target, each 10 times",
        ),
        ({"shots": 100, "upsample": 1}, "source+target:100 drawn", "", "100 examples of the target."),
        (
            {"translated": "target", "sources": [], "validate_on": "translated"},
            "target by mt",
            "target dev by mt",
            "translated for the target.",
        ),
        ({"translated": "target", "sources": []}, "target by mt", "source dev", "translated"),
        (
            {"translated": "targets", "validate_on": "both"},
            "source+targets by mt",
            "source dev+targets dev by mt",
            "examples of the source; the source's translated for each target",
        ),
        (
            {"shots": 20, "of": "targets", "translated": "targets", "validate_on": "both", "translator": "x"},
            "source+targets by x+targets:20 drawn x10",
            "source dev+targets dev by x",
            "20 examples of each target",
        ),
        ({"sources": ["target"]}, "target", "", "examples of the target"),
    ],
)
def test_a_regime_says_which_rows(said: dict[str, Any], rows: str, validated: str, told: str) -> None:
    regime = Regime(**{key: tuple(one) if isinstance(one, list) else one for key, one in said.items()})
    found = under(SYSTEMS["teacher-ltsft"], regime, "mt")
    assert found.learning.regime == rows
    assert "+".join(map(str, found.learning.validated)) == validated
    assert told in found.told
    assert found.told.startswith(SYSTEMS["teacher-ltsft"].told)
    assert not found.colour


def test_what_every_experiment_has_is_the_rows_of_the_table() -> None:
    found = under(SYSTEMS["teacher-full"], find("in-language", {}), "")
    assert found.learning == SYSTEMS["eliquare"].learning
    few = under(SYSTEMS["teacher-full"], find("sequential-100", {}), "")
    assert (few.then, few.further) == (Then(), (Rows(language="target", most=100, drawn=True),))
    assert few.learning == SYSTEMS["teacher-full"].learning
    assert few.axes["regime"] == "source, then target:100 drawn"
    own = Regime(shots=5)
    assert find("in-language", {"in-language": own}) is own


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "needs `sources`, `shots`, `translated`, `expose` or `translate_test`"),
        ({"expose": "targets", "sources": ("qab",)}, "batches of the source, which is not among"),
        ({"expose": "targets", "translate_test": True}, "`translate_test` goes with no examples alone"),
        ({"sources": ()}, "needs `sources`"),
        ({"shots": 3, "upsample": 0}, "at least 1"),
        ({"shots": 3, "validate_on": "both"}, "`validate_on: both` needs `translated`"),
        ({"translate_test": True, "shots": 3}, "`translate_test` goes with no examples alone"),
        ({"sources": ("qaa",), "then": Then()}, "`then` goes with shots alone"),
        ({"sources": ("qaa", "qab"), "total": 1}, "one example of each"),
        ({"shots": 3, "sources": (), "total": 5}, "of which there are none"),
        ({"sources": ("qab", "source", "qab")}, "Each of `sources` was expected once"),
        ({"translated": "target", "of": "targets"}, "`of` is about `shots`, of which there are none"),
        ({"sources": ("qab",), "upsample": 3}, "`upsample` is about `shots`"),
        ({"shots": 3, "translator": "mt"}, "`translator` needs `translated` or `translate_test`"),
    ],
)
def test_a_regime_that_cannot_be_is_refused(said: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Regime(**said)


def test_exposure_needs_something_that_is_worn_while_the_task_is_learnt() -> None:
    exposed = Regime(expose="targets")
    found = under(SYSTEMS["teacher-madx"], exposed, "")
    assert found.learning == replace(SYSTEMS["teacher-madx"].learning, exposed="targets")
    assert found.axes["regime"] == "source in targets"
    assert found.told.endswith("Batches of the source wear its module or that of each target.")
    for name in ("teacher-full", "teacher-adapter"):
        with pytest.raises(InputError, match="`expose` is for systems that wear"):
            under(SYSTEMS[name], exposed, "")


def test_a_finished_model_reads_its_shots_as_often_as_epochs_say(experiment) -> None:
    """Batches that the task's own schedule adds up to a step are not added up."""
    phase = {"steps": 2, "learning_rate": 1e-3}
    sft = {"lottery": {"density": 0.1}, "dense": phase, "sparse": {**phase, "accumulation": 4}}
    few = {"few": {"shots": 6, "then": {"epochs": 3, "batch_size": 2}}}
    small = experiment(
        systems=["teacher-ltsft@few"],
        regimes=few,
        targets={"ner": ["qac"]},
        task={"ner": {"sft": sft}},
    )
    config = small.task_config(small.cells()[0])
    assert config.sft.sparse.batches * config.batch_size == 3 * 6


def test_what_two_students_were_trained_in_at_once_is_not_tuned_further(experiment) -> None:
    both = {"of": "monoshot", "learning": {"select": "biases", "through": "both", "carried": "values"}}
    with pytest.raises(InputError, match="tunes an SFT or all weights further"):
        experiment(systems=["both:2@sequential-4"], variants={"both": both})


def test_files_of_two_translators_are_told_apart(experiment) -> None:
    rows = [{"language": "target", "translated": by} for by in TRANSLATORS]
    small = experiment(
        systems=["own"],
        variants={"own": {"of": "teacher-full", "learning": {"rows": rows}}},
        targets={"nli": ["qac"]},
        task={"nli": experiment().task["ner"]},
        translators=TRANSLATORS,
    )
    stages = foresee(small)
    [learnt] = [one.inputs for one in stages.values() if one.kind == "task-sft"]
    assert {one.id for one in stages.values() if one.kind == "translation"} <= {*learnt.values()}


def test_names_of_cells_carry_the_regime(experiment) -> None:
    small = experiment(
        systems=["teacher-ltsft@few", "bistil-tf:2@few", "bistil-st:2x2@in-language"],
        regimes={"few": {"shots": 2}},
        targets={"ner": ["qac", "qab"]},
    )
    first, forced, narrow, *_ = small.cells()
    assert [small.named(cell) for cell in (first, forced, narrow)] == list(small.systems)
    assert (forced.system, forced.regime, forced.lrf) == ("bistil-tf@few", "few", 2)
    assert forced.of_teacher == first
    assert forced.without_regime == Cell("bistil-tf", "ner", "qac", 2, 1)
    assert first.of_teacher.of_teacher == first


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"systems": ["teacher-ltsft@fs"]}, r"35:3: A regime, one of in-language, sequential-K, .*'fs'"),
        ({"systems": ["teacher-none@in-language"]}, "'teacher-none' is not a system"),
        ({"systems": ["floor@in-language"]}, "leave the '@' out"),
        ({"systems": ["teacher-lora@sequential-10"]}, "which lora is not"),
        ({"systems": ["teacher-ltsft"], "regimes": {"No": {"shots": 3}}}, "small letters.*'No'"),
        ({"systems": ["teacher-ltsft"], "regimes": {"sequential-3": {"shots": 3}}}, "'sequential-3'"),
        ({"systems": ["teacher-ltsft"], "regimes": {"x": {}}}, "needs `sources`"),
        ({"systems": ["teacher-ltsft"], "regimes": {"x": {"shots": 3, "upsample": 0}}}, "at least 1"),
        ({"systems": ["teacher-ltsft"], "regimes": {"x": {"translated": "target"}}}, "needs a translator"),
        (
            {
                "systems": ["teacher-ltsft"],
                "regimes": {"x": {"translated": "target", "translator": "you"}},
                "translators": TRANSLATORS,
            },
            r"one of those under `translators` \(mini, mt\)",
        ),
        (
            {
                "systems": ["teacher-ltsft@x"],
                "regimes": {"x": {"translate_test": True}},
                "translators": TRANSLATORS,
            },
            "ner can't be learnt from translations .*: names would have to be found",
        ),
        (
            {"systems": ["bistil-tf:2@x"], "regimes": {"x": {"sources": ["qaa", "qab"], "total": 8}}},
            "cannot read the examples of qab",
        ),
    ],
)
def test_an_experiment_with_a_wrong_regime_names_the_place(
    experiment_file, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = experiment_file(targets={"ner": ["qac"]}, **changes)
    with pytest.raises(InputError, match=told) as error:
        Experiment.read(path)
    place = "systems" if "@" in changes["systems"][0] else "regimes"
    line = int(str(error.value).split(":")[1])
    text = path.read_text(encoding="utf-8").splitlines()
    assert any(one.startswith(f"{place}:") for one in text[max(0, line - 5) : line]), (line, text)


def test_a_variant_that_names_no_translator_of_the_file_is_refused(experiment) -> None:
    rows = {"learning": {"rows": [{"language": "target", "translated": "you"}]}}
    with pytest.raises(InputError, match="needs the translator 'you', which is not under"):
        experiment(systems=["own"], variants={"own": {"of": "teacher-ltsft", **rows}})
    with pytest.raises(InputError, match="parsing can't be learnt"):
        experiment(
            systems=["own"],
            variants={"own": {"of": "teacher-ltsft", **rows}},
            translators={"you": {"kind": "table"}},
        )


def test_two_regimes_of_one_name_are_refused(experiment_file) -> None:
    path = experiment_file(regimes={"few": {"shots": 3}, "more": {"shots": 4}})
    path.write_text(path.read_text(encoding="utf-8").replace("more:", "few:"), encoding="utf-8")
    with pytest.raises(InputError, match="'few' is there already"):
        Experiment.read(path)


def test_an_experiment_file_of_before_is_the_same_value(experiment_file) -> None:
    found = Experiment.read(experiment_file())
    assert (found.regimes, found.translators) == ({}, {})
    assert yaml.safe_load(experiment_file().read_text(encoding="utf-8"))["systems"] == list(found.systems)
