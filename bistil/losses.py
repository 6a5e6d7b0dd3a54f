"""Distillation losses as pure functions: the three of BiStil (eqs. 5.1-5.3), DistilBERT's, MiniLMv2's and
attention scores.

Notable: every mean is over real tokens of the whole batch, so neither the amount nor the content of padding
changes a loss or its gradient (padded entries must be finite: they are multiplied by 0); the thesis leaves
head dimension and padding open, and we read its MSE as the mean over heads and real positions. Nothing is
selected by boolean masks: that would copy. An empty mask gives 0, not NaN. Half-precision inputs are
accumulated in float32. Attention may come as maps or, cheaper, unevaluated (see `attention`)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from bistil.errors import InputError
from bistil.models.attention import Attention, scores_distance, squared_distance
from bistil.training.parallel import counted

Maps = Tensor | Attention
"""A layer's attention distributions, evaluated or not."""


def attention_loss(student: Sequence[Maps], teacher: Sequence[Maps], mask: Tensor) -> Tensor:
    """Mean squared difference of attention distributions (BiStil eq. 5.1).

    For each layer the squares are summed over the real (query, key) pairs of every example and head, and
    divided by heads * sum over examples of (real tokens)^2; then the mean over layers is taken. The caller
    pairs the layers. Shape: student and teacher hold L_S tensors [B, heads, L, L]; mask is [B, L], 1 = real
    token; the result is a scalar."""
    _check_layers(student, teacher, mask, "[B, heads, L, L]", dimensions=4)
    real = _weights(mask, student[0])
    scale = student[0].shape[1] * counted(real.sum(dim=1).square().sum())
    total = sum(_attention_squares(s, t, real) for s, t in zip(student, teacher, strict=True))
    return torch.as_tensor(total / (scale * len(student)))


def scores_loss(student: Sequence[Maps], teacher: Sequence[Maps], mask: Tensor) -> Tensor:
    """Mean squared difference of attention scores Q K^T / sqrt(d), before the softmax (Bui eqs. 2.14, 2.15;
    TinyBERT).

    Sums and means are those of `attention_loss`, in time and memory linear in L. Sides may differ in head
    size, not in the number of heads. Shape: student and teacher hold L_S unevaluated attentions of queries
    and keys [B, heads, L, d]; mask is [B, L], 1 = real token; the result is a scalar.
    """
    _check_layers(student, teacher, mask, "[B, heads, L, L]", dimensions=4)
    real = _weights(mask, student[0])
    scale = student[0].shape[1] * counted(real.sum(dim=1).square().sum())
    total = sum(scores_distance(_scored(s), _scored(t), real) for s, t in zip(student, teacher, strict=True))
    return torch.as_tensor(total / (scale * len(student)))


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean squared difference of hidden states, embedding layer included (BiStil eq. 5.2).

    For each layer the squares are summed over real tokens and hidden units and divided by H * (real tokens in
    the batch); then the mean over the L_S + 1 layers is taken. The caller pairs the layers. Shape: student
    and teacher hold L_S + 1 tensors [B, L, H]; mask is [B, L], 1 = real token; the result is a scalar."""
    _check_layers(student, teacher, mask, "[B, L, H]", dimensions=3)
    real = _weights(mask, student[0])
    scale = student[0].shape[2] * counted(real.sum())
    total = sum((_squares(s, t).sum(dim=2) * real).sum() for s, t in zip(student, teacher, strict=True))
    return torch.as_tensor(total / (scale * len(student)))


def prediction_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
    """Soft cross-entropy -sum z^T log z^S, mean over the rows where `mask` is 1 (BiStil eq. 5.3).

    z^S and z^T are the softmax over the last dimension, without temperature. At equal logits the loss is the
    entropy of z^T, its minimum. Classes that both sides exclude with a logit of -inf count as 0, as long as
    each row keeps one finite logit. Shape: the logits are [..., C], mask is [...]; the result is a scalar.
    """
    if (
        student_logits.shape != teacher_logits.shape
        or student_logits.ndim < 2
        or mask.shape != student_logits.shape[:-1]
    ):
        raise InputError(
            "The prediction loss needs logits [..., C] of one shape and a mask [...]; student"
            f" {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)}, mask {tuple(mask.shape)}"
            " came. Check that both models have the same labels."
        )
    rows = _weights(mask, student_logits)
    probabilities = teacher_logits.to(rows.dtype).softmax(dim=-1)
    log_probabilities = student_logits.to(rows.dtype).log_softmax(dim=-1).masked_fill(probabilities == 0, 0.0)
    return -((probabilities * log_probabilities).sum(dim=-1) * rows).sum() / counted(rows.sum())


def tempered_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, temperature: float
) -> Tensor:
    """tau^2 * KL(softmax(z^T / tau) || softmax(z^S / tau)), mean over the rows where `mask` is 1 (DistilBERT
    section 3, Hinton et al.).

    The factor keeps the size of the gradient as tau grows. Unlike `prediction_loss` it is 0 at equal logits:
    the teacher's entropy is left out, which has no gradient. Shape: the logits are [..., C], mask is [...];
    the result is a scalar.
    """
    if (
        student_logits.shape != teacher_logits.shape
        or mask.shape != student_logits.shape[:-1]
        or temperature <= 0
    ):
        raise InputError(
            "The tempered loss needs logits [..., C] of one shape, a mask [...] and a temperature above 0;"
            f" student {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)}, mask"
            f" {tuple(mask.shape)}, {temperature} came."
        )
    rows = _weights(mask, student_logits)
    logs = [
        (logits.to(rows.dtype) / temperature).log_softmax(dim=-1)
        for logits in (student_logits, teacher_logits)
    ]
    return temperature**2 * (_divergence(*logs) * rows).sum() / counted(rows.sum())


def logits_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
    """The squared distance of logits, a sum over C and a mean over the rows where `mask` is 1 (Bui section
    3.3.6).

    Shape: the logits are [..., C], mask is [...]; the result is a scalar.
    """
    if student_logits.shape != teacher_logits.shape or mask.shape != student_logits.shape[:-1]:
        raise InputError(
            "The distance of logits needs logits [..., C] of one shape and a mask [...]; student"
            f" {tuple(student_logits.shape)}, teacher {tuple(teacher_logits.shape)}, mask {tuple(mask.shape)}"
            " came."
        )
    rows = _weights(mask, student_logits)
    apart = (student_logits.to(rows.dtype) - teacher_logits.to(rows.dtype)).square().sum(dim=-1)
    return (apart * rows).sum() / counted(rows.sum())


def stored_loss(student_logits: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """Soft cross-entropy -sum q log p^S against the teacher's k largest logits, which were stored: q is their
    softmax alone (MergeDistill section 3).

    Shape: student_logits [P, V]; ids (of V) and values are [P, k]; the result is the mean over P, a scalar.
    """
    if ids.shape != values.shape or ids.shape[:1] != student_logits.shape[:1] or student_logits.ndim != 2:
        raise InputError(
            "The loss on stored labels needs logits [P, V] and as many rows of ids and values [P, k]; logits"
            f" {tuple(student_logits.shape)}, ids {tuple(ids.shape)}, values {tuple(values.shape)} came."
        )
    kind = torch.promote_types(student_logits.dtype, torch.float32)
    logs = student_logits.to(kind).log_softmax(dim=-1).gather(1, ids)
    total = -(values.to(kind).softmax(dim=-1) * logs).sum()
    return total / counted(torch.tensor(len(ids), device=ids.device))


def cosine_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cos(h^S, h^T), mean over real tokens (DistilBERT section 3).

    Shape: student and teacher are [B, L, H]; mask is [B, L], 1 = real token; the result is a scalar.
    """
    _check_layers([student], [teacher], mask, "[B, L, H]", dimensions=3)
    real = _weights(mask, student)
    cosine = torch.nn.functional.cosine_similarity(student.to(real.dtype), teacher.to(real.dtype), dim=-1)
    return ((1 - cosine) * real).sum() / counted(real.sum())


def sentence_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cos of the sentence vectors (`sentence_vectors`), mean over sentences that have a real token.

    Shape: student and teacher are [B, L, H]; mask is [B, L], 1 = real token; the result is a scalar.
    """
    _check_layers([student], [teacher], mask, "[B, L, H]", dimensions=3)
    own, theirs = (sentence_vectors(states, mask) for states in (student, teacher))
    there = _weights(mask.any(dim=1), student)
    apart = 1 - torch.nn.functional.cosine_similarity(own, theirs, dim=-1)
    return (apart * there).sum() / counted(there.sum())


def sentence_vectors(states: Tensor, mask: Tensor) -> Tensor:
    """The mean state of each sentence's real tokens, special ones among them, as sentence encoders pool (Wang
    et al. 2024, section 2). Shape: states [B, L, H], mask [B, L], 1 = real token -> [B, H].
    """
    real = _weights(mask, states)[:, :, None]
    return (states.to(real.dtype) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def relation_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mask: Tensor,
    *,
    heads: int,
    per: Literal["token", "sentence"] = "token",
) -> Tensor:
    """Sum over kinds of vectors (queries, keys, values) of the KL divergence of their self-attention
    relations (MiniLMv2 section 3.1).

    A kind's vectors A [B, L, H], all attention heads side by side, are cut into `heads` relation heads of d =
    H / heads. Relations are R = softmax(A_a A_a^T / sqrt(d)) over real tokens, and the kind's loss is sum
    KL(R^T_{a,t} || R^S_{a,t}) over examples, relation heads a and real tokens t, divided by heads * (real
    tokens in the batch). With `per="sentence"`, as the published code has it, each example's sum is divided
    by its own real tokens and the mean over examples is taken, so that a short sentence counts as much as a
    long one. Hidden sizes may differ: only the number of relation heads is shared. Shape: student holds
    tensors [B, L, H_S], teacher as many [B, L, H_T]; mask is [B, L], 1 = real token; the result is a scalar.
    """
    widths = {layer.shape[-1] for layer in (*student, *teacher)}
    shapes = {tuple(layer.shape[:-1]) for layer in (*student, *teacher)}
    if (
        len(student) != len(teacher)
        or shapes != {tuple(mask.shape)}
        or heads < 1
        or any(width % heads for width in widths)
    ):
        raise InputError(
            "The relation loss needs as many student as teacher vectors [B, L, H], a mask [B, L] and a"
            f" number of relation heads that divides each H; {len(student)} and {len(teacher)} of shapes"
            f" {sorted(shapes)} and widths {sorted(widths)}, mask {tuple(mask.shape)} and {heads} heads came."
        )
    real = _weights(mask, student[0])
    pairs = [
        (_relations(s, real, heads), _relations(t, real, heads))
        for s, t in zip(student, teacher, strict=True)
    ]
    if per == "sentence":
        each, tokens = (
            sum((_divergence(s, t).sum(dim=1) * real).sum(dim=1) for s, t in pairs),
            real.sum(dim=1),
        )
        return torch.as_tensor((each / (heads * tokens.clamp(min=1))).sum() / counted((tokens > 0).sum()))
    total = sum((_divergence(s, t).sum(dim=1) * real).sum() for s, t in pairs)
    return torch.as_tensor(total / (heads * counted(real.sum())))


def _relations(vectors: Tensor, real: Tensor, heads: int) -> Tensor:
    """Log-probabilities of each token's relations to the real tokens. Shape: [B, L, H], [B, L] -> [B, heads,
    L, L].
    """
    split = vectors.to(real.dtype).unflatten(-1, (heads, -1)).transpose(1, 2)
    with torch.autocast(vectors.device.type, enabled=False):
        scores = split @ split.transpose(2, 3) / split.shape[-1] ** 0.5
        least = torch.finfo(scores.dtype).min
        return scores.masked_fill(real[:, None, None, :] == 0, least).log_softmax(dim=-1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities. Shape: [..., C] -> [...]."""
    return torch.nn.functional.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=-1)


def _weights(mask: Tensor, like: Maps) -> Tensor:
    """The mask as numbers, in float32 or better."""
    return mask.to(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


def _attention_squares(student: Maps, teacher: Maps, real: Tensor) -> Tensor:
    """Sum of the squared differences over heads and real (query, key) pairs."""
    if isinstance(student, Attention) and isinstance(teacher, Attention):
        return squared_distance(student, teacher, real)
    maps = (one.maps() if isinstance(one, Attention) else one for one in (student, teacher))
    return (_squares(*maps).sum(dim=1) * real[:, :, None] * real[:, None, :]).sum()


def _scored(one: Maps) -> Attention:
    if isinstance(one, Attention):
        return one
    raise InputError(
        "Scores before the softmax were to be compared, but the architecture gives attention distributions"
        " alone. Take a term of `attention`, or a teacher like BERT, RoBERTa, XLM-R or ModernBERT."
    )


def _squares(student: Tensor, teacher: Tensor) -> Tensor:
    accumulate = torch.promote_types(student.dtype, torch.float32)
    return (student.to(accumulate) - teacher.to(accumulate)).square()


def _check_layers(
    student: Sequence[Maps], teacher: Sequence[Maps], mask: Tensor, form: str, *, dimensions: int
) -> None:
    """Raise unless both sides have the same number of layers, and all layers one shape that fits the mask."""
    if len(student) != len(teacher) or not student:
        raise InputError(
            f"The student's layers must be paired with as many teacher layers, at least one; {len(student)}"
            f" student and {len(teacher)} teacher layers came. Say which belong together:"
            " `layers` of a recipe, `layer_pairs` in Python."
        )
    shapes = {tuple(layer.shape) for layer in (*student, *teacher)}
    shape = shapes.pop()
    if (
        shapes
        or len(shape) != dimensions
        or (shape[0], shape[1 if dimensions == 3 else 2]) != tuple(mask.shape)
    ):
        found = sorted({shape, *shapes})
        raise InputError(
            f"All layers of student and teacher must have one shape {form} with a mask [B, L]; the layers"
            f" have {found}, the mask {tuple(mask.shape)}. Student and teacher must agree in heads, hidden"
            " size and input."
        )
