"""What an experiment file says: teacher, languages, tasks, systems, seeds, and the settings of every stage.

Notable: the file expands to cells (system, task, target, lrf, seed); everything that cells share is found by the pipeline, not here.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bistil.distil.general import GeneralConfig
from bistil.distil.task import TaskConfig
from bistil.errors import InputError
from bistil.settings import read_yaml
from bistil.sft.language import TextConfig
from bistil.sft.lottery import LotteryConfig
from bistil.train import Schedule

WHOLE = ("teacher-ltsft", "teacher-no-adaptation", "floor")
REDUCED = ("bistil-tf", "bistil-st", "scratch", "multilingual-distil")


class Cell(NamedTuple):
    """One score to be had. `lrf` is 1 for whole teachers and for the floor."""

    system: str
    task: str
    target: str
    lrf: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """Vocabulary reduction: keep what reaches `threshold` in a corpus by the `criterion` (`unigram` or `sentences`)."""

    threshold: float = 1e-6
    criterion: str = "unigram"

    def __post_init__(self) -> None:
        if self.criterion not in ("unigram", "sentences") or not 0 <= self.threshold <= 1:
            raise InputError(
                f"A criterion `unigram` or `sentences` with a threshold from 0 to 1 was expected under `vocabulary`, but got {self}."
            )


@dataclass(frozen=True, kw_only=True)
class LanguageSftConfig:
    """Language SFTs: LT-SFT settings and the two phases. They are trained once, with seed 1, and shared by all seeds of a run."""

    lottery: LotteryConfig
    dense: Schedule
    sparse: Schedule


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """The scratch baseline: masked-language modelling from random weights."""

    schedule: Schedule
    batch_size: int = 8


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment file.

    teacher: hub name or folder, relative to the project. data: `miniworld`, or `folder` (named by --data or BISTIL_DATA).
    targets: languages by task. systems: names, with `:lrf` for students. seen: what multilingual-distil is distilled on; empty: every
    language that the table calls seen. language_sft: null where nothing is adapted to a language (mDeBERTa in BiStil section 4.2).
    data_sets: by task, entries of data/datasets.yaml that `bistil data get` makes the data folder of; the source language's first.
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
    data_sets: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.systems:
            system, _, lrf = name.partition(":")
            if not (system in WHOLE and not lrf) and not (system in REDUCED and re.fullmatch("[1-9][0-9]?", lrf)):
                raise InputError(
                    f"{name!r} is not a system. Whole models: {', '.join(WHOLE)}; students, each with its layer reduction factor after a "
                    f"colon, as in bistil-tf:2: {', '.join(REDUCED)}."
                )
        lacking = sorted(set(self.targets) - set(self.task))
        if lacking:
            raise InputError(f"The experiment {self.name} has targets for {lacking[0]} but no settings for it under `task`.")
        if self.data not in ("miniworld", "folder"):
            raise InputError(f"`data` of the experiment {self.name} should be `miniworld` or `folder`, but is {self.data!r}.")
        if not self.seeds or not any(self.targets.values()):
            raise InputError(f"The experiment {self.name} needs at least one seed and one target.")

    @classmethod
    def read(cls, path: Path) -> "Experiment":
        """Read and check an experiment file."""
        return read_yaml(cls, path)

    def cells(self) -> list[Cell]:
        """Every score of the grid: by seed, then every task's first target, every task's second, and so on."""
        longest = max(map(len, self.targets.values()))
        return [
            Cell(system, task, targets[rank], int(lrf or 1), seed)
            for seed in self.seeds
            for rank in range(longest)
            for task, targets in self.targets.items()
            if rank < len(targets)
            for system, _, lrf in (name.partition(":") for name in self.systems)
        ]
