"""Translations as targets: links between pieces, batches, and the loss against the start encoder."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from bistil.errors import InputError
from bistil.pretrain import (
    MaskedLMAndTranslation,
    PretrainConfig,
    Steps,
    Text,
    initial_model,
    pretrain,
    read_text,
)
from bistil.pretrain.translation import links, translation_loss
from bistil.training.loop import Schedule

CONFIG = PretrainConfig(
    languages=("qaa", "qab"),
    schedule=Schedule(steps=30, learning_rate=3e-3, warmup_share=0.1, evaluations=2),
    start="named by the fixture",
    vocabulary=350,
    length=24,
    batch_size=8,
    parallel_share=0.2,
    translation_share=0.5,
    start_rate=0.5,
)


@pytest.fixture(scope="module")
def config(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """With a start that has no dropout, whose noise would drown what so small a model learns."""
    start = shutil.copytree(teacher_folder, tmp_path_factory.mktemp("start") / "teacher")
    settings = json.loads((start / "config.json").read_text(encoding="utf-8"))
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (start / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return dataclasses.replace(CONFIG, start=str(start))


@pytest.fixture(scope="module")
def text(world: Path) -> Text:
    return read_text(
        CONFIG, {code: world / "corpora" / f"{code}.txt" for code in CONFIG.languages}, world / "parallel"
    )


def test_a_piece_is_linked_to_what_it_translates_to() -> None:
    table = csr_matrix(np.array([[0.9, 0.1, 0.0], [0.0, 0.05, 0.95], [0.0, 0.0, 0.0]]))
    found = links(table, [0, 1, 2], [0, 1, 2], diagonal=0.0)
    assert found[0] == pytest.approx([0.9, 0.1, 0.0])
    assert found[1] == pytest.approx([0.0, 0.05, 0.95])
    assert found[2] == pytest.approx(
        [0.0, 0.0, 1.0]
    )  # no entry in the table: the same piece on the other side
    assert links(table, [2], [0, 1]).tolist() == [[0.0, 0.0]]  # neither
    assert links(table, [1], [1], diagonal=0.0, least=0.1).tolist() == [
        [1.0]
    ]  # too little of its mass is here, but the piece itself is
    first, second = links(table, [0, 1, 0], [0, 2, 0])[0, [0, 2]]
    assert first > 4 * second  # of two equal pieces, the one at the like place


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.integers(0, 2**16),
)
def test_rows_of_links_sum_to_one_or_nothing(foreign: list[int], known: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.random((6, 6)) * (rng.random((6, 6)) < 0.4)
    total = dense.sum(axis=1, keepdims=True)
    found = links(csr_matrix(dense / np.where(total > 0, total, 1.0)), foreign, known)
    assert found.shape == (len(foreign), len(known))
    assert np.all((np.abs(found.sum(axis=1) - 1) < 1e-5) | (found.sum(axis=1) == 0))


def test_batches_are_the_same_whenever_asked_for(config: PretrainConfig, text: Text) -> None:
    translations = initial_model(config, text).translations
    assert translations is not None
    one, again, other = translations.batch(3), translations.batch(3), translations.batch(4)
    assert torch.equal(one["input_ids"], again["input_ids"])
    assert not torch.equal(one["input_ids"][:, :8], other["input_ids"][:, :8])
    size, longest = config.batch_size // 2, one["input_ids"].shape[1]
    assert one["input_ids"].shape == (2 * size, longest)
    assert longest <= config.length
    assert one["links"].shape == (size, longest, longest)
    assert bool((one["links"][:, 0, 0] == 1).all())
    linked = one["links"].sum(-1) > 0
    assert not bool((linked & (one["attention_mask"][size:] == 0)).any())  # padding is linked to nothing
    assert not bool(((one["links"].sum(1) > 0) & (one["attention_mask"][:size] == 0)).any())


def test_the_loss_equals_a_plain_loop(config: PretrainConfig, text: Text) -> None:
    mlm, _, translations, reference, _ = initial_model(config, text)
    assert translations is not None
    assert reference is not None
    batch, size = translations.batch(0), config.batch_size // 2
    mlm.eval()
    with torch.no_grad():
        found = translation_loss(mlm.bert, reference, batch)
        total, layers = 0.0, mlm.config.num_hidden_layers
        for layer in range(layers // 2, layers + 1):
            target = reference(
                batch["input_ids"][:size], batch["attention_mask"][:size], output_hidden_states=True
            ).hidden_states[layer]
            state = mlm.bert(
                batch["input_ids"], batch["attention_mask"], output_hidden_states=True
            ).hidden_states[layer]
            real = [
                (b, i) for b in range(size) for i in range(target.shape[1]) if batch["attention_mask"][b, i]
            ]
            variance = torch.stack([target[b, i] for b, i in real]).var(dim=0).mean()
            kept = [((state[b, i] - target[b, i]) ** 2).mean() for b, i in real]
            drawn = [
                ((state[size + b, i] - sum(w * target[b, j] for j, w in enumerate(row))) ** 2).mean()
                for b in range(size)
                for i, row in enumerate(batch["links"][b])
                if row.sum() > 0
            ]
            total += (sum(kept) / len(kept) + sum(drawn) / len(drawn)) / variance / 2
    assert float(found) == pytest.approx(float(total / (layers - layers // 2 + 1)), rel=1e-4)


def test_the_reference_is_the_start_encoder(config: PretrainConfig, text: Text) -> None:
    mlm, tokenizer, _, reference, _ = initial_model(config, text)
    assert reference is not None
    assert not any(parameter.requires_grad for parameter in reference.parameters())
    assert len(reference.embeddings.word_embeddings.weight) == len(tokenizer)
    start = torch.equal(
        reference.encoder.layer[0].output.dense.weight, mlm.bert.encoder.layer[0].output.dense.weight
    )
    assert start


def test_steps_on_translations_draw_them_together(config: PretrainConfig, text: Text) -> None:
    mlm, _, translations, reference, _ = initial_model(config, text)
    assert translations is not None
    objective = MaskedLMAndTranslation(mlm, reference, weight=1.0)
    optimizer = torch.optim.AdamW(mlm.parameters(), lr=3e-4)
    losses = []
    for step in range(40):
        loss, _ = objective(translations.batch(step))
        loss.backward()
        assert all(parameter.grad is not None for parameter in mlm.bert.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_a_whole_run_trains_on_both(config: PretrainConfig, text: Text, tmp_path: Path) -> None:
    mlm, tokenizer, history = pretrain(
        dataclasses.replace(config, schedule=Schedule(steps=4, learning_rate=1e-3)), text, tmp_path
    )
    assert mlm.config.vocab_size == len(tokenizer)
    assert all(np.isfinite(entry["eval_loss"]) for entry in history if "eval_loss" in entry)


def test_a_share_of_the_steps_holds_translations(config: PretrainConfig, text: Text) -> None:
    class Masked:
        def __len__(self) -> int:
            return 200

        def __getitem__(self, step: int) -> dict[str, int]:
            return {"step": step}

    steps = Steps(Masked(), initial_model(config, text).translations, 0.5, seed=1)  # type: ignore[arg-type]
    translated = sum("links" in steps[k] for k in range(len(steps)))
    assert 80 < translated < 120
    assert all(steps[k] == {"step": k} for k in range(len(steps)) if "links" not in steps[k])


def test_translations_need_a_start() -> None:
    with pytest.raises(InputError, match="needs the states of a `start` encoder"):
        dataclasses.replace(CONFIG, start=None)
