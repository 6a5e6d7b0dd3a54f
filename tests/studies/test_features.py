"""Features that a generator of adapters leans on: norms against the whole product, flips against adapters
made here, work that is not repeated, what is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.settings.yaml import build as settings
from bistil.sft.generator import Generator, GeneratorConfig
from bistil.store.artefacts import Store
from bistil.studies import Features, Study
from bistil.studies import features as room
from bistil.studies.features import flipped, norms, study_features, verdict
from bistil.studies.kept import Build, read_table, save
from bistil.text.corpora import held_out
from bistil.text.languages import DataFolder
from bistil.training.loop import Schedule
from bistil.training.mlm import evaluate_mlm

PHASE = {"steps": 3, "learning_rate": 1e-2, "evaluations": 1}
ENTRIES: dict[str, Any] = {
    "typology": {"from": "table"},
    "generator": {"languages": ["qaa", "qab"], "embedding": 4, "batch_size": 4, "schedule": PHASE},
}


@pytest.mark.parametrize("kind", ["base", "ls"])
def test_norms_are_those_of_the_whole_product(kind: Any) -> None:
    config = GeneratorConfig(
        kind=kind, embedding=3, layer_embedding=5, schedule=Schedule(steps=1, learning_rate=1e-3)
    )
    torch.manual_seed(1)
    one = Generator(8, 2, config, ["a", "b", "c", "d"], "x")
    one.start(2.0)
    one.requires_grad_(False)
    for layer in range(2):
        weights = one.weights[layer if kind == "base" else 0][:, :3]
        product = (weights @ one.languages).numpy()
        np.testing.assert_allclose(norms(one)[layer], np.linalg.norm(product, axis=0), rtol=1e-5)
    bare = torch.cat([part.flatten() for part in one(torch.zeros(4))])
    for place, told in enumerate(torch.eye(4)):
        moved = torch.cat([part.flatten() for part in one(told)]) - bare
        assert float(moved.norm()) == pytest.approx(np.linalg.norm(norms(one)[:, place]), rel=1e-4)


def test_a_flip_changes_one_feature_alone() -> None:
    features = np.array([1, 0, 0, 1], dtype=np.float32)
    assert [flipped(features, place).tolist() for place in (0, 2)] == [[0, 0, 0, 1], [1, 0, 1, 1]]
    assert features.tolist() == [1, 0, 0, 1]
    assert flipped(features, 0).dtype == np.float32


@pytest.mark.slow
def test_each_flip_is_measured_with_the_adapter_that_is_then_generated(
    experiment: Callable[..., Experiment], data: DataFolder, here: Build, tmp_path: Path
) -> None:
    base, store = experiment(**ENTRIES), Store(tmp_path / "store")
    asked = Features(targets=("qac", "qab"), task="ner", most=3, lines=5, kind="ls")
    found = study_features(base, asked, here, store, say=lambda line: None)
    rows = found.tables["features"]
    assert [(row["target"], row["nearest"]) for row in rows] == [("qac", rows[0]["nearest"])] * 3 + [
        ("qab", "qaa")
    ] * 3
    pipeline = Pipeline(asked.over(base), data, store)
    typology, made = pipeline.typology, pipeline.generator("ls")
    generator = Generator.load(made.path("generator.safetensors"))
    whole = dict(zip(typology.names, np.linalg.norm(norms(generator), axis=0), strict=True))
    own, near = (typology.vector(code) for code in ("qac", rows[0]["nearest"]))
    shared = [name for name, one, other in zip(typology.names, own, near, strict=True) if one == other]
    assert [row["feature"] for row in rows[:3]] == sorted(shared, key=lambda name: -whole[name])[:3]
    teacher = pipeline.fresh_teacher()
    _, kept = pipeline.blocks("qac").split(base.text.held_out("qac"))
    batches = held_out({"qac": kept}, teacher.tokenizer, batch_size=16, mask_share=0.15, most=5, seed=1)
    [cell] = [cell for cell in pipeline.experiment.cells() if cell.target == "qac"]
    score = pipeline.evaluation(cell).metrics["f1"]

    def loss(features: np.ndarray) -> float:
        hung = generator.adapter(features).apply(teacher.encoder)
        value = evaluate_mlm(teacher.mlm, batches)["loss"]
        hung.revert()
        return value

    for row in rows[:3]:
        place = typology.names.index(row["feature"])
        assert row["had"] == own[place]
        assert row["norm"] == pytest.approx(whole[row["feature"]], abs=1e-6)
        assert row["loss"] == pytest.approx(loss(own), abs=1e-5)
        assert row["loss_change"] == pytest.approx(loss(flipped(own, place)) - loss(own), abs=1e-5) != 0
        assert row["score"] == pytest.approx(score, abs=1e-5)
    layers = [row for row in found.tables["norms"] if row["feature"] == rows[0]["feature"]]
    assert [row["layer"] for row in layers] == ["together", *range(1, 7)]
    assert layers[0]["norm"] == rows[0]["norm"]
    assert set(found.figures) == {"features", "map"}
    assert [one.claim.rpartition("(")[2] for one in found.verdicts] == [
        "loss, 0.001 nats a token)",
        "score, points)",
    ]
    save(tmp_path / "kept", [found], title="t")
    kept_rows = read_table(tmp_path / "kept" / "features.csv")
    assert [row["feature"] for row in kept_rows] == [row["feature"] for row in rows]
    assert (tmp_path / "kept" / "figures" / "map.svg").is_file()
    assert len(read_table(tmp_path / "kept" / "norms.csv")) == 7 * len(typology.names)


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_the_next_target(
    experiment: Callable[..., Experiment], here: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = experiment(**ENTRIES)
    asked = Features(targets=("qac", "qab"), lines=4, most=2)
    measured: list[str] = []
    losses = room._losses

    def broken(reader: Pipeline, cell: Any, *others: Any) -> list[float]:
        measured.append(cell.target)
        if measured == ["qac", "qab"]:
            raise RuntimeError("interrupted")
        return losses(reader, cell, *others)

    monkeypatch.setattr(room, "_losses", broken)
    for _ in range(3):
        store = Store(tmp_path / "store")
        try:
            found = study_features(base, asked, here, store, say=lambda line: None)
        except RuntimeError:
            continue
    assert measured == ["qac", "qab", "qab"]
    assert not store.built
    assert list(found.tables["features"][0]) == [
        *("target", "nearest", "seed", "feature", "had", "norm", "loss", "loss_change", "artefact")
    ]
    assert [one.kind for one in found.artefacts.values()] == ["generator", "feature-flips", "feature-flips"]
    assert len(found.verdicts) == 1


def test_halves_are_of_each_target_and_the_middle_is_in_neither() -> None:
    def row(artefact: str, change: float) -> dict[str, Any]:
        return {"artefact": artefact, "loss_change": change}

    rows = [row("a", 5.0), row("a", 100.0), row("a", 1.0), row("b", 3.0), row("b", 2.0)]
    [found] = verdict(rows, "loss_change", "nats", 10)
    assert (found.left, found.right) == (40, 15)
    assert verdict(rows[:1], "loss_change", "nats", 10) == verdict([], "loss_change", "nats", 10) == []


def test_features_need_a_generator_and_tasks_that_are_trained(
    experiment_file: Callable[..., Path],
) -> None:
    for entries, words, at in (
        ({}, "`generator` and `typology` of tiny", ("experiment",)),
        (ENTRIES, "as `task` under `features`, one of ner, parsing, but 'qa' came", ("features", "task")),
    ):
        study = Study(
            name="s",
            experiment=str(experiment_file(**entries)),
            features=Features(targets=("qac",), task="qa"),
        )
        with pytest.raises(InputError, match=words) as raised:
            study.base()
        assert raised.value.at == at
    with pytest.raises(InputError, match=r"features\.targets should be a list with at least one entry"):
        settings(Study, {"name": "s", "experiment": "e", "features": {"targets": []}}, "study")
    with pytest.raises(InputError, match=r"features\.kind should be one of base, ls"):
        settings(Study, {"name": "s", "experiment": "e", "features": {"targets": ["qac"], "kind": "x"}}, "s")


def test_a_target_without_features_is_refused_at_once(
    experiment: Callable[..., Experiment], here: Build, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="xyz have none"):
        study_features(
            experiment(**ENTRIES), Features(targets=("xyz",)), here, Store(tmp_path / "s"), say=print
        )
    assert not (tmp_path / "store").exists()
