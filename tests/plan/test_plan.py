"""The plan is the pipeline's own graph: it needs nothing, says what is there, and its ids are those of a
run.
"""

import shutil
import socket
from inspect import getmembers, isfunction, signature
from pathlib import Path

import pytest
from tiny import ROOT, SYSTEMS

from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import METHODS, Job, Stage, foresee, perform
from bistil.plan.estimate import Cost
from bistil.plan.text import Shown, plan_lines
from bistil.store.artefacts import Artefact, Store
from bistil.text.languages import DataFolder

EXPERIMENTS = sorted((ROOT / "data" / "experiments").glob("*.yaml"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("a plan went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("BISTIL_DATA", raising=False)


def test_stages_are_the_methods_that_return_an_artefact() -> None:
    public = {name: one for name, one in getmembers(Pipeline, isfunction) if not name.startswith("_")}
    assert {
        name: one for name, one in public.items() if signature(one).return_annotation is Artefact
    } == METHODS


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_file_has_a_plan_without_data_and_network(
    path: Path, no_network, tmp_path: Path
) -> None:
    experiment = Experiment.read(path)
    assert experiment.name == path.stem
    stages = foresee(experiment)
    done: set[str] = set()
    for name, stage in stages.items():
        assert done.issuperset(stage.after)
        assert stage.cells
        assert stage.there is None
        done.add(name)
    assert len({stage.name for stage in stages.values()}) == len(stages)
    assert {cell for stage in stages.values() if stage.kind == "evaluation" for cell in stage.cells} == set(
        experiment.cells()
    )
    assert not (tmp_path / "store").exists()


def test_with_data_and_teacher_the_ids_are_real_and_what_is_there_is_seen(
    experiment, data: DataFolder, tmp_path: Path
) -> None:
    grid = experiment(systems=SYSTEMS)
    pipeline = Pipeline(grid, data, Store(tmp_path))
    before = foresee(grid, data, Store(tmp_path, read_only=True))
    assert all(stage.known and stage.there is False for stage in before.values())
    made = perform(pipeline, next(stage.job for stage in before.values() if stage.kind == "vocabulary"))
    after = foresee(grid, data, Store(tmp_path, read_only=True))
    assert after[made.id].there
    assert [stage.id for stage in after.values() if stage.there] == [made.id]


def test_stages_are_shared_and_say_by_how_many(experiment) -> None:
    systems, targets = (
        ["teacher-ltsft", "bistil-tf:2", "bistil-st:2"],
        {"parsing": ["qab", "qac"], "ner": ["qac"]},
    )
    grid = experiment(systems=systems, targets=targets)
    stages = {stage.name: stage for stage in foresee(grid).values()}
    assert len(stages["language-sft qaa"].cells) == 9
    assert len(stages["student bistil-tf qac lrf 2 seed 1"].cells) == 4
    assert (
        len(stages["task-sft teacher-ltsft parsing seed 1"].cells) == 4
    )  # both targets: the teacher itself and what follows it
    assert len(stages["evaluation bistil-st ner qac lrf 2 seed 1"].cells) == 1


def test_without_language_adaptation_there_are_no_language_sfts(experiment) -> None:
    grid = experiment(systems=["teacher-ltsft", "teacher-no-adaptation", "bistil-tf:2"], language_sft=None)
    kinds = [stage.kind for stage in foresee(grid).values()]
    assert "language-sft" not in kinds
    assert kinds.count("task-sft") == 2 * 2  # a teacher that is not adapted is one teacher


def test_what_learns_nothing_from_the_teacher_waits_for_no_language_sft(experiment) -> None:
    bare = {"of": "bistil-st", "recipe": {"terms": {"attention": None, "hidden": None}}}
    stages = foresee(experiment(systems=["bare:2"], variants={"bare": bare})).values()
    assert {stage.kind for stage in stages} == {"vocabulary", "student", "task-sft", "evaluation", "timing"}


def test_epochs_of_the_nearest_languages_adapter_are_of_its_own_text(
    experiment, world: Path, tmp_path: Path
) -> None:
    folder = DataFolder(shutil.copytree(world, tmp_path / "data"))
    folder.text("qac").write_text("ba bo .\n", encoding="utf-8")
    grid = experiment(
        source="qab",
        targets={"ner": ["qac"]},
        systems=["teacher-madx-nearest"],
        typology={"from": "table", "among": ["qaa", "qab"]},
        language_adapter={
            "adapter": {"reduction": 2},
            "sparse": {"epochs": 2, "learning_rate": 1e-3, "evaluations": 1},
        },
    )
    store = Store(tmp_path / "store")
    pipeline = Pipeline(grid, folder, store)
    pipeline.check()
    assert pipeline.nearest("qac") == "qaa"
    stages = foresee(grid, folder, store).values()
    found = {stage.job.arguments: stage.config["sft"] for stage in stages if stage.kind == "language-adapter"}
    training, _ = pipeline.blocks("qaa").split(grid.text.held_out("qaa"))
    assert found["qac",] == found["qac",].counted(len(training), grid.text.batch_size)
    assert found["qac",].sparse.steps == -(-2 * len(training) // grid.text.batch_size)


def test_the_lines_tell_sums_and_what_they_rest_on(experiment, tmp_path: Path, no_network) -> None:
    lines = list(plan_lines(experiment(), tmp_path, tflops=5.7))
    assert lines[0] == f"tiny: {len(foresee(experiment()))} stages for 14 scores"
    assert any(line.startswith("GPU hours are an estimate") and "5.7 TFLOP/s" in line for line in lines)
    assert any(line.startswith("? = cannot be told without the data folder") for line in lines)
    unknown = list(plan_lines(experiment(teacher="nobody/knows-it"), tmp_path, tflops=5.7))
    assert any(line.startswith("No GPU hours") for line in unknown)


def test_a_plan_ends_with_what_a_run_would_be_refused_for(
    experiment, world: Path, tmp_path: Path, no_network
) -> None:
    folder = shutil.copytree(world, tmp_path / "data")

    def absent(**changes: str) -> list[str]:
        asked = experiment(targets={"ner": ["qac"], "retrieval": ["qac"]}, **changes)
        *_, last = plan_lines(asked, tmp_path / "store", tflops=5.7, data=str(folder))
        _, said, listed = last.partition("not there yet: ")
        return listed.split(", ") if said else []

    assert absent() == []
    files = [folder / name for name in ("ner/qaa-dev.txt", "parallel/qaa-qac.tsv", "corpora/qac.txt")]
    for path in files:
        path.unlink()
    assert absent() == [str(path) for path in files]
    assert absent(teacher="tinny")[0].startswith("the teacher tinny (no folder here")


def test_hours_that_are_as_good_as_none_are_told_so() -> None:
    stage = Stage("a", "student", Job("b", ()), None, {}, ())
    shown = [Shown({"a": Cost(steps=1, flops=flops)}, {}, 1.0).of([stage]) for flops in (1e9, 3.6e13)]
    assert [one.split()[1:] for one in shown] == [["<", "0.001"], ["0.01"]]
