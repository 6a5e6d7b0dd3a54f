"""Results side by side: spreads, fronts and bars of what is chosen, and the examples that a model gets most
wrong.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from bistil import plots
from bistil.errors import InputError
from bistil.evaluation.results import write_results
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.store.artefacts import Store
from bistil.text.languages import DataFolder
from bistil.workbench import comparison_panel
from bistil.workbench.comparison import Comparison


def row(
    system: str, target: str, seed: int, value: float, *, task: str = "ner", metric: str = "f1", **more: Any
) -> dict[str, Any]:
    lrf = 2 if system.startswith("bistil") else None
    of = {
        "experiment": "tiny",
        "system": system,
        "teacher": "tiny",
        "source": "qaa",
        "target": target,
        "lrf": lrf,
        "seed": seed,
    }
    cost = {
        "parameters": 100 if lrf else 300,
        "flops_per_example": 10.0 if lrf else 40.0,
        "n_examples": 8,
        "examples_per_second": 4.0,
    }
    return {**of, **cost, "task": task, "metric": metric, "value": value, **more}


ROWS = [
    row("teacher-ltsft", "qac", 1, 60.0),
    row("teacher-ltsft", "qac", 2, 64.0),
    row("bistil-tf", "qac", 1, 58.0),
    row("bistil-tf", "qac", 2, 58.0),
    row("bistil-st", "qac", 1, 40.0, parameters=200),
    row("bistil-tf", "qab", 1, 30.0, task="parsing", metric="las"),
]


def test_tables_have_the_spread_over_seeds_and_the_costs() -> None:
    text = re.sub(r"<[^>]+>", " ", Comparison(ROWS).tables())
    assert re.search(r"teacher-ltsft\s+62\.0\s+± 2\.8", text)
    assert "one standard deviation over 2 seeds" in text
    assert "0.33×" in text


def test_a_choice_leaves_systems_out_and_another_task_begins_with_all() -> None:
    model = Comparison(ROWS)
    model.choose(systems=["bistil-st lrf 2", "teacher-ltsft"])
    assert model.systems == ("teacher-ltsft", "bistil-st lrf 2")
    front = model.front()
    assert front is not None
    assert {text.get_text() for text in front.axes[0].texts} == {"bistil-st lrf 2", "teacher-ltsft"}
    assert "bistil-tf" not in model.tables()
    for setting, systems in (("", []), ("", ["magic"]), ("magic", None)):
        with pytest.raises(InputError, match="expected"):
            model.choose(setting=setting, systems=systems)
    assert model.systems == ("teacher-ltsft", "bistil-st lrf 2")
    model.choose(setting=list(model.settings)[1])
    assert (model.systems, model.targets) == (("bistil-tf lrf 2",), ["qab"])


def test_the_front_compares_over_the_targets_that_all_systems_have(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = [row("teacher-ltsft", target, 1, value) for target, value in (("qab", 80.0), ("qac", 50.0))]
    floor = [row("floor", "qac", 1, 5.0, parameters=None, flops_per_example=None)]
    drawn: list[dict[str, tuple[float, float, float]]] = []
    monkeypatch.setattr(plots, "pareto", lambda options, metric: drawn.append(options))
    partial = Comparison([*teacher, *floor, row("bistil-tf", "qab", 1, 75.0)])
    partial.front()
    assert drawn == [{"teacher-ltsft": (300, 40.0, 80.0), "bistil-tf lrf 2": (100, 10.0, 75.0)}]
    assert partial.compared() == "The front is of qab, on which all of these systems were scored."
    partial.choose(systems=["teacher-ltsft"])
    partial.front()
    assert drawn[1:] == [{"teacher-ltsft": (300, 40.0, 65.0)}]
    assert partial.compared() == ""
    apart = Comparison([teacher[1], row("bistil-tf", "qab", 1, 75.0)])
    assert (apart.front(), len(drawn)) == (None, 2)
    assert "no target was scored with all" in comparison_panel(apart.rows).front.value


def test_the_cost_of_errors_is_that_of_what_is_picked() -> None:
    floor = [row("floor", target, 1, 5.0, n_examples=8) for target in ("qab", "qac")]
    panel = comparison_panel([row("teacher-ltsft", "qac", 1, 60.0), *floor])
    panel.target.value = "qac"
    assert "asked about 8 test examples" in panel.cost.value
    panel.target.value = "qab"
    assert "the rows have none" in panel.error.value
    assert panel.cost.value == ""
    panel.system.value = "floor"
    assert "floor is a guess" in panel.cost.value


def test_scores_on_the_source_alone_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="At least one zero-shot score"):
        Comparison([row("teacher-ltsft", "qaa", 1, 60.0)])
    model = Comparison([*ROWS, row("teacher-ltsft", "qaa", 1, 60.0, task="nli", metric="accuracy")])
    assert {setting.task for setting in model.settings.values()} == {"ner", "parsing"}


def test_the_panel_follows_and_tells_what_it_cannot_do(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", ROWS)
    panel = comparison_panel(tmp_path / "results.csv")
    assert panel.error.value == ""
    assert "about 2 s" in panel.cost.value
    assert 'aria-label="pareto"' in panel.front.value
    panel.button.click()
    assert "no pipeline was given" in panel.error.value
    panel.systems.value = ()
    assert "none came" in panel.error.value
    panel.setting.value = list(panel.model.settings)[1]
    assert panel.error.value == ""
    assert panel.target.options == ("qab",)
    with pytest.raises(InputError, match="At least one result row"):
        comparison_panel([])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["parsing", "ner"])
def test_the_worst_errors_are_those_of_the_model_and_come_first(
    experiment, data: DataFolder, tmp_path: Path, task: str
) -> None:
    pipeline = Pipeline(experiment(), data, Store(tmp_path / "store"))
    cell = Cell("bistil-st", task, "qac", 3, 1)
    panel = comparison_panel(pipeline.rows(cell), pipeline)
    found = panel.model.worst("bistil-st lrf 3", "qac", most=100)
    wrong = [one.answers.said["bistil-st lrf 3"].wrong for one in found]
    assert wrong == sorted(wrong, reverse=True)
    assert min(wrong) > 0
    assert [pipeline.predictions(cell, [found[0].example])[0]] == [found[0].prediction]
    panel.button.click()
    assert panel.error.value == ""
    assert "1. " in panel.errors.value
    empty = Pipeline(experiment(), data, Store(tmp_path / "none", read_only=True))
    with pytest.raises(InputError, match=f"The model bistil-st lrf 3 for {task} on qac is not in the store"):
        Comparison(panel.model.rows, empty).worst("bistil-st lrf 3", "qac")


def test_the_model_that_is_asked_again_is_the_rows_own(
    experiment, data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 0 is a seed, and a system under a regime is of the table."""
    asked: list[Cell] = []

    def predictions(self: Pipeline, cell: Cell, examples: list[Any]) -> list[Any]:
        asked.append(cell)
        return [["O"] * len(example.words) for example in examples]

    monkeypatch.setattr(Pipeline, "predictions", predictions)
    pipeline = Pipeline(experiment(), data, Store(tmp_path / "store"))
    rows = [row(name, "qac", 0, 50.0) for name in ("teacher-ltsft", "teacher-ltsft@in-language")]
    for name in ("teacher-ltsft", "teacher-ltsft@in-language"):
        Comparison(rows, pipeline).worst(name, "qac")
    assert asked == [Cell(one["system"], "ner", "qac", 1, 0) for one in rows]
