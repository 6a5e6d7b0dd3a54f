"""The teacher's wardrobe: however it changes, the base comes back bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import masked_lm

from bistil.distil.teachers import AdaptedTeacher
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied

ENCODER = masked_lm(60, layers=2).bert
BASE = base_hash(ENCODER)


def delta(seed: int) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randperm(1000, generator=generator)[:400].sort().values
    values = torch.randn(400, generator=generator) * 1e3
    return SparseDelta(tensors={"encoder.layer.0.intermediate.dense.weight": (positions, values)}, base=BASE)


DELTAS = {"a": delta(1), "b": delta(2)}


@settings(max_examples=30, deadline=None)
@given(changes=st.lists(st.sampled_from(["a", "b", "bare", None]), max_size=12))
def test_any_order_of_clothes_leaves_the_base(changes: list[str | None]) -> None:
    teacher = AdaptedTeacher(ENCODER, DELTAS, None)
    for language in changes:
        teacher.wear(language)
        worn = base_hash(ENCODER)
        teacher.wear(language)
        assert base_hash(ENCODER) == worn
        assert (worn == BASE) == (language not in DELTAS)
    teacher.wear(None)
    assert base_hash(ENCODER) == BASE


def test_what_is_worn_is_that_delta_alone() -> None:
    teacher = AdaptedTeacher(ENCODER, DELTAS, None)
    with deltas_applied(ENCODER, DELTAS["b"]):
        expected = base_hash(ENCODER)
    teacher.wear("a")
    teacher.wear("b")
    assert base_hash(ENCODER) == expected
    teacher.wear("bare")
    assert base_hash(ENCODER) == BASE


def test_a_known_language_is_put_on_without_reading_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = AdaptedTeacher(ENCODER, DELTAS, None)
    seen: list[str] = []
    for language in ("a", "b"):
        teacher.wear(language)
        seen.append(base_hash(ENCODER))
    monkeypatch.setattr(SparseDelta, "apply", lambda self, encoder: pytest.fail("a delta was applied anew"))
    for again, expected in zip(("a", "b", "a", None), (*seen, seen[0], BASE), strict=True):
        teacher.wear(again)
        assert base_hash(ENCODER) == expected


def test_a_teacher_is_frozen_and_maps_ids() -> None:
    kept = torch.tensor([0, 1, 2, 3, 4, 9, 30])
    teacher = AdaptedTeacher(ENCODER.train(), {}, kept)
    assert not teacher.encoder.training
    assert not any(parameter.requires_grad for parameter in teacher.encoder.parameters())
    assert teacher.ids(torch.tensor([[2, 5, 6, 3]])).tolist() == [[2, 9, 30, 3]]
    ids, mask = torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.long)
    plain = AdaptedTeacher(ENCODER, {}, None).states(kept[ids], mask)
    assert torch.equal(teacher.states(ids, mask).last, plain.last)
    assert not plain.last.requires_grad
