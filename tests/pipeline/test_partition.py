"""Language and task SFTs each in a part of the encoder: nothing else changes, and they share nothing."""

from pathlib import Path

import pytest
from tiny import ROOT

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.sft.anatomy import by_layer
from bistil.sft.delta import SparseDelta
from bistil.store.artefacts import Store
from bistil.systems.learning import Adaptation, Learning

VARIANTS = {
    "apart": {"of": "teacher-ltsft", "adaptation": {"part": "outer"}, "learning": {"part": "middle"}},
    "biased": {"of": "teacher-bitfit", "adaptation": {"part": "middle"}, "learning": {"part": "outer"}},
}
OUTER, MIDDLE = {"-", "0", "5"}, {"1", "2", "3", "4"}
"""Of six layers, by `by_layer`; "-" is the embedding layer."""


@pytest.mark.slow
def test_only_allowed_layers_change_and_nothing_is_shared(experiment, data, tmp_path: Path) -> None:
    small = experiment(
        systems=["teacher-ltsft", "apart", "biased"], targets={"ner": ["qac"]}, variants=VARIANTS
    )
    pipeline = Pipeline(small, data, Store(tmp_path))
    found: dict[str, tuple[SparseDelta, SparseDelta, set[str], set[str]]] = {}
    for cell in small.cells():
        worn = pipeline.worn(cell, "qac")
        assert worn is not None
        language, task = (
            SparseDelta.load(one.path("delta.safetensors")) for one in (worn, pipeline.task_sft(cell))
        )
        found[cell.system] = language, task, set(by_layer(language)), set(by_layer(task))
    language, task, *where = found["apart"]
    assert where == [OUTER, MIDDLE]
    assert language.overlap(task) == 0.0
    free = found["teacher-ltsft"]
    assert free[0].overlap(free[1]) > 0.0
    assert free[2] > OUTER
    assert (language.size, task.size) == (free[0].size, free[1].size)
    assert found["biased"][2:] == (MIDDLE, {"0", "5"})
    axes = small.system("apart").axes
    assert (axes["adaptation"], axes["learning"]) == ("sft outer", "settings middle")
    source = pipeline.task_sft(small.cells()[1]).manifest["inputs"]["source sft"]
    assert source != pipeline.language_sft("qaa").id


def test_parts_are_for_sparse_fine_tunings_alone(experiment) -> None:
    with pytest.raises(InputError, match="`part` is for language SFTs"):
        Adaptation(worn="adapter", part="outer")
    with pytest.raises(InputError, match="`part` are for tuning by"):
        Learning(spiel="ag", part="middle")
    spiel = {"spiel": {"density": 0.1, "interval": 2, "estimation": 1}}
    schedule = {"steps": 8, "learning_rate": 1e-3, "evaluations": 1}
    task = {"ner": {"sft": {**spiel, "sparse": schedule}}}
    small = experiment(systems=["apart"], targets={"ner": ["qac"]}, variants=VARIANTS, task=task)
    with pytest.raises(InputError, match="`part: middle` is for LT-SFT"):
        small.task_config(small.cells()[0])


def test_parts_of_students_with_few_layers_are_refused_before_any_work(
    experiment, data, tmp_path: Path
) -> None:
    few = {"few": {"of": "bistil-tf", "learning": {"part": "outer"}}}
    small = experiment(systems=["few:2"], targets={"ner": ["qac"]}, variants=few)
    with pytest.raises(InputError, match="told apart from 4 layers on, but there are 3"):
        Pipeline(small, data, Store(tmp_path / "store")).check()


def test_the_partition_on_miniworld_is_of_both_kinds() -> None:
    file = Experiment.read(ROOT / "data" / "experiments" / "miniworld-partition.yaml")
    parts = {name: (one.adaptation.part, one.learning.part) for name, one in _systems(file).items()}
    assert parts["language-outer-task-middle"] == ("outer", "middle")
    assert parts["language-middle-task-outer"] == ("middle", "outer")
    assert parts["teacher-ltsft"] == (None, None)


def _systems(file: Experiment):
    return {name: file.system(name) for name, *_ in file.parsed}
