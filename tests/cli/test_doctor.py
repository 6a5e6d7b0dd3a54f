"""The doctor tells what is there and fails only where something needed is broken."""

from pathlib import Path

import pytest

from bistil import cli
from bistil.cli import doctor


def states(store: Path) -> dict[str, str]:
    return {finding.what: finding.state for finding in doctor.examine(store)}


def test_a_sound_machine(world: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BISTIL_DATA", str(world))
    found = states(tmp_path)
    assert [
        found[what]
        for what in ("python", "machine", "packages", "device", "store", "data folder", "teacher miniworld")
    ] == ["ok"] * 7
    assert "broken" not in found.values()
    assert cli.main(["doctor", "--store", str(tmp_path)]) == 0
    assert "3 languages of its table" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_no_failure_but_what_is_broken_is(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("BISTIL_DATA", raising=False)
    assert states(tmp_path)["data folder"] == "missing"
    monkeypatch.setenv("BISTIL_DATA", str(tmp_path / "nowhere"))
    assert states(tmp_path)["data folder"] == "broken"
    assert cli.main(["doctor", "--store", str(tmp_path)]) == 1
    assert "nowhere" in capsys.readouterr().out


def test_a_package_that_is_too_old_or_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setattr(
        doctor, "requires", lambda name: ["numpy>=999", 'no-such-package-at-all; extra == "lab"', "pyyaml>=6"]
    )
    needed, extra = doctor._packages()
    assert (needed.state, extra.state) == ("broken", "missing")
    assert "numpy is " in needed.told
    assert "no-such-package-at-all is not installed" in extra.told
    assert "[lab]" in extra.told


def test_a_full_disk_and_a_broken_teacher_are_broken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_GIB", 1e9)
    assert doctor._store(tmp_path)[0] == "broken"
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    assert doctor._guarded("teacher", lambda: doctor._teacher(tmp_path)).state == "broken"


@pytest.mark.parametrize(
    "marker",
    ['extra == "lab"', "python_version > '3' and extra == 'lab'", "extra == 'lab' or extra == 'dev'"],
)
def test_extras_of_markers(marker: str) -> None:
    assert "lab" in doctor._extras(marker)
