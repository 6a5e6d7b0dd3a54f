"""Language SFTs: the head of the masked LM is frozen and untied, layer norms stay, and the base is named."""

from pathlib import Path

import pytest
import torch
from sft_examples import bits, same_bits

from bistil.models.load import load_teacher
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.language import TextConfig, train_language_sft
from bistil.sft.lottery import LotteryConfig
from bistil.text.corpora import read_lines, to_blocks
from bistil.training.loop import Run, Schedule

PHASE = Schedule(steps=8, learning_rate=3e-3, evaluations=2)
CONFIG = SftConfig(
    lottery=LotteryConfig(density=0.1, l1=0.1, freeze_layer_norms=True), dense=PHASE, sparse=PHASE
)


@pytest.fixture(scope="module")
def adapted(teacher_folder: Path, world: Path, wordpiece, tmp_path_factory: pytest.TempPathFactory):
    teacher = load_teacher(teacher_folder)
    head = bits(teacher.mlm.cls)
    blocks = to_blocks(wordpiece, read_lines(world / "corpora" / "qac.txt"), 24)
    delta, history = train_language_sft(
        teacher.mlm, wordpiece, "qac", blocks, text=TextConfig(length=24, batch_size=4), sft=CONFIG,
        run=Run(tmp_path_factory.mktemp("language"), "language SFT"),
    )  # fmt: skip
    return teacher, head, delta, history


def test_the_delta_alone_carries_what_was_learnt(adapted, teacher_folder: Path) -> None:
    teacher, head, delta, _ = adapted
    fresh = load_teacher(teacher_folder)
    assert delta.base == base_hash(fresh.encoder)
    assert delta.full == {}
    assert same_bits(bits(teacher.mlm.cls), head)
    with deltas_applied(fresh.encoder, delta):
        assert same_bits(bits(fresh.encoder), bits(teacher.encoder))


def test_the_output_embedding_stays_where_the_input_embedding_moves(adapted) -> None:
    teacher, head, delta, _ = adapted
    assert "embeddings.word_embeddings.weight" in delta.tensors
    decoder = teacher.mlm.cls.predictions.decoder.weight
    assert decoder is not teacher.encoder.embeddings.word_embeddings.weight
    assert torch.equal(decoder, head["predictions.decoder.weight"])
    assert not any("LayerNorm" in name for name in delta.tensors)


def test_the_held_out_loss_falls(adapted) -> None:
    losses = [entry["eval_loss"] for entry in adapted[3] if "eval_loss" in entry]
    assert len(losses) == 4
    assert losses[1] < losses[0]
    assert losses[3] < losses[2]
    assert all("eval_loss_qac" in entry for entry in adapted[3] if "eval_loss" in entry)


def test_a_delta_for_another_base_is_refused(adapted, tmp_path: Path) -> None:
    adapted[2].save(tmp_path / "delta.safetensors")
    with pytest.raises(ValueError, match=f"{adapted[2].base}, expected {'0' * 64}"):
        SparseDelta.load(tmp_path / "delta.safetensors", base="0" * 64)
