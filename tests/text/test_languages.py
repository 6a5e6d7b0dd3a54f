"""The language table and the data folder."""

from pathlib import Path

import pytest

from bistil.errors import InputError
from bistil.text.languages import DATA, SPLITS, DataFolder, read_table

HEADER = "code,name,family,seen,corpus,treebank,ner,order\n"


def test_a_folders_own_table_says_what_is_where(data, world: Path) -> None:
    assert set(data.languages) == {"qaa", "qab", "qac"}
    assert (data.languages["qab"].seen, data.languages["qac"].seen) == (True, False)
    assert data.text("qaa") == world / "corpora" / "qaa.txt"
    assert data.file("treebank", "qac", "test").is_file()
    assert data.has("ner", "qac", "dev")
    assert data.has("nli", "qac", "dev")
    assert data.has("qa", "qac", "train")
    assert data.file("parallel", "qac", "test") == world / "parallel" / "qaa-qac.tsv"
    assert not data.has("parallel", "qaa", "test")
    assert not data.has("trees", "qac", "dev")


def test_a_folder_without_a_table_takes_the_projects(tmp_path: Path) -> None:
    assert DataFolder(tmp_path).languages == read_table(DATA / "languages.csv")


def test_missing_things_are_named(data, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BISTIL_DATA"):
        DataFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"'qax' is not in it. Did you mean qa"):
        data.language("qax")
    with pytest.raises(InputError, match=r"A test file of qaa .* column `parallel`, but there is none"):
        data.file("parallel", "qaa", "test")
    with pytest.raises(InputError, match=r"treebank` at .*qaa-extra.conllu"):
        data.file("treebank", "qaa", "extra")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"code,name\nqaa,A\n", "'family' is missing"),
        (b"", "'code' is missing"),
        (HEADER.encode() + b"qaa,A,F,true\n", "line 2: a row of 8 cells"),
        (HEADER.encode() + b"qaa,A, B,F,true,c,t,n,o\n", "line 2: a row of 8 cells .* has 9"),
        (HEADER.encode() + 2 * b"qaa,A,F,true,c,t,n,o\n", "line 3: the language 'qaa' is there already"),
        (HEADER.encode() + b",A,F,true,c,t,n,o\n", "line 2: the language '' should have a code"),
        (HEADER.encode() + b"../a,A,F,true,c,t,n,o\n", "line 2: .* should have a code"),
        (HEADER.encode() + b"qaa,A,F,maybe,c,t,n,o\n", "line 2: .* yes or no, but `seen` is 'maybe'"),
        (
            HEADER.encode() + b"qaa,A,F,true,c,{lang}/{split},n,o\n",
            "line 2: .* `treebank`, in braces nothing",
        ),
        (HEADER.encode() + b"qaa,A,F,true,c,t,{1},o\n", "line 2: .* `ner`, in braces nothing"),
        (HEADER.encode() + b"qaa,A,F,true,{split,t,n,o\n", "line 2: .* `corpus`, in braces nothing"),
        (HEADER.replace(",", ";").encode(), "separated by semicolons"),
        (HEADER.encode() + b"qaa,\xff,F,true,c,t,n,o\n", "UTF-8"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "languages.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        _ = DataFolder(tmp_path).languages


def test_old_tables_work_and_a_column_of_ones_own_names_the_files_of_a_task(tmp_path: Path) -> None:
    rows = "qaa,A,F,yes,a.txt,ud/{split}.conllu,ner/{split}.txt,x/{split}.tsv\nqab,B,F,no,b.txt,,,x/b.tsv\n"
    (tmp_path / "languages.csv").write_text(HEADER + rows, encoding="utf-8")
    (tmp_path / "x").mkdir()
    for name in ("dev.tsv", "b.tsv"):
        (tmp_path / "x" / name).touch()
    data = DataFolder(tmp_path)
    assert data.file("order", "qaa", "dev") == tmp_path / "x" / "dev.tsv"
    assert not data.has("nli", "qaa", "dev")
    assert [data.has("order", "qab", split) for split in SPLITS] == [
        False,
        False,
        True,
    ]  # without {split}: a test file


def test_seen_is_read_in_several_spellings(tmp_path: Path) -> None:
    rows = "".join(
        f"q{i},N,F,{seen},c,t,n,o\n" for i, seen in enumerate(["true", "Yes", "1", "false", "no", ""])
    )
    (tmp_path / "languages.csv").write_text(HEADER + rows, encoding="utf-8")
    assert [language.seen for language in DataFolder(tmp_path).languages.values()] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
