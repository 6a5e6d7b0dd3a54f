"""Progress events and their listeners."""

import pytest

from bistil.training.progress import Event, Terminal, silent


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
