"""A system that is compared with others: a student or the teacher, what it wears, how it learns a task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bistil.errors import InputError
from bistil.systems.learning import Adaptation, Learning
from bistil.systems.recipe import Student
from bistil.systems.rows import Rows, Then


@dataclass(frozen=True, kw_only=True)
class System:
    """How a system that is compared with others comes about.

    Attributes:
        told: what it is, a sentence for reports.
        source: where it is described.
        student: how its general student is made; None for the teacher itself.
        adaptation: what it wears for a language.
        learning: how it learns the task.
        colour: its colour in every figure; "" for one made from its name.
        guesses: whether it is no model at all but a trivial guess.
        model: the name, under `teachers` of the experiment's file, of a ready-made model that stands in the
            teacher's place; "" for the teacher itself.
        own_teacher: whether it is, instead of the experiment's teacher, the first that `merge` names for the
            target.
        merge: what differs from the experiment's `merge`, by its keys.
        ours: whether it is the method that the others are compared with.
        then: how the finished model is tuned further; None where it is not.
        further: the examples of that.
        translated_test: the translator that puts the test file into the source language, which the model then
            reads; "" where it reads the file as it is.
    """

    told: str
    source: str = ""
    student: Student | None = None
    adaptation: Adaptation = field(default_factory=Adaptation)
    learning: Learning = field(default_factory=Learning)
    colour: str = ""
    guesses: bool = False
    model: str = ""
    own_teacher: bool = False
    merge: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False
    then: Then | None = None
    further: tuple[Rows, ...] = ()
    translated_test: str = ""

    def __post_init__(self) -> None:
        if self.merges and (self.adaptation.worn != "nothing" or self.learning.follows != "gold"):
            raise InputError("A student of several teachers wears nothing and follows gold labels in tasks.")
        if self.merge and not (self.merges or self.own_teacher):
            raise InputError("`merge` is of a system that merges teachers, which this one does not.")
        if self.guesses and (self.adaptation.worn != "nothing" or self.learning != Learning()):
            raise InputError("A guess wears nothing, and is always made of the source's examples.")
        if self.student is None and self.learning.follows != "gold":
            raise InputError(
                "`follows` is for students, which follow the teacher, but this system is a whole model."
            )
        if self.learning.exposed and not (self.forced or self._wears_in_training):
            raise InputError(
                "`expose` is for systems that wear a language's SFT or adapter while they learn a task, or"
                " whose teacher does, which this one does not."
            )
        if self.model and (self.student or self.guesses or self.own_teacher):
            raise InputError(
                "`model` is for a whole model by itself; students are the experiment's teacher's."
            )
        if (self.model or self.own_teacher) and self.adaptation.hangs:
            raise InputError(
                "Language adapters are the experiment's teacher's, so another model wears language SFTs or"
                " nothing."
            )
        family = self.student is not None and self.student.family
        if family and self.adaptation.worn != "nothing":
            raise InputError("The students of a family are each of one language and wear nothing for it.")
        if self.adaptation.hangs and (self.student is not None or not self.learning.adapter):
            raise InputError(
                "Language adapters are worn by the whole teacher, with an adapter for the task: `learning:"
                " {adapter: true}`."
            )
        if self.adaptation.worn == "sft" and self.learning.adapter:
            raise InputError("A task's adapter goes with language adapters or none: `adaptation: {worn: …}`.")
        sides = self.learning.through, self.learning.used
        if not family and sides != ("target", "target"):
            raise InputError(
                "`through` and `used` choose between the students of a family (`languages: each`), which this"
                " system has not."
            )
        common = set(self.student.share) - {"head"} if family and self.student else set()
        if self.learning.part == "shared" and not common:
            raise InputError(
                "`part: shared` is what the encoders of a family have in common: give `languages: each` and"
                " `share: [embeddings, …]`."
            )
        if self.forced and family and self.learning.through != "target":
            raise InputError("A student that follows the task's teacher is the target's: `through: target`.")

    @property
    def merges(self) -> bool:
        """Whether it is a student of several teachers."""
        return self.student is not None and self.student.merges

    @property
    def reduced(self) -> bool:
        """Whether it is a student whose size is that of its teacher by reduction factors."""
        return self.student is not None and not self.merges

    @property
    def narrows(self) -> bool:
        """Whether it can have a smaller hidden size: as `Student.narrows`, and it learns no language by the
        teacher's masked-LM head, which would not fit.
        """
        return self.student is not None and self.student.narrows and self.adaptation.worn == "nothing"

    @property
    def _wears_in_training(self) -> bool:
        return self.adaptation.worn != "nothing" and self.adaptation.in_training

    @property
    def forced(self) -> bool:
        """Whether it is a student that follows the task's teacher instead of gold labels."""
        return self.student is not None and self.learning.follows == "teacher"

    @property
    def guided(self) -> bool:
        """Whether it is a student that learns from the task's teacher beside gold labels."""
        return self.student is not None and self.learning.follows == "logits"

    @property
    def regime(self) -> str:
        """Which examples, as in result rows, and by whom the test file is translated."""
        then = [f"then {rows}" for rows in self.further]
        test = [f"test by {self.translated_test}"] if self.translated_test else []
        return ", ".join([self.learning.regime, *then, *test])

    @property
    def axes(self) -> dict[str, str]:
        """What it is, a word for each axis, as columns of result rows; empty where one does not apply."""
        student = self.student
        return {
            "recipe": "+".join(sorted(student.terms)) if student else "",
            "start": student.start_told if student else "",
            "layers": student.layers if student and student.follows else "",
            "languages": student.languages if student else "",
            "adaptation": str(self.adaptation),
            "learning": "" if self.guesses else self.learning.told,
            "follows": "" if self.guesses else self.learning.follows,
            "regime": "" if self.guesses else self.regime,
        }
