"""One score of an experiment's grid."""

from typing import NamedTuple

from bistil.systems.table import TEACHER


class Cell(NamedTuple):
    """One score to be had. `lrf` is 1 for whole teachers and for the floor; `drf` is above 1 for narrower
    students only. A system under a regime has that in its name, as in `teacher-ltsft@fs`.
    """

    system: str
    task: str
    target: str
    lrf: int
    seed: int
    drf: int = 1

    def __str__(self) -> str:
        """The fields in words; a hidden reduction factor of 1 goes without saying."""
        return " ".join(str(word) for word in self[:5] if word != "") + (
            f" drf {self.drf}" if self.drf > 1 else ""
        )

    @property
    def of_teacher(self) -> "Cell":
        """The same score of the language-adapted teacher, under the same regime."""
        return self.of_whole(TEACHER)

    def of_whole(self, system: str) -> "Cell":
        """The same score of a system that is no student, under the same regime."""
        return self._replace(system=system + "".join(self.system.partition("@")[1:]), lrf=1, drf=1)

    @property
    def regime(self) -> str:
        """The regime under which the task is learnt; "" for the system's own."""
        return self.system.partition("@")[2]

    @property
    def without_regime(self) -> "Cell":
        """The same score of the system without a regime."""
        return self._replace(system=self.system.partition("@")[0])

    @property
    def timed_as(self) -> str:
        """What the joint timing of models calls this one: system, hidden and layer reduction factor. What a
        task is learnt from changes no model's size.
        """
        return self.without_regime.system + (f"-drf{self.drf}" if self.drf > 1 else "") + f":{self.lrf}"
