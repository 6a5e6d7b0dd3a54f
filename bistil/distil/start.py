"""Students before they learn: bit-equal copies of some of the teacher's layers (BiStil section 5.3.1), with
or without its head, or random weights.

Notable: the student is a new model filled from the teacher's tensors rather than a copied module, so that
layer numbers are right and no forward hook of the teacher comes along. The student owns its tensors. What an
architecture needs besides is in `architectures`.
"""

import copy
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from bistil.models.architectures import architecture, student_config, student_tensors, with_encoder
from bistil.sft.spiel.ranking import largest
from bistil.sft.spiel.support import choose_tensors
from bistil.systems.layers import LayerMap, start_layers, student_depth
from bistil.vocab import trim_config

Encoder = TypeVar("Encoder", bound=PreTrainedModel)


def initialise(encoder: Encoder, lrf: int, start: LayerMap = "uniform") -> Encoder:
    """Return a student with copies of the teacher's embeddings and of the layers that `start` names, all
    trainable, without pooler.

    Raises:
        InputError: where the map makes no sense for the depth, or the architecture none without the other
            layers.
    """
    layers = start_layers(start, encoder.config.num_hidden_layers, lrf)
    config, settings = student_config(encoder.config, layers), architecture(encoder.config).settings
    with torch.random.fork_rng(
        devices=[]
    ):  # the numbers drawn here are overwritten: leave the caller's alone
        student = type(encoder)(config, **settings)
    state = student_tensors(encoder.config, encoder.state_dict(), [*student.state_dict()], layers)
    student.load_state_dict(state)
    nn.Module.to(student, encoder.device, encoder.dtype)
    return student.train(encoder.training)


def initialise_with_head(teacher: PreTrainedModel, lrf: int, start: LayerMap = "uniform") -> PreTrainedModel:
    """Return a masked-LM student: its encoder as `initialise` makes it, and a copy of the teacher's masked-LM
    head, tied to the student's own embeddings; all of it trains.
    """
    whole: Any = teacher.base_model
    encoder = initialise(whole, lrf, start)
    student: Any = with_encoder(copy.deepcopy(teacher), encoder)
    student.get_output_embeddings().weight = encoder.get_input_embeddings().weight
    student.train(encoder.training).requires_grad_(True)
    return student  # type: ignore[no-any-return]


@torch.no_grad()
def prune(encoder: nn.Module, share: float) -> None:
    """Set the smallest weights of each linear layer in the Transformer's blocks to 0, in place: a `share` of
    them, ties to the first (magnitude pruning; the thesis' section 7.5 would have SpIEL repair it).

    A sparse fine-tuning of the result leaves all other zeros zeros.
    """
    for name in choose_tensors(encoder):
        weight = encoder.get_parameter(name).view(-1)
        weight[largest(-weight.abs().float(), round(share * weight.numel()))] = 0.0


def random_student(teacher: PreTrainedModel, lrf: int, kept: np.ndarray | None) -> PreTrainedModel:
    """Return a masked-LM student of the teacher's shape with fewer layers and random weights, from torch's
    stream.

    Args:
        kept: the ids of the tokens that its vocabulary keeps; None for all. Shape: [V].
    """
    config: Any = teacher.config
    depth = student_depth(config.num_hidden_layers, lrf)
    even = config.num_hidden_layers % depth == 0  # which layers' settings an architecture of many kinds takes
    shape = student_config(
        config, start_layers("uniform" if even else "bottom", config.num_hidden_layers, lrf)
    )
    if kept is not None:
        trim_config(shape, kept)
    return type(teacher)(shape)
