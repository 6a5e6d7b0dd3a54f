"""The student's layers: which teacher layers it starts from, and a bit-equal copy of them (BiStil section
5.3.1).

Notable: the student is a new model filled from the teacher's tensors rather than a copied module, so that
layer numbers are right and no forward hook of the teacher comes along. The student owns its tensors. What an
architecture needs besides is in `architectures`.
"""

from typing import TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.models.architectures import architecture, student_config, student_tensors

Encoder = TypeVar("Encoder", bound=PreTrainedModel)


def layer_map(teacher_layers: int, lrf: int) -> tuple[int, ...]:
    """Return the 1-based teacher layers (lrf, 2 lrf, ...) that the student's layers 1, 2, ... start from and
    imitate.

    The same numbers index the hidden states H_0..H_n of the teacher; H_0 is paired with the student's H_0.
    InputError when the layer reduction factor does not divide the number of layers."""
    if lrf < 1 or teacher_layers < 1 or teacher_layers % lrf:
        factors = [factor for factor in range(1, teacher_layers + 1) if teacher_layers % factor == 0]
        raise InputError(
            f"The layer reduction factor must divide the teacher's number of layers; {lrf} does not divide"
            f" {teacher_layers}. Choose one of {factors}."
        )
    return tuple(range(lrf, teacher_layers + 1, lrf))


def initialise(encoder: Encoder, lrf: int) -> Encoder:
    """Return a student with copies of the teacher's embeddings and of every `lrf`-th layer, all trainable,
    without pooler.

    :raises InputError: where the factor does not divide the layers, or the architecture makes no sense
    without the others.
    """
    layers = layer_map(encoder.config.num_hidden_layers, lrf)
    config, settings = student_config(encoder.config, layers), architecture(encoder.config).settings
    with torch.random.fork_rng(
        devices=[]
    ):  # the numbers drawn here are overwritten: leave the caller's stream alone
        student = type(encoder)(config, **settings)
    student.load_state_dict(
        student_tensors(encoder.config, encoder.state_dict(), [*student.state_dict()], layers)
    )
    nn.Module.to(student, encoder.device, encoder.dtype)
    return student.train(encoder.training)
