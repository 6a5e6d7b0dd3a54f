"""`ensure_world`: once, atomically, and again only for other settings."""

from pathlib import Path

import filelock
import pytest
import yaml

from bistil.errors import InputError
from bistil.miniworld import ensure, ensure_world

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return few(tmp_path / "settings.yaml", parallel=5)


def few(path: Path, parallel: int) -> Path:
    world = yaml.safe_load((ROOT / "data" / "miniworld.yaml").read_text(encoding="utf-8"))
    splits = {"train": 6, "dev": 3, "test": 3}
    world["sizes"] = {
        "corpus": 8,
        "treebank": splits,
        "ner": splits,
        "nli": splits,
        "topic": splits,
        "choice": splits,
        "qa": splits,
        "parallel": parallel,
    }
    path.write_text(yaml.safe_dump(world), encoding="utf-8")
    return path


def test_a_second_call_writes_nothing(
    tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ensure_world(tmp_path / "cache" / "world", settings)
    assert (folder / "languages.csv").is_file()
    monkeypatch.setattr(ensure, "write_world", lambda *_: pytest.fail("written twice"))
    assert ensure_world(folder, settings) == folder


def test_changed_settings_replace_the_world_and_leave_nothing_beside_it(
    tmp_path: Path, settings: Path
) -> None:
    folder = ensure_world(tmp_path / "cache" / "world", settings)
    (folder / "stray.txt").touch()
    ensure_world(folder, few(settings, parallel=4))
    assert not (folder / "stray.txt").exists()
    assert len((folder / "parallel" / "qaa-qab.tsv").read_text(encoding="utf-8").splitlines()) == 4
    assert sorted(path.name for path in folder.parent.iterdir() if not path.name.startswith(".")) == ["world"]


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(InputError, match="has no locks"):
        ensure_world(tmp_path / "world", settings)


def test_an_interrupted_write_leaves_no_world_and_is_repaired(
    tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache" / "world"

    def half(growing: Path, *_: object) -> None:
        growing.mkdir(parents=True)
        (growing / "half.txt").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensure, "write_world", half)
        with pytest.raises(KeyboardInterrupt):
            ensure_world(folder, settings)
    assert not folder.exists()
    assert not (ensure_world(folder, settings) / "half.txt").exists()


def test_bad_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("sed: 1", encoding="utf-8")
    with pytest.raises(InputError):
        ensure_world(tmp_path / "world", bad)
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize("beside", ["world.partial", "world.old"])
def test_what_others_keep_beside_the_world_stays(tmp_path: Path, settings: Path, beside: str) -> None:
    folder = ensure_world(tmp_path / "world", settings)
    (tmp_path / beside).mkdir()
    ensure_world(folder, few(settings, parallel=4))
    assert (tmp_path / beside).is_dir()


def test_a_folder_of_something_else_is_refused_and_stays(tmp_path: Path, settings: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").touch()
    with pytest.raises(InputError, match="something else"):
        ensure_world(tmp_path / "thesis", settings)
    assert (tmp_path / "thesis" / "text.tex").is_file()
