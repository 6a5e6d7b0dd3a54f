"""An experiment leaves a store with what was made from its artefacts, and what another needs stays."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bistil.cli import main
from bistil.store.artefacts import Store


@pytest.mark.slow
def test_an_experiment_goes_with_what_was_made_from_it_and_others_stay_whole(
    tmp_path: Path, experiment_file: Callable[..., Path], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = str(experiment_file()), Store(tmp_path / "store")
    places = ["--store", str(store.root), "--data", str(world)]
    assert main(["stage", file, *places]) == 0
    stages = [line.split() for line in capsys.readouterr().out.splitlines()]
    name = next(stage[0] for stage in stages if "vocabulary" in stage)
    assert main(["stage", file, name, *places]) == 0
    [vocabulary] = store.all("vocabulary")
    foreign = store.run("notes", {}, {}, lambda folder: {})
    made = store.run("notes", {}, {"vocabulary": vocabulary}, lambda folder: {})
    half = store.root / "task-sft" / f"{next(s[0] for s in stages if 'task-sft' in s)}.partial"
    (half / "checkpoint-1").mkdir(parents=True)
    (half / "checkpoint-1" / "model.safetensors").write_bytes(bytes(2**20))
    cut = store.root / "notes" / f"{made.id}.gone"
    (cut / "files").mkdir(parents=True)  # an earlier removal ended here
    cited = tmp_path / "reports" / "one"
    cited.mkdir(parents=True)
    (cited / "results.csv").write_text(f"artefact,value\n{name},1\n", encoding="utf-8")

    def said(*options: str) -> str:
        capsys.readouterr()
        assert main(["rm", file, *places, "--reports", str(cited.parent), *options]) == 0
        return capsys.readouterr().out

    assert "0 artefacts would go" in said("--keep", file)
    told = said()
    assert "2 artefacts would go: give --yes" in told
    assert re.search(r"1 not finished +1\.0 MiB", told)
    assert f"{cited} names some of them" in told
    assert made.folder.is_dir()
    assert "2 artefacts are deleted" in said("--yes")
    assert not made.folder.exists()
    assert not vocabulary.folder.exists()
    assert foreign.folder.is_dir()
    assert not half.exists()
    assert not cut.exists()
