"""Ready-made small models as systems beside the experiment's teacher: adapted, tuned and scored at their own
size.
"""

from pathlib import Path

import pytest
from zoo import config, write_teacher

from bistil.errors import InputError
from bistil.models.load import load_teacher
from bistil.pipeline import Pipeline
from bistil.plan import plan
from bistil.sft.delta import SparseDelta, base_hash
from bistil.store.artefacts import Store
from bistil.tasks.deeper import task_head
from bistil.tasks.qa import Qa
from bistil.text.corpora import read_lines


@pytest.fixture
def ready(experiment, data, tmp_path: Path):
    """Makes an experiment with a DistilBERT as a system, and one that has no masked-LM head."""
    lines = [line for code in ("qaa", "qac") for line in read_lines(data.text(code))]
    write_teacher(tmp_path / "distilled", "distilbert", lines)
    whole = load_teacher(write_teacher(tmp_path / "whole", "xlm-roberta", lines))
    whole.encoder.save_pretrained(tmp_path / "bare")
    whole.tokenizer.save_pretrained(tmp_path / "bare")

    def make(**changes):
        settings = {
            "systems": ["teacher-ltsft", "released", "released-bare", "floor"],
            "targets": {"ner": ["qac"]},
            "teachers": {name: {"model": str(tmp_path / name)} for name in ("distilled", "bare")},
            "variants": {
                "released": {"of": "teacher-ltsft", "model": "distilled"},
                "released-bare": {"of": "teacher-full", "model": "bare"},
            },
        }
        return experiment(**{**settings, **changes})

    return make


@pytest.mark.slow
def test_a_distilled_model_is_adapted_tuned_and_scored_at_its_own_size(ready, data, tmp_path: Path) -> None:
    small = ready()
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    pipeline.check()
    own, released, bare, _ = small.cells()
    rows = {cell.system: pipeline.rows(cell)[0] for cell in (own, released, bare)}
    for cell, folder in ((released, "distilled"), (bare, "bare")):
        model = load_teacher(tmp_path / folder)
        assert rows[cell.system]["vocabulary"] == model.encoder.config.vocab_size
        assert rows[cell.system]["parameters"] - model.encoder.num_parameters() < 1000
        assert rows[cell.system]["lrf"] is None
    worn = pipeline.worn(released, "qac")
    assert worn is not None
    assert worn.manifest["inputs"]["base"] == pipeline.named_teacher("distilled").id
    delta = SparseDelta.load(worn.path("delta.safetensors"))
    assert delta.base == base_hash(load_teacher(tmp_path / "distilled").encoder)
    assert pipeline.worn(bare, "qac") is None
    assert small.system("released").told == "As teacher-ltsft, but the model distilled."
    made = pipeline.task_model(released, "qac")[0].encoder
    assert made.config.model_type == "distilbert"
    assert pipeline.deployed(released).path("model").is_dir()
    assert {job.stage for job in plan(small)} >= {"named_teacher", "language_sft"}


def test_layers_of_a_task_above_a_distilbert_have_its_width(wordpiece) -> None:
    shape = config("distilbert", wordpiece)
    head = task_head(Qa(), shape, 1)
    assert any(one.numel() == shape.hidden_dim * shape.dim for one in head.parameters())


def test_models_that_cannot_be_are_refused(ready, data, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'smal', which is not under `teachers` \(distilled, bare\)"):
        ready(systems=["x"], variants={"x": {"of": "teacher-full", "model": "smal"}})
    whole, adapters = "`model` is for a whole model", "another model wears language SFTs or nothing"
    for of, told in (("bistil-tf", whole), ("teacher-madx", adapters), ("floor", whole)):
        with pytest.raises(InputError, match=told):
            ready(systems=["x"], variants={"x": {"of": of, "model": "distilled"}})
    long = {"length": 67, "batch_size": 4, "lines": 60}
    write_teacher(tmp_path / "longer", "deberta-v2", ["a b c", "b c d"] * 50)  # 68 positions
    with pytest.raises(InputError, match=r"66 positions of the teacher .*bare were expected"):
        Pipeline(
            ready(text=long, systems=["released-bare"], teacher=str(tmp_path / "longer")),
            data,
            Store(tmp_path),
        ).check()
