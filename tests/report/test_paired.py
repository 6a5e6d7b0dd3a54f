"""Paired significance on the page: who is compared with whom, on what, and what is said where outcomes are
missing.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bistil.evaluation.significance import Outcomes, read_all_outcomes
from bistil.report.page import write_report
from bistil.report.paired import Pair, paired

SHARES = {("teacher-ltsft", None): 0.80, ("bistil-tf", 2): 0.60, ("minilm", 2): 0.59, ("scratch", 2): 0.30}
N = 400


def system(name: str, lrf: int | None, target: str, seed: int) -> tuple[dict[str, Any], Outcomes]:
    """A row and its outcomes, which agree."""
    chance = np.random.default_rng([len(name), seed, ord(target[-1])])
    sums = np.stack([chance.random(N) < SHARES[name, lrf], np.ones(N)]).astype(np.uint8)
    row = {
        "experiment": "x",
        "system": name,
        "teacher": "t",
        "task": "nli",
        "source": "src",
        "target": target,
        "lrf": lrf,
        "seed": seed,
        "metric": "accuracy",
        "value": 100 * float(sums[0].mean()),
        "artefact": f"{name}-{target}-{seed}",
    }
    return row, Outcomes(f"sha256:{target}", {"accuracy": sums})


@pytest.fixture(scope="module")
def run() -> tuple[list[dict[str, Any]], dict[str, Outcomes]]:
    made = [
        system(name, lrf, target, seed)
        for name, lrf in SHARES
        for target in ("aaa", "bbb")
        for seed in (1, 2)
    ]
    return [row for row, _ in made], {row["artefact"]: outcomes for row, outcomes in made}


def found(rows: list[dict[str, Any]], kept: dict[str, Outcomes]) -> dict[tuple[str, str], Pair]:
    [(setting, pairs)] = paired(rows, kept)
    assert setting == ("nli", "t", "src")
    return {(pair.left, pair.right): pair for pair in pairs}


def test_students_meet_the_teacher_and_bistil_the_best_other_student(run) -> None:
    pairs = found(*run)
    students = ("bistil-tf lrf 2", "minilm lrf 2", "scratch lrf 2")
    assert set(pairs) == {
        *((student, "teacher-ltsft") for student in students),
        ("bistil-tf lrf 2", "minilm lrf 2"),
    }
    for pair in pairs.values():
        assert pair.targets == ("aaa", "bbb")
        assert len(pair.by_seed) == 2
        assert pair.difference.value == pytest.approx(pair.mean)
        assert pair.difference.low < pair.mean < pair.difference.high
    assert pairs["bistil-tf lrf 2", "teacher-ltsft"].difference.p < 0.01
    assert pairs["bistil-tf lrf 2", "minilm lrf 2"].difference.p > 0.05


def test_only_what_both_sides_have_is_compared(run) -> None:
    rows, kept = run
    some = [
        row
        for row in rows
        if not (row["system"] == "bistil-tf" and (row["target"], row["seed"]) != ("bbb", 1))
    ]
    pair = found(some, kept)["bistil-tf lrf 2", "teacher-ltsft"]
    assert (pair.targets, len(pair.by_seed)) == (("bbb",), 1)
    assert pair.difference.value == pytest.approx(pair.mean)


def test_the_best_other_student_is_the_best_on_what_bistil_has(run) -> None:
    rows, kept = run
    easy = [
        {**row, "system": "distilmbert", "value": 100.0}
        for row in rows
        if (row["system"], row["target"]) == ("minilm", "aaa")
    ]
    pairs = found([*rows, *easy], kept)
    assert ("distilmbert lrf 2", "teacher-ltsft") in pairs
    assert ("bistil-tf lrf 2", "minilm lrf 2") in pairs, "the other one lacks a target"
    assert ("bistil-tf lrf 2", "distilmbert lrf 2") not in pairs


def test_older_evaluations_and_other_test_files_are_told(run) -> None:
    rows, kept = run
    older = {name: outcomes for name, outcomes in kept.items() if name != "minilm-aaa-1"}
    pairs = found(rows, older)
    assert pairs["minilm lrf 2", "teacher-ltsft"].difference is None
    assert pairs["minilm lrf 2", "teacher-ltsft"].why == "1 of 8 evaluations kept no outcomes"
    assert (
        pairs["minilm lrf 2", "teacher-ltsft"].mean == found(rows, kept)["minilm lrf 2", "teacher-ltsft"].mean
    )
    assert pairs["scratch lrf 2", "teacher-ltsft"].difference is not None
    changed = {**kept, "minilm-aaa-1": Outcomes("sha256:other", kept["minilm-aaa-1"].sums)}
    assert found(rows, changed)["minilm lrf 2", "teacher-ltsft"].why == "not the same test files"


def test_the_page_shows_them_and_the_folder_keeps_outcomes(run, tmp_path: Path) -> None:
    rows, kept = run
    text = re.sub(
        r"\s+", " ", write_report(tmp_path, rows, title="Some", kept=kept).read_text(encoding="utf-8")
    )
    pair = found(rows, kept)["scratch lrf 2", "teacher-ltsft"]
    low, high = (f"{value:+.1f}".replace("-", "−") for value in (pair.difference.low, pair.difference.high))
    assert f"<td>{low} to {high}</td>" in text
    assert "kept no outcomes" not in text
    assert read_all_outcomes(tmp_path / "outcomes").keys() == kept.keys()
    text = write_report(tmp_path, rows, title="None").read_text(encoding="utf-8")
    assert f"{len(found(rows, kept))} comparisons are left out: evaluations of older versions" in text
    assert "evaluations kept no outcomes" not in text
    assert not list(tmp_path.glob("outcomes/*"))


def test_students_of_a_regime_meet_those_of_that_regime(run) -> None:
    rows, kept = run
    few = [
        {**row, "system": f"{row['system']}@fs", "artefact": f"few {row['artefact']}"}
        for row in rows
        if row["system"] in ("teacher-ltsft", "bistil-tf")
    ]
    more = {f"few {name}": outcomes for name, outcomes in kept.items()}
    pairs = found([*rows, *few], {**kept, **more})
    assert set(pairs) - set(found(rows, kept)) == {("bistil-tf@fs lrf 2", "teacher-ltsft@fs")}
