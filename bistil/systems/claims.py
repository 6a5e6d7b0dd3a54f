"""The orderings of systems that the papers claim, as data: what is better than what, and at which size.

Notable: a side is a system and its layer reduction factor, None for one that is not reduced.
"""

from typing import Literal, NamedTuple

from bistil.systems.table import FORCED, TEACHER

Side = tuple[str, int | None]


class Ordering(NamedTuple):
    """A claim that `left` scores as high as `right` or higher (`≥`), or higher (`>`).

    Attributes:
        short: points by which the left side may fall short and still be called level.
        always: whether it is told although one side was not run.
    """

    left: Side
    sign: Literal["≥", ">"]
    right: Side
    short: float = 0.0
    always: bool = False


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
    Ordering(("teacher-full", None), ">", ("monoshot", 2)),
    Ordering(("bilingual-monoshot", 2), "≥", ("monoshot", 2)),
    Ordering(("monoshot", 2), ">", ("hinton", 2)),
    Ordering(("monoshot", 2), ">", ("truncated-uniform", 2)),
    Ordering((TEACHER, None), ">", ("teacher-madx", None)),
    Ordering((TEACHER, None), ">", ("teacher-ltsft-task", None)),
    Ordering(("teacher-madx", None), ">", ("teacher-madx-task", None)),
    Ordering((TEACHER, None), ">", ("teacher-rand-sft", None)),
    Ordering(("teacher-rand-sft", None), ">", ("teacher-bitfit", None)),
    Ordering(("teacher-spiel-ag", None), "≥", ("teacher-spiel-ma", None)),
    Ordering(("teacher-spiel-ag", None), "≥", ("teacher-lora", None), short=1.0),
)
RETAINED: Side = (FORCED, 2)
"""The student that is asked to keep a share of the teacher's score."""
