"""Systems at equal numbers of trained values: numbers are equal exactly, only the task's size changes, what
cannot be asked is refused.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.report.orderings import AGAINST, LEANS
from bistil.settings.yaml import build as settings
from bistil.studies import Budgets, Study
from bistil.studies.budgets import at_reduction, curves, study_budgets, verdict
from bistil.studies.kept import Build, read_table, save

ASKED = Budgets(task="ner", targets=("qac",), reductions=(16, 2))


@pytest.mark.slow
def test_all_systems_train_exactly_as_many_values(
    experiment: Callable[..., Experiment], here: Build, tmp_path: Path
) -> None:
    said: list[str] = []
    base = experiment()
    found = study_budgets(base, ASKED, here, say=said.append)
    rows = found.tables["budgets"]
    sizes = [5 * (2 * 32 * inner + inner + 32) for inner in (2, 16)]
    assert {(row["system"], row["reduction"], row["values"]) for row in rows} == {
        (system, reduction, size)
        for system in ASKED.systems
        for reduction, size in zip(ASKED.reductions, sizes, strict=True)
    }
    kinds = [artefact.kind for artefact in found.artefacts.values()]
    assert (kinds.count("task-sft"), kinds.count("evaluation"), kinds.count("timing")) == (6, 6, 0)
    assert (kinds.count("language-sft"), kinds.count("language-adapter")) == (4, 2)  # whatever the size
    trained = [one.metrics["values"] for one in found.artefacts.values() if one.kind == "task-sft"]
    assert sorted(trained) == [sizes[0]] * 3 + [sizes[1]] * 3
    assert len(said) == 2
    assert len(found.verdicts) == 3
    save(tmp_path / "kept", [found], title="t")
    kept = read_table(tmp_path / "kept" / "budgets.csv")
    assert list(kept[0]) == [
        *("system", "reduction", "values", "task", "target", "seed", "metric", "value", "n_examples"),
        "artefact",
    ]
    assert (tmp_path / "kept" / "figures" / "budgets.svg").is_file()
    [ax] = found.figures["budgets"][0].axes
    assert [line.get_label() for line in ax.lines] == list(ASKED.systems)
    assert all(line.get_xdata().tolist() == sizes for line in ax.lines)
    scored = {(row["system"], row["values"]): row["value"] for row in rows if row["metric"] == "f1"}
    assert [line.get_ydata().tolist() for line in ax.lines] == [
        [scored[system, size] for size in sizes] for system in ASKED.systems
    ]


def test_a_size_changes_the_task_alone(experiment: Callable[..., Experiment], here: Build) -> None:
    base = experiment()
    encoder = here(base, {}).uncut_teacher().encoder
    one, values = at_reduction(base, ASKED, 0, encoder)
    assert one.task["ner"].sft.density * encoder.num_parameters() == pytest.approx(values)
    assert one.task["ner"].sft.lottery.k(encoder.num_parameters()) == values
    assert one.task["ner"].adapter.adapter.reduction == 16
    assert (one.language_sft, one.language_adapter) == (base.language_sft, base.language_adapter)
    assert (one.systems, one.targets, one.seeds) == (ASKED.systems, {"ner": ("qac",)}, (1,))
    adapter: Any = base.task["ner"].adapter
    wider = dataclasses.replace(adapter, adapter=dataclasses.replace(adapter.adapter, last_layer=True))
    tuned = dataclasses.replace(base.task["ner"], adapter=wider)
    other = dataclasses.replace(base, task={**base.task, "ner": tuned})
    assert at_reduction(other, ASKED, 0, encoder)[1] == values * 6 // 5


def test_verdicts_compare_the_most_with_the_fewest_values() -> None:
    def row(values: int, value: float, target: str = "qab", seed: int = 1) -> dict[str, Any]:
        return {"values": values, "value": value, "target": target, "seed": seed}

    rows = [row(10, 40.0), row(20, 90.0), row(40, 50.0), row(40, 99.0, "qac")]
    [gains], [none] = verdict("a", rows, gains=True), verdict("b", rows, gains=False)
    assert (gains.left, gains.right, gains.word) == (50, 40, LEANS)
    assert (none.left, none.right, none.word) == (40, 50, AGAINST)
    assert "40 trained values than with 10" in gains.claim
    assert "10 trained values than with 40" in none.claim
    assert verdict("a", rows[:1], gains=True) == []


def test_a_curve_is_over_the_same_targets_all_along() -> None:
    rows = [
        {"system": system, "values": values, "target": target, "value": value, "seed": 1}
        for system, values, target, value in (
            ("a", 10, "qab", 80.0),
            ("a", 10, "qac", 20.0),
            ("a", 20, "qab", 81.0),  # the harder target failed
            ("b", 10, "qab", 90.0),
        )
    ]
    assert curves(rows) == {"a": [(10, 50.0, 0.0)]}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"reductions": [2, 16]}, "Falling numbers"),
        ({"reductions": [16, 16]}, "Falling numbers"),
        ({"reductions": []}, r"budgets\.reductions should be a list with at least one entry"),
        ({"reductions": [100]}, r"budgets\.reductions\[0\] should be at least 1 and at most 99"),
        ({"targets": []}, r"budgets\.targets should be a list"),
        ({"density": 1}, "unknown key 'density'"),
    ],
)
def test_what_budgets_cannot_be_is_told(entries: dict[str, Any], words: str) -> None:
    asked = {"task": "ner", "targets": ["qac"], "reductions": [16, 2], **entries}
    with pytest.raises(InputError, match=words):
        settings(Study, {"name": "s", "experiment": "e.yaml", "budgets": asked}, "study")


@pytest.mark.parametrize(
    ("changes", "asked", "words", "at"),
    [
        ({"language_sft": None}, {}, "`language_sft` of tiny", ("experiment",)),
        ({"language_adapter": None}, {}, "`language_adapter` of tiny", ("experiment",)),
        ({}, {"task": "qa"}, r"`task\.qa\.adapter` of tiny", ("experiment",)),
        ({}, {"systems": ("teacher-ltsft", "bistil-tf:2")}, "got 'bistil-tf:2'", ("budgets", "systems", 1)),
        ({}, {"systems": ("teacher-bitfit",)}, "got 'teacher-bitfit'", ("budgets", "systems", 0)),
        ({}, {"systems": ("teacher-x",)}, "is not a system", ("budgets", "systems", 0)),
    ],
)
def test_an_experiment_that_cannot_be_asked_is_refused(
    experiment_file: Callable[..., Path], changes: dict[str, Any], asked: dict[str, Any], words: str, at: Any
) -> None:
    study = Study(
        name="s", experiment=str(experiment_file(**changes)), budgets=dataclasses.replace(ASKED, **asked)
    )
    with pytest.raises(InputError, match=words) as raised:
        study.base()
    assert raised.value.at == at


def test_more_values_than_parameters_are_refused(experiment: Callable[..., Experiment], here: Build) -> None:
    base = experiment()
    config = here(base, {}).uncut_teacher().encoder.config
    small: Any = SimpleNamespace(config=config, num_parameters=lambda: 5000)
    assert at_reduction(base, ASKED, 0, small)[1] < 5000
    with pytest.raises(InputError, match=r"`budgets\.reductions\[1\]`, 2, has 5,360 values") as raised:
        at_reduction(base, ASKED, 1, small)
    assert raised.value.at == ("budgets", "reductions", 1)
    with pytest.raises(InputError, match="for reduction: 33"):
        at_reduction(base, dataclasses.replace(ASKED, reductions=(33,)), 0, small)
