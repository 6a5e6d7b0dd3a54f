"""Translations of task data: tables, what is refused, a sentence once."""

from pathlib import Path

import pytest

from bistil.errors import InputError
from bistil.tasks import TASKS
from bistil.tasks.nli import Pair
from bistil.tasks.translation import Noise, Translator, by_table, check_translatable, translated

PAIRS = [
    Pair("It rains.", "It is wet.", "entailment"),
    Pair("It snows.", "It is wet.", "neutral"),
    Pair("It rains.", "It is dry.", "contradiction"),
]


def table(folder: Path, text: str) -> Path:
    path = folder / "eng-swa.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_translates_each_sentence_once_and_keeps_labels_and_order(tmp_path: Path) -> None:
    path = table(tmp_path, "It rains.\tMvua.\nIt snows.\tTheluji.\nIt is wet.\tMaji.\nIt is dry.\tKavu.\n")
    asked = []
    look = by_table(path)

    def count(sentences):
        asked.extend(sentences)
        return look(sentences)

    assert translated(PAIRS, count) == [
        Pair("Mvua.", "Maji.", "entailment"),
        Pair("Theluji.", "Maji.", "neutral"),
        Pair("Mvua.", "Kavu.", "contradiction"),
    ]
    assert len(asked) == len(set(asked)) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("It rains.\tMvua.\nIt snows.\t\n", "line 2: a sentence, a tab and its translation"),
        ("It rains.\tMvua.\n\nIt snows.\tTheluji.\n", "line 2: a sentence"),
        ("It rains.\tMvua.\tx\n", "line 1: a sentence"),
        ("It rains.\tMvua.\n", "3 of 4 are missing, the first of them: 'It is wet.'"),
    ],
)
def test_a_missing_or_blank_line_is_told_with_its_number(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        translated(PAIRS, by_table(table(tmp_path, text)))


def test_tasks_whose_labels_do_not_survive_say_why() -> None:
    check_translatable("nli")
    for name, why in {
        "parsing": "a tree",
        "pos": "tags",
        "ner": "names",
        "qa": "a place in the text",
        "choice": "one by one",
    }.items():
        assert name in TASKS
        with pytest.raises(InputError, match=f"{name} can't be .*: .*{why}"):
            check_translatable(name)


def test_settings_of_one_kind_are_no_others() -> None:
    for wrong in (
        {"kind": "table", "noise": Noise(drop=0.1)},
        {"kind": "table", "world": "x.yaml"},
    ):
        with pytest.raises(InputError, match="are for `kind: oracle` alone"):
            Translator(**wrong)
