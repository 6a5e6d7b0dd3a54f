"""Folders beside other people's files, and modes by the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bistil.errors import InputError
from bistil.sft.delta import SparseDelta
from bistil.store.artefacts import Store
from bistil.text.written import aside, open_to_others


@pytest.fixture(params=[0o022, 0o007, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def weights(folder: Path) -> dict[str, object]:
    (folder / "model").mkdir()
    save_file({"w": torch.ones(2)}, folder / "model" / "w.safetensors")
    return {}


def test_artefacts_are_readable_for_whom_the_umask_lets_read(tmp_path: Path, umask: int) -> None:
    made = Store(tmp_path).run("student", {}, {}, weights)
    assert mode(made.path("model/w.safetensors")) == 0o666 & ~umask
    assert mode(made.folder / "model") == 0o777 & ~umask
    assert mode(made.folder / "manifest.json") == 0o666 & ~umask


def test_a_delta_is_too(tmp_path: Path, umask: int) -> None:
    delta = SparseDelta(tensors={"w": (torch.tensor([1]), torch.ones(1))}, base="b", shapes={"w": (2,)})
    delta.save(tmp_path / "delta.safetensors")
    assert mode(tmp_path / "delta.safetensors") == 0o666 & ~umask


def test_modes_are_only_opened_and_links_left_alone(tmp_path: Path, umask: int) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "run.sh").touch()
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "outside").touch(mode=0o600)
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    open_to_others(tmp_path / "folder")
    open_to_others(tmp_path / "run.sh")
    assert mode(tmp_path / "run.sh") == 0o755 | 0o666 & ~umask
    assert mode(tmp_path / "outside") == 0o600


def test_a_folder_aside_is_new_and_leaves_nothing(tmp_path: Path) -> None:
    with aside(tmp_path / "a" / "x") as one, aside(tmp_path / "a" / "x") as other:
        assert one != other
        one.rename(tmp_path / "a" / "x")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]
    with pytest.raises(FileNotFoundError), aside(tmp_path / "b") as made:
        (made / "file").rename(tmp_path / "b")
    assert not list(tmp_path.glob("[!a]*"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a system without /proc")
def test_a_place_where_the_system_makes_no_folders_is_said() -> None:
    with pytest.raises(InputError, match="makes none in /proc"), aside(Path("/proc/x")):
        pass
