"""What is tuned: a model, what it minimises and what it is measured by, whatever the method is.

Notable: the value holds nothing of the method, so LT-SFT, SpIEL and their peers take the same one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bistil.training.loop import Evaluate, History, Objective, Run, Schedule, fit

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from bistil.sft.bottleneck import Adapter


class BatchesFor(Protocol):
    """Makes the training batches of a phase: `steps` of them, from `seed`."""

    def __call__(self, steps: int, seed: int) -> Dataset:
        """A dataset whose item k is the batch of step k."""


@dataclass(frozen=True)
class Tuning:
    """What a method of `tune` works on.

    Attributes:
        objective: what is minimised.
        encoder: the part of its model that the method changes a little of; left in its trained state.
        head: the part that trains in full and travels with the delta, None where there is none.
        batches: makes the batches of each phase.
        evaluate: the metrics of the model as it is.
        select: the metric that picks the best checkpoint.
        base: hash of the base model that the delta will belong to, before any language delta that the encoder
            wears already.
        cut: how many parameters trimming took from the encoder beforehand. Densities, and the mean of the L1
            term, are of all.
        head_rate: the head's own peak of the learning rate, None for the schedule's.
        callbacks: of every phase.
        before: the adapter that one by `adapter` starts from; None for a random one.
        undress: takes off what the encoder wears of each batch's language from the objective's forward pass
            until its gradients are there; None where it wears nothing.
        beside: another encoder that the objective reads by, which an adapter is hung on too.
        named: what it learns, as in `task ner`, which is part of the seed of random supports: by a seed alone
            two SFTs would have the same.
    """

    objective: Objective
    encoder: nn.Module
    head: nn.Module | None
    batches: BatchesFor
    evaluate: Evaluate
    select: str
    base: str
    cut: int = 0
    head_rate: float | None = None
    callbacks: "Sequence[TrainerCallback]" = ()
    undress: Callable[[], None] | None = None
    before: "Adapter | None" = None
    beside: Any = None
    named: str = ""

    def fit(
        self,
        schedule: Schedule,
        run: Run,
        *,
        seed: int,
        order: int,
        optimizer: torch.optim.Optimizer | None = None,
        callbacks: "Sequence[TrainerCallback]" = (),
    ) -> History:
        """Train for one phase; `order` is the seed of its batches.

        Without an `optimizer`, what requires a gradient is trained by AdamW.
        """
        if optimizer is None and self.head_rate is not None:
            head = {id(parameter) for parameter in self.head_parameters}
            trained = [
                one for one in self.objective.parameters() if one.requires_grad and id(one) not in head
            ]
            optimizer = self.adamw(*by_decay(trained), schedule)
        return fit(
            self.objective,
            self.batches(schedule.batches, order),
            self.evaluate,
            run,
            schedule=schedule,
            select=self.select,
            seed=seed,
            optimizer=optimizer,
            callbacks=[*self.callbacks, *callbacks],
        )

    def adamw(
        self, decaying: Sequence[nn.Parameter], others: Sequence[nn.Parameter], schedule: Schedule
    ) -> torch.optim.AdamW:
        """AdamW for parameters of the encoder, those that weight decay pulls to 0 and others, and for the
        head at its own rate.
        """
        rate, decay = schedule.learning_rate, schedule.weight_decay
        of_head = by_decay(self.head_parameters)
        groups = [
            {"params": part, "lr": one, "weight_decay": pull}
            for parts, one in (((decaying, others), rate), (of_head, self.head_rate or rate))
            for part, pull in zip(parts, (decay, 0.0), strict=True)
            if part
        ]
        return torch.optim.AdamW(groups, eps=schedule.epsilon)

    @property
    def own(self) -> int:
        """Parameters of the encoder, embeddings and layer norms included."""
        return sum(parameter.numel() for parameter in self.encoder.parameters())

    @property
    def parameters(self) -> int:
        """Those of the encoder before it was cut: what a density is a share of."""
        return self.own + self.cut

    @property
    def head_parameters(self) -> list[nn.Parameter]:
        """What trains in full."""
        return [] if self.head is None else list(self.head.parameters())

    @property
    def head_tensors(self) -> dict[str, Tensor]:
        """The head's tensors under the names that a delta carries them by."""
        state: dict[str, Any] = {} if self.head is None else self.head.state_dict()
        return {f"head.{name}": tensor for name, tensor in state.items()}


def by_decay(parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Tensors that decay, and biases and scales of norms, which do not, as transformers' Trainer has it."""
    matrices = [one for one in parameters if one.ndim > 1]
    return matrices, [one for one in parameters if one.ndim <= 1]
