"""Settings fitted to a teacher's size: which experiment file they are taken from, and where an experiment's
own steps and rates lie far from them.

Notable: a profile holds no numbers of its own. The files in data/experiments do, each value with its source.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from transformers import PreTrainedConfig

from bistil.experiment import Experiment
from bistil.models.packaged import teacher_config
from bistil.plan.estimate import schedules
from bistil.settings.places import DATA
from bistil.training.loop import Schedule

FAR = 5.0
"""How many times a rate, FEW how many times fewer steps than the profile's are worth a warning."""
FEW = 10.0
CPU_TFLOPS = 0.088
"""What one processor core sustained in stage 1 at mBERT's size, by the plan's count of FLOPs: 5.25 s a step
on two cores (reports/bench/step.json).
"""


@dataclass(frozen=True)
class Profile:
    """Settings for teachers of one size.

    Attributes:
        name: How the command line calls it.
        widest: The largest hidden size that it is for.
        files: By task, the experiment file that has the settings of the task; that of `""` has all others.
        source: Where the numbers come from, in words.
        most: The rows of a data set's split that are enough for these steps.
    """

    name: str
    widest: float
    files: Mapping[str, str]
    source: str
    most: int = 20_000

    def read(self, task: str) -> Experiment:
        """The experiment of a task's settings, of all others for `""`."""
        return Experiment.read(DATA / "experiments" / f"{self.files[task]}.yaml")


PROFILES = (
    Profile(
        "tiny",
        256,
        dict.fromkeys(("", "parsing", "ner", "pos"), "demo")
        | dict.fromkeys(("nli", "classification", "choice"), "miniworld-nli")
        | {"qa": "miniworld-qa"},
        "ours, chosen on the miniworld's teacher of 12 layers of 128 (reports/LOG.md)",
    ),
    Profile(
        "small",
        512,
        dict.fromkeys(("", "parsing", "pos"), "real-small-long")
        | dict.fromkeys(("nli", "classification", "choice"), "real-nli")
        | {"ner": "real-ner", "qa": "real-qa"},
        "ours, chosen on teachers of 6 and 12 layers of 384 and real languages (reports/LOG.md)",
    ),
    Profile(
        "base",
        float("inf"),
        {"": "paper-ner", "parsing": "paper-parsing", "ner": "paper-ner", "pos": "paper-parsing"}
        | dict.fromkeys(("nli", "classification", "choice"), "paper-nli")
        | {"qa": "paper-qa"},
        "the papers' for mBERT and XLM-R (BiStil, appendix A; LT-SFT, section 4.4)",
        most=200_000,
    ),
)


def profile(config: PreTrainedConfig) -> Profile:
    """The profile of a teacher, by its width."""
    return next(one for one in PROFILES if config.hidden_size <= one.widest)


def has_mlm_head(config: PreTrainedConfig) -> bool:
    """Whether the checkpoint has a head that predicts masked tokens, without which no language SFT can be
    trained; taken as there where nothing says otherwise.
    """
    return any("MaskedLM" in name for name in config.architectures or ["MaskedLM"])


def misfits(experiment: Experiment) -> list[str]:
    """Sentences on steps and rates of an experiment that are far from those of its teacher's profile; none
    where the teacher's size is not known.
    """
    config = teacher_config(experiment.teacher)
    if config is None:
        return []
    fitted = profile(config)
    return list(chain.from_iterable(_parts(experiment, fitted, config.hidden_size)))


def _parts(experiment: Experiment, fitted: Profile, width: int) -> Iterator[Iterator[str]]:
    def compared(where: str, ours: object, theirs: object) -> Iterator[str]:
        phases, known = list(schedules(ours)), list(schedules(theirs))
        names = ("dense", "sparse") if len(phases) > 1 else ("",)
        for name, one, other in zip(names, phases, known[-len(phases) :], strict=True):
            yield from _far(f"{where}.{name}".rstrip("."), one, other, fitted, width)

    common = fitted.read("")
    students = [experiment.system(name).student for name, *_ in experiment.parsed]
    if any(student and student.follows for student in students):
        yield compared("general", experiment.general, common.general)
    if experiment.language_sft is not None and common.language_sft is not None:
        yield compared("language_sft", experiment.language_sft, common.language_sft)
    for task in experiment.tuned:
        known = fitted.read(task).task.get(task) if task in fitted.files else None
        if known is not None:
            yield compared(f"task.{task}.sft", experiment.task[task].sft, known.sft)


def _far(where: str, ours: Schedule, theirs: Schedule, fitted: Profile, width: int) -> Iterator[str]:
    of = f"for a teacher of width {width}, whose fitting settings ({fitted.name}) are {fitted.source}"
    if ours.steps and ours.steps * FEW <= theirs.steps:  # epochs are not counted yet
        yield f"{where} has {ours.steps:,} steps where {theirs.steps:,} are known to do, {of}."
    if not theirs.learning_rate / FAR <= ours.learning_rate <= theirs.learning_rate * FAR:
        yield (
            f"{where} has a learning rate of {ours.learning_rate:g} where {theirs.learning_rate:g} is known"
            f" to do, {of}."
        )
