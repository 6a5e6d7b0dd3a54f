"""Asking teacher and student: the answers are the pipeline's own, what is missing is told, the fields follow
the task.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import entries

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.settings.yaml import build
from bistil.store.artefacts import NotBuilt
from bistil.tasks.asking import ASKED, asked, texts_of
from bistil.text.languages import DataFolder
from bistil.workbench import Workbench, try_panel
from bistil.workbench.tryout import Tryout, in_words


@pytest.fixture(scope="module")
def workbench(teacher_folder: Path, data: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    whole = entries(teacher_folder, steps=1)
    plan = {
        **whole,
        "targets": {"parsing": ["qac"], "nli": ["qac"]},
        "task": dict.fromkeys(ASKED, whole["task"]["ner"]),
    }
    return Workbench(build(Experiment, plan, "tiny"), data, tmp_path_factory.mktemp("store"))


def test_the_fields_follow_the_task_and_start_with_a_test_example(workbench: Workbench) -> None:
    panel = try_panel(workbench)
    for task, names in ASKED.items():
        workbench.choose(task=task)
        assert tuple(field.description for field in panel.fields.children) == names
        assert all(field.value for field in panel.fields.children)
        last = panel.examples.index = len(panel.examples.options) - 1
        assert tuple(field.value for field in panel.fields.children) == texts_of(workbench.examples()[last])
    workbench.choose(task="parsing")


def test_a_model_that_is_not_there_is_told_with_its_cost(workbench: Workbench) -> None:
    panel = try_panel(workbench)
    panel.button.click()
    assert "not in the store yet" in panel.error.value
    assert "stages are missing" in panel.error.value
    assert "The model bistil-tf:2 for parsing on qac" in panel.error.value
    assert "Press Run." in panel.error.value
    assert panel.shown.value == ""
    workbench.choose(system="floor")
    panel.button.click()
    assert "floor has none" in panel.error.value
    workbench.choose(system="bistil-tf")
    panel.fields.children[0].value = " "
    panel.button.click()
    assert "at least one word" in panel.error.value


@pytest.mark.slow
def test_both_answer_as_the_pipeline_does_with_their_times(workbench: Workbench) -> None:
    workbench.training.run()
    workbench.training.join(120)
    assert workbench.training.error == ""
    text = "anna <b> sees ben"
    tried = Tryout(workbench).ask([text])
    assert list(tried.predictions) == list(tried.milliseconds) == ["teacher-ltsft", "bistil-tf:2"]
    assert [tried.predictions["bistil-tf:2"]] == workbench.reader().predictions(
        workbench.cell, [asked("parsing", text)]
    )
    assert all(took > 0 for took in tried.milliseconds.values())
    panel = try_panel(workbench)
    panel.fields.children[0].value = text
    panel.button.click()
    assert panel.error.value == ""
    for shown in ("&lt;b&gt;", "bistil-tf:2", "Median of", 'aria-label="parses"'):
        assert shown in panel.shown.value
    assert "gold" not in panel.shown.value
    panel.examples.index = 1
    panel.button.click()
    assert ">gold<" in panel.shown.value
    assert tried.sure == {}  # a parse has no probability


@pytest.mark.slow
def test_tags_and_labels_come_with_how_probable_the_model_finds_them(workbench: Workbench) -> None:
    for task, texts in (("ner", ("rut lilunma",)), ("nli", ("rut lilunma", "no liru"))):
        workbench.choose(task=task)
        workbench.training.run()
        workbench.training.join(300)
        tried = Tryout(workbench).ask(texts)
        for name in ("teacher-ltsft", "bistil-tf:2"):
            sure = tried.sure[name]
            assert len(sure) == len(tried.answers.units)
            assert all(0 < one < 1 for one in sure)
            assert f"{100 * sure[0]:.0f} %" in tried.answers._repr_html_()
    workbench.choose(task="parsing")


def test_a_teacher_that_is_missed_is_told_with_its_own_stages_and_what_to_do(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student from scratch is built without any teacher."""
    workbench.choose(system="scratch")
    tryout = Tryout(workbench)

    def task_sft(cell: Cell) -> Any:
        if cell == workbench.cell:
            return SimpleNamespace(id="0123456789abcdef")
        raise NotBuilt(f"{cell} is not built")

    reader = SimpleNamespace(task_sft=task_sft, task_model=lambda cell, target: None)
    monkeypatch.setattr(workbench, "reader", lambda: reader)
    with pytest.raises(InputError) as told:
        tryout.ask(["anna sees ben"])
    workbench.choose(system="bistil-tf")
    assert "The model teacher-ltsft for parsing on qac is not in the store yet." in str(told.value)
    assert workbench.summary("teacher-ltsft") in str(told.value)
    assert "stages are missing" in str(told.value)
    assert str(told.value).endswith("Choose teacher-ltsft in the workbench and press Run.")


def test_times_in_words() -> None:
    assert "; student is 2.0 times as fast" in in_words({"teacher": 10.0, "student": 5.0})
    assert "times" not in in_words({"teacher": 10.0})
    assert "times" not in in_words({"teacher": 5.0, "student": 10.0})
