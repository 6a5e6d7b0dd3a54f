"""A first experiment of one's own: its file and the language table of its data folder.

Notable: the file is text that exists, cut and filled in, so every value keeps the remark on its source.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml
from transformers import PreTrainedConfig

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.miniworld.settings import load_settings
from bistil.models.architectures import student_config
from bistil.models.packaged import teacher_config
from bistil.plan.profiles import PROFILES, Profile, has_mlm_head, profile
from bistil.settings.files import read_text
from bistil.settings.places import DATA, check_name
from bistil.sources.get import FOLDERS, add_to_table, place
from bistil.sources.table import DataSet, data_sets
from bistil.sources.write import SUFFIXES
from bistil.systems.layers import start_layers
from bistil.systems.table import FLOOR, FORCED, TEACHER
from bistil.tasks import TASKS, column
from bistil.text.languages import CODE, read_table
from bistil.text.written import filled_folder

EXPERIMENT, TABLE = "experiment.yaml", "languages.csv"
FORMATS = {
    "text": "lines",
    "parsing": "conllu",
    "pos": "conllu",
    "ner": "iob2",
    "nli": "pairs",
    "classification": "labels",
    "choice": "choices",
    "qa": "squad",
}
"""Task -> the format of its files."""
AS = {"pos": "parsing"}
"""Task -> the one whose data sets and folder it shares."""
WIDE_VOCABULARY = 200_000
PAPERS = "# In the remarks P is the BiStil paper (2023), T Ansell's thesis (2024), T4 its chapter on LT-SFT."
XLMR_DENSITY = "0.028"
"""The 7.6 M entries of LT-SFT's language SFTs as a share of XLM-R; paper-ner.yaml has mBERT's share."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a first experiment is about.

    Attributes:
        name: Of the experiment, and of its new folder.
        teacher: A hub name, a folder, or a teacher in a package.
        source: The language that has task data.
        target: The language that has none.
        task: One of the tasks.
        size: The name of a profile; None: by the teacher's configuration.
    """

    name: str
    teacher: str
    source: str
    target: str
    task: str
    size: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.task not in FORMATS or self.task not in TASKS:
            known = ", ".join(task for task in FORMATS if task in TASKS)
            raise InputError(f"A task, one of {known}, was expected, but got {self.task!r}.")
        for code in (self.source, self.target):
            if not CODE.fullmatch(code):
                raise InputError(f"A language code such as eng or swa was expected, but got {code!r}.")
        if self.source == self.target:
            raise InputError(
                f"Two languages were expected, but source and target are both {self.source!r}. The source has"
                " task data, the target has none."
            )

    @property
    def miniworld(self) -> bool:
        """Whether the languages are invented ones, whose data bistil makes."""
        return Path(self.teacher).name == "miniworld"


def begin(wish: Wish, folder: Path) -> tuple[Experiment, Profile]:
    """Write the experiment, and the language table unless it is on miniworld, into `folder`, which may be
    there with data in it.

    Raises:
        InputError: where the folder has one of the two already, or the teacher's size is not known and none
            is given.
    """
    invented = [one.code for one in load_settings(DATA / "miniworld.yaml").languages]
    if wish.miniworld and (other := {wish.source, wish.target} - {*invented}):
        raise InputError(
            f"Two of miniworld's languages, {', '.join(invented)}, were expected, since {wish.teacher} reads"
            f" no others, but got {min(other)}. Take another teacher: e5-small, or one by `bistil pretrain`."
        )
    config = teacher_config(wish.teacher)
    fitted = _fitted(wish, config)
    with filled_folder(folder, (EXPERIMENT, TABLE)) as made:
        text = _text(wish, fitted, config)
        (made / EXPERIMENT).write_text(text, encoding="utf-8", newline="\n")
        experiment = Experiment.read(made / EXPERIMENT)
        if not wish.miniworld:
            for kind in ("text", wish.task):
                under = "corpus" if kind == "text" else column(kind)
                sets = _public(kind, wish.source, wish.target)
                for code in (wish.source, wish.target):
                    add_to_table(made, code, under, _place(kind, code, sets))
    return experiment, fitted


def unknown(wish: Wish) -> Iterator[str]:
    """Of each language of which bistil has heard nothing, a sentence that says so, and codes like its own."""
    known = read_table(DATA / "languages.csv")
    for code in () if wish.miniworld else (wish.source, wish.target):
        if code not in known:
            near = get_close_matches(code, known, 3, 0.6)
            told = f" Did you mean {', '.join(f'{one} ({known[one].name})' for one in near)}?" if near else ""
            yield f"{code} is no language that bistil has heard of: taken as a new one.{told}"


def _fitted(wish: Wish, config: PreTrainedConfig | None) -> Profile:
    if wish.size is not None:
        return next(one for one in PROFILES if one.name == wish.size)
    if config is None:
        raise InputError(
            f"The size of the teacher {wish.teacher!r} is not known: it is no folder here and not in"
            f" data/public-teachers.yaml. Give --size {'|'.join(one.name for one in PROFILES)} (base: a width"
            " of 768 or more), or a folder that has its config.json."
        )
    return profile(config)


def _text(wish: Wish, fitted: Profile, config: PreTrainedConfig | None) -> str:
    """The experiment file: the profile's, with this teacher, these languages and this task."""
    parts = dict(_parts(DATA / "experiments" / f"{fitted.files['']}.yaml"))
    tasks = dict(_parts(DATA / "experiments" / f"{fitted.files[wish.task]}.yaml"))["task"]
    if config is not None and not has_mlm_head(config):
        parts["language_sft"] = "language_sft: null  # this teacher has no head that predicts masked tokens\n"
    elif config is not None and fitted.name == "base" and config.vocab_size > WIDE_VOCABULARY:
        parts["language_sft"] = re.sub(r"density: 0\.043", f"density: {XLMR_DENSITY}", parts["language_sft"])
    sets = (
        {}
        if wish.miniworld
        else {
            kind: [entry.name for entry in found]
            for kind in ("text", wish.task)
            if (found := _public(kind, wish.source, wish.target))
        }
    )
    lines = [
        f"# yaml-language-server: $schema={DATA / 'experiments' / 'schema.json'}",
        f"# {wish.task} in {wish.target}, from task data in {wish.source} alone. Written by `bistil new`;"
        " every value may be changed.",
        f"# Settings are {fitted.source}: those of data/experiments/{fitted.files['']}.yaml, of the task"
        f" those of {fitted.files[wish.task]}.yaml.",
        *([PAPERS] if fitted.name == "base" else []),
        f"name: {_scalar(wish.name)}",
        f"data: {'miniworld' if wish.miniworld else 'folder'}",
        *([f"data_sets: {{{', '.join(_listed(*one) for one in sets.items())}}}"] if sets else []),
        f"teacher: {_scalar(wish.teacher)}",
        f"source: {_scalar(wish.source)}",
        f"targets: {{{wish.task}: [{_scalar(wish.target)}]}}",
        f"systems: [{', '.join(_systems(config))}]",
        "seeds: [1]  # more seeds tell more: [1, 2, 3] takes three times as long, language SFTs aside",
        parts["text"].rstrip("\n"),
        "vocabulary: {threshold: 1.0e-6, characters: scripts}  # all characters of both languages' scripts",
        *(parts[name].rstrip("\n") for name in ("language_sft", "general", "scratch")),
        "task:",
        _task(tasks, wish.task),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _scalar(text: str) -> str:
    """A text as YAML reads it again: in quotes where it would be a number, yes or no, or nothing."""
    return yaml.safe_dump(text, width=math.inf).splitlines()[0]


def _listed(kind: str, names: list[str]) -> str:
    return f"{kind}: [{', '.join(names)}]"


def _parts(path: Path) -> Iterator[tuple[str, str]]:
    """The top-level keys of an experiment file, each with its text."""
    text = "\n".join(line for line in read_text(path).split("\n") if not line.startswith("#"))
    for block in re.split(r"(?m)^(?=[a-z_]+:)", text):
        if name := re.match(r"([a-z_]+):", block):
            yield name[1], block


def _task(block: str, task: str) -> str:
    """The settings of one task of a file's `task`; those of its first one for a task that it has not."""
    found = {
        name[1]: own
        for own in re.split(r"(?m)^(?=  [a-z]+:)", block)
        if (name := re.match(r"  ([a-z]+):", own))
    }
    fitting = next(found[name] for name in (task, "ner", *found) if name in found)
    fitting = re.sub(r"(\n *#.*)+\Z", "\n", fitting.rstrip())  # a remark on the next task
    return re.sub(r"\A  [a-z]+:", f"  {task}:", fitting)


def _systems(config: PreTrainedConfig | None) -> list[str]:
    """The teacher, BiStil's student at every usual reduction that this teacher allows, and the floor."""
    students = [f"{FORCED}:{lrf}" for lrf in (2, 3) if config is None or _divides(config, lrf)]
    return [TEACHER, *students, FLOOR]


def _divides(config: PreTrainedConfig, lrf: int) -> bool:
    try:
        student_config(config, start_layers("uniform", config.num_hidden_layers, lrf))
    except InputError:
        return False
    return True


def _public(kind: str, source: str, target: str) -> list[DataSet]:
    """Data sets that can be fetched for this: one for both languages, or one for each that has one; that of
    the source has a split to train on.
    """
    known = [one for one in data_sets().values() if one.task == AS.get(kind, kind) and one.fetched]
    taught = [one for one in known if source in one.languages and "train" in one.splits]
    tested = [one for one in known if target in one.languages]
    return [one for one in taught if one in tested][:1] or taught[:1] + tested[:1]


def _place(kind: str, code: str, sets: Sequence[DataSet]) -> str:
    """Where a language's files of a kind are expected: where `bistil data get` puts them, if the sets have
    them.
    """
    for entry in sets:
        if code in entry.languages:
            return place(entry, code)
    suffix = SUFFIXES[FORMATS[kind]]
    folder = FOLDERS.get(AS.get(kind, kind), kind)
    return f"{folder}/{code}.{suffix}" if kind == "text" else f"{folder}/{code}-{{split}}.{suffix}"
