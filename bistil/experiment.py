"""What an experiment file says: teacher, languages, tasks, systems, seeds, and the settings of every stage.

Notable: the file expands to cells (system, task, target, lrf, seed, drf); everything that cells share is
found by the pipeline, not here."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bistil.distil.general import GeneralConfig
from bistil.distil.minilm import MiniLMConfig
from bistil.distil.task import TaskConfig
from bistil.errors import InputError
from bistil.settings.places import check_name
from bistil.settings.yaml import read_yaml
from bistil.sft.config import SftMethod
from bistil.sft.language import TextConfig
from bistil.systems.table import NARROW, REDUCED, SYSTEMS, TEACHER, WHOLE, in_results
from bistil.tasks.retrieval import RetrievalConfig
from bistil.training.loop import Schedule

RETRIEVAL = "retrieval"


class Cell(NamedTuple):
    """One score to be had. `lrf` is 1 for whole teachers and for the floor; `drf` is above 1 for narrower
    students only.
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
        """The same score of the language-adapted teacher."""
        return self._replace(system=TEACHER, lrf=1, drf=1)

    @property
    def in_results(self) -> str:
        """The system's name in result rows."""
        return in_results(self.system, self.drf)

    @property
    def named(self) -> str:
        """The system as an experiment file names it: bistil-tf:2, or bistil-tf:2x2 with a hidden reduction
        factor.
        """
        if self.system in WHOLE:
            return self.system
        return f"{self.system}:{self.lrf}" + (f"x{self.drf}" if self.drf > 1 else "")


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """Vocabulary reduction: keep what reaches `threshold` in a corpus by the `criterion` (`unigram` or
    `sentences`), and of single `characters` those in it (`kept`), those of the scripts that a corpus is
    written in (`scripts`, what a student for new text wants), or `all`.
    """

    threshold: float = 1e-6
    criterion: str = "unigram"
    characters: str = field(default="kept", metadata={"added_later": True})

    def __post_init__(self) -> None:
        known = self.characters in ("kept", "scripts", "all") and self.criterion in ("unigram", "sentences")
        if not known or not 0 <= self.threshold <= 1:
            raise InputError(
                "A criterion `unigram` or `sentences` with a threshold from 0 to 1, and characters `kept`,"
                f" `scripts` or `all`, were expected under `vocabulary`, but got {self}."
            )


@dataclass(frozen=True, kw_only=True)
class LanguageSftConfig(SftMethod):
    """Language SFTs. They are trained once, with seed 1, and shared by all seeds of a run."""


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """The scratch baseline: masked-language modelling from random weights."""

    schedule: Schedule
    batch_size: int = 8


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment file.

    teacher: hub name or folder, relative to the project. data: `miniworld`, or `folder` (named by --data or
    BISTIL_DATA). targets: languages by task. systems: names, with `:lrf` for students, or `:lrfxdrf` for a
    BiStil student that is narrower too. seen: what multilingual students are distilled on; empty: every
    language that the table calls seen. Students by other recipes are distilled as long as `general` says;
    minilm: what is MiniLMv2's own. schedules: by system, the schedule of its task tuning instead of the
    task's `sparse`, for those that have one phase only (full fine-tuning, say). groups: languages that share
    one student with the source, instead of one student for each target; how often each is drawn is `weights`
    under `general`. retrieval: how sentences are compared where `retrieval` is among the targets; nothing is
    tuned for it, so it has no settings under `task`. language_sft: null where nothing is adapted to a
    language (mDeBERTa in BiStil section 4.2). data_sets: by task, entries of data/datasets.yaml that `bistil
    data get` makes the data folder of; the source language's first.
    """

    name: str
    data: str
    teacher: str
    source: str
    targets: dict[str, tuple[str, ...]]
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    text: TextConfig
    vocabulary: VocabularyConfig
    language_sft: LanguageSftConfig | None
    general: GeneralConfig
    scratch: ScratchConfig
    task: dict[str, TaskConfig]
    seen: tuple[str, ...] = ()
    minilm: MiniLMConfig = field(default_factory=MiniLMConfig)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    groups: tuple[tuple[str, ...], ...] = ()
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    data_sets: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        for number, name in enumerate(self.systems):
            parse_system(name, at=("systems", number))
        single = [name for name, system in SYSTEMS.items() if system.one_phase]
        if strangers := sorted(set(self.schedules) - set(single)):
            told = (
                f"`schedules` is for systems tuned in one phase, {', '.join(single)}; {strangers[0]!r} is"
                " none of them."
            )
            raise InputError(told, at=("schedules", strangers[0]))
        if any(name.startswith("distilmbert") for name in self.systems) and not self.general.mask_share:
            told = "DistilBERT's recipe predicts masked tokens: give a `mask_share` above 0 under `general`."
            raise InputError(told, at=("general",))
        lacking = sorted(set(self.targets) - set(self.task) - {RETRIEVAL})
        if lacking:
            told = (
                f"The experiment {self.name} has targets for {lacking[0]} but no settings for it under"
                " `task`."
            )
            raise InputError(told, at=("targets", lacking[0]))
        if self.data not in ("miniworld", "folder"):
            told = (
                f"`data` of the experiment {self.name} should be `miniworld` or `folder`, but is"
                f" {self.data!r}."
            )
            raise InputError(told, at=("data",))
        if not self.seeds or not any(self.targets.values()):
            told = f"The experiment {self.name} needs at least one seed and one target."
            raise InputError(told, at=("targets" if self.seeds else "seeds",))
        grouped = [self.source, *(code for group in self.groups for code in group)]
        if len(set(grouped)) < len(grouped) or not all(self.groups):
            told = (
                "Each of `groups` should name languages other than the source, none of them twice, but got"
                f" {self.groups}."
            )
            raise InputError(told, at=("groups",))

    @classmethod
    def read(cls, path: Path) -> "Experiment":
        """Read and check an experiment file."""
        return read_yaml(cls, path)

    @property
    def tuned(self) -> dict[str, tuple[str, ...]]:
        """The targets of every task that models are tuned for; retrieval is none."""
        return {task: targets for task, targets in self.targets.items() if targets and task != RETRIEVAL}

    def languages(self, target: str) -> tuple[str, ...]:
        """What the student of a target is distilled on: the source, then the target, or all languages of the
        target's group.
        """
        return self.source, *next((group for group in self.groups if target in group), (target,))

    def task_config(self, cell: Cell) -> TaskConfig:
        """The task's settings with the cell's seed, and with the system's own choice of what changes and for
        how long.

        :raises InputError: where the experiment has none.
        """
        if cell.task not in self.task:
            raise InputError(
                f"Settings for {cell.task} under `task` of the experiment {self.name} were expected; add them"
                " to its file."
            )
        config, system = self.task[cell.task], SYSTEMS[cell.system]
        sft = dataclasses.replace(config.sft, seed=cell.seed)
        if system.one_phase:
            sft = dataclasses.replace(sft, sparse=self.schedules.get(cell.system, sft.sparse))
        if system.select:
            sft = sft.selecting(system.select)
        if system.spiel:
            sft = sft.by_spiel(system.spiel)
        if system.peft:
            sft = sft.by_peft(system.peft)
        return dataclasses.replace(config, sft=sft)

    def cells(self) -> list[Cell]:
        """Every score of the grid: by seed, then every task's first target, every task's second, and so
        on.
        """
        longest = max(map(len, self.targets.values()))
        return [
            Cell(system, task, targets[rank], lrf, seed, drf)
            for seed in self.seeds
            for rank in range(longest)
            for task, targets in self.targets.items()
            if rank < len(targets)
            for system, lrf, drf in map(parse_system, self.systems)
        ]


def parse_system(name: str, *, at: tuple[str | int, ...] = ()) -> tuple[str, int, int]:
    """The system, layer and hidden reduction factor of a name in an experiment file: bistil-tf:2x2 has 2 and
    2, a whole model 1 and 1.

    :raises InputError: where it names no system.
    """
    match = re.fullmatch(r"([a-z0-9-]+)(?::([1-9][0-9]?)(?:x([1-9][0-9]?))?)?", name)
    system, lrf, drf = match.groups() if match else ("", None, None)
    if system not in SYSTEMS or (system in REDUCED) != bool(lrf) or (drf and system not in NARROW):
        raise InputError(
            f"{name!r} is not a system. Whole models: {', '.join(WHOLE)}; students, each with its layer"
            f" reduction factor after a colon, as in bistil-tf:2: {', '.join(REDUCED)}."
            f" {' and '.join(NARROW)} take a hidden reduction factor too: bistil-tf:2x2.",
            at=at,
        )
    return system, int(lrf or 1), int(drf or 1)
