"""The documentation's own task: its code runs as it stands, is short, and goes through teacher and student
like any other.
"""

import re
import shutil
from pathlib import Path

import pytest
from tiny import ROOT, entries

from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.settings.yaml import build
from bistil.store.artefacts import Store
from bistil.tasks import TASKS
from bistil.tasks import task as find_task
from bistil.text.languages import DataFolder

SHOWN = re.compile(r"<!-- own task -->\n```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(TASKS, "topic", TASKS["ner"])  # so that the entry is gone again after the test
    [code] = SHOWN.findall((ROOT / "docs" / "concepts" / "tasks.md").read_text(encoding="utf-8"))
    return code


@pytest.fixture
def topics(world: Path, tmp_path: Path) -> DataFolder:
    """The tiny world with the column and the files of the new task: the topic of a sentence is its first
    letter.
    """
    folder = shutil.copytree(world, tmp_path / "data")
    head, *rows = (folder / "languages.csv").read_text(encoding="utf-8").splitlines()
    table = [f"{head},topic", *(f"{row},own/{row.partition(',')[0]}-{{split}}.tsv" for row in rows)]
    (folder / "languages.csv").write_text("\n".join(table) + "\n", encoding="utf-8")
    (folder / "own").mkdir()
    for language, splits in (("qaa", ("train", "dev")), ("qac", ("test",))):
        lines = (folder / "corpora" / f"{language}.txt").read_text(encoding="utf-8").splitlines()
        for split in splits:
            text = "".join(f"{'early' if line[0].lower() < 'm' else 'late'}\t{line}\n" for line in lines[:20])
            (folder / "own" / f"{language}-{split}.tsv").write_text(text, encoding="utf-8")
    return DataFolder(folder)


def test_the_code_is_short_and_makes_a_known_task(code: str, topics: DataFolder) -> None:
    assert len(code.splitlines()) <= 30
    assert max(map(len, code.splitlines())) <= 140
    exec(code, {"__name__": "own"})
    topic = find_task("topic")
    examples = topic.read(topics.file("topic", "qaa", "train"))
    assert topic.for_training(examples).labels == ("early", "late")
    assert 50.0 <= topic.for_training(examples).floor(examples, examples)["accuracy"] <= 100.0


@pytest.mark.slow
def test_teacher_and_student_learn_it(
    code: str, topics: DataFolder, teacher_folder: Path, tmp_path: Path
) -> None:
    exec(code, {"__name__": "own"})
    whole = entries(teacher_folder, steps=1)
    plan = {
        **whole,
        "targets": {"topic": ["qac"]},
        "task": {"topic": whole["task"]["ner"]},
        "systems": ["teacher-ltsft", "bistil-tf:2", "floor"],
    }
    pipeline = Pipeline(build(Experiment, plan, "tiny"), topics, Store(tmp_path / "store"))
    pipeline.check()
    rows = [row for cell in pipeline.experiment.cells() for row in pipeline.rows(cell)]
    assert [(row["system"], row["metric"]) for row in rows] == [
        (name, "accuracy") for name in ("teacher-ltsft", "bistil-tf", "floor")
    ]
    assert pipeline.deployed(pipeline.experiment.cells()[1]).path("model").is_dir()
