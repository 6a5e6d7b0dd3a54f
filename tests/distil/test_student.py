"""The student's layers are bit-equal copies of the teacher's, in the right places, and its own."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from bistil.distil.start import initialise, prune
from bistil.errors import InputError
from bistil.models.load import encode
from bistil.sft.spiel.support import choose_tensors
from bistil.systems.layers import start_layers


def teacher(layers: int = 6) -> BertModel:
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=48
    )
    return BertModel(config, add_pooling_layer=False).eval()


def test_layer_map_is_the_papers() -> None:
    assert start_layers("uniform", 12, 2) == (2, 4, 6, 8, 10, 12)
    assert start_layers("uniform", 12, 3) == (3, 6, 9, 12)
    assert start_layers("uniform", 6, 1) == (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("factor", [0, -1, 5, 13])
def test_a_factor_that_does_not_divide_is_refused(factor: int) -> None:
    told = r"Choose one of \[1, 2, 3, 4, 6, 12\]" if 1 <= factor <= 12 else "from 1 to 12 was expected"
    with pytest.raises(InputError, match=told):
        start_layers("uniform", 12, factor)


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_layers_and_embeddings_are_bit_equal_and_owned(factor: int) -> None:
    mmt = teacher()
    before = torch.random.get_rng_state()
    student = initialise(mmt, factor)
    assert torch.equal(before, torch.random.get_rng_state())
    assert student.config.num_hidden_layers == len(student.encoder.layer) == 6 // factor
    assert mmt.config.num_hidden_layers == 6
    pairs: list[tuple[Any, Any]] = [(student.embeddings, mmt.embeddings)]
    pairs += [
        (student.encoder.layer[i], mmt.encoder.layer[j - 1])
        for i, j in enumerate(start_layers("uniform", 6, factor))
    ]
    for mine, theirs in pairs:
        for (name, own), (other, source) in zip(
            mine.named_parameters(), theirs.named_parameters(), strict=True
        ):
            assert name == other
            assert torch.equal(own, source)
            assert own.data_ptr() != source.data_ptr()
            assert own.requires_grad
    assert [layer.attention.self.layer_idx for layer in student.encoder.layer] in (
        [None] * (6 // factor),
        list(range(6 // factor)),
    )


def test_states_after_a_teacher_that_has_already_given_states() -> None:
    mmt = teacher()
    ids = torch.tensor([[1, 5, 9, 2]])
    full = encode(mmt, ids, torch.ones_like(ids), states=True)
    student = initialise(mmt, 2)
    out = encode(student, ids, torch.ones_like(ids), states=True)
    assert (len(out.hidden), len(out.attention)) == (4, 3)
    assert torch.equal(out.hidden[0], full.hidden[0])
    same = encode(initialise(mmt, 1), ids, torch.ones_like(ids), states=True)
    assert all(torch.equal(a, b) for a, b in zip(same.hidden, full.hidden, strict=True))


def test_training_the_student_leaves_the_teacher_alone() -> None:
    mmt = teacher(2)
    student = initialise(mmt.requires_grad_(False), 2)
    kept = mmt.encoder.layer[1].output.dense.weight.clone()
    with torch.no_grad():
        student.encoder.layer[0].output.dense.weight.add_(1)
    assert torch.equal(kept, mmt.encoder.layer[1].output.dense.weight)
    assert not student.training


def test_dtype_and_dropped_pooler() -> None:
    config = BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    student = initialise(BertModel(config).to(torch.bfloat16), 2)
    assert student.pooler is None
    assert student.dtype == torch.bfloat16


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_the_smallest_weights_of_each_linear_layer_are_pruned(share: float) -> None:
    encoder = teacher()
    before = {name: one.detach().clone() for name, one in encoder.named_parameters()}
    prune(encoder, share)
    pruned = set(choose_tensors(encoder))
    assert pruned
    for name, weight in encoder.named_parameters():
        if name not in pruned:
            assert torch.equal(weight, before[name])
            continue
        gone = weight == 0
        assert int(gone.sum()) == round(share * weight.numel())
        assert torch.equal(weight[~gone], before[name][~gone])
        if gone.any():
            assert before[name][gone].abs().max() <= before[name][~gone].abs().min()
