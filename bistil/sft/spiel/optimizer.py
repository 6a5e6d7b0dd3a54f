"""What both SpIEL optimisers share: when the support is renewed, how, and what a checkpoint keeps (thesis
section 7.3).

Notable: the optimiser alone runs the whole cycle, so any training loop that calls `step` will do. A step with
gradients that are not finite changes nothing and is an error."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft.checks import check_gradients
from bistil.sft.spiel.config import SpielConfig
from bistil.sft.spiel.ranking import exchange, largest
from bistil.sft.spiel.support import MovingSupport


class SpielOptimizer(torch.optim.Optimizer, ABC):
    """Trains phi, and other parameters (a head) densely, and renews the support every S steps; see SpielAG
    and SpielMA.

    Build it inside the context of `support`. Gradient accumulation and clipping work; a gradient scaler
    (fp16) does not. Weight decay is decoupled, and on phi pulls towards theta.

    Args:
        support: the entered MovingSupport.
        others: parameters trained densely beside it.
        lr: learning rate. weight_decay: lambda, of phi (others have none).
    """

    _per_entry: tuple[str, ...] = ("born", "anchor")  # what the state of phi has for each entry

    def __init__(
        self,
        support: MovingSupport,
        others: Iterable[nn.Parameter] = (),
        *,
        lr: float,
        weight_decay: float = 0.0,
        **defaults: Any,
    ) -> None:
        groups: list[dict[str, Any]] = [{"params": [support.values], "weight_decay": weight_decay}]
        dense = list(others)
        if dense:
            groups.append({"params": dense})
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, **defaults})
        self.support, self.finished, self.due = support, 0, 0
        self.last_replaced = 0
        support.observer, support.observing = self._look, self.estimating
        entries = support.values
        self.state[entries]["born"] = torch.zeros_like(entries)
        if support.config.drop == "change":
            self.state[entries]["anchor"] = torch.zeros_like(entries)

    @property
    def config(self) -> SpielConfig:
        """The settings of the run."""
        return self.support.config

    @property
    def born(self) -> Tensor:
        """The step at which each entry of the support after the last step was last grown, 0 for the first
        support. Shape: [K], int64.
        """
        return self.state[self.support.values]["born"].long()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Train every parameter one step, write phi into the encoder, and renew the support when it is due.

        Raises:
            InputError: a gradient is not finite; support, values and optimiser are then as they were after
                the step before.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._refuse_infinite()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._train(parameter, group)
        self.support.write_back()
        self.finished += 1
        self._finish_batch()
        self.last_replaced = 0
        if self.finished % self.config.interval == 0:
            self.due = self.finished
        if self.due and self._ready():
            self._renew()
            self.due = 0
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of torch's optimisers plus `spiel`: how far the cycle is. The support itself is in the
        encoder's state.
        """
        made = {
            "finished": self.finished,
            "due": self.due,
            "offsets": dict(self.support.offsets),
            "size": len(self.support.keys),
            **self._own_state(),
        }
        return {**super().state_dict(), "spiel": made}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take over what `state_dict` returned; load the encoder's state too, in either order.

        Raises:
            InputError: it is the state of another optimiser, of other tensors or of another K.
        """
        own = state_dict.get("spiel", {})
        if own.get("offsets") != self.support.offsets or own.get("size") != len(self.support.keys):
            raise InputError(
                f"Expected the state of a SpIEL optimiser over {len(self.support.keys)} entries in the same"
                f" {len(self.support.offsets)} tensors, got one over {own.get('size', 'no')} entries: resume"
                " with the settings that the checkpoint was made with."
            )
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "spiel"})
        self.finished, self.due = own["finished"], own.get("due", 0)
        self._load_own_state(own)

    @abstractmethod
    def _train(self, parameter: Tensor, group: Mapping[str, Any]) -> None:
        """One step of one parameter."""

    @abstractmethod
    def _candidates(self, name: str, count: int, taken: Tensor) -> tuple[Tensor, Tensor]:
        """Sorted positions that may be grown in one tensor, at least `count` where possible, and their
        scores; `taken` stay. Shape: [C].
        """

    def _seed(self, kept: Tensor, surviving: Tensor, grown: Tensor, keys: Tensor) -> None:
        """Carry the optimiser's state over to the new support."""
        state = self.state[self.support.values]
        for name in state.keys() & set(self._per_entry):
            moved = torch.zeros_like(state[name])
            moved[surviving] = state[name][kept]
            state[name] = moved

    def estimating(self) -> bool:
        """Tell whether the step under way looks at dense gradients to find what to grow."""
        return False

    def _ready(self) -> bool:
        """Tell whether the update that is due can be made; otherwise it is made after a later step."""
        return True

    def _look(self, name: str, gradient: Tensor) -> None:
        """Look at a dense gradient before it is freed."""

    def _finish_batch(self) -> None:
        """Take note that a step is done."""

    def _broken(self) -> list[str]:
        """What, beside the gradients of the parameters, is not finite."""
        return []

    def _forget_batch(self) -> None:
        """Drop what was noted since the last step."""

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _load_own_state(self, own: Mapping[str, Any]) -> None: ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of the batch, the growth candidates' included."""
        super().zero_grad(set_to_none)
        self._forget_batch()

    def _refuse_infinite(self) -> None:
        try:
            check_gradients(
                self.param_groups,
                self.support.values,
                self.support.parts,
                self.finished,
                broken=self._broken(),
            )
        except InputError:
            self._forget_batch()
            raise

    def _renew(self) -> None:
        """Drop and grow (thesis Algorithms 2 and 3)."""
        phi, config, support = self.support.values, self.config, self.support
        worth = (phi - self.state[phi]["anchor"]).abs() if config.drop == "change" else phi.abs()
        dropped = torch.zeros_like(worth, dtype=torch.bool)
        for place in support.parts.values():
            count = config.replaced(place.stop - place.start, self.due)
            dropped[place][largest(-worth[place], count)] = True
        keys, scores = [], []
        for name, place in support.parts.items():
            taken = support.positions(name)[~dropped[place]] if config.regrow else support.positions(name)
            count = support.quotas[name] if config.tensors == "global" else int(dropped[place].sum())
            positions, score = self._candidates(name, count, taken)
            keys.append(positions + support.offsets[name])
            scores.append(score)
        if config.tensors == "global":
            dropped, grown = exchange(
                support.keys, worth, dropped, torch.cat(keys), torch.cat(scores), regrow=config.regrow
            )
        else:
            pairs = [
                exchange(support.keys[place], worth[place], dropped[place], *found, regrow=config.regrow)
                for place, *found in zip(support.parts.values(), keys, scores, strict=True)
            ]
            dropped, grown = (torch.cat(part) for part in zip(*pairs, strict=True))
        surviving, new = support.move(dropped, grown)
        self._seed(~dropped, surviving, new, grown)
        self.state[phi]["born"][new] = self.finished
        if config.drop == "change":
            self.state[phi]["anchor"].copy_(phi)
        self.last_replaced = len(grown)
