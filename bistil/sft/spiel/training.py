"""The optimiser that a SpIEL config asks for."""

from collections.abc import Iterable

from torch import nn

from bistil.errors import InputError
from bistil.sft.spiel.ag import SpielAG
from bistil.sft.spiel.ma import SpielMA
from bistil.sft.spiel.support import MovingSupport
from bistil.training.loop import Schedule

EPSILON = Schedule.epsilon
"""Adam's where nothing else is said."""


def spiel_optimizer(
    support: MovingSupport,
    others: Iterable[nn.Parameter] = (),
    *,
    lr: float,
    weight_decay: float = 0.0,
    epsilon: float = EPSILON,
) -> SpielAG | SpielMA:
    """Return SpielAG or SpielMA, as the support's config says. The thesis uses rates of 1e-5 to 1e-4 for AG,
    4e-4 to 1e-3 for MA.

    Args:
        epsilon: Adam's, of AG.

    Raises:
        InputError: for another epsilon than the usual one with MA, whose SM3 has none.
    """
    if support.config.method == "ag":
        return SpielAG(support, others, lr=lr, weight_decay=weight_decay, eps=epsilon)
    if epsilon != EPSILON:
        raise InputError(
            f"SpIEL-MA steps by SM3, which has no epsilon, but the schedule has {epsilon:g}. Leave it out, or"
            " take SpIEL-AG."
        )
    return SpielMA(support, others, lr=lr, weight_decay=weight_decay)
