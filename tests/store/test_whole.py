"""Files that are whole or not there, and places that are tried before long work."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bistil.errors import InputError
from bistil.store import whole
from bistil.store.whole import check_place, write_whole


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "page.html"
    write_whole(path, "old\r\né")
    assert path.read_bytes() == "old\r\né".encode()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_bytes() == "old\r\né".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_several_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path, errors = tmp_path / "results.csv", list[BaseException]()

    def write(word: str) -> None:
        try:
            for _ in range(100):
                write_whole(path, word * 500)
                assert set(path.read_text()) in ({"a"}, {"b"})
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(word,)) for word in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors


@pytest.mark.parametrize("kind", ["a file", "inside a file", "too long", "read-only"])
def test_a_place_that_cannot_be_written_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o500)
    place, reason = {
        "a file": (tmp_path / "file", "File exists"),
        "inside a file": (tmp_path / "file" / "inside", "Not a directory"),
        "too long": (tmp_path / ("n" * 300), "File name too long"),
        "read-only": (tmp_path / "closed", "Permission denied"),
    }[kind]
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with pytest.raises(InputError, match=f"The report should go into .*{reason}"):
        check_place(place, "The report")
    check_place(tmp_path / "new" / "folder", "The report")
    assert not (tmp_path / "new" / "folder").exists()


def test_several_may_try_one_new_folder_at_a_time(tmp_path: Path) -> None:
    def try_it(_: int) -> None:
        for number in range(150):
            check_place(tmp_path / str(number), "The report")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(try_it, range(4)))
    assert not any(one.is_file() for one in tmp_path.rglob("*"))
