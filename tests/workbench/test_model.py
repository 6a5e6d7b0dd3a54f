"""The workbench without a kernel: choices are checked, status tells the truth, a run can be stopped and goes
on, errors end up in words.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertTokenizer

from bistil import vocab
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.plan import METHODS, Job
from bistil.store.artefacts import Store
from bistil.text.corpora import read_lines
from bistil.text.languages import DataFolder
from bistil.training.progress import Event
from bistil.workbench.model import Workbench
from bistil.workbench.stages import describe, estimate, jobs_of


@pytest.fixture
def model(experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path) -> Workbench:
    return Workbench(experiment(), data, tmp_path / "store")


def test_choices_follow_from_the_experiment_and_the_data(model: Workbench) -> None:
    assert (model.choice.source, model.choice.target, model.choice.task) == ("qaa", "qac", "parsing")
    assert model.lrfs() == (2, 3, 6)
    assert set(model.languages("train")) == {"qaa", "qab", "qac"}
    assert 0.1 in model.densities


def test_coverage_is_that_of_the_teachers_vocabulary_and_read_once(
    model: Workbench, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    lines = read_lines(model.data.text("qac"))
    assert model.coverage("qac") == vocab.coverage(wordpiece, lines)
    assert model.coverage("qac") is model.coverage("qac")
    assert model.coverage("qac") != model.coverage("qaa")
    (tmp_path / "languages.csv").write_bytes((model.data.root / "languages.csv").read_bytes())
    assert Workbench(model.experiment, DataFolder(tmp_path), tmp_path / "store").coverage("qac") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lrf": 4}, "divide"),
        ({"target": "qaa"}, "two languages"),
        ({"target": "xxx"}, "xxx"),
        ({"density": 0.0}, "density"),
        ({"system": "magic"}, "magic"),
        ({"teacher": "/nowhere/teacher"}, "No teacher"),
        ({"colour": "red"}, "density, seed, but colour came"),
    ],
)
def test_a_bad_choice_is_refused_in_words_and_changes_nothing(
    model: Workbench, change: dict, told: str
) -> None:
    before = model.choice
    with pytest.raises(InputError, match=told):
        model.choose(**change)
    assert model.choice == before


def test_another_density_is_another_stage(model: Workbench) -> None:
    model.choose(density=0.2)
    assert (
        model.chosen.task["parsing"].sft.lottery.density == model.chosen.language_sft.lottery.density == 0.2
    )
    assert model.chosen.language_sft.lottery.l1 == 0.1


@pytest.mark.slow
def test_a_run_builds_what_is_missing_and_status_says_so(model: Workbench) -> None:
    model.choose(system="bistil-st", lrf=3)
    before = model.status()
    assert not any(stage.there for stage in before)
    assert [stage.steps for stage in before if stage.name.startswith("student")] == [4]
    ended = threading.Event()
    model.training.on_end = ended.set
    model.training.run()
    with pytest.raises(InputError, match="under way"):
        model.training.run()
    model.training.join(120)
    assert (ended.is_set(), model.training.error, model.training.running) == (True, "", False)
    assert model.training.message.startswith("finished")
    assert all(stage.there and stage.artefact for stage in model.status())
    assert {row["metric"] for row in model.rows()} == {"uas", "las"}
    assert any("Stage 1" in stage for stage in model.training.recorder.curves())
    model.choose(lrf=2)
    missing = {stage.name: stage.seconds for stage in model.status() if not stage.there}
    assert "student, bistil-st lrf 2" in missing
    assert all(seconds is not None for seconds in missing.values())


@pytest.mark.slow
def test_stop_ends_after_a_step_and_the_next_run_goes_on(model: Workbench) -> None:
    model.choose(system="bistil-st")
    told: list[Event] = []

    def stop_at_once() -> None:
        told.append(model.training.recorder.newest)
        model.training.stop()

    model.training.recorder.on_change = stop_at_once
    model.training.run()
    model.training.join(60)
    assert model.training.error == ""
    assert "topped" in model.training.message
    assert told
    assert not all(stage.there for stage in model.status())
    model.training.recorder.on_change = lambda: None
    model.training.run()
    model.training.join(120)
    assert model.training.message.startswith("finished")


def test_what_a_run_raises_is_told_in_words(model: Workbench, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    model.training.run()
    model.training.join(60)
    assert model.training.error
    assert model.training.message == "ended by an error"


def test_a_target_can_be_chosen_as_the_source(model: Workbench) -> None:
    assert "qac" in model.experiment.targets["parsing"]
    model.choose(source="qac", target="qab")
    assert (model.chosen.source, model.cell.target) == ("qac", "qab")
    assert model.status()


def test_whole_systems_need_no_student(model: Workbench) -> None:
    model.choose(system="floor")
    assert [job.stage for job in jobs_of(model.chosen, model.cell)] == ["evaluation"]
    model.choose(system="multilingual-distil")
    assert "language SFT qac of the student" in [describe(job) for job in jobs_of(model.chosen, model.cell)]


def test_every_stage_of_a_plan_has_a_kind_of_artefact_and_words(model: Workbench) -> None:
    for stage in METHODS:
        job = Job(stage, (model.cell,))
        assert estimate(Store(model.store), job, 0) is None, "what is no kind is refused"
        assert "_" not in describe(job)
