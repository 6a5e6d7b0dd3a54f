"""The orderings of systems that the papers claim, as data: what is better than what, and at which size.

Notable: those of BiStil, LT-SFT and SpIEL are asked of every experiment (`ORDERINGS`). An experiment
file asks its own ones under `claims`, as chains.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from bistil.errors import InputError
from bistil.settings.ranges import Settings, Weight
from bistil.systems.table import FORCED, TEACHER

Side = tuple[str, int | None]
Sign = Literal[">", "≥", "≈"]


class Ordering(NamedTuple):
    """A claim that `left` scores higher than `right` (`>`), as high or higher (`≥`), or level with it (`≈`).

    Attributes:
        left: a system and its layer reduction factor, None for one that is not reduced.
        short: points by which the left side may fall short and still be called level; for `≈` by which the
            sides may differ.
        always: whether it is told although one side was not run.
        drf: the hidden reduction factors of both sides, None for the teacher's width.
        tasks: the tasks it is about; empty for all.
        targets: the targets it is about; empty for all.
        metric: by what it is judged; "" for the task's own metric.
        source: where it is claimed.
    """

    left: Side
    sign: Sign
    right: Side
    short: float = 0.0
    always: bool = False
    drf: tuple[int | None, int | None] = (None, None)
    tasks: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    metric: str = ""
    source: str = ""


ORDERINGS = (
    Ordering((TEACHER, None), "≥", (FORCED, 2), always=True),
    Ordering((FORCED, 2), "≥", (FORCED, 3), always=True),
    Ordering((FORCED, 3), ">", ("multilingual-distil", 2), always=True),
    Ordering(("multilingual-distil", 2), ">", ("scratch", 2), always=True),
    Ordering((FORCED, 2), "≥", ("bistil-st", 2), always=True),
    Ordering((FORCED, 3), "≥", ("bistil-st", 3), always=True),
    Ordering((TEACHER, None), ">", ("teacher-no-adaptation", None), always=True),
    Ordering((FORCED, 2), ">", ("distilmbert", 2)),
    Ordering((FORCED, 3), ">", ("distilmbert", 2)),
    Ordering((FORCED, 2), ">", ("minilm", 2)),
    Ordering((TEACHER, None), ">", ("teacher-rand-sft", None)),
    Ordering(("teacher-rand-sft", None), ">", ("teacher-bitfit", None)),
    Ordering(("teacher-spiel-ag", None), "≥", ("teacher-spiel-ma", None)),
    Ordering(("teacher-spiel-ag", None), "≥", ("teacher-lora", None), short=1.0),
)
RETAINED: Side = (FORCED, 2)
"""The student that is asked to keep a share of the teacher's score."""
NAME = re.compile(r"([a-z0-9-]+)(?::([1-9][0-9]?)(?:x([1-9][0-9]?))?)?(@[a-z0-9-]+)?")
"""A system as an experiment file names it: system, layer and hidden reduction factor, regime."""


@dataclass(frozen=True, kw_only=True)
class Chain(Settings):
    """Systems in an order that a text claims, each against the next one.

    Attributes:
        order: the systems with `>`, `≥` or `≈` between them, as in `monoshot:2 > hinton:2 ≈ minilm:2`.
        tasks: the tasks it is about; empty for all.
        targets: the targets it is about; empty for all.
        within: points by which sides of `≈` may differ, and those of `≥` fall short.
        metric: by what it is judged; "" for the task's own metric.
        source: where it is claimed, for reports.
    """

    order: str
    tasks: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    within: Weight = 0.0
    metric: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        words = self.order.split()
        signs, names = words[1::2], words[::2]
        fits = len(words) > 2 and len(words) % 2 and set(signs) <= set(get_args(Sign))
        if not fits or not all(NAME.fullmatch(name) for name in names):
            raise InputError(
                "Two systems or more with >, ≥ or ≈ between them, as in `monoshot:2 > hinton:2`, were"
                f" expected, but got {self.order!r}.",
                at=("order",),
            )
        if "≈" in signs and not self.within:
            raise InputError("`≈` needs `within`, the points by which the sides may differ.", at=("within",))

    @property
    def names(self) -> tuple[str, ...]:
        """The systems, as the file names them."""
        return tuple(self.order.split()[::2])

    @property
    def orderings(self) -> tuple[Ordering, ...]:
        """Each system against the next one."""
        words = self.order.split()
        return tuple(self._between(*words[start : start + 3]) for start in range(0, len(words) - 2, 2))

    def _between(self, left: str, sign: str, right: str) -> Ordering:
        (one, drf), (other, others_drf) = _side(left), _side(right)
        return Ordering(
            one,
            sign,  # type: ignore[arg-type]
            other,
            short=0.0 if sign == ">" else self.within,
            always=True,
            drf=(drf, others_drf),
            tasks=self.tasks,
            targets=self.targets,
            metric=self.metric,
            source=self.source,
        )


def _side(name: str) -> tuple[Side, int | None]:
    """A system with its regime and layer reduction factor, and its hidden one."""
    found = NAME.fullmatch(name)
    assert found
    system, lrf, drf, regime = found.groups()
    return (system + (regime or ""), int(lrf) if lrf else None), int(drf) if drf else None
