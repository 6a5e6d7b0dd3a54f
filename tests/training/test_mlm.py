"""The masked-LM loss: parity with transformers, and its edges."""

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from bistil.text.corpora import IGNORED, mask_tokens
from bistil.training.mlm import evaluate_mlm, masked_lm_loss


@pytest.fixture(scope="module")
def mlm(teacher_folder) -> BertForMaskedLM:
    return BertForMaskedLM.from_pretrained(teacher_folder).eval()


def batch_of(wordpiece, rows: int = 4, share: float = 0.3, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(5, len(wordpiece), (rows, 20)))
    mask = (torch.arange(20)[None, :] < torch.from_numpy(rng.integers(8, 21, rows))[:, None]).long()
    inputs, labels = mask_tokens(ids, mask, wordpiece, share, rng)
    return {"input_ids": inputs, "attention_mask": mask, "labels": labels}


def test_the_loss_is_that_of_transformers(mlm, wordpiece) -> None:
    batch = batch_of(wordpiece)
    assert float(masked_lm_loss(mlm, batch)) == pytest.approx(float(mlm(**batch).loss), rel=1e-5)


def test_a_batch_without_predictions_costs_nothing(mlm, wordpiece) -> None:
    batch = batch_of(wordpiece)
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    loss = masked_lm_loss(mlm, batch)
    loss.backward()
    assert float(loss) == 0.0
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in mlm.parameters())
    mlm.zero_grad()


def test_the_head_sees_masked_positions_only(mlm, wordpiece) -> None:
    batch = batch_of(wordpiece)
    seen = []
    handle = mlm.cls.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    masked_lm_loss(mlm, batch)
    handle.remove()
    assert seen == [(int((batch["labels"] != IGNORED).sum()), 32)]


def test_the_held_out_loss_is_a_mean_over_languages(mlm, wordpiece) -> None:
    batches = [
        {"language": code, **batch_of(wordpiece, seed=i)} for i, code in enumerate(["qaa", "qaa", "qab"])
    ]
    single = [float(masked_lm_loss(mlm, batch)) for batch in batches]
    found = evaluate_mlm(mlm, batches)
    assert found["loss_qaa"] == pytest.approx((single[0] + single[1]) / 2)
    assert found["loss"] == pytest.approx((found["loss_qaa"] + found["loss_qab"]) / 2)


def test_a_held_out_batch_without_predictions_says_nothing(mlm, wordpiece) -> None:
    batch = {"language": "qaa", **batch_of(wordpiece)}
    empty = {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}
    assert evaluate_mlm(mlm, [batch, empty]) == evaluate_mlm(mlm, [batch])
