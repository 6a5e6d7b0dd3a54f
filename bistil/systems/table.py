"""The systems that can be compared: for each, in one line, what model it is and how it learns the task.

Notable: planner, pipeline, results and workbench read this one table, so a new system is one entry here and,
where it is a new kind of student, one recipe in `pipeline/`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class System:
    """How a system comes about.

    Attributes: told: what it is, a sentence for reports. recipe: how its general student is made,
        `_<recipe>_student` of the pipeline; "" for the teacher itself. languages: what a student is distilled
        on: "pair" (source and target, vocabulary cut to them) or "seen" (all that the teacher saw). adapted:
        its base wears language SFTs, of the source in task tuning and of the target when it is used. forced:
        task tuning follows `teacher-ltsft` instead of gold labels. select: what may change in task tuning,
        and in the language SFTs of an adapted one, as `LotteryConfig.select`; None for what the experiment's
        settings say. peft: the task is tuned by this method of the `peft` library, at the density of the
        experiment's settings. spiel: the task is tuned by this variant of SpIEL, at that density.
    """

    told: str
    recipe: str = ""
    languages: Literal["pair", "seen"] = "pair"
    adapted: bool = False
    forced: bool = False
    select: Literal["random", "biases", "all", "none"] | None = None
    peft: Literal["lora", "ia3"] | None = None
    spiel: Literal["ag", "ma"] | None = None

    @property
    def one_phase(self) -> bool:
        """Whether task tuning is one phase, whatever the experiment's method."""
        return bool(self.select or self.peft or self.spiel)


SYSTEMS: Mapping[str, System] = {
    "teacher-ltsft": System(
        told=(
            "The multilingual teacher with a language SFT and a task SFT (LT-SFT): the mark the students are"
            " measured against."
        ),
        adapted=True,
    ),
    "teacher-no-adaptation": System(
        told="The same teacher with a task SFT only; it learnt nothing more of the target language."
    ),
    "teacher-full": System(
        told="The teacher fine-tuned on the task in all its parameters, without language SFTs.", select="all"
    ),
    "teacher-head": System(told="The teacher as it is, only the task's head being trained.", select="none"),
    "teacher-bitfit": System(
        told="The teacher with language and task SFTs of its biases only (BitFit).",
        adapted=True,
        select="biases",
    ),
    "teacher-rand-sft": System(
        told=(
            "The teacher with language and task SFTs of the same density as LT-SFT's, of parameters chosen at"
            " random (rand-SFT)."
        ),
        adapted=True,
        select="random",
    ),
    "teacher-lora": System(
        told=(
            "The teacher tuned on the task by LoRA with as many trainable values as a task SFT has, without"
            " language SFTs."
        ),
        peft="lora",
    ),
    "teacher-ia3": System(
        told=(
            "The teacher tuned on the task by (IA)³, which has far fewer trainable values, without language"
            " SFTs."
        ),
        peft="ia3",
    ),
    "teacher-spiel-ag": System(
        told=(
            "The teacher tuned on the task by SpIEL-AG, whose changing entries are grown by averaged"
            " gradients, without language SFTs."
        ),
        spiel="ag",
    ),
    "teacher-spiel-ma": System(
        told=(
            "The teacher tuned on the task by SpIEL-MA, whose changing entries are grown by SM3's"
            " accumulators, without language SFTs."
        ),
        spiel="ma",
    ),
    "bistil-tf": System(
        told=(
            "BiStil, teacher-forced: a bilingual student that follows the language-adapted teacher in both"
            " stages."
        ),
        recipe="bilingual",
        forced=True,
    ),
    "bistil-st": System(
        told=(
            "BiStil, self-taught: the same student after stage 1, its task SFT trained on gold labels without"
            " a teacher."
        ),
        recipe="bilingual",
    ),
    "multilingual-distil": System(
        told=(
            "A student of the same depth distilled on all seen languages, full vocabulary, by the losses of"
            " stage 1."
        ),
        recipe="multilingual",
        languages="seen",
        adapted=True,
    ),
    "distilmbert": System(
        told=(
            "A student of the same depth distilled on all seen languages, full vocabulary, by DistilBERT's"
            " recipe; own language SFTs."
        ),
        recipe="distilmbert",
        languages="seen",
        adapted=True,
    ),
    "distilmbert-pair": System(
        told="A bilingual student distilled from the teacher as it is by DistilBERT's recipe.",
        recipe="distilmbert",
    ),
    "minilm": System(
        told=(
            "A student of the same depth distilled on all seen languages, full vocabulary, by MiniLMv2's"
            " self-attention relations."
        ),
        recipe="minilm",
        languages="seen",
    ),
    "scratch": System(
        told=(
            "A bilingual student of the same size, trained by masked language modelling from random weights."
        ),
        recipe="scratch",
    ),
    "floor": System(
        told=(
            "What a trivial guess scores: the majority label, every word attached to its neighbour, or the"
            " first words of a text."
        )
    ),
}
WHOLE = tuple(name for name, system in SYSTEMS.items() if not system.recipe)
REDUCED = tuple(name for name, system in SYSTEMS.items() if system.recipe)
NARROW = ("bistil-tf", "bistil-st")
TEACHER = "teacher-ltsft"


def shared_student(name: str) -> str:
    """The first system with the same general student: it is made once for all of them."""
    own = SYSTEMS[name]
    return next(
        first
        for first, other in SYSTEMS.items()
        if (other.recipe, other.languages) == (own.recipe, own.languages)
    )


def in_results(name: str, drf: int) -> str:
    """A system's name in result rows, which have no column for the hidden reduction factor:
    bistil-tf-drf2.
    """
    return name if drf == 1 else f"{name}-drf{drf}"


def from_results(name: str) -> tuple[str, int]:
    """The system and the hidden reduction factor that a name in result rows stands for."""
    match = re.fullmatch(r"(.+)-drf(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 1)


def told(name: str) -> str:
    """What a system in result rows is, in a sentence or two; "" for one that is not of this table."""
    system, drf = from_results(name)
    narrow = (
        f" Its hidden size, heads and feed-forward layers are {drf} times narrower too." if drf > 1 else ""
    )
    return SYSTEMS[system].told + narrow if system in SYSTEMS else ""


def rank(name: str) -> tuple[int, int]:
    """The place in the table of a system in result rows, narrower students after whole ones; strangers come
    last.
    """
    system, drf = from_results(name)
    return (list(SYSTEMS).index(system) if system in SYSTEMS else len(SYSTEMS), drf)
