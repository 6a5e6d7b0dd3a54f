"""What was made before a system or a setting was added keeps its id: the demo's artefacts, by kind: how many
and a digest of their ids.
"""

from collections import defaultdict
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tiny import ROOT

from bistil.experiment import Experiment
from bistil.pipeline import Pipeline, examples, inputs, scores, students
from bistil.plan import perform, plan
from bistil.store.artefacts import Artefact, Store, artefact_id

DEMO = {
    "vocabulary": (2, "6e172a7a5d7cf23e"),
    "language-sft": (6, "ac5c8cf909bc120c"),
    "student": (7, "9e0d8a0f4ec7d9ed"),
    "task-sft": (22, "ab1225f392f80309"),
    "evaluation": (32, "35abb255563810b0"),
    "timing": (2, "8d5ed8298e708aec"),
}


class Noting(Store):
    """A store that builds nothing and notes every id that it is asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: dict[str, set[str]] = defaultdict(set)

    def run(self, kind: str, config: Any, inputs: Any, build: Any) -> Artefact:
        name = artefact_id(kind, config, inputs)
        self.asked[kind].add(name)
        return Artefact(
            self.root / kind / name, {"id": name, "kind": kind, "wall_seconds": 0.0, "metrics": {}}
        )


def ids(
    experiment: Experiment, data: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, set[str]]:
    """The ids of every artefact of an experiment, with files known by their names and a teacher called
    `teacher`.
    """
    for room in (examples, inputs, scores, students):
        monkeypatch.setattr(room, "file_id", lambda path: f"sha256:{path.name}")
    store = Noting(root)
    pipeline = Pipeline(experiment, data, store)
    pipeline.__dict__["teacher_id"] = "sha256:teacher"
    for job in plan(experiment):
        perform(pipeline, job)
    return store.asked


def test_the_demos_artefacts_keep_their_ids(data, tmp_path: Path, monkeypatch) -> None:
    demo = Experiment.read(ROOT / "data" / "experiments" / "demo.yaml")
    found = ids(replace(demo, systems=(*demo.systems, "teacher-no-adaptation")), data, tmp_path, monkeypatch)
    assert {
        kind: (len(names), sha256(" ".join(sorted(names)).encode()).hexdigest()[:16])
        for kind, names in found.items()
    } == DEMO
