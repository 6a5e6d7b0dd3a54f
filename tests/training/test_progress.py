"""Progress events and their listeners."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bistil.training.progress import NOTE, WARNING, Event, Terminal, silent
from bistil.training.trainer import Watcher


def test_silent_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent(Event("stage", 1, 2))
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_a_bar_a_stage_and_closes_it(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for step in (1, 2, 4):
        terminal(Event("first", step, 4, {"loss": 1.23456}))
        terminal(Event("second", step, 8))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "first" in shown.err
    assert "4/4" in shown.err
    assert "loss=1.235" in shown.err
    terminal(Event("second", 8, 8))
    assert terminal._bars == {}
    terminal(Event("second", 8, 8, {"eval_loss": 1.0}, ["eval_loss"]))
    assert terminal._bars == {}
    assert capsys.readouterr().err.count("second: 100%") == 1


def test_what_is_told_in_words_is_written_as_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for begins in (WARNING, NOTE):
        terminal(Event(f"{begins}mind the gap", 1, 1))
        assert capsys.readouterr().err.splitlines() == [f"{begins}mind the gap"]
    assert not Event("stage", 1, 1).told


def test_means_of_the_log_do_not_stand_for_numbers_of_now(tmp_path: Path) -> None:
    told: list[Event] = []
    watcher, state = (
        Watcher("phase", told.append, None),
        SimpleNamespace(global_step=0, max_steps=9),
    )
    nothing: Any = SimpleNamespace()
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    watcher.on_train_begin(nothing, state, nothing)
    watcher.live.add({"loss": 2.0})
    for step in (1, 2):
        state.global_step = step
        watcher.on_step_end(nothing, state, nothing, optimizer=optimizer)
        watcher.on_log(nothing, state, nothing, logs={"loss": 9.0, "eval_loss": 3.0, "grad_norm": 1.0})
    assert [set(one.new) for one in told] == [{"loss", "learning_rate", "seconds_left"}, set()]
    assert (told[1].metrics["loss"], told[1].metrics["eval_loss"], told[1].metrics["grad_norm"]) == (
        2.0,
        3.0,
        1.0,
    )
