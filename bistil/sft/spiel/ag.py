"""SpIEL-AG: growth by averaged gradients, training by Adam with an age for each weight (thesis section 7.3.2,
Algorithm 2).

Notable: only the candidates' sums are kept, never a dense gradient; a micro-batch counts as part of its
batch, and the first micro-batch of an estimation phase names the candidates."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bistil.sft.flat import read_at
from bistil.sft.spiel.optimizer import SpielOptimizer
from bistil.sft.spiel.ranking import doubtful, largest
from bistil.sft.spiel.support import MovingSupport


@dataclass
class Estimate:
    """Growth candidates of one tensor: sorted positions, sums of gradients and of their squares, the batch so
    far. Shapes: [C].
    """

    positions: Tensor
    total: Tensor
    squares: Tensor
    batch: Tensor


class SpielAG(SpielOptimizer):
    """AdamW on phi, where a grown weight starts with the moments that the estimation phase found for it.

    What it is given is SpielOptimizer's, and Adam's betas and eps.
    """

    _per_entry = ("born", "anchor", "age", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        support: MovingSupport,
        others: Iterable[nn.Parameter] = (),
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(support, others, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)
        self.estimates: dict[str, Estimate] = {}
        self.batches = 0

    def _train(self, parameter: Tensor, group: Mapping[str, Any]) -> None:
        state, gradient, (beta1, beta2) = self.state[parameter], parameter.grad, group["betas"]
        assert gradient is not None
        if "exp_avg" not in state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        age = torch.tensor(self.finished + 1.0, device=parameter.device)
        if parameter is self.support.values:
            age = state.setdefault("age", torch.zeros_like(parameter)).add_(1)
        first, second = state["exp_avg"].lerp_(gradient, 1 - beta1), state["exp_avg_sq"]
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        scale = (second / bias_correction(beta2, age)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(first / bias_correction(beta1, age), scale, value=-group["lr"])

    def estimating(self) -> bool:
        """Tell whether the step under way is in the estimation phase of an update that will replace
        something, or of one that is waited for.
        """
        if self.due:
            return True
        done, interval = self.finished % self.config.interval, self.config.interval
        due = self.finished - done + interval
        return done >= interval - self.config.estimation and self.config.share(due) > 0

    def _ready(self) -> bool:
        config, batches = self.config, self.batches
        late = self.finished - self.due >= config.interval - config.estimation
        if config.doubtful is None or late or not self.estimates:
            return True
        found: list[tuple[Tensor, Tensor, int]] = []
        for name, estimate in self.estimates.items():
            free = ~torch.isin(estimate.positions, self.support.positions(name))
            mean = (estimate.total / batches)[free]
            variance = (estimate.squares[free] - batches * mean.square()).clamp(min=0) / (batches - 1)
            count = config.replaced(self.support.quotas[name], self.due)
            found.append((mean.abs(), (variance / batches).sqrt(), count))
        if config.tensors == "global":
            means, errors, counts = zip(*found, strict=True)
            found = [(torch.cat(means), torch.cat(errors), sum(counts))]
        doubts, replaced = sum(doubtful(*one) for one in found), sum(count for *_, count in found)
        return doubts <= config.doubtful * replaced

    def _look(self, name: str, gradient: Tensor) -> None:
        if not self.estimating():
            return
        if name not in self.estimates:
            size = gradient.reshape(-1).abs().float()
            count = self.support.quotas[name]
            if self.config.candidates == "inactive":
                size[self.support.positions(name)] = -1.0
                count = min(count, len(size) - len(self.support.positions(name)))
            positions = largest(size.nan_to_num(float("inf"), float("inf")), count)
            self.estimates[name] = Estimate(
                positions, *(torch.zeros(len(positions), device=size.device) for _ in range(3))
            )
        estimate = self.estimates[name]
        estimate.batch += read_at(gradient, estimate.positions).float()

    def _finish_batch(self) -> None:
        for estimate in self.estimates.values():
            estimate.total += estimate.batch
            estimate.squares += estimate.batch.square()
            estimate.batch.zero_()
        self.batches += bool(self.estimates)

    def _forget_batch(self) -> None:
        if self.batches == 0:
            self.estimates.clear()
        for estimate in self.estimates.values():
            estimate.batch.zero_()

    def _broken(self) -> list[str]:
        return [
            name for name, estimate in self.estimates.items() if not bool(estimate.batch.isfinite().all())
        ]

    def _candidates(self, name: str, count: int, taken: Tensor) -> tuple[Tensor, Tensor]:
        if name not in self.estimates:
            return taken[:0], torch.zeros(0, device=taken.device)
        return self.estimates[name].positions, self.estimates[name].total.abs()

    def _seed(self, kept: Tensor, surviving: Tensor, grown: Tensor, keys: Tensor) -> None:
        super()._seed(kept, surviving, grown, keys)
        if len(keys):
            names = sorted(self.estimates)
            known = torch.cat([self.estimates[name].positions + self.support.offsets[name] for name in names])
            place = torch.searchsorted(known, keys)
            batches, (beta1, beta2) = self.batches, self.param_groups[0]["betas"]
            matched, state = self.config.moments == "matched", self.state[self.support.values]
            for key, beta, part in (("exp_avg", beta1, "total"), ("exp_avg_sq", beta2, "squares")):
                mean = torch.cat([getattr(self.estimates[name], part) for name in names])[place] / batches
                state[key][grown] = mean * (1 - beta**batches) if matched else mean
            state["age"][grown] = float(batches) if matched else 0.0
        self.estimates.clear()
        self.batches = 0

    def _own_state(self) -> dict[str, Any]:
        parts = {
            name: {key: getattr(estimate, key) for key in ("positions", "total", "squares")}
            for name, estimate in self.estimates.items()
        }
        return {"batches": self.batches, "estimates": parts}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        self.batches, device = own["batches"], self.support.keys.device
        self.estimates = {}
        for name, saved in own["estimates"].items():
            parts = {key: tensor.to(device, copy=True) for key, tensor in saved.items()}
            self.estimates[name] = Estimate(**parts, batch=torch.zeros_like(parts["total"]))


def bias_correction(beta: float, age: Tensor) -> Tensor:
    """Return 1 - beta^age, exactly rounded also where beta is near 1. Shape: as age."""
    return -torch.expm1(age * math.log(beta)) if beta else torch.ones_like(age)
