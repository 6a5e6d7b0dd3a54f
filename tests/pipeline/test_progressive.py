"""Progressive transfer: a student that goes on from another pair's, and stage 1's ablations as an experiment
file.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.models.load import load_encoder
from bistil.pipeline import Pipeline, students
from bistil.pipeline.bases import OWN_HEAD, kept_ids
from bistil.plan import foresee, plan
from bistil.store.artefacts import Store
from bistil.systems.recipe import STATES, Student
from bistil.systems.table import BISTIL

ROOT = Path(__file__).parents[2]
WORDS = "embeddings.word_embeddings.weight"


def started(experiment, data, folder: Path, monkeypatch, of: str) -> tuple[Pipeline, list, dict, dict, dict]:
    """A student of qac that has taken over qab's but learnt nothing: pipeline, cells, its tensors, the
    donor's, and the teacher's.
    """
    small = experiment(
        systems=["later:2", f"{of}:2"],
        variants={"later": {"of": of, "recipe": {"start_from": "qab"}}},
        targets={"ner": ["qac", "qab"]},
        vocabulary={"criterion": "sentences", "threshold": 0.05},
    )
    pipeline = Pipeline(small, data, Store(folder))
    pipeline.check()
    cells = small.cells()
    donor = pipeline.student(cells[2])
    assert pipeline.student(cells[3]).id == donor.id  # the plain system's own
    monkeypatch.setattr(students, "distil", lambda *args, **kwargs: [])
    found = [load_encoder(one.path("model")).state_dict() for one in (pipeline.student(cells[0]), donor)]
    return pipeline, cells, *found, pipeline.teacher.encoder.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("of", ["bistil-tf", "distilmbert-pair"])
def test_a_student_goes_on_from_another_pairs(experiment, data, tmp_path: Path, monkeypatch, of: str) -> None:
    pipeline, cells, own, theirs, teacher = started(experiment, data, tmp_path, monkeypatch, of)
    student, donor = pipeline.student(cells[0]), pipeline.student(cells[2])
    assert student.manifest["inputs"]["start"] == donor.id
    assert "start" not in donor.manifest["inputs"]
    assert student.manifest["config"]["recipe"] == donor.manifest["config"]["recipe"]
    assert all(torch.equal(own[name], theirs[name]) for name in own if name != WORDS)
    mine, yours = (kept_ids(pipeline.vocabulary(code)).tolist() for code in ("qac", "qab"))
    assert set(mine) - set(yours)
    assert set(mine) & set(yours)
    for row, token in enumerate(mine):
        expected = theirs[WORDS][yours.index(token)] if token in yours else teacher[WORDS][token]
        assert torch.equal(own[WORDS][row], expected)
    heads = [load_file(one.path(OWN_HEAD)) for one in (student, donor) if one.path(OWN_HEAD).is_file()]
    if heads:
        transform = "cls.predictions.transform.dense.weight"
        assert torch.equal(heads[0][transform], heads[1][transform])
        common = [(row, yours.index(token)) for row, token in enumerate(mine) if token in yours]
        bias = [head["cls.predictions.bias"] for head in heads]
        assert all(bias[0][a] == bias[1][b] for a, b in common)
    assert (of == "distilmbert-pair") == bool(heads)
    assert pipeline.system(cells[0]).axes["start"] == "uniform from qab"
    jobs = plan(pipeline.experiment)
    assert all(set(after) < set(jobs) for after in jobs.values())


def test_students_of_all_and_families_have_no_pair_to_start_from() -> None:
    with pytest.raises(InputError, match="`start_from` is for a student of a pair"):
        Student(terms=STATES, languages="each", start_from="qab")
    with pytest.raises(InputError, match="`start_from` is for"):
        Student(terms={}, start_from="qab")


def test_the_ablations_of_stage_1_share_what_the_claims_made() -> None:
    file, claims = (
        Experiment.read(ROOT / "data" / "experiments" / f"miniworld-{name}.yaml")
        for name in ("ablations", "claims")
    )
    stages = [foresee(one) for one in (file, claims)]
    shared = Counter(stage.kind for stage in stages[0].values() if stage.id in stages[1])
    assert (shared["student"], shared["language-sft"], shared["vocabulary"]) == (6, 3, 2)
    terms = {
        name: set(system.student.terms) for name in file.variants if (system := file.system(name)).student
    }
    assert terms["attention-alone"] == {"attention"}
    assert terms["hidden-alone"] == {"hidden"}
    assert terms["scores"] == {"scores", "hidden"}
    assert terms["with-predictions"] == {*STATES, "prediction"}
    assert not file.system("unadapted-teacher").student.adapted
    assert file.system("target-only").student.languages == "target"
    assert file.system("random-start").student.start == "random"
    assert file.system("progressive").student.named == BISTIL.named
