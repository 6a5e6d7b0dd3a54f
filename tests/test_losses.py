"""Losses: parity with plain loops over real positions, closed forms, exact gradients, blindness to
padding.
"""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bistil.errors import InputError
from bistil.losses import (
    attention_loss,
    cosine_loss,
    hidden_loss,
    prediction_loss,
    relation_loss,
    sentence_loss,
    sentence_vectors,
    tempered_loss,
)
from bistil.models.attention import Attention

MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])  # whole, padded left, padded right


def draws(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def plain_attention(student: list[Tensor], teacher: list[Tensor], mask: Tensor) -> float:
    layers = []
    for s, t in zip(student, teacher, strict=True):
        values = [
            (s[b, h, q, k] - t[b, h, q, k]).item() ** 2
            for b in range(s.shape[0])
            for h in range(s.shape[1])
            for q in range(s.shape[2])
            for k in range(s.shape[3])
            if mask[b, q] and mask[b, k]
        ]
        layers.append(sum(values) / len(values))
    return sum(layers) / len(layers)


def plain_hidden(student: list[Tensor], teacher: list[Tensor], mask: Tensor) -> float:
    layers = []
    for s, t in zip(student, teacher, strict=True):
        values = [
            (x - y).item() ** 2
            for b, i in mask.nonzero().tolist()
            for x, y in zip(s[b, i], t[b, i], strict=True)
        ]
        layers.append(sum(values) / len(values))
    return sum(layers) / len(layers)


def plain_prediction(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    rows = []
    for b, i in mask.nonzero().tolist():
        z_t, z_s = ([math.exp(v) for v in logits[b, i].tolist()] for logits in (teacher, student))
        rows.append(-sum(t / sum(z_t) * math.log(s / sum(z_s)) for t, s in zip(z_t, z_s, strict=True)))
    return sum(rows) / len(rows)


@pytest.mark.parametrize("mask", [MASK, MASK.bool(), MASK.float()])
def test_losses_equal_plain_loops(mask: Tensor) -> None:
    s, t = draws(2, 3, 2, 4, 4), draws(2, 3, 2, 4, 4, seed=1)
    assert attention_loss(s, t, mask).item() == pytest.approx(plain_attention(s, t, MASK), rel=1e-12)
    s, t = draws(3, 3, 4, 5), draws(3, 3, 4, 5, seed=1)
    assert hidden_loss(s, t, mask).item() == pytest.approx(plain_hidden(s, t, MASK), rel=1e-12)
    assert prediction_loss(s[0], t[0], mask).item() == pytest.approx(
        plain_prediction(s[0], t[0], MASK), rel=1e-12
    )


def test_without_padding_they_are_torchs_own() -> None:
    s, t = draws(1, 3, 2, 4, 4)[0], draws(1, 3, 2, 4, 4, seed=1)[0]
    mse = torch.nn.functional.mse_loss(s, t)
    torch.testing.assert_close(attention_loss([s], [t], torch.ones(3, 4)), mse)
    torch.testing.assert_close(
        hidden_loss([s[:, 0]], [t[:, 0]], torch.ones(3, 4)), torch.nn.functional.mse_loss(s[:, 0], t[:, 0])
    )
    rows = torch.nn.functional.cross_entropy(s.flatten(0, 2), t.flatten(0, 2).softmax(-1))
    torch.testing.assert_close(prediction_loss(s, t, torch.ones(3, 2, 4)), rows)


def test_prediction_loss_at_equal_logits_is_the_entropy_and_the_minimum() -> None:
    z = draws(1, 3, 4, 6)[0]
    entropy = torch.distributions.Categorical(logits=z).entropy()
    expected = (entropy * MASK).sum() / MASK.sum()
    torch.testing.assert_close(prediction_loss(z, z, MASK), expected)
    moved = z.clone().requires_grad_()
    prediction_loss(moved, z, MASK).backward()
    torch.testing.assert_close(moved.grad, torch.zeros_like(z), atol=1e-12, rtol=0)
    assert prediction_loss(z + draws(1, 3, 4, 6, seed=2)[0], z, MASK) > expected


def test_classes_excluded_by_both_sides_count_as_nothing() -> None:
    s, t = draws(2, 3, 4, 6)
    holes = torch.zeros_like(s)
    holes[..., 4:] = -torch.inf
    open_s = s.clone().requires_grad_()
    loss = prediction_loss(open_s + holes, t + holes, MASK)
    torch.testing.assert_close(loss, prediction_loss(s[..., :4], t[..., :4], MASK))
    loss.backward()
    assert open_s.grad is not None
    assert torch.isfinite(open_s.grad).all()


def test_gradients_are_exact() -> None:
    s, t = draws(2, 3, 2, 4, 4), draws(2, 3, 2, 4, 4, seed=1)
    inputs = [x.requires_grad_() for x in s]
    assert torch.autograd.gradcheck(lambda *x: attention_loss(x, t, MASK), inputs)
    states, goal = [x.requires_grad_() for x in draws(2, 3, 4, 3)], draws(2, 3, 4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda *x: hidden_loss(x, goal, MASK), states)
    assert torch.autograd.gradcheck(lambda x: prediction_loss(x, goal[0], MASK), states[:1])


Losses = list[Callable[[Tensor, Tensor, Tensor], Tensor]]
LOSSES: Losses = [
    lambda s, t, m: attention_loss([s], [t], m),
    lambda s, t, m: hidden_loss([s[:, 0]], [t[:, 0]], m),
    lambda s, t, m: prediction_loss(s[:, 0], t[:, 0], m),
]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    noise=st.floats(-1e3, 1e3),
    rows=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3),
)
def test_padding_content_changes_neither_loss_nor_gradient(
    seed: int, noise: float, rows: list[list[bool]]
) -> None:
    mask = torch.tensor(rows)
    student, teacher = draws(2, len(rows), 2, 4, 4, seed=seed)
    hidden = ~(mask[:, None, :, None] & mask[:, None, None, :])
    for number, loss in enumerate(LOSSES):
        padded = hidden if number == 0 else ~mask[:, None, :, None].expand_as(student)
        results = []
        for amount in (0.0, noise):
            s = (student + amount * padded).requires_grad_()
            value = loss(s, teacher - amount * padded, mask)
            (gradient,) = torch.autograd.grad(value, s)
            results.append((value, gradient))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        assert (results[0][1] * padded).abs().max() == 0
        if not mask.any():
            assert results[0][0] == 0


def test_more_padding_changes_nothing() -> None:
    s, t = draws(2, 3, 2, 4, 4)
    wide_mask = torch.nn.functional.pad(MASK, (2, 1))
    for number, loss in enumerate(LOSSES):
        sides = (2, 1, 2, 1) if number == 0 else (0, 0, 2, 1)
        wide = [torch.nn.functional.pad(x, sides, value=7.0) for x in (s, t)]
        torch.testing.assert_close(loss(wide[0], wide[1], wide_mask), loss(s, t, MASK))


def test_autocast_does_not_reach_into_losses() -> None:
    """Inputs of half precision stay what they are; what is made of them is in float32 in training too."""
    mine, theirs = ([x.to(torch.bfloat16)] for x in draws(2, 3, 5, 8))
    query, key, other = (x.to(torch.bfloat16) for x in draws(3, 2, 4, 5, 8))
    mask = torch.ones(3, 5)

    def losses() -> list[Tensor]:
        own, beside = (Attention(one, key, 0.3) for one in (query, other))
        return [
            relation_loss(mine, theirs, mask, heads=2),
            attention_loss([own], [beside], torch.ones(2, 5)),
            attention_loss([own.maps()], [beside.maps()], torch.ones(2, 5)),
        ]

    plain = losses()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(losses(), plain, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(plain[1], plain[2])


def test_half_precision_is_accumulated_in_single() -> None:
    s, t = (x.to(torch.bfloat16) for x in draws(2, 3, 2, 4, 4))
    for loss in LOSSES:
        value = loss(s, t, MASK)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(s.float(), t.float(), MASK))


def test_mismatches_are_refused_in_words() -> None:
    a, h = draws(2, 3, 2, 4, 4), draws(2, 3, 4, 5)
    with pytest.raises(InputError, match="1 student and 2 teacher"):
        attention_loss(a[:1], a, MASK)
    with pytest.raises(InputError, match="at least one"):
        hidden_loss([], [], MASK)
    with pytest.raises(InputError, match="heads"):
        attention_loss(a, [x[:, :1] for x in a], MASK)
    with pytest.raises(InputError, match="hidden size"):
        hidden_loss(h, [x[..., :3] for x in h], MASK)
    with pytest.raises(InputError, match="mask"):
        hidden_loss(h, h, MASK[:, :3])
    with pytest.raises(InputError, match="same labels"):
        prediction_loss(h[0], h[1][..., :3], MASK)


def plain_divergence(teacher: list[float], student: list[float]) -> float:
    return sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))


def plain_softmax(scores: list[float]) -> list[float]:
    z = [math.exp(score) for score in scores]
    return [one / sum(z) for one in z]


def plain_relations(student: list[Tensor], teacher: list[Tensor], mask: Tensor, heads: int) -> float:
    """MiniLMv2 eqs. 6 to 8 with Q-Q, K-K and V-V, token by token."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        for a in range(heads):
            for b, i in mask.nonzero().tolist():
                relations = []
                for vectors in (t, s):
                    d = vectors.shape[-1] // heads
                    cut = vectors[b, :, a * d : (a + 1) * d].tolist()
                    real = [cut[j] for j in range(mask.shape[1]) if mask[b, j]]
                    products = [sum(x * y for x, y in zip(cut[i], other, strict=True)) for other in real]
                    relations.append(plain_softmax([product / math.sqrt(d) for product in products]))
                total += plain_divergence(*relations)
    return total / (heads * int(mask.sum()))


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_relation_loss_equals_a_plain_loop_also_between_hidden_sizes(heads: int) -> None:
    s, t = draws(3, 3, 4, 6), draws(3, 3, 4, 12, seed=1)
    assert relation_loss(s, t, MASK, heads=heads).item() == pytest.approx(
        plain_relations(s, t, MASK, heads), rel=1e-12
    )
    assert relation_loss(t, t, MASK, heads=heads).item() == pytest.approx(0.0, abs=1e-12)


def test_relations_by_sentence_are_the_mean_of_the_sentences_own_losses() -> None:
    s, t = draws(3, 3, 4, 6), draws(3, 3, 4, 6, seed=1)
    own = [
        plain_relations([one[b : b + 1] for one in s], [one[b : b + 1] for one in t], MASK[b : b + 1], 2)
        for b in range(3)
        if MASK[b].any()
    ]
    found = relation_loss(s, t, MASK, heads=2, per="sentence").item()
    assert found == pytest.approx(sum(own) / len(own), rel=1e-12)
    assert found != pytest.approx(relation_loss(s, t, MASK, heads=2).item(), rel=1e-3)


def test_the_relation_loss_ignores_padding_and_refuses_what_does_not_fit() -> None:
    s, t = draws(3, 3, 4, 6), draws(3, 3, 4, 6, seed=1)
    moved = [torch.where(MASK[..., None] == 1, vectors, 9.0) for vectors in s]
    assert torch.equal(relation_loss(moved, t, MASK, heads=2), relation_loss(s, t, MASK, heads=2))
    assert relation_loss(s, t, torch.zeros(3, 4), heads=2) == 0
    for bad in ((s[:2], t, 2), (s, t, 4), (s, t, 0), (draws(3, 3, 5, 6), t, 2)):
        with pytest.raises(InputError, match="relation heads"):
            relation_loss(bad[0], bad[1], MASK, heads=bad[2])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_the_tempered_and_the_cosine_loss_equal_plain_loops(temperature: float) -> None:
    s, t = draws(2, 3, 4, 5)
    rows = [
        temperature**2
        * plain_divergence(
            *(plain_softmax([z / temperature for z in logits[b, i].tolist()]) for logits in (t, s))
        )
        for b, i in MASK.nonzero().tolist()
    ]
    assert tempered_loss(s, t, MASK, temperature=temperature).item() == pytest.approx(
        sum(rows) / len(rows), rel=1e-12
    )
    far = []
    for b, i in MASK.nonzero().tolist():
        x, y = s[b, i].tolist(), t[b, i].tolist()
        far.append(1 - sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y))
    assert cosine_loss(s, t, MASK).item() == pytest.approx(sum(far) / len(far), rel=1e-12)


def test_the_sentence_loss_equals_plain_loops_and_leaves_sentences_without_tokens_out() -> None:
    s, t = draws(2, 3, 4, 5)
    far = []
    for b in range(3):
        real = [i for i in range(4) if MASK[b, i]]
        x, y = ([sum(side[b, i, k].item() for i in real) / len(real) for k in range(5)] for side in (s, t))
        torch.testing.assert_close(sentence_vectors(s, MASK)[b], torch.tensor(x, dtype=torch.float64))
        far.append(1 - sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y))
    assert sentence_loss(s, t, MASK).item() == pytest.approx(sum(far) / 3, rel=1e-12)
    assert sentence_loss(s, -2 * s, MASK).item() == pytest.approx(2, rel=1e-12)
    padded = MASK.clone()
    padded[2] = 0
    assert sentence_loss(s, t, padded).item() == pytest.approx(sum(far[:2]) / 2, rel=1e-12)
    assert sentence_loss(s, t, torch.zeros_like(MASK)).item() == 0


def test_the_tempered_loss_has_the_gradient_of_the_soft_cross_entropy_and_refuses_other_shapes() -> None:
    z, t = draws(2, 3, 4, 5)
    own, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    tempered_loss(own, t, MASK, temperature=1.0).backward()
    prediction_loss(other, t, MASK).backward()
    torch.testing.assert_close(own.grad, other.grad)
    with pytest.raises(InputError, match="tempered loss"):
        tempered_loss(z, t[..., :4], MASK, temperature=2.0)
    with pytest.raises(InputError, match="tempered loss"):
        tempered_loss(z, t, MASK, temperature=0.0)
