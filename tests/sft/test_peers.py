"""LoRA and (IA)^3: what trains and how much, that the encoder is whole again afterwards, and that a run
resumes.
"""

import dataclasses
import sys
import threading
from pathlib import Path

import pytest
import torch
from sft_examples import bits, same_bits
from test_train_sft import CONFIG, model
from test_tune import tuned
from zoo import write_teacher

from bistil.errors import InputError
from bistil.pipeline import Pipeline
from bistil.sft.config import PeftSft
from bistil.sft.delta import deltas_applied
from bistil.sft.peers import library, rank
from bistil.store.artefacts import Store
from bistil.training.loop import Stopped
from bistil.training.progress import Event

LORA = CONFIG.by("lora")
IA3 = CONFIG.by("ia3")


@pytest.fixture
def peft() -> None:
    pytest.importorskip("peft")


@pytest.mark.usefixtures("peft")
@pytest.mark.parametrize("config", [LORA, IA3], ids=["lora", "ia3"])
def test_what_changes_is_merged_and_the_encoder_is_whole_again(config, tmp_path: Path) -> None:
    net, start = model(), model()
    delta = tuned(net, tmp_path, config)
    assert [name for name, _ in net.encoder.named_parameters()] == [
        name for name, _ in start.encoder.named_parameters()
    ]
    assert torch.equal(delta.full["head.weight"], net.head.weight)
    fresh = model().encoder
    with deltas_applied(fresh, delta):
        pairs = zip(bits(fresh).values(), bits(net.encoder).values(), strict=True)
        assert all(torch.allclose(mine, theirs, atol=1e-7) for mine, theirs in pairs)
    assert same_bits(bits(fresh), bits(start.encoder))
    blocks = start.encoder.config.num_hidden_layers
    linears = [
        tensor for name, tensor in start.encoder.named_parameters() if ".layer." in name and tensor.ndim == 2
    ]
    if config is LORA:
        r = rank(start.encoder, LORA.density)
        assert delta.notes == {
            "method": "lora",
            "trainable": str(r * sum(sum(weight.shape) for weight in linears)),
        }
        assert len(delta.tensors) == len(linears)
        name = "encoder.layer.0.attention.self.query.weight"
        update = net.encoder.get_parameter(name) - start.encoder.get_parameter(name)
        assert int(torch.linalg.matrix_rank(update.double(), rtol=1e-3)) <= r
    else:
        hidden, inner = start.encoder.config.hidden_size, start.encoder.config.intermediate_size
        assert delta.notes["trainable"] == str(blocks * (2 * hidden + inner))
        ends = (
            "self.key.weight",
            "self.value.weight",
            "self.key.bias",
            "self.value.bias",
            "output.dense.weight",
        )
        assert all(name.endswith(ends) and ".attention.output." not in name for name in delta.tensors)


@pytest.mark.usefixtures("peft")
@pytest.mark.parametrize("config", [LORA, IA3], ids=["lora", "ia3"])
def test_a_stopped_run_ends_in_the_same_delta(config, tmp_path: Path) -> None:
    whole, stop = tuned(model(), tmp_path / "whole", config), threading.Event()

    def watch(event: Event) -> None:
        if event.step == 3:
            stop.set()

    with pytest.raises(Stopped):
        tuned(model(), tmp_path / "halves", config, progress=watch, stop=stop)
    assert tuned(model(), tmp_path / "halves", config) == whole


def test_the_rank_comes_nearest_to_the_density() -> None:
    encoder = model().encoder
    total = sum(tensor.numel() for tensor in encoder.parameters())
    step = sum(
        sum(tensor.shape)
        for name, tensor in encoder.named_parameters()
        if ".layer." in name and tensor.ndim == 2
    )
    for density in (0.05, 0.2, 0.5):
        assert abs(rank(encoder, density) * step - density * total) <= step / 2
    assert rank(encoder, 1e-9) == 1


@pytest.mark.usefixtures("peft")
def test_ia3_of_a_teacher_with_one_map_is_refused_before_any_work(experiment, data, tmp_path: Path) -> None:
    lines = data.text("qaa").read_text(encoding="utf-8").splitlines()
    teacher = write_teacher(tmp_path / "teacher", "modernbert", lines)
    small = experiment(teacher=str(teacher), systems=["teacher-ia3"], targets={"ner": ["qac"]})
    with pytest.raises(InputError, match="in a modernbert one map gives them"):
        Pipeline(small, data, Store(tmp_path / "store")).check()


def test_settings_and_a_missing_library_are_told(monkeypatch) -> None:
    assert LORA.density == CONFIG.density
    assert LORA.at_density(0.3).peft == PeftSft(density=0.3)
    assert LORA.by("ia3").peft == dataclasses.replace(LORA.peft, method="ia3")
    assert LORA.steps == CONFIG.sparse.steps
    for bad in ({"method": "adapter"}, {"density": 0.0}, {"alpha": float("nan")}, {"dropout": 1.0}):
        with pytest.raises(InputError, match=f"{next(iter(bad))} should be"):
            PeftSft(**{"density": 0.1, **bad})
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[peers\]'"):
        library()
