"""Attention compared without maps: exact gradients, parity with maps, blocks, and that nothing of the size of
a map is kept.
"""

from dataclasses import replace

import pytest
import torch
from tiny import masked_lm, objective_of
from torch import Tensor

from bistil.distil.start import initialise
from bistil.distil.teachers import AdaptedTeacher
from bistil.errors import InputError
from bistil.losses import attention_loss, scores_loss
from bistil.models import attention
from bistil.models.attention import Attention, scores_distance, squared_distance

MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])  # whole, padded left, padded right


def drawn(seed: int, *, width: int = 3, dtype: torch.dtype = torch.float64) -> Attention:
    """Three examples, two heads, five tokens; padding is not seen, and token 4 does not see token 0."""
    generator = torch.Generator().manual_seed(seed)
    query, key = (
        torch.randn(3, 2, 5, width, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    allowed = MASK.bool()[:, None, None, :].expand(3, 1, 5, 5).clone()
    allowed[0, 0, 4, 0] = False
    return Attention(query, key, 0.7, allowed)


def tracked(one: Attention) -> Attention:
    return replace(one, query=one.query.clone().requires_grad_(), key=one.key.clone().requires_grad_())


def test_the_gradient_is_exact_and_the_students_alone() -> None:
    student, teacher = tracked(drawn(0)), drawn(1, width=4)

    def distance(query: Tensor, key: Tensor) -> Tensor:
        return squared_distance(replace(student, query=query, key=key), teacher, MASK.double())

    assert torch.autograd.gradcheck(distance, (student.query, student.key))
    followed = tracked(teacher)
    squared_distance(student, followed, MASK.double()).backward()
    assert followed.query.grad is None


@pytest.mark.parametrize("most", [1, 25, 50, 100, 10**6])
@pytest.mark.parametrize("free", [False, True])
def test_it_is_the_loss_of_the_maps_in_blocks_of_any_size(
    most: int, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attention.BLOCK, "cpu", most)
    mask = torch.ones_like(MASK) if free else MASK
    student, teacher = (replace(one, allowed=None) if free else one for one in (tracked(drawn(0)), drawn(1)))
    loss = attention_loss([student], [teacher], mask)
    expected = attention_loss([student.maps()], [teacher.maps()], mask)
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(one, (student.query, student.key)) for one in (loss, expected))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(
        attention_loss([student.maps()], [teacher], mask), expected
    )  # one side with maps


@pytest.mark.parametrize("most", [1, 25, 49, 50, 99, 100, 10**6])
def test_blocks_cover_everything_once(most: int) -> None:
    seen = torch.zeros(3, 4)
    for part in attention._blocks(3, 4, 5, most):
        seen[part] += 1
        assert seen[part].numel() * 25 <= max(most, 25)
    assert torch.equal(seen, torch.ones(3, 4))


def test_half_precision_is_compared_in_single() -> None:
    halves = tracked(drawn(0, dtype=torch.bfloat16)), drawn(1, dtype=torch.bfloat16)
    loss = attention_loss([halves[0]], [halves[1]], MASK)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), attention_loss([drawn(0)], [drawn(1)], MASK), rtol=0.02, atol=0)
    loss.backward()
    assert halves[0].query.grad.dtype == torch.bfloat16


def test_nothing_of_the_size_of_a_map_is_kept_for_the_backward_pass() -> None:
    encoder, length = masked_lm(60).bert, 40  # 40 tokens, and 2 heads of 16 units
    student = initialise(encoder, 2)
    objective = objective_of(student, AdaptedTeacher(encoder, {}, None))
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() if tensor.shape[-2:] == (length, length) else 0)
        return tensor

    mask = torch.ones(3, length, dtype=torch.long)
    mask[1, 30:] = 0
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        objective({"language": "qaa", "input_ids": torch.randint(5, 60, (3, length)), "attention_mask": mask})
    assert kept
    assert max(kept) <= 3 * length * length  # the mask, which all heads share


def plain_scores(student: Attention, teacher: Attention, mask: Tensor) -> Tensor:
    real = mask[:, None, :, None].bool() & mask[:, None, None, :].bool()
    mine, goal = (one.scaling * one.query.double() @ one.key.double().mT for one in (student, teacher))
    squares = (mine - goal).square()[real.expand_as(mine)]
    return squares.sum() / (mine.shape[1] * mask.sum(dim=1).square().sum())


@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK), MASK.bool()])
@pytest.mark.parametrize("width", [3, 4])
def test_scores_are_compared_as_if_they_had_been_evaluated(mask: Tensor, width: int) -> None:
    student, teacher = tracked(drawn(0)), replace(drawn(1, width=width), scaling=0.4)
    loss, expected = scores_loss([student], [teacher], mask), plain_scores(student, teacher, mask.long())
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    found, wanted = (torch.autograd.grad(one, (student.query, student.key)) for one in (loss, expected))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    both = scores_loss([student, student], [teacher, drawn(2)], mask)
    torch.testing.assert_close(both, (loss + scores_loss([student], [drawn(2)], mask)) / 2)


@pytest.mark.parametrize("most", [1, 10**6])
@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-7, 1e-5, 1e-3])
def test_nothing_cancels_between_scores_that_are_nearly_equal(
    most: int, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attention.BLOCK, "cpu", most)
    student = tracked(drawn(0))
    teacher = replace(
        student, query=student.query.detach() + apart * drawn(3).query, key=student.key.detach()
    )
    expected = scores_loss([replace(student, query=-apart * drawn(3).query)], [empty(student)], MASK)
    loss = scores_loss([student], [teacher], MASK)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-30)
    loss.backward()
    assert student.key.grad is not None
    assert student.key.grad.abs().max() < 20 * apart + 1e-12


def empty(one: Attention) -> Attention:
    return replace(one, query=torch.zeros_like(one.query))


def test_padding_and_the_teacher_have_no_part_in_scores() -> None:
    student, teacher = tracked(drawn(0)), tracked(drawn(1))
    loss = scores_loss([student], [teacher], MASK)
    loss.backward()
    assert teacher.query.grad is None
    hidden = MASK[:, None, :, None] == 0
    other = replace(student, query=student.query.detach().masked_fill(hidden, 50.0))
    torch.testing.assert_close(scores_loss([other], [teacher], MASK), loss)
    assert student.query.grad is not None
    assert not student.query.grad.masked_select(hidden).any()
    assert scores_distance(student, teacher, torch.zeros(3, 5)) == 0


def test_scores_of_half_precision_are_summed_in_double() -> None:
    student, teacher = (drawn(seed, dtype=torch.bfloat16) for seed in (0, 1))
    loss = scores_loss([student], [teacher], MASK)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), plain_scores(student, teacher, MASK), rtol=1e-6, atol=0)


def test_evaluated_maps_have_no_scores_left() -> None:
    with pytest.raises(InputError, match="a term of `attention`"):
        scores_loss([drawn(0)], [drawn(1).maps()], MASK)
