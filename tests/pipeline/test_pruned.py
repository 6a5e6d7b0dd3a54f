"""A pruned teacher, repaired by sparse fine-tuning: what was pruned stays pruned."""

from pathlib import Path

import pytest

from bistil.errors import InputError
from bistil.models.load import load_encoder
from bistil.pipeline import Pipeline
from bistil.sft.delta import SparseDelta
from bistil.sft.spiel.support import choose_tensors
from bistil.store.artefacts import Store
from bistil.systems.recipe import STATES, Student

PRUNED = {"of": "truncated-uniform", "recipe": {"pruned": 0.6}}
SPIEL = {"steps": 8, "learning_rate": 1e-3, "evaluations": 1}


def test_spiel_leaves_the_rest_of_what_was_pruned_at_zero(experiment, data, tmp_path: Path) -> None:
    small = experiment(
        systems=["repaired:1"],
        targets={"ner": ["qac"]},
        variants={"repaired": {**PRUNED, "learning": {"select": None, "spiel": "ag", "interval": 5}}},
        schedules={"repaired": SPIEL},
    )
    pipeline, [cell] = Pipeline(small, data, Store(tmp_path)), small.cells()
    student = pipeline.student(cell)
    assert student is not None
    encoder = load_encoder(student.path("model"))
    delta = SparseDelta.load(pipeline.task_sft(cell).path("delta.safetensors"))
    assert set(delta.tensors) <= set(choose_tensors(encoder))
    changed = 0
    for name in choose_tensors(encoder):
        weight = encoder.get_parameter(name).detach().clone().view(-1)
        zeros = weight == 0
        assert int(zeros.sum()) == round(0.6 * weight.numel())
        positions, values = delta.tensors[name]
        weight[positions] += values
        changed += int(((weight != 0) & zeros).sum())
    assert 0 < changed <= delta.size
    assert small.system("repaired").axes["start"] == "uniform pruned 0.6"


@pytest.mark.parametrize("other", [{"start": "random"}, {"start_from": "qac"}])
def test_only_copies_of_the_teachers_layers_are_pruned(other: dict[str, str]) -> None:
    with pytest.raises(InputError, match="`pruned` is for a student that starts from the teacher"):
        Student(terms=STATES, pruned=0.5, **other)
