"""The figures of language SFTs in a report: closed forms on made deltas, and the tiny world's own in a
page.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.report.experiment import _language_sfts, write_experiment_report
from bistil.report.supports import support_figures
from bistil.sft.delta import SparseDelta
from bistil.store.artefacts import Artefact, Store
from bistil.text.languages import DataFolder

LOTTERY = {"lottery": {"density": 0.04}, "sparse": {"steps": 4}, "seed": 1}
SPIEL = {
    "spiel": {"density": 0.04, "interval": 1, "estimation": 1, "rate": 0.5},
    "sparse": {"steps": 4},
    "seed": 1,
}


def made(
    store: Store, places: list[int], sft: dict[str, Any], ages: dict[str, int] | None = None
) -> Artefact:
    """A language SFT that changes some of 100 values."""

    def build(folder: Path) -> dict[str, Any]:
        tensors = {"layer.0.weight": (torch.tensor(places), torch.ones(len(places)))}
        SparseDelta(tensors=tensors, base="b", shapes={"layer.0.weight": (10, 10)}).save(
            folder / "delta.safetensors"
        )
        if ages:
            (folder / "ages.json").write_text(json.dumps(ages), encoding="utf-8")
        return {}

    return store.run("language-sft", {"sft": sft, "places": places}, {"base": "sha256:0"}, build)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_overlap_of_each_pair_is_drawn_beside_chance(store: Store) -> None:
    places = {"qab": [3, 7, 50, 51], "qaa": [3, 7, 8, 9], "qac": [0, 1, 2, 3]}
    drawn = support_figures({code: made(store, at, LOTTERY) for code, at in places.items()})
    assert list(drawn) == ["language-sfts-overlap"]
    ax = drawn["language-sfts-overlap"][0].axes[0]
    assert [name.get_text() for name in ax.get_xticklabels()] == ["qaa", "qab", "qac"]
    assert [text.get_text() for text in ax.texts] == ["50.0", "25.0", "50.0", "25.0", "25.0", "25.0"]
    assert ax.get_title() == "by chance: 4 %"  # 4 * 4 / 100 of 4 entries


def test_ages_are_drawn_of_spiel_beside_random_drops(store: Store) -> None:
    born = {"qaa": {"1": 1, "3": 3}, "qab": {"2": 2, "3": 2}}
    drawn = support_figures(
        {code: made(store, [1, 2, 3, place], SPIEL, born[code]) for place, code in enumerate(born, start=4)}
    )
    assert list(drawn) == ["language-sfts-overlap", "language-sfts-ages"]
    first, second, chance = drawn["language-sfts-ages"][0].axes[0].lines
    assert first.get_xydata().tolist() == [[1, 25], [3, 75]]
    assert second.get_xydata().tolist() == [[2, 50], [3, 50]]
    assert sum(chance.get_ydata()) == pytest.approx(100)
    alone = support_figures({"qaa": made(store, [1, 2, 3, 5], SPIEL, {"1": 4})})
    assert list(alone) == ["language-sfts-ages"]


def test_nothing_is_drawn_of_nothing_of_one_language_of_lora_and_of_ages_that_were_not_kept(
    store: Store,
) -> None:
    lora = {"peft": {"density": 0.04}, "sparse": {"steps": 4}, "seed": 1}
    assert support_figures({}) == {}
    assert support_figures({"qaa": made(store, [1, 2], LOTTERY)}) == {}
    assert (
        support_figures({code: made(store, [1, at], lora) for at, code in enumerate(("qaa", "qab"), start=2)})
        == {}
    )
    assert list(
        support_figures(
            {code: made(store, [1, at], SPIEL) for at, code in enumerate(("qaa", "qab"), start=2)}
        )
    ) == ["language-sfts-overlap"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "config", "owner"),
    [
        ("trimmed-teacher", {}, "teacher"),
        ("student", {"recipe": "minilm"}, "minilm student"),
        ("student", {"recipe": "minilm", "select": "random"}, "minilm student (random)"),
    ],
)
def test_language_sfts_are_told_by_whose_they_are(
    kind: str, config: dict[str, Any], owner: str, store: Store
) -> None:
    select = {"lottery": {"density": 0.04, "select": config.pop("select", None)}}
    base = store.run(kind, config, {}, lambda folder: {})
    sft = store.run(
        "language-sft", {"sft": select}, {"base": base, "text qac": "sha256:1"}, lambda folder: {}
    )
    assert _language_sfts([sft], [base, sft]) == {owner: {"qac": sft}}


@pytest.mark.parametrize("method", ["lottery", "spiel"])
def test_a_report_has_the_figures_of_the_language_sfts_behind_its_scores(
    method: str, experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path, store: Store
) -> None:
    spiel = {
        "spiel": {"density": 0.1, "interval": 1, "estimation": 1, "rate": 0.5},
        "sparse": {"steps": 4, "learning_rate": 1e-3},
    }
    changes = {"language_sft": spiel} if method == "spiel" else {}
    asked = experiment(
        systems=["teacher-ltsft", "teacher-no-adaptation"], targets={"ner": ["qac"]}, **changes
    )
    pipeline = Pipeline(asked, data, store)
    rows = {cell.system: pipeline.rows(cell) for cell in asked.cells()}
    page = write_experiment_report(tmp_path / "with", asked, rows["teacher-ltsft"], store, failures=[])
    ages = ["language-sfts-ages"] if method == "spiel" else []
    figures = sorted(path.stem for path in (page.parent / "figures").glob("language-sfts-*.svg"))
    assert figures == [*ages, "language-sfts-overlap", "language-sfts-teacher"]
    assert "two languages have in common" in page.read_text(encoding="utf-8")
    without = write_experiment_report(
        tmp_path / "without", asked, rows["teacher-no-adaptation"], store, failures=[]
    )
    assert not list((without.parent / "figures").glob("language-sfts-*"))
