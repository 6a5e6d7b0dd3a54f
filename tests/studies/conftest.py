"""Fixtures of the studies' tests."""

from pathlib import Path

import pytest

from bistil import batch
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.store.artefacts import Store
from bistil.studies.kept import Build, Jobs
from bistil.text.languages import DataFolder


@pytest.fixture
def here(data: DataFolder, tmp_path: Path) -> Build:
    """Builds in this process; what it returns builds nothing, so no times are taken for rows."""

    def build(experiment: Experiment, jobs: Jobs) -> Pipeline:
        pipeline = Pipeline(experiment, data, Store(tmp_path / "store"))
        for job in jobs:
            batch.perform(pipeline, job)
        return Pipeline(experiment, data, Store(tmp_path / "store", read_only=True))

    return build
