"""SpIEL as plain loops over dense arrays, one tensor at a time: what the library must agree with; and the toy
both train.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer

LR, BETA1, BETA2, EPS = 0.01, 0.9, 0.999, 1e-8


class Blocks(nn.Module):
    """Two linear layers in a list of blocks, an embedding before and a linear layer after it."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(12, 7)
        self.blocks = nn.ModuleList([nn.Linear(7, 6), nn.Linear(6, 5)])
        self.out = nn.Linear(5, 2)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.embedding(ids)
        for block in self.blocks:
            states = torch.tanh(block(states))
        return self.out(states.mean(dim=1))


def loss(model: nn.Module, step: int, micro: int = 0) -> Tensor:
    """The loss of one step (and micro-batch), a function of both alone."""
    random = torch.Generator().manual_seed(100 * step + micro)
    ids = torch.randint(0, 12, (4, 3), generator=random)
    return (model(ids) - torch.randn(4, 2, generator=random)).square().mean()


def run(model: nn.Module, config: SpielConfig, **options: Any) -> Iterator[tuple[int, MovingSupport, Any]]:
    """Train as a user would; yields after each step."""
    with MovingSupport(model, config) as support:
        optimizer = spiel_optimizer(support, lr=LR, **options)
        for step in range(1, config.steps + 1):
            loss(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
            yield step, support, optimizer


class Reference:
    """One tensor's theta, mask and phi as dense arrays (flat), and dense Adam or SM3 state."""

    def __init__(self, theta: Tensor, positions: Tensor, config: SpielConfig) -> None:
        self.config, self.shape = config, tuple(theta.shape)
        self.theta = theta.detach().double().numpy().reshape(-1).copy()
        n, self.k = len(self.theta), len(positions)
        self.active = np.zeros(n, dtype=bool)
        self.active[positions.numpy()] = True
        self.phi, self.anchor, self.m, self.v, self.age, self.born = (np.zeros(n) for _ in range(6))
        self.row, self.column = np.zeros(self.shape[0]), np.zeros(self.shape[1])
        self.phase: list[np.ndarray] = []
        self.due = 0

    def weights(self) -> np.ndarray:
        return (self.theta + np.where(self.active, self.phi, 0.0)).reshape(self.shape)

    def step(self, number: int, gradient: np.ndarray) -> None:
        config, g = self.config, gradient.reshape(-1).astype(float)
        if self.due or (number - 1) % config.interval >= config.interval - config.estimation:
            self.phase.append(g)
        (self._adam if config.method == "ag" else self._sm3)(g)
        if number % config.interval == 0:
            self.due = number
        if self.due and config.doubtful is None:
            self.renew(number)

    def renew(self, number: int) -> None:
        self._renew(number)
        self.phase, self.due = [], 0

    def doubts(self) -> tuple[int, int]:
        """How many candidates might belong to those that an update would grow now, and how many these are."""
        count = round((1.0 if self.due == self.config.interval else self._share(self.due)) * self.k)
        pool = sorted(range(len(self.theta)), key=lambda j: -abs(self.phase[0][j]))[: self.k]
        free = [j for j in pool if not self.active[j]]
        seen = np.stack(self.phase)[:, free]
        mean, error = np.abs(seen.mean(0)), seen.std(0, ddof=1) / math.sqrt(len(seen))
        order = np.argsort(-mean, kind="stable")
        if not 0 < count < len(order):
            return 0, count
        return int(sum(mean[j] + 1.96 * error[j] >= mean[order[count - 1]] for j in order[count:])), count

    def _adam(self, g: np.ndarray) -> None:
        for j in np.flatnonzero(self.active):
            self.age[j] += 1
            self.m[j] = BETA1 * self.m[j] + (1 - BETA1) * g[j]
            self.v[j] = BETA2 * self.v[j] + (1 - BETA2) * g[j] ** 2
            first, second = self.m[j] / (1 - BETA1 ** self.age[j]), self.v[j] / (1 - BETA2 ** self.age[j])
            self.phi[j] -= LR * first / (math.sqrt(second) + EPS)

    def _sm3(self, g: np.ndarray) -> None:
        width, entries = self.shape[1], [int(j) for j in np.flatnonzero(self.active)]
        if self.config.accumulator == "sum":
            for i in range(self.shape[0]):
                self.row[i] += max([g[j] ** 2 for j in entries if j // width == i], default=0.0)
            for c in range(width):
                self.column[c] += max([g[j] ** 2 for j in entries if j % width == c], default=0.0)
            nu = {j: min(self.row[j // width], self.column[j % width]) for j in entries}
        else:
            nu = {j: min(self.row[j // width], self.column[j % width]) + g[j] ** 2 for j in entries}
            for j in entries:
                self.row[j // width] = max(self.row[j // width], nu[j])
                self.column[j % width] = max(self.column[j % width], nu[j])
        for j in entries:
            if nu[j] > 0:
                self.phi[j] -= LR * g[j] / math.sqrt(nu[j])

    def _share(self, number: int) -> float:
        done = number / self.config.steps
        falling = (1 + math.cos(math.pi * done)) / 2 if self.config.schedule == "cosine" else 1 - done
        return self.config.rate * falling

    def _renew(self, number: int) -> None:
        config, n = self.config, len(self.theta)
        share = self._share(self.due)
        if self.due == config.interval and config.replace_all_first:
            share = 1.0
        count = round(share * self.k)
        worth = np.abs(self.phi - (self.anchor if config.drop == "change" else 0.0))
        if config.method == "ag":
            mean, squares = np.mean(self.phase, axis=0), np.mean(np.square(self.phase), axis=0)
            pool = [j for j in range(n) if config.candidates == "all" or not self.active[j]]
            pool = sorted(pool, key=lambda j: -abs(self.phase[0][j]))[: self.k]
            score = np.abs(mean)
        else:
            pool, score = list(range(n)), np.outer(self.row, self.column).reshape(-1)
        while True:
            dropped = set(sorted(np.flatnonzero(self.active), key=lambda j: worth[j])[:count])
            free = [j for j in pool if not self.active[j] or (config.regrow and j in dropped)]
            grown = sorted(free, key=lambda j: -score[j])[:count]
            if len(grown) == count:
                break
            count -= count - len(grown)
        self.active[list(dropped)] = False
        self.phi[list(dropped)] = 0.0
        for j in grown:
            self.active[j], self.born[j] = True, number
            if config.method == "ag":
                batches = len(self.phase)
                matched = config.moments == "matched"
                self.m[j] = mean[j] * ((1 - BETA1**batches) if matched else 1)
                self.v[j] = squares[j] * ((1 - BETA2**batches) if matched else 1)
                self.age[j] = batches if matched else 0
        self.anchor = self.phi.copy()
