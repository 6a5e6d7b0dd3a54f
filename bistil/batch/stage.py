"""One stage of an experiment, by its id: what a scheduler's job does.

Notable: the id is enough, since the plan of the same experiment, data and teacher has the same ids in every
process. In the folder of a run `begun/<id>`, `done/<id>` and `failed/<id>` tell whoever waits how it went.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bistil.batch.account import Place, Waits
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Stage, foresee, perform
from bistil.settings.files import read_json
from bistil.store.artefacts import Artefact, Store
from bistil.store.whole import write_whole
from bistil.text.languages import DataFolder
from bistil.training.progress import silent

BEGUN, DONE, FAILED, WAITS = "begun", "done", "failed", "waits"


class Ended(NamedTuple):
    """How a stage went: its seconds, and whether it was built rather than found."""

    seconds: float
    new: bool


def stages_of(pipeline: Pipeline) -> dict[str, Stage]:
    """Every stage of a pipeline's experiment by the id that it has or will have.

    Raises:
        InputError: where some file is not at hand, so that ids cannot be known.
    """
    stages = foresee(pipeline.experiment, pipeline.data, pipeline.store, teacher_id=pipeline.teacher_id)
    if unknown := [stage.name for stage in stages.values() if not stage.known]:
        raise InputError(
            f"Every data file of {pipeline.experiment.name} was expected in {pipeline.data.root}, but"
            f" {unknown[0]} lacks one."
        )
    return stages


def build_stage(
    experiment: Experiment, place: Place, name: str, *, device: str | None = None, run: Path | None = None
) -> Artefact:
    """Build the stage with the id `name`, and whatever it lacks, in one thread.

    Args:
        run: folder of the run to tell how it went.

    Raises:
        InputError: where the experiment has no such stage.
    """
    import torch

    if not re.fullmatch(r"[0-9a-f]{16}", name):  # files in the run's folder get this name
        raise InputError(
            f"The id of a stage, 16 digits from 0 to f, was expected, but got {name!r:.100}. `bistil stage`"
            " without an id lists them."
        )
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    start, pipeline = (
        time.perf_counter(),
        Pipeline(
            experiment,
            DataFolder(place.data),
            Store(place.store, Waits(run / WAITS) if run else silent),
            device=device,
        ),
    )
    try:
        stages = stages_of(pipeline)
        if name not in stages:
            told = "with this data and teacher; `bistil stage` without an id lists those it has"
            raise InputError(f"{experiment.name} has no stage {name!r} {told}.")
        artefact = perform(pipeline, stages[name].job)
    except Exception as error:
        if run:
            write_whole(run / FAILED / name, f"{type(error).__name__}: {error}")
        raise
    if run:
        write_whole(
            run / DONE / name, json.dumps(Ended(time.perf_counter() - start, name in pipeline.store.built))
        )
    return artefact


def ended(run: Path) -> Mapping[str, Ended]:
    """The stages that a run's folder tells to be there, by id."""
    return {path.name: Ended(*read_json(path, list)) for path in sorted((run / DONE).glob("[0-9a-f]" * 16))}


def failure(run: Path, name: str) -> str | None:
    """What a run's folder tells of a stage that is not done: its error, a guess where it was begun but told
    none, None where it was not.
    """
    path = run / FAILED / name
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return (
        "its process ended without a word: killed, most likely for want of memory"
        if (run / BEGUN / name).is_file()
        else None
    )


def open_run(run: Path, stages: Mapping[str, Stage]) -> None:
    """Make a run's folder anew, in which what the store has is done already."""
    for folder in (run / BEGUN, run / DONE, run / FAILED):
        folder.mkdir(parents=True)
    for name, stage in stages.items():
        if stage.there:
            write_whole(run / DONE / name, json.dumps(Ended(0.0, False)))
