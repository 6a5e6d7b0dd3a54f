"""Panels of pictures: what is offered, what a choice draws, and that what cannot be chosen is told."""

from typing import Any

import numpy as np
import pytest
import torch

from bistil import plots
from bistil.errors import InputError
from bistil.sft.delta import SparseDelta
from bistil.sft.spiel import SpielConfig
from bistil.workbench import ages_panel, costs_panel, densities_panel, overlap_panel, places_panel
from bistil.workbench.pictures import Picture, PicturePanel

CONFIG = SpielConfig(steps=100, interval=20, estimation=5, size=10)


def delta(
    positions: list[int], values: list[float], name: str = "encoder.layer.0.output.dense.weight"
) -> SparseDelta:
    return SparseDelta(
        tensors={name: (torch.tensor(positions), torch.tensor(values))}, base="0" * 64, shapes={name: (5, 4)}
    )


DELTAS = {
    "qaa": delta([0, 3, 5, 9], [4.0, 1.0, -3.0, 2.0]),
    "qab": delta([0, 4, 5, 8], [5.0, 1.0, 2.0, -9.0]),
}


def density_row(language: float, task: float, seed: str, value: float) -> dict[str, Any]:
    of = {"task": "ner", "target": "qac", "metric": "f1"}
    return {"language_density": language, "task_density": task, "seed": seed, "value": value, **of}


def numbers(panel: PicturePanel) -> list[str]:
    return [text.get_text() for text in panel.model.figure().axes[0].texts]


def test_a_list_changes_what_is_drawn() -> None:
    panel = overlap_panel(DELTAS, 20, control=[0.75, 0.5])
    assert numbers(panel) == ["75.0", "50.0", "50.0", "50.0"]
    assert "by chance: 20 %" in panel.model.figure().axes[0].get_title()
    first = panel.image.value
    panel.lists["largest"].value = "25 %"  # one value each: 0 and 8
    assert numbers(panel) == ["0", "0"]
    assert panel.image.value != first
    assert 'aria-label="overlap"' in first
    assert "var(--ink)" in first
    assert panel.error.value == ""


def test_places_are_those_of_the_chosen_delta() -> None:
    panel = places_panel({**DELTAS, "small": delta([1], [1.0])})
    assert numbers(panel) == ["20.0"]
    panel.lists["delta"].value = "small"
    assert numbers(panel) == ["5"]


def test_ages_stand_beside_the_null_of_the_chosen_schedule() -> None:
    panel = ages_panel({"AG": [20, 40, 40, 80]}, CONFIG)
    null = np.asarray(panel.model.figure().axes[0].lines[1].get_ydata())
    np.testing.assert_allclose(null, 100 * np.asarray(CONFIG.ages_by_chance()[1][1:]))
    panel.lists["rate"].value = 0.8
    assert np.asarray(panel.model.figure().axes[0].lines[1].get_ydata())[0] < null[0]


def test_densities_of_one_seed_or_of_all() -> None:
    rows = [
        density_row(one, other, seed, 10.0 * one + int(seed))
        for one in (0.1, 0.5)
        for other in (0.1, 0.5)
        for seed in ("1", "3")
    ]
    panel = densities_panel(rows)
    assert "best, 7.0" in panel.model.figure().axes[0].get_title()
    panel.lists["seed"].value = "3"
    assert "best, 8.0" in panel.model.figure().axes[0].get_title()


def test_densities_that_make_no_grid_are_told() -> None:
    line = [density_row(0.1, task, "1", 50.0) for task in (0.1, 0.2)]
    assert "those that came are at 0.1 and 0.1, 0.2" in densities_panel(line).error.value
    assert "those that came are at none and none" in densities_panel([]).error.value
    whole = [density_row(one, other, "1", 10.0) for one in (0.1, 0.5) for other in (0.1, 0.5)]
    panel = densities_panel([*whole, density_row(0.1, 0.1, "2", 3.0)])
    assert panel.error.value == ""
    panel.lists["seed"].value = "2"
    assert "those that came are at 0.1 and 0.1" in panel.error.value


def test_costs_of_the_chosen_task() -> None:
    panel = costs_panel(
        {task: [plots.Tuning(task, 1.0, 1.0, 1.0)] for task in ("teacher-lora", "teacher-full")},
        label="F1 (%)",
    )
    assert numbers(panel) == ["teacher-lora"]
    panel.lists["of"].value = "teacher-full"
    assert numbers(panel) == ["teacher-full"]


def test_what_cannot_be_drawn_or_chosen_is_told() -> None:
    with pytest.raises(InputError, match="two deltas"):
        overlap_panel({"qaa": DELTAS["qaa"]}, 20)
    with pytest.raises(InputError, match="nothing to choose from for delta"):
        places_panel({})
    model = Picture(lambda seed: plots.loss_curves({}), {"seed": [1, 2]})
    for wrong in ({"seed": 3}, {"task": "ner"}):
        with pytest.raises(InputError, match="was chosen"):
            model.choose(**wrong)
    with pytest.raises(InputError, match=r"^seed can be one of 1, 2, but 3 was chosen\.$"):
        model.choose(seed=3)
    assert model.choice == {"seed": 1}
    broken = PicturePanel(Picture(lambda seed: DELTAS[seed], {"seed": [1, 2]}), "seeds")  # type: ignore[arg-type,return-value]
    assert "KeyError" in broken.error.value
