"""The workbench without a kernel: choices are checked, status tells the truth, a run can be stopped and goes
on, errors end up in words.
"""

import dataclasses
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoConfig, BertTokenizer

from bistil import vocab
from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.experiment import Cell, Experiment
from bistil.plan import METHODS, Job
from bistil.store.artefacts import Store
from bistil.text.corpora import read_lines
from bistil.text.languages import DATA, DataFolder
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
        ({"teacher": "/nowhere/teacher"}, "No model configuration"),
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


@pytest.mark.parametrize(
    ("systems", "chosen"),
    [
        (["teacher-ltsft", "bistil-tf:1"], Cell("bistil-tf", "parsing", "qac", 1, 1)),
        (["bistil-tf:2x2"], Cell("bistil-tf", "parsing", "qac", 2, 1, 2)),
        (["bistil-tf:3@in-language"], Cell("bistil-tf@in-language", "parsing", "qac", 3, 1)),
        (["floor"], Cell("floor", "parsing", "qac", 1, 1)),
    ],
)
def test_the_first_choice_is_the_files_own_and_another_seed_can_be_chosen(
    experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path, systems: list[str], chosen: Cell
) -> None:
    model = Workbench(experiment(systems=systems), data, tmp_path / "store")
    assert model.cell == chosen
    model.choose(seed=2)
    assert model.cell == chosen._replace(seed=2)


def test_an_experiment_that_tunes_no_task_is_refused_in_words(data: DataFolder, tmp_path: Path) -> None:
    whole = Experiment.read(DATA / "experiments" / "real-embedding.yaml")
    with pytest.raises(InputError, match="real-embedding tunes none"):
        Workbench(whole, data, tmp_path / "store")


@pytest.fixture
def uneven(data: DataFolder, tmp_path: Path) -> DataFolder:
    """The tiny data folder, where parsing lacks qab."""
    shutil.copytree(data.root, tmp_path / "world")
    for split in ("train", "dev", "test"):
        (tmp_path / "world" / "ud" / f"qab-{split}.conllu").unlink()
    return DataFolder(tmp_path / "world")


def test_another_task_moves_languages_that_do_not_have_it(
    experiment: Callable[..., Experiment], uneven: DataFolder, tmp_path: Path
) -> None:
    model = Workbench(experiment(), uneven, tmp_path / "store")
    model.choose(task="ner", target="qab")
    model.choose(task="parsing")
    assert (model.choice.task, model.choice.source, model.choice.target) == ("parsing", "qaa", "qac")
    with pytest.raises(InputError, match="qab"):
        model.choose(target="qab")
    model.choose(task="ner", source="qab")
    model.choose(task="parsing")
    assert (model.choice.source, model.choice.target) == ("qaa", "qac")


def test_another_teacher_moves_the_factors_to_the_nearest_that_divide_it(
    model: Workbench, tmp_path: Path
) -> None:
    small = teacher_of(model, tmp_path / "small", num_hidden_layers=4, num_attention_heads=1)
    model.choose(lrf=3, drf=2)
    model.choose(teacher=small)
    assert (model.choice.lrf, model.choice.drf) == (2, 1)
    with pytest.raises(InputError, match="3 does not divide 4"):
        model.choose(lrf=3)
    model.choose(system="teacher-ltsft", lrf=3)
    model.choose(system="bistil-tf")
    assert model.choice.lrf == 2


def teacher_of(model: Workbench, folder: Path, **changes: int) -> str:
    """The configuration of the chosen teacher with something changed, as a folder."""
    config = AutoConfig.from_pretrained(model.choice.teacher)
    config.update(changes)
    config.save_pretrained(folder)
    return str(folder)


def test_densities_are_the_files_until_one_is_chosen_for_all(
    experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path
) -> None:
    whole = experiment()
    sft = whole.task["ner"].sft.at_density(0.2)
    tasks = {**whole.task, "ner": dataclasses.replace(whole.task["ner"], sft=sft)}
    whole = dataclasses.replace(whole, task=tasks, language_sft=whole.language_sft.at_density(0.3))
    model = Workbench(whole, data, tmp_path / "store")
    for task, density in (("ner", 0.2), ("parsing", 0.1)):
        model.choose(task=task)
        assert model.chosen.task[task].sft.density == density
        assert model.chosen.language_sft.density == 0.3
        assert f"density 0.3 (language) and {density} (task), " in model.in_words(model.choice)
    model.choose(density=0.2, task="ner")
    assert model.chosen.task["ner"].sft.density == model.chosen.language_sft.density == 0.2
    assert "density 0.2, " in model.in_words(model.choice)
    model.choose(density=None)
    assert model.chosen.language_sft.density == 0.3


def test_a_report_has_every_seed_of_the_experiment_and_the_chosen_one(
    experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path
) -> None:
    model = Workbench(experiment(systems=["floor"], seeds=[1, 2]), data, tmp_path / "store")
    for seed in (1, 2, 5):
        model.choose(seed=seed)
        model.training.run()
        model.training.join(60)
        assert model.training.error == ""
    for seed, seeds in ((5, {1, 2, 5}), (1, {1, 2})):
        model.choose(seed=seed)
        rows = read_results(model.report().with_name("results.csv"))
        assert {row["seed"] for row in rows} == seeds


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
    assert describe(Job("student", (model.cell._replace(drf=2),))) == "student, bistil-tf lrf 2 drf 2"
    for stage in METHODS:
        job = Job(stage, (model.cell,))
        assert estimate(Store(model.store), job, 0) is None, "what is no kind is refused"
        assert "_" not in describe(job)
