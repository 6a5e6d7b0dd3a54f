"""Panels as objects: what a click or a slider changes, and that every error is shown in the panel."""

import shutil
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizer

from bistil import vocab
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.plan import Job
from bistil.store.artefacts import NotBuilt
from bistil.text.corpora import read_lines
from bistil.text.languages import DataFolder
from bistil.training.progress import NOTE, Event
from bistil.workbench import Workbench, WorkbenchPanel, html, model, threshold_panel
from bistil.workbench.guard import Guard, in_words
from bistil.workbench.panels import ThresholdModel
from bistil.workbench.progress_view import words
from bistil.workbench.recorder import Recorder
from bistil.workbench.view import _help, workbench_panel


@pytest.fixture
def panel(experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path) -> WorkbenchPanel:
    return WorkbenchPanel(Workbench(experiment(), data, tmp_path / "store"))


def test_the_panel_shows_every_stage_and_follows_its_choices(panel: WorkbenchPanel) -> None:
    assert "student, bistil-tf lrf 2" in panel.stages.value
    panel.inputs["lrf"].value = 3
    assert panel.model.choice.lrf == 3
    assert "student, bistil-tf lrf 3" in panel.stages.value
    assert "stages are missing" in panel.training.message.value
    panel.inputs["target"].value = "qab"
    assert [panel.pair.value.count(word) for word in (">Arvel<", ">Arvan<", ">seen<", ">unseen<")] == [
        1,
        2,
        2,
        0,
    ]
    found = [panel.model.coverage(code) for code in ("qaa", "qab")]
    assert all(f">{cover.tokens_per_word:.2f}<" in panel.pair.value for cover in found if cover)
    assert panel.pair.value.count("0.0 %") == 2  # a tiny teacher's vocabulary was trained on these two


def test_a_refused_choice_is_told_and_taken_back(panel: WorkbenchPanel) -> None:
    panel.inputs["target"].value = "qaa"
    assert "two languages" in panel.training.error.value
    assert panel.inputs["target"].value == "qac" == panel.model.choice.target
    panel.inputs["target"].value = "qab"
    assert panel.training.error.value == ""


def test_the_panel_follows_a_choice_made_in_code(panel: WorkbenchPanel) -> None:
    panel.model.choose(target="qab", lrf=6, density=0.25, task="ner")
    assert [panel.inputs[name].value for name in ("target", "lrf", "density", "task")] == [
        "qab",
        6,
        0.25,
        "ner",
    ]
    assert "score on qab" in panel.stages.value
    assert panel.training.error.value == ""


@pytest.mark.parametrize(
    ("systems", "changes", "disabled"),
    [
        (["bistil-tf:2x2"], {"density": 0.07}, [False, False]),
        (["bistil-tf:2@in-language"], {}, [False, False]),
        (["scratch:2"], {"lrf": 6}, [False, True]),
        (["floor"], {"lrf": 5}, [True, True]),
    ],
)
def test_a_panel_opens_on_whatever_is_chosen_and_shows_it(
    experiment: Callable[..., Experiment],
    data: DataFolder,
    tmp_path: Path,
    systems: list[str],
    changes: dict[str, Any],
    disabled: list[bool],
) -> None:
    model = Workbench(experiment(systems=systems), data, tmp_path / "store")
    model.choose(**changes)
    panel = WorkbenchPanel(model)
    assert panel.training.error.value == ""
    shown = {name: panel.inputs[name].value for name in ("system", "lrf", "drf")}
    assert shown == {name: getattr(model.choice, name) for name in shown}
    assert panel.inputs["density"].value == changes.get("density", "as in the file")
    assert [panel.inputs[name].disabled for name in ("lrf", "drf")] == disabled


def test_the_lists_are_those_of_the_chosen_task(
    experiment: Callable[..., Experiment], data: DataFolder, tmp_path: Path
) -> None:
    shutil.copytree(data.root, tmp_path / "world")
    (tmp_path / "world" / "ud" / "qab-test.conllu").unlink()
    panel = WorkbenchPanel(Workbench(experiment(), DataFolder(tmp_path / "world"), tmp_path / "store"))

    def offered() -> set[str]:
        return {code for _, code in panel.inputs["target"].options}

    assert offered() == {"qaa", "qac"}
    panel.inputs["task"].value = "ner"
    assert offered() == {"qaa", "qab", "qac"}
    panel.inputs["target"].value = "qab"
    assert (panel.model.choice.target, panel.training.error.value) == ("qab", "")


def test_a_density_is_the_files_own_or_one_for_all(panel: WorkbenchPanel) -> None:
    box = panel.inputs["density"]
    assert box.options[0] == ("as in the file: 0.1", "as in the file")
    box.value = 0.3
    assert panel.model.choice.density == 0.3
    box.value = "as in the file"
    assert (panel.model.choice.density, panel.training.error.value) == (None, "")


def test_what_cannot_be_drawn_when_a_run_ends_is_told(
    panel: WorkbenchPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise InputError("a part is missing")

    panel.inputs["system"].value = "floor"
    panel.model.on_stage = lambda: None
    monkeypatch.setattr(panel.model, "status", fail)
    panel.training.run_button.click()
    panel.model.training.join(60)
    assert panel.model.training.error == ""
    assert "a part is missing" in panel.training.error.value


def test_another_teacher_that_is_none_is_told(panel: WorkbenchPanel) -> None:
    before = panel.inputs["teacher"].value
    panel.inputs["teacher"].value = "/nowhere/at/all"
    assert "No model configuration" in panel.training.error.value
    assert panel.inputs["teacher"].value == before


def test_run_draws_progress_and_ends_with_a_result(panel: WorkbenchPanel) -> None:
    panel.inputs["system"].value = "floor"
    panel.training.run_button.click()
    panel.model.training.join(60)
    assert panel.training.error.value == ""
    assert "finished" in panel.training.message.value
    assert "floor" in panel.results.value
    assert (panel.training.run_button.disabled, panel.training.stop_button.disabled) == (False, True)


def test_an_error_of_a_run_is_in_the_panel(panel: WorkbenchPanel, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    panel.training.run_button.click()
    panel.model.training.join(60)
    assert "bistil-error" in panel.training.error.value


def test_the_guard_shows_any_error_and_clears_the_last() -> None:
    shown: list[str] = []

    def fail(kind: type[Exception]) -> None:
        raise kind("the <reason>")

    for kind in (InputError, KeyError):
        Guard(shown.append)(fail)(kind)
    assert shown == ["", "the <reason>", "", "KeyError: 'the <reason>'"]
    assert in_words(NotBuilt("student/0123456789abcdef")).startswith(
        "A stage of this is not in the store yet."
    )


def test_the_recorder_tells_rarely_but_always_at_the_end() -> None:
    told: list[int] = []
    recorder = Recorder(lambda: told.append(recorder.newest.step), seconds=60)  # type: ignore[union-attr]
    for step in range(1, 101):
        loss = {"loss": 1.0 if step < 50 else 0.5}
        recorder(Event("one", step, 100, loss, loss if step in (1, 50) else ()))
    recorder(Event("one", 100, 100, {**loss, "eval_loss": 0.7}, ["eval_loss"]))
    recorder(Event(f"{NOTE}what is told in words", 1, 1))
    assert told == [1, 100, 100]
    assert recorder.curves() == {"one": {"loss": [(1, 1.0), (50, 0.5)], "eval_loss": [(100, 0.7)]}}


def test_progress_in_words() -> None:
    assert "3 of 10" in words(Event("a <stage>", 3, 10, {"eval_loss": 0.5}))
    assert "&lt;stage&gt;" in words(Event("a <stage>", 3, 10))
    assert words(Event("a", 10, 10)) == words(None) == ""


@pytest.fixture
def counts(wordpiece: BertTokenizer, data: DataFolder) -> dict[str, np.ndarray]:
    return {code: vocab.count_tokens(wordpiece, read_lines(data.text(code))) for code in ("qaa", "qab")}


def test_the_threshold_slider_keeps_fewer_tokens_to_the_right(
    wordpiece: BertTokenizer, counts: dict[str, np.ndarray]
) -> None:
    panel = threshold_panel(wordpiece, counts)
    few = []
    for threshold in (1e-7, 1e-3, 5e-3):
        panel.slider.value = threshold
        few.append(len(panel.model.kept()))
    assert few == sorted(few, reverse=True)
    assert few[0] > few[-1]
    assert "var(--ink)" in panel.curve.value
    # the curve counts the tokens that reach the threshold, the sentence beside it those that stay too
    [reach] = vocab.curve(list(counts.values()), [5e-3])
    assert reach < few[-1]
    assert f"{few[-1]:,} of " in panel.model.text()
    assert f"{reach:,} reach the threshold" in panel.model.text()
    with pytest.raises(InputError, match="counts"):
        ThresholdModel(wordpiece, {})


@pytest.mark.parametrize("typed", ["1.5", "-1", "one", ""])
def test_a_seed_that_is_no_whole_number_is_refused_in_words(panel: WorkbenchPanel, typed: str) -> None:
    panel.inputs["seed"].value = typed
    assert "A seed is a whole number" in panel.training.error.value
    assert (panel.inputs["seed"].value, panel.model.choice.seed) == ("1", 1)
    panel.inputs["seed"].value = "15"
    assert panel.model.choice.seed == 15
    assert panel.training.error.value == ""


def test_every_choice_has_a_sentence_of_help(panel: WorkbenchPanel) -> None:
    assert all(widget.tooltip.endswith(".") for widget in panel.inputs.values())
    assert all(f"<b>{name}</b>" in _help() for name in panel.inputs)


def test_links_of_a_report_in_a_frame_stay_in_it() -> None:
    page = html.frame('<head>\n<meta charset="utf-8">\n</head><body><a href="#claims">Claims</a></body>')
    assert escape('<head>\n<base href="about:srcdoc">\n<meta') in page


def test_a_run_is_named_and_marked_and_found_again_while_the_choices_are_for_the_next_one(
    panel: WorkbenchPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, going = threading.Event(), threading.Event()

    def wait(pipeline: Pipeline, job: Job) -> None:
        at_work.set()
        going.wait(30)

    monkeypatch.setattr(model, "perform", wait)
    panel.model.choose(system="floor", target="qab")
    assert panel.note.value == ""
    panel.training.run_button.click()
    assert at_work.wait(30)
    panel.inputs["target"].value = "qac"
    assert "Running: parsing, Arvani (qaa) to Arvel (qab), floor" in panel.training.message.value
    assert "for the next one: 1 of 1 stages are missing" in panel.note.value
    assert "▶" in panel.stages.value
    assert "<b>score on qab</b>" in panel.stages.value
    again = workbench_panel(panel.model.experiment, store=panel.model.store, data=str(panel.model.data.root))
    other = workbench_panel(
        panel.model.experiment, store=panel.model.store / "other", data=str(panel.model.data.root)
    )
    assert again.model is panel.model is not other.model
    assert "to Arvel (qab)" in again.training.message.value
    assert not again.training.stop_button.disabled
    again.training.stop_button.click()
    going.set()
    panel.model.training.join(30)
    assert "Last run: parsing, Arvani (qaa) to Arvel (qab)" in again.training.message.value
    assert (again.note.value, again.stages.value.count("▶")) == ("", 0)
    assert "score on qac" in again.stages.value
    fresh = workbench_panel(panel.model.experiment, store=panel.model.store, data=str(panel.model.data.root))
    assert fresh.model is not panel.model
