"""What an experiment file says: teacher, languages, tasks, systems, seeds, and the settings of every stage.

Notable: the file expands to cells (system, task, target, lrf, seed, drf); everything that cells share is
found by the pipeline, not here."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from bistil.distil.general import GeneralConfig
from bistil.distil.merge import MergeConfig, TeacherSource
from bistil.distil.minilm import MiniLMConfig
from bistil.distil.task import TaskConfig
from bistil.errors import InputError
from bistil.experiment.cell import Cell
from bistil.experiment.check import check
from bistil.settings.ranges import Count, Filled, Seed, Settings, Share
from bistil.settings.yaml import read_yaml
from bistil.sft.config import SftConfig, SftMethod
from bistil.sft.generator import GeneratorConfig
from bistil.sft.language import TextConfig
from bistil.systems import regimes
from bistil.systems.claims import Chain
from bistil.systems.regimes import Regime
from bistil.systems.system import System
from bistil.systems.table import SYSTEMS
from bistil.systems.variants import Variant, adjusted, changed
from bistil.tasks import RETRIEVAL
from bistil.tasks.retrieval import RetrievalConfig
from bistil.tasks.translation import Translator
from bistil.text.typology import TypologyConfig
from bistil.training.loop import Schedule

__all__ = ["Cell", "Experiment", "LanguageSftConfig", "ScratchConfig", "VocabularyConfig"]


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig(Settings):
    """Vocabulary reduction: which tokens of a corpus are kept.

    Attributes:
        threshold: The least share that a token must reach, by the criterion.
        criterion: `unigram`, the share of all tokens, or `sentences`, the share of sentences that have it.
        characters: Which single characters are kept: those in the corpus (`kept`), those of the scripts that
            it is written in (`scripts`, what a student for new text wants), or `all`.
    """

    threshold: Share = 1e-6
    criterion: Literal["unigram", "sentences"] = "unigram"
    characters: Literal["kept", "scripts", "all"] = field(default="kept", metadata={"added_later": True})


@dataclass(frozen=True, kw_only=True)
class LanguageSftConfig(SftMethod):
    """Language SFTs. They are trained once, with seed 1, and shared by all seeds of a run."""


@dataclass(frozen=True, kw_only=True)
class ScratchConfig(Settings):
    """The scratch baseline: masked-language modelling from random weights.

    Attributes:
        schedule: How long and how fast it trains.
        batch_size: Blocks of the corpora in a batch.
    """

    schedule: Schedule
    batch_size: Count = 8


@dataclass(frozen=True, kw_only=True)
class Experiment(Settings):
    """An experiment file.

    Attributes:
        name: The name of the folder under reports/.
        data: An invented world, `miniworld` or `miniworld-wide`, or `folder` for one named by --data or
            BISTIL_DATA.
        teacher: A hub name, or a folder relative to the project.
        source: The language that has task data.
        targets: Languages to be scored, by task.
        systems: Names of systems. A student has its layer reduction factor after a colon, as in bistil-tf:2,
            and a narrower one both factors, as in bistil-tf:2x2. What a task is learnt from may follow after
            an @, as in bistil-tf:2@fs: a name of `regimes`, `in-language`, or `sequential-K` for K shots.
        seeds: The seeds of students and task SFTs.
        text: How unlabelled text is cut and masked.
        vocabulary: Which tokens a student keeps.
        language_sft: How language SFTs are trained, null where nothing is adapted to a language (mDeBERTa in
            BiStil section 4.2).
        general: How students are distilled in stage 1, those of other recipes too.
        scratch: The scratch baseline.
        task: How each task is tuned. Retrieval has no settings here, since nothing is tuned for it.
        seen: What multilingual students are distilled on; empty for every language that the table calls seen.
        minilm: What is MiniLMv2's own.
        schedules: By system, the schedule of its task tuning instead of the task's `sparse`, for those that
            have one phase only (full fine-tuning, say).
        groups: Languages that share one student with the source, instead of one student for each target. How
            often each is drawn is `weights` under `general`.
        retrieval: How sentences are compared where `retrieval` is among the targets.
        data_sets: By task, entries of data/datasets.yaml that `bistil data get` makes the data folder of, the
            source language's first.
        variants: Systems of the experiment's own, each another one with something changed.
        teachers: Several teachers by name, for students that merge them, and ready-made models for variants
            that are one (`model`).
        merge: How these become one student.
        language_adapter: How language adapters are trained, for systems that wear them.
        typology: Where features of languages come from, for systems that need them.
        generator: How the generator of language adapters is trained, for systems that wear generated ones.
        at_floor: Whether students that follow a teacher which learnt nothing of the task (its score on
            validation data is that of a guess) are built (`continue`) or not (`stop`).
        regimes: From which examples a system learns its task, by the name that follows its own after an @.
        translators: Who translates task data, by name; a regime that names none has the first.
        claims: Orderings of its systems that a text claims, put to the test in its report.
        target_groups: Groups of targets by name. Reports have means over each, and a claim may name one among
            its targets.
        on_source: Whether what learns its task from the source is scored on the source's own test file too.
    """

    name: str
    data: str
    teacher: str
    source: str
    targets: dict[str, tuple[str, ...]]
    systems: Annotated[tuple[str, ...], Filled()]
    seeds: Annotated[tuple[Seed, ...], Filled()]
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
    variants: dict[str, Variant] = field(default_factory=dict)
    teachers: dict[str, TeacherSource] = field(default_factory=dict)
    merge: MergeConfig | None = None
    language_adapter: LanguageSftConfig | None = field(default=None, metadata={"added_later": True})
    typology: TypologyConfig | None = field(default=None, metadata={"added_later": True})
    generator: GeneratorConfig | None = field(default=None, metadata={"added_later": True})
    at_floor: Literal["stop", "continue"] = field(default="stop", metadata={"added_later": True})
    regimes: dict[str, Regime] = field(default_factory=dict, metadata={"added_later": True})
    translators: dict[str, Translator] = field(default_factory=dict, metadata={"added_later": True})
    claims: tuple[Chain, ...] = field(default=(), metadata={"added_later": True})
    target_groups: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata={"added_later": True})
    on_source: bool = field(default=False, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self)

    @property
    def typology_among(self) -> tuple[str, ...]:
        """Languages named to stand in for those that have no adapter; () where it is those of the
        generator.
        """
        return self.typology.among if self.typology else ()

    def merging(self, name: str) -> MergeConfig:
        """How a system merges teachers: as `merge` says, with what differs for the system.

        Raises:
            InputError: where the experiment does not say it.
        """
        if self.merge is None:
            raise InputError(f"{name} is of several `teachers`: name them, and give `merge`.")
        found: MergeConfig = adjusted(MergeConfig, self.merge, self.system(name).merge, f"merge of {name}")
        return found

    @classmethod
    def read(cls, path: Path) -> "Experiment":
        """Read and check an experiment file."""
        return read_yaml(cls, path)

    def of_seeds(self, seeds: Sequence[int]) -> "Experiment":
        """The experiment with some of its seeds alone, in its own order; all of them where none is named.

        Raises:
            InputError: for one that it does not have.
        """
        if strangers := sorted({*seeds} - {*self.seeds}):
            raise InputError(
                f"Seeds of {self.name} were expected, which has {', '.join(map(str, self.seeds))}, but got"
                f" {', '.join(map(str, strangers))}. Name others, or add them under `seeds` in its file."
            )
        return dataclasses.replace(self, seeds=tuple(s for s in self.seeds if s in seeds)) if seeds else self

    def from_source(self, source: str) -> "Experiment":
        """The experiment with another source, which is a target no longer: where a task had no other, they
        change places.
        """
        if source == self.source:
            return self
        targets = {
            task: tuple(code for code in codes if code != source) or (self.source,) * bool(codes)
            for task, codes in self.targets.items()
        }
        groups = (tuple(code for code in group if code != source) for group in self.groups)
        return self.narrowed(source=source, targets=targets, groups=tuple(filter(None, groups)))

    def narrowed(self, **changes: Any) -> "Experiment":
        """The experiment with entries changed, as studies do, and without what is said of all its targets."""
        return dataclasses.replace(self, **changes, claims=(), target_groups={})

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

        Raises:
            InputError: where the experiment has none.
        """
        if cell.task not in self.task:
            raise InputError(
                f"Settings for {cell.task} under `task` of the experiment {self.name} were expected; add them"
                " to its file."
            )
        system = self.system(cell.system)
        config, learning = self.task[cell.task], system.learning
        settings = config.adapter if learning.adapter and config.adapter else config.sft
        sft = SftConfig(**{**vars(settings), "seed": cell.seed})
        if learning.one_phase:
            own = self.schedules.get(cell.without_regime.system, sft.sparse)
            sft = dataclasses.replace(sft, sparse=own)
        way = learning.select or learning.spiel or learning.peft
        asked = {"interval": learning.interval, "schedule": learning.falls, "doubtful": learning.doubtful}
        sft = sft.by(way, **{name: value for name, value in asked.items() if value}) if way else sft
        if learning.embeddings == "frozen" and sft.lottery is not None:
            sft = dataclasses.replace(sft, lottery=dataclasses.replace(sft.lottery, freeze_embeddings=True))
        if learning.part == "shared":
            assert system.student is not None, "a system is checked to be of a family"
            sft = sft.within(only=tuple(one for one in system.student.share if one != "head"))
        elif learning.part:
            sft = sft.within(part=learning.part)
        config = dataclasses.replace(config, sft=sft, adapter=None)
        return self._further(cell, config) if system.then is not None else config

    def _further(self, cell: Cell, config: TaskConfig) -> TaskConfig:
        """The settings by which a finished model is tuned further: the same entries, for some epochs of the
        shots that were asked for.
        """
        system = self.system(cell.system)
        then, lottery = system.then, config.sft.lottery
        assert then is not None
        assert lottery is not None
        shots = sum(rows.most or 0 for rows in system.further)
        if any(rows.language == "targets" for rows in system.further):
            shots *= len(self.targets[cell.task])
        steps = then.epochs * math.ceil(shots / then.batch_size)
        schedule = dataclasses.replace(
            config.sft.sparse.of_steps(steps),
            learning_rate=then.learning_rate,
            evaluations=1,
            accumulation=1,
        )
        if lottery.select not in ("all", "none"):
            lottery = dataclasses.replace(lottery, select="given")
        sft = dataclasses.replace(config.sft, lottery=lottery, dense=None, sparse=schedule)
        return dataclasses.replace(config, sft=sft, batch_size=then.batch_size, head_learning_rate=None)

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
            for system, lrf, drf in self.parsed
        ]

    def scores_source(self, cell: Cell) -> bool:
        """Whether a cell's model is scored on the source's test file too."""
        system = self.system(cell.system)
        reads = {rows.language for rows in (*system.learning.rows, *system.further)}
        learns = not system.guesses and not system.translated_test and reads & {"source", self.source}
        return self.on_source and cell.task in self.tuned and bool(learns)

    @property
    def weighed(self) -> tuple[str, ...]:
        """The languages that shares and weights name."""
        named = (self.general.weights, self.general.held_out_shares, self.text.held_out_shares)
        return tuple(dict.fromkeys(code for one in named for code in one or ()))

    @property
    def all_systems(self) -> tuple[str, ...]:
        """Every name that may stand under `systems`: those of the table, then the variants."""
        return (*SYSTEMS, *self.variants)

    def system(self, name: str) -> System:
        """The system of a name, from the table or from `variants`, under the regime after an @.

        Raises:
            InputError: where neither has it, or there is no such regime.
        """
        if name not in self._systems:
            self._systems[name] = self._made(name)
        return self._systems[name]

    @cached_property
    def _systems(self) -> dict[str, System]:
        """Those that were asked for, by name: every cell asks for its own, and often."""
        return {}

    def _made(self, name: str) -> System:
        if "@" in name:
            plain, _, regime = name.partition("@")
            translator = next(iter(self.translators), "")
            return regimes.under(self.system(plain), regimes.find(regime, self.regimes), translator)
        if name in self.variants:
            variant = self.variants[name]
            return changed(self.system(variant.of), variant)
        if name not in SYSTEMS:
            near = get_close_matches(name, self.all_systems, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"{name!r} is not a system.{hint} There are: {', '.join(self.all_systems)}.")
        return SYSTEMS[name]

    def named(self, cell: Cell) -> str:
        """A cell's system as an experiment file names it: bistil-tf:2, or bistil-tf:2x2 with both factors."""
        if not self.system(cell.system).reduced:
            return cell.system
        system, *regime = cell.system.partition("@")
        return f"{system}:{cell.lrf}" + (f"x{cell.drf}" if cell.drf > 1 else "") + "".join(regime)

    @cached_property
    def parsed(self) -> list[tuple[str, int, int]]:
        """Each of `systems` with its layer and hidden reduction factor, both 1 for a whole model."""
        return [self.parse_system(name) for name in self.systems]

    def parse_system(self, name: str, *, at: tuple[str | int, ...] = ()) -> tuple[str, int, int]:
        """Read a name as an experiment file gives it: bistil-tf:2x2 has 2 and 2, a whole model 1 and 1.

        Raises:
            InputError: where it names no system, or factors that the system has not.
        """
        plain, *regime = name.partition("@")
        match = re.fullmatch(r"([a-z0-9-]+)(?::([1-9][0-9]?)(?:x([1-9][0-9]?))?)?", plain)
        system, lrf, drf = match.groups() if match else (plain, None, None)
        try:
            found = self.system(system + "".join(regime))
        except InputError as error:
            raise InputError(str(error), at=at) from error
        if found.reduced != bool(lrf) or (drf and not found.narrows):
            kinds: dict[bool, list[str]] = {True: [], False: []}
            for one in self.all_systems:
                kinds[self.system(one).reduced].append(one)
            narrow = [one for one in kinds[True] if self.system(one).narrows]
            raise InputError(
                f"{name!r} is not a system. Whole models: {', '.join(kinds[False])}; students, each with its"
                f" layer reduction factor after a colon, as in {narrow[0]}:2: {', '.join(kinds[True])}."
                f" {' and '.join(narrow)} take a hidden reduction factor too: {narrow[0]}:2x2.",
                at=at,
            )
        return system + "".join(regime), int(lrf or 1), int(drf or 1)
