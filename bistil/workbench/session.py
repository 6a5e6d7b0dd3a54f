"""Opening an experiment from a notebook: file, data, teacher and store in one call.

Notable: a notebook runs in its own folder, so what an experiment file says relative to the project is found
from here."""

import dataclasses
import threading
from pathlib import Path

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.models.packaged import teacher_folder
from bistil.pipeline import Pipeline
from bistil.settings.places import ROOT
from bistil.sources.folder import open_data
from bistil.store.artefacts import Store
from bistil.training.progress import Listener, silent


def read_experiment(experiment: str | Path | Experiment) -> Experiment:
    """Return an experiment whose teacher can be loaded from any working folder.

    Raises:
        InputError: where the file is missing or cannot be used.
    """
    if not isinstance(experiment, Experiment):
        if not Path(experiment).is_file():
            raise InputError(
                f"An experiment file was expected at {experiment}, but there is none. Start from"
                " data/experiments/demo.yaml."
            )
        experiment = Experiment.read(Path(experiment))
    return dataclasses.replace(experiment, teacher=teacher_folder(experiment.teacher))


def short(teacher: str) -> str:
    """Return a teacher's name as an experiment file has it: relative to the project where it lies inside."""
    path = Path(teacher)
    return path.relative_to(ROOT).as_posix() if path.is_absolute() and path.is_relative_to(ROOT) else teacher


def open_pipeline(
    experiment: str | Path | Experiment,
    store: str | Path,
    *,
    source: str | None = None,
    data: str | None = None,
    device: str | None = None,
    progress: Listener = silent,
    stop: threading.Event | None = None,
    read_only: bool = False,
) -> Pipeline:
    """Return the pipeline of an experiment over a store.

    Args:
        source: another source language than the experiment's.
        data: a data folder, for experiments on real data; default BISTIL_DATA.
        read_only: raise NotBuilt instead of building.
    """
    read = read_experiment(experiment)
    return Pipeline(
        read.from_source(source or read.source),
        open_data(read.data, data),
        Store(store, progress, read_only=read_only),
        device=device,
        progress=progress,
        stop=stop,
    )
