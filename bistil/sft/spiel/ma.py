"""SpIEL-MA: growth and training by SM3's row and column accumulators (thesis section 7.3.3, eq. 7.7,
Algorithm 3; Anil et al. 2019).

Notable: beyond phi the state of an r x c matrix is r + c numbers, and no dense gradient is looked at. A row
without any active entry has an accumulator of 0 and so is grown into only when nothing better is left, as in
the thesis' formula.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bistil.sft.spiel.optimizer import SpielOptimizer
from bistil.sft.spiel.ranking import top_of_outer

Accumulators = tuple[Tensor, Tensor]


def accumulate(squares: Tensor, rows: Tensor, columns: Tensor, into: Accumulators, variant: str) -> Tensor:
    """Update the accumulators in place with the squared gradients of some entries; return each entry's SM3
    denominator squared.

    variant: "sum" is SM3-I, "max" SM3-II. Shapes: [n], [n], [n], ([r], [c]) -> [n].
    """
    row, column = into
    if variant == "max":
        found = torch.minimum(row[rows], column[columns]) + squares
        row.scatter_reduce_(0, rows, found, "amax")
        column.scatter_reduce_(0, columns, found, "amax")
        return found
    for sums, index in ((row, rows), (column, columns)):
        sums += torch.zeros_like(sums).scatter_reduce_(0, index, squares, "amax")
    return torch.minimum(row[rows], column[columns])


class SpielMA(SpielOptimizer):
    """SM3 without momentum on phi, growing where the outer product of the accumulators is largest; see
    SpielOptimizer.
    """

    def _accumulators(self, parameter: Tensor, name: str, shape: tuple[int, ...]) -> Accumulators:
        """The row and column sums of one matrix, or of any tensor as its first by all its other axes; a
        vector's rows are exact.
        """
        state = self.state[parameter]
        if f"row/{name}" not in state:
            height = shape[0] if shape else 1
            state[f"row/{name}"] = torch.zeros(height, device=parameter.device)
            state[f"column/{name}"] = torch.zeros(
                torch.Size(shape).numel() // height, device=parameter.device
            )
        return state[f"row/{name}"], state[f"column/{name}"]

    def _train(self, parameter: Tensor, group: Mapping[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        flat = gradient.reshape(-1).float()
        scale = torch.empty_like(flat)
        if parameter is self.support.values:
            pieces = [
                (name, place, self.support.positions(name), self.support.shape(name))
                for name, place in self.support.parts.items()
            ]
        else:
            pieces = [
                (
                    "",
                    slice(None),
                    torch.arange(parameter.numel(), device=parameter.device),
                    tuple(parameter.shape),
                )
            ]
        for name, place, positions, shape in pieces:
            into = self._accumulators(parameter, name, shape)
            width = len(into[1])
            scale[place] = accumulate(
                flat[place].square(), positions // width, positions % width, into, self.config.accumulator
            )
        move = torch.where(scale > 0, flat * scale.rsqrt(), 0.0)
        parameter.add_(move.view_as(parameter), alpha=-group["lr"])

    def _candidates(self, name: str, count: int, taken: Tensor) -> tuple[Tensor, Tensor]:
        if count == 0:
            return taken[:0], torch.zeros(0, device=taken.device)
        row, column = self._accumulators(self.support.values, name, self.support.shape(name))
        return top_of_outer(row, column, count, taken)
