"""The three distillation losses of BiStil (eqs. 5.1-5.3) as pure functions.

Notable: every mean is over real tokens of the whole batch, so neither the amount nor the content of padding changes a loss or its
gradient (padded entries must be finite: they are multiplied by 0); the thesis leaves head dimension and padding open, and we read its
MSE as the mean over heads and real positions. Nothing is selected by boolean masks: that would copy. An empty mask gives 0, not NaN.
Half-precision inputs are accumulated in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bistil.errors import InputError


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean squared difference of attention distributions (BiStil eq. 5.1).

    For each layer the squares are summed over the real (query, key) pairs of every example and head, and divided by
    heads * sum over examples of (real tokens)^2; then the mean over layers is taken. The caller pairs the layers.
    Shape: student and teacher hold L_S tensors [B, heads, L, L]; mask is [B, L], 1 = real token; the result is a scalar.
    """
    _check_layers(student, teacher, mask, "[B, heads, L, L]", dimensions=4)
    real = _weights(mask, student[0])
    pairs = real[:, :, None] * real[:, None, :]
    scale = student[0].shape[1] * pairs.sum().clamp(min=1)
    total = sum((_squares(s, t).sum(dim=1) * pairs).sum() for s, t in zip(student, teacher, strict=True))
    return torch.as_tensor(total / (scale * len(student)))


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean squared difference of hidden states, embedding layer included (BiStil eq. 5.2).

    For each layer the squares are summed over real tokens and hidden units and divided by H * (real tokens in the batch); then the
    mean over the L_S + 1 layers is taken. The caller pairs the layers.
    Shape: student and teacher hold L_S + 1 tensors [B, L, H]; mask is [B, L], 1 = real token; the result is a scalar.
    """
    _check_layers(student, teacher, mask, "[B, L, H]", dimensions=3)
    real = _weights(mask, student[0])
    scale = student[0].shape[2] * real.sum().clamp(min=1)
    total = sum((_squares(s, t).sum(dim=2) * real).sum() for s, t in zip(student, teacher, strict=True))
    return torch.as_tensor(total / (scale * len(student)))


def prediction_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
    """Soft cross-entropy -sum z^T log z^S, mean over the rows where `mask` is 1 (BiStil eq. 5.3).

    z^S and z^T are the softmax over the last dimension, without temperature. At equal logits the loss is the entropy of z^T, its
    minimum. Classes that both sides exclude with a logit of -inf count as 0, as long as each row keeps one finite logit.
    Shape: the logits are [..., C], mask is [...]; the result is a scalar.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim < 2 or mask.shape != student_logits.shape[:-1]:
        raise InputError(
            f"The prediction loss needs logits [..., C] of one shape and a mask [...]; student {tuple(student_logits.shape)}, "
            f"teacher {tuple(teacher_logits.shape)}, mask {tuple(mask.shape)} came. Check that both models have the same labels."
        )
    rows = _weights(mask, student_logits)
    probabilities = teacher_logits.to(rows.dtype).softmax(dim=-1)
    log_probabilities = student_logits.to(rows.dtype).log_softmax(dim=-1).masked_fill(probabilities == 0, 0.0)
    return -((probabilities * log_probabilities).sum(dim=-1) * rows).sum() / rows.sum().clamp(min=1)


def _weights(mask: Tensor, like: Tensor) -> Tensor:
    """The mask as numbers, in float32 or better."""
    return mask.to(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


def _squares(student: Tensor, teacher: Tensor) -> Tensor:
    accumulate = torch.promote_types(student.dtype, torch.float32)
    return (student.to(accumulate) - teacher.to(accumulate)).square()


def _check_layers(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, form: str, *, dimensions: int) -> None:
    """Raise unless both sides have the same number of layers, and all layers one shape that fits the mask."""
    if len(student) != len(teacher) or not student:
        raise InputError(
            f"The student's layers must be paired with as many teacher layers, at least one; {len(student)} student and {len(teacher)} "
            "teacher layers came. Select the teacher's layers with student.layer_map."
        )
    shapes = {tuple(layer.shape) for layer in (*student, *teacher)}
    shape = shapes.pop()
    if shapes or len(shape) != dimensions or (shape[0], shape[1 if dimensions == 3 else 2]) != tuple(mask.shape):
        found = sorted({shape, *shapes})
        raise InputError(
            f"All layers of student and teacher must have one shape {form} with a mask [B, L]; the layers have {found}, the mask "
            f"{tuple(mask.shape)}. Student and teacher must agree in heads, hidden size and input."
        )
