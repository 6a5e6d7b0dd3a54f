"""One rule for encodings and line ends, strict JSON and strict tables."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bistil.errors import InputError
from bistil.settings import files
from bistil.tasks import task
from bistil.tasks.retrieval import read_parallel
from bistil.text.corpora import read_lines
from bistil.text.languages import read_table

TABLE = "code,name,family,seen,corpus\nqaa,A,F,yes,qaa.txt\n"
PAIRS = "premise\thypothesis\tlabel\na\tb\tneutral\n"
TREE = "1\tGo\t_\tVERB\t_\t_\t0\troot\t_\t_\n\n"
JSONL = '{"premise": "a", "hypothesis": "b", "label": "neutral"}\n'
QUESTION = {"id": "1", "question": "?", "answers": [{"text": "red", "answer_start": 0}]}
SQUAD = json.dumps({"data": [{"paragraphs": [{"context": "red", "qas": [QUESTION]}]}]}, indent=1) + "\n"
READERS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "corpus": (read_lines, "a.txt", "one line\nand another\n"),
    "parallel": (read_parallel, "a.tsv", "one\tuno\ntwo\tdos\n"),
    "languages": (read_table, "languages.csv", TABLE),
    "parsing": (task("parsing").read, "a.conllu", TREE),
    "pos": (task("pos").read, "a.conllu", TREE),
    "ner": (task("ner").read, "a.txt", "Ada B-PER\n\nLima B-LOC\n"),
    "nli": (task("nli").read, "a.tsv", PAIRS),
    "nli-jsonl": (task("nli").read, "a.jsonl", JSONL),
    "qa": (task("qa").read, "a.json", SQUAD),
}


@pytest.mark.parametrize("name", READERS)
def test_marks_and_line_ends_of_editors_change_nothing(name: str, tmp_path: Path) -> None:
    read, file, text = READERS[name]
    path = tmp_path / file
    path.write_text(text, encoding="utf-8", newline="")
    wanted = read(path)
    for changed in ("\ufeff" + text, text.replace("\n", "\r\n"), "\ufeff" + text.replace("\n", "\r")):
        path.write_text(changed, encoding="utf-8", newline="")
        assert read(path) == wanted


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "begins with the mark of UTF-16"),
        ("utf-32", "begins with the mark of UTF-32"),
        ("utf-16-le", "line 1 holds the byte 0x00"),
    ],
)
def test_other_encodings_are_called_by_their_name(
    name: str, encoding: str, said: str, tmp_path: Path
) -> None:
    read, file, text = READERS[name]
    (tmp_path / file).write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=said):
        read(tmp_path / file)


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("a\u2028b\x85\x0cc\rd\n\ne".encode())
    assert list(files.lines(path)) == [(1, "a\u2028b\x85\x0cc\rd"), (2, ""), (3, "e")]
    assert files.read_text(path) == "a\u2028b\x85\x0cc\rd\n\ne"
    path.write_bytes(b"")
    assert list(files.lines(path)) == []


def test_a_damaged_line_has_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for damaged, said in ((b"a\r\nb\nc\xff\n", "line 3 .* 0xff"), (b"a\nb\0\n", "line 2 .* 0x00")):
        path.write_bytes(damaged)
        for read in (files.read_text, lambda path: list(files.lines(path))):
            with pytest.raises(InputError, match=said):
                read(path)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "none", "there is none"),
        (tmp_path, "directory"),
        (tmp_path / ("a" * 300), "too long"),
        (Path("a\0b"), "null byte"),
    ):
        assert not files.is_file(path)
        with pytest.raises(InputError, match=said):
            files.read_text(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n}', "line 2: expected JSON"),
        ('["a",\n"\\ud83d\\u0041"]', "line 2: .*half of a surrogate pair"),
        ('["\\\\\\uDE00"]', "half of a surrogate pair"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("9" * 5000, "none"),
        ("[" * 100_000, "too deeply"),
        ("[]", "a mapping in JSON, but got list"),
    ],
)
def test_json_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        files.read_json(tmp_path / "a.json", dict)


def test_whole_pairs_and_escaped_backslashes_are_good_json() -> None:
    assert files.parse_json(r'["\ud83d\ude00", "\\ud83d", "\\\\ud83d"]') == ["😀", r"\ud83d", r"\\ud83d"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3,4,5\n", "line 3: a row of 2 cells .* has 3"),
        ("a,b\n1,2\n\n3\n", "line 4: .* has 1"),
        ("a,a\n", "'a' is there twice"),
        ('a,b\n"1,2\n', "line 2: a table with commas"),
    ],
)
def test_tables_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        files.read_csv(tmp_path / "a.csv")


def test_tables_have_quotation_marks_and_rows_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n"1,\n1",\n,\n2,3\n', encoding="utf-8")
    header, rows = files.read_csv(tmp_path / "a.csv")
    assert header == ["a", "b"]
    assert rows == [(3, {"a": "1,\n1", "b": ""}), (5, {"a": "2", "b": "3"})]


def test_what_a_spreadsheet_would_work_out_is_written_as_text(tmp_path: Path) -> None:
    cells = [
        "=HYPERLINK(1)",
        "@SUM(1)",
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "\t=1",
        "-1.5",
        "-1e-05",
        -2,
        "-",
        "a=b",
        None,
    ]
    (tmp_path / "a.csv").write_text(
        files.csv_text([[f"c{n}" for n in range(len(cells))], cells]), encoding="utf-8"
    )
    [(_, row)] = files.read_csv(tmp_path / "a.csv")[1]
    assert list(row.values()) == [
        *(f"'{cell}" for cell in cells[:5]),
        *("-1.5", "-1e-05", "-2", "-", "a=b", ""),
    ]


def test_a_question_with_a_long_id_is_found_at_once(tmp_path: Path) -> None:
    name = "a" * 500_000
    entry = {**QUESTION, "id": name, "answers": [{"text": "blue", "answer_start": 0}]}
    found = {"data": [{"paragraphs": [{"context": "red", "qas": [QUESTION, entry]}]}]}
    (tmp_path / "a.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    started = time.process_time()
    with pytest.raises(InputError, match="line"):
        task("qa").read(tmp_path / "a.json")
    assert time.process_time() - started < 2
