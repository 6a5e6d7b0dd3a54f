"""What one score of the workbench is about, and the experiment with that in it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from bistil.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one score is about. Whole teachers and the floor ignore `lrf`, and what has the teacher's width
    ignores `drf`. `density` is that of language and task SFTs alike, None for each as in the file.
    """

    teacher: str
    source: str
    target: str
    task: str
    system: str
    lrf: int
    drf: int
    density: float | None
    seed: int


def chosen_experiment(experiment: Experiment, choice: Choice) -> Experiment:
    """The experiment with the choice in it, the seed beside its own; a density that was chosen is put into
    every SFT.
    """
    seeds = tuple(dict.fromkeys([*experiment.seeds, choice.seed]))
    changes: dict[str, Any] = {"teacher": choice.teacher, "seeds": seeds}
    if choice.density is not None:
        if experiment.language_sft is not None:
            changes["language_sft"] = experiment.language_sft.at_density(choice.density)
        changes["task"] = {
            name: dataclasses.replace(one, sft=one.sft.at_density(choice.density))
            for name, one in experiment.task.items()
        }
    return dataclasses.replace(experiment.from_source(choice.source), **changes)


def densities_of(experiment: Experiment, task: str) -> dict[str, float]:
    """The densities of an experiment's language SFTs, where it has any, and of a task's."""
    found = {"language": experiment.language_sft, "task": experiment.task[task].sft}
    return {name: one.density for name, one in found.items() if one is not None}
