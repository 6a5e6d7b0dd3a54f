"""Families: one student for each language, distilled beside one another, with some tensors in common (Bui
sections 3.1 and 4).

Notable: what is shared is the same parameter in every student, so that it learns from each of their batches.
A step is one batch of one language, the languages in turn. An optimiser leaves alone what had no gradient, so
the other students stand still meanwhile.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from bistil.distil.objective import Distillation
from bistil.distil.teachers import AdaptedTeacher
from bistil.models.architectures import architecture, named_parts
from bistil.systems.recipe import Term
from bistil.training.loop import Objective


class Family(Objective):
    """Each batch is read by its own language's student, whose loss it is.

    Args:
        members: for each language code what minimises that student's loss; all follow one teacher.
    """

    model: nn.ModuleDict

    def __init__(self, members: Mapping[str, Distillation]) -> None:
        super().__init__(nn.ModuleDict({code: member.model for code, member in members.items()}))
        self._members = (dict(members),)

    @property
    def teacher(self) -> AdaptedTeacher | None:
        """The teacher of all, which is no part of what is trained and saved."""
        return self._members[0][next(iter(self.model))].teacher

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the batch's language's student; parts are its terms before their weights."""
        return self._members[0][batch["language"]](batch)

    @property
    def terms(self) -> Mapping[str, Term]:
        """What each of them minimises."""
        return self._members[0][next(iter(self.model))].terms

    def shares(self, batch: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Each term's share of the loss of the batch's language's student, as `Distillation.shares`."""
        return self._members[0][batch["language"]].shares(batch)


def share(members: Mapping[str, PreTrainedModel], parts: tuple[str, ...]) -> None:
    """Give all students the first one's parameters for what they share, in place.

    Args:
        members: encoders or masked LMs of one architecture and depth.
        parts: as `Student.share` names them. A head is tied to the student's embeddings where both are shared
            or neither is; otherwise its output embedding is a matrix of its own.

    Raises:
        InputError: for a layer that the students have not.
    """
    first, *others = members.values()
    encoder: Any = first.base_model
    inside, predicts = named_parts(encoder, parts), first is not encoder
    if predicts and ("embeddings" in parts) != ("head" in parts):
        for member in members.values():
            _untie(member)
    heads = architecture(first.config).head if predicts and "head" in parts else ()
    for other in others:
        for name in inside:
            put(encoder.get_submodule(name), other.base_model.get_submodule(name))
        for name in heads:
            put(first.get_submodule(name), other.get_submodule(name))


def put(module: nn.Module, into: nn.Module, names: Collection[str] | None = None) -> None:
    """Make a module's parameters those of another of its kind, all or some of them by name. The modules stay
    apart, since transformers hangs on each what reads its states.
    """
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if names is not None and name not in names:
            continue
        parent, _, last = name.rpartition(".")
        setattr(into.get_submodule(parent), last, parameter)


def _untie(mlm: PreTrainedModel) -> None:
    """Give a masked LM an output embedding of its own, equal to its embeddings."""
    output: Any = mlm.get_output_embeddings()
    mlm.config.tie_word_embeddings = False
    output.weight = nn.Parameter(output.weight.detach().clone())
