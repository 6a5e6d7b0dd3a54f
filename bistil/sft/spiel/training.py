"""The optimiser that a SpIEL config asks for."""

from collections.abc import Iterable

from torch import nn

from bistil.sft.spiel.ag import SpielAG
from bistil.sft.spiel.ma import SpielMA
from bistil.sft.spiel.support import MovingSupport


def spiel_optimizer(
    support: MovingSupport, others: Iterable[nn.Parameter] = (), *, lr: float, weight_decay: float = 0.0
) -> SpielAG | SpielMA:
    """Return SpielAG or SpielMA, as the support's config says. The thesis uses rates of 1e-5 to 1e-4 for AG,
    4e-4 to 1e-3 for MA.
    """
    made = SpielAG if support.config.method == "ag" else SpielMA
    return made(support, others, lr=lr, weight_decay=weight_decay)
