"""A run that is watched: Pause holds it after a step, Stop keeps it, both within a second; curves by part and
language; a bounded cost.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from bistil.errors import InputError
from bistil.plots.live import facets
from bistil.training.loop import Objective, Run, Schedule, fit
from bistil.training.progress import Event, Listener
from bistil.workbench import Training, training_panel
from bistil.workbench.recorder import MOST, Recorder
from bistil.workbench.training_view import in_time, numbers


class Fit(Objective):
    def forward(self, batch):
        loss = self.model(batch["x"]).square().mean()
        return loss, {"half": loss.detach() / 2}


class Batches(Dataset):
    """Every second batch is of language qab; each step takes a hundredth of a second and has 12 real
    tokens.
    """

    def __len__(self) -> int:
        return 400

    def __getitem__(self, step: int) -> dict[str, object]:
        time.sleep(0.01)
        mask = torch.tensor([[1] * 7 + [0], [1] * 5 + [0] * 3])
        return {"language": ("qaa", "qab")[step % 2], "x": torch.ones(2, 3), "attention_mask": mask}


def learning(folder: Path) -> Callable[[Listener, threading.Event], None]:
    def work(progress: Listener, stop: threading.Event) -> None:
        objective = Fit(nn.Linear(3, 1))
        schedule = Schedule(steps=400, learning_rate=0.01, evaluations=2)
        fit(
            objective,
            Batches(),
            lambda: {"loss": 1.0, "loss_qaa": 2.0},
            Run(folder, "phase", progress, stop),
            schedule=schedule,
            select="loss",
            seed=1,
        )

    return work


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Training]:
    made = Training(learning(tmp_path))
    yield made
    made.stop()
    made.join(30)


def step(model: Training) -> int:
    return model.recorder.newest.step if model.recorder.newest else 0


@pytest.mark.slow
def test_pause_holds_between_two_steps_and_stop_keeps_the_work(model: Training, tmp_path: Path) -> None:
    model.run()
    with pytest.raises(InputError, match="under way"):
        model.run()
    until(lambda: step(model) > 5)
    model.pause()
    until(lambda: model.status.startswith("paused"), 1.0)
    held = step(model)
    time.sleep(0.2)
    assert (step(model), model.running) == (held, True)
    model.resume()
    until(lambda: step(model) > held)
    model.pause()
    until(lambda: model.status.startswith("paused"))
    model.stop()  # of a held run
    until(lambda: not model.running, 2.0)
    assert model.error == ""
    [stopped] = re.findall(r"stopped at step (\d+) of 400", model.message)
    assert (tmp_path / f"checkpoint-{stopped}" / "complete").exists()
    model.run()
    until(lambda: step(model) > 0)
    assert step(model) > int(stopped)


@pytest.mark.slow
def test_events_tell_parts_languages_rate_and_time_left(model: Training) -> None:
    told: list[Event] = []
    model.recorder = Recorder(lambda: told.append(model.recorder.newest), seconds=0)  # type: ignore[arg-type]
    model.run()
    until(lambda: len(told) > 120)
    model.stop()
    model.join(30)
    known = told[-1].metrics
    assert known["half"] == pytest.approx(known["loss"] / 2)
    assert {"loss_qaa", "loss_qab"} <= known.keys()
    assert known["learning_rate"] < told[0].metrics["learning_rate"]
    assert (
        12 < known["tokens_per_second"] < 1200 * 1.05
    )  # 12 tokens, in a hundredth of a second or, on a busy machine, more
    assert 0.01 * (400 - told[-1].step) < known["seconds_left"] < told[0].metrics["seconds_left"] + 1
    assert {"half", "loss_qab"} <= model.recorder.curves()["phase"].keys()


def test_what_does_not_stop_by_itself_is_ended_at_its_second_report() -> None:
    going = threading.Event()

    def score(progress: Listener, stop: threading.Event) -> None:
        for number in range(10_000):
            progress(Event("evaluate", number, 10_000))
            going.set()
            time.sleep(0.005)

    model = Training(score)
    model.run()
    going.wait(10)
    model.stop()
    model.join(5)
    assert (model.running, model.error) == (False, "")
    assert "stopped in evaluate" in model.message


def test_the_panel_changes_its_buttons_with_the_run_and_tells_its_cost() -> None:
    going, told = threading.Event(), threading.Event()

    def work(progress: Listener, stop: threading.Event) -> None:
        for number in range(1, 4):
            known = {
                "loss": 1.0 / number,
                "learning_rate": 0.1,
                "tokens_per_second": 12345.6,
                "seconds_left": 5.0,
            }
            progress(Event("phase", number, 4, known, known))
        told.set()
        going.wait(10)
        raise InputError("no <text>")

    panel = training_panel(work, cost="two stages are missing, about 3 min")
    assert "about 3 min" in panel.message.value
    buttons = (panel.run_button, panel.pause_button, panel.stop_button)
    assert [button.disabled for button in buttons] == [False, True, True]
    panel.run_button.click()
    assert told.wait(10)
    panel.draw()
    assert [button.disabled for button in buttons] == [True, False, False]
    assert "3 of 4" in panel.progress.value
    assert "12,346" in panel.progress.value
    panel.pause_button.click()
    assert panel.pause_button.description == "Resume"
    panel.pause_button.click()
    assert panel.pause_button.description == "Pause"
    going.set()
    panel.model.join(10)
    until(lambda: panel.error.value)
    assert "no &lt;text&gt;" in panel.error.value
    assert [button.disabled for button in buttons] == [False, True, True]
    state: Any = panel.curves.state
    [loss] = state["facets"]
    assert loss["lines"][0]["training"] == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]


def test_a_view_is_told_of_the_last_event_however_long_the_next_one_takes() -> None:
    told: list[float] = []
    recorder = Recorder(lambda: told.append(recorder.newest.step), seconds=0.1)
    recorder(Event("phase", 1, 1000, {"loss": 1.0}, ["loss"]))
    first = recorder.at
    assert time.time() - 5 < first <= time.time()
    for number in (2, 3):
        recorder(Event("phase", number, 1000, {"loss": 1.0}))
    assert told == [1]
    until(lambda: told == [1, 3], 5.0)
    assert recorder.at == first  # nothing new came since
    recorder(Event("phase", 4, 1000, {"loss": 0.5}, ["loss"]))
    assert recorder.at > first


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    recorder = Recorder(seconds=60)
    for number in range(1, 5001):
        known = {"loss": 1.0 / number, "epoch": number / 5}
        recorder(Event("phase", number, 5000, known, known))
    [curves] = recorder.curves().values()
    [curve] = curves.values()
    assert len(curve) <= MOST
    assert (curve[0], curve[-1]) == ((1, 1.0), (5000, 1.0 / 5000))


def test_every_evaluation_stays_at_its_step_however_long_the_curve_and_where_its_score_repeats() -> None:
    recorder = Recorder(seconds=60)
    evaluated = [(step, 30.0 * (step == 5000)) for step in range(10, 5001, 10)]
    for step in range(1, 5001):
        loss = {"loss": 1.0 / step}
        recorder(Event("phase", step, 5000, loss, loss))
        if step % 10 == 0:
            score = {"eval_f1": dict(evaluated)[step]}
            recorder(Event("phase", step, 5000, {**loss, **score}, score))
    assert recorder.curves()["phase"]["eval_f1"] == evaluated


def six_steps(run: Run, evaluate: Callable[[], dict[str, float]]) -> None:
    schedule = Schedule(steps=6, learning_rate=0.01, evaluations=3)
    batches = Subset(Batches(), range(6))
    fit(Fit(nn.Linear(3, 1)), batches, evaluate, run, schedule=schedule, select="loss", seed=1)


def test_a_run_tells_its_evaluations_at_their_steps_the_last_too(tmp_path: Path) -> None:
    recorder = Recorder(seconds=60)
    losses = iter([1.0, 1.0, 0.5])
    six_steps(Run(tmp_path, "phase", recorder), lambda: {"loss": next(losses)})
    assert recorder.curves()["phase"]["eval_loss"] == [(2, 1.0), (4, 1.0), (6, 0.5)]


def test_a_run_that_is_stopped_while_it_is_evaluated_is_kept_at_a_step(tmp_path: Path) -> None:
    def work(progress: Listener, stop: threading.Event) -> None:
        def evaluate() -> dict[str, float]:
            training.stop()
            return {"loss": 1.0}

        six_steps(Run(tmp_path, "phase", progress, stop), evaluate)

    training = Training(work)
    training.run()
    training.join(60)
    assert (training.error, training.message.partition(";")[0]) == ("", "phase stopped at step 3 of 6")
    assert (tmp_path / "checkpoint-3" / "complete").exists()


def test_each_part_has_axes_of_its_own_and_so_have_languages_and_scores() -> None:
    curves = {
        "loss": [(1, 2.0), (2, 1.0)],
        "attention": [(1, 0.0005), (2, float("nan"))],
        "loss_qaa": [(1, 1.0)],
        "eval_loss": [(1, 1.5)],
        "eval_loss_qab": [(2, 2.0)],
        "learning_rate": [(2, 0.1)],
    }
    by_language = {one.title: one for one in facets(curves)}
    assert list(by_language) == ["loss", "attention", "loss by language"]
    [line] = by_language["loss"].lines
    assert (line.training, line.held_out) == ([(1, 2.0), (2, 1.0)], [(1, 1.5)])
    assert by_language["attention"].lines[0].training == [(1, 0.0005)]
    assert [line.name for line in by_language["loss by language"].lines] == ["qaa", "qab"]
    shared = {"loss": [(1, 2.0)], "attention": [(1, 0.0005)]}
    with_scores = facets({**shared, "eval_las": [(2, 50.0)], "eval_n_examples": [(2, 8.0)]})
    assert [one.title for one in with_scores] == ["loss", "attention", "held-out score (%)"]
    assert with_scores[-1].lines[0].held_out == [(2, 50.0)]
    assert [one.title for one in facets({"loss": [(1, 2.0)], "loss_qaa": [(1, 2.0)]})] == ["loss"]


def test_an_axis_is_logarithmic_where_its_values_differ_by_a_decade() -> None:
    def log(*values: float) -> bool:
        return facets({"loss": list(enumerate(values))})[0].log

    assert [log(1.0, 9.9), log(1.0, 10.0), log(0.0, 10.0)] == [False, True, False]


def test_times_and_numbers_in_words() -> None:
    assert [in_time(seconds) for seconds in (9.6, 99, 150, 3 * 3600 + 120)] == [
        "10 s",
        "99 s",
        "2 min",
        "3 h 02 min",
    ]
    assert numbers(Event("a", 1, 2, {"learning_rate": 0.00123456})).count("0.00123") == 1
    assert numbers(Event("a", 2, 2, {"learning_rate": 0.1})) == numbers(None) == ""
