"""Signed ranks over the cells of a table, and deviations from teachers."""

from typing import Any

import pytest

from bistil.evaluation.significance import signed_rank
from bistil.report.ranks import rank_tables, relative_deviation


def test_signed_ranks_by_hand() -> None:
    assert signed_rank([1, 2, 3, 4, 5]) == 1 / 32
    assert signed_rank([-1, 2, 3]) == 2 / 8
    assert signed_rank([1, -1]) == 0.75  # ranks of 1.5: sums 0, 1.5, 1.5, 3
    assert signed_rank([0.0, 0.0]) == 1
    assert signed_rank([0.1 + 0.2, -0.3]) == 0.75  # equal but for rounding
    assert 0.49 < signed_rank([(-1) ** place * place for place in range(1, 1201)]) < 0.51  # 2**1200 signs


def row(system: str, target: str, value: float, recipe: str) -> dict[str, Any]:
    return {
        "experiment": "e",
        "system": system,
        "teacher": "t",
        "task": "ner",
        "source": "a",
        "target": target,
        "lrf": 2 if recipe else None,
        "recipe": recipe,
        "metric": "f1",
        "value": value,
        "seed": 1,
        "artefact": f"{system}{target}",
    }


def test_each_student_is_ranked_against_each_whole_model() -> None:
    rows = [
        row(system, target, 50 + place * better, recipe)
        for system, better, recipe in (("eliquare", 2, "kl"), ("teacher-full", 1, ""))
        for place, target in enumerate("bcdef", start=1)
    ]
    (table,) = rank_tables(rows)
    assert table.lines == [("eliquare lrf 2", "teacher-full", "5 of 5", "+3.0", "+5.6 %", "0.0312")]
    assert rank_tables(rows[:4] + rows[5:]) == []
    apart = [{**one, "regime": "target" if one["recipe"] else "source"} for one in rows]
    assert rank_tables(apart) == []  # they learnt from other examples


def test_teachers_are_not_mixed() -> None:
    rows = [
        {**row(system, target, 50 + place * sign * better, recipe), "teacher": teacher}
        for teacher, sign in (("t", 1), ("u", -1))
        for system, better, recipe in (("eliquare", 2, "kl"), ("teacher-full", 1, ""))
        for place, target in enumerate("bcdef", start=1)
    ]
    first, second = rank_tables(rows)
    assert first.title == "Signed ranks over tasks and targets (t, from a)"
    assert first.lines == [("eliquare lrf 2", "teacher-full", "5 of 5", "+3.0", "+5.6 %", "0.0312")]
    assert second.title == "Signed ranks over tasks and targets (u, from a)"
    assert second.lines == [("eliquare lrf 2", "teacher-full", "0 of 5", "−3.0", "−6.5 %", "1.0000")]


def test_a_teacher_that_scores_nothing_somewhere_is_no_division_by_zero() -> None:
    rows = [
        row(system, target, (50.0 + place) * (not (system == "teacher-full" and place == 1)), recipe)
        for system, recipe in (("eliquare", "kl"), ("teacher-full", ""))
        for place, target in enumerate("bcdef", start=1)
    ]
    rows += [
        {**one, "target": "g" + one["target"], "value": one["value"] + len(one["recipe"])} for one in rows
    ]
    (table,) = rank_tables(rows)
    assert table.lines[0][4] == "–"
    assert relative_deviation({("a", "b"): 1.0, ("c", "d"): 3.0}, {("a", "b"): 0.0, ("c", "d"): 2.0}) == 50


def test_a_deviation_is_positive_where_the_student_is_better() -> None:
    students, teachers = {("a", "ner"): 11.0, ("b", "ner"): 9.0}, {("a", "ner"): 10.0, ("b", "ner"): 8.0}
    assert relative_deviation(students, teachers) == pytest.approx(11.25)
