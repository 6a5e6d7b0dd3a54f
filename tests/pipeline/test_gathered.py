"""Regimes through the pipeline: which files are read, what is made once, and a whole run with its report."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import ROOT, write_tiny_world
from transformers import M2M100Config, M2M100ForConditionalGeneration
from zoo import save_translator as save

from bistil import batch
from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.miniworld import load_settings
from bistil.pipeline import Pipeline
from bistil.pipeline.examples import TRANSLATION
from bistil.plan import foresee, plan
from bistil.pretrain.pieces import fast_tokenizer
from bistil.report.experiment import further_tables, write_experiment_report
from bistil.store.artefacts import Store, file_id, plain
from bistil.systems.rows import Rows
from bistil.tasks import task as find_task
from bistil.tasks.tagging import Tagged
from bistil.tasks.training import TaskBatches, draw_shots
from bistil.tasks.translation import Translator
from bistil.text.corpora import read_lines
from bistil.text.languages import DataFolder
from bistil.training.loop import Schedule
from bistil.workbench import data_panel

REGIMES = {
    "sources": {"sources": ["qaa", "qab"], "total": 9},
    "fs": {"shots": 4},
    "fs-all": {"shots": 4, "of": "targets"},
    "fs-plain": {"shots": 4, "upsample": 1},
    "tt": {"translated": "target", "sources": [], "validate_on": "translated"},
    "tt-all": {"translated": "targets", "validate_on": "both"},
    "both": {"shots": 2, "of": "targets", "translated": "targets", "validate_on": "both"},
    "ttest": {"translate_test": True},
    "exposed": {"expose": "targets"},
    "own": {"expose": "target"},
}
COUNTS = {
    "sources": {"qaa": 5, "qab": 4},
    "fs": {"qaa": 24, "qac": 40},
    "fs-all": {"qaa": 24, "qac": 40, "qab": 40},
    "fs-plain": {"qaa": 24, "qac": 4},
    "in-language": {"qac": 24},
    "sequential-3": {"qac": 3},
}
TRANSLATED = {
    "tt": {"qac": 3},
    "tt-all": {"qaa": 3, "qac": 3, "qab": 3},
    "both": {"qaa": 3, "qac": 23, "qab": 23},
}


class Watched(DataFolder):
    """A data folder in which the dev files of targets, and train files where none should be read, raise."""

    def file(self, column: str, code: str, split: str) -> Path:
        if code != "qaa" and split == "dev":
            raise AssertionError(f"the {split} file of {code} was opened")
        return super().file(column, code, split)


@pytest.fixture(scope="module")
def world_settings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny world of its own, and the settings file that it comes from."""
    folder = tmp_path_factory.mktemp("told")
    world = write_tiny_world(folder / "world")
    settings = load_settings(ROOT / "data" / "miniworld.yaml")
    sizes = plain(settings.sizes) | {"nli": {"train": 3, "dev": 3, "test": 3}}
    told = plain(replace(settings, languages=settings.languages[:3])) | {"sizes": sizes}
    (folder / "world.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return world, folder / "world.yaml"


@pytest.fixture
def small(experiment, world_settings) -> Any:
    def make(*names: str, task: str = "ner") -> Any:
        settings = experiment().task["ner"]
        return replace(
            experiment(
                systems=["teacher-ltsft"],
                regimes=REGIMES,
                translators={"oracle": {"kind": "oracle", "world": str(world_settings[1])}},
                targets={"parsing": ["qac"]},
            ),
            targets={task: ("qac", "qab")},
            task={task: settings},
            systems=names,
        )

    return make


@pytest.mark.parametrize("name", [*COUNTS, *TRANSLATED])
def test_examples_per_epoch_and_their_languages(small, world_settings, tmp_path: Path, name: str) -> None:
    task, expected = ("ner", COUNTS) if name in COUNTS else ("nli", TRANSLATED)
    folder = DataFolder if name == "in-language" else Watched
    pipeline = Pipeline(small(f"teacher-ltsft@{name}", task=task), folder(world_settings[0]), Store(tmp_path))
    [cell, other] = pipeline.experiment.cells()
    kind, examples = pipeline.training(cell)
    assert {code: len(own) for code, own in examples.items()} == expected[name]
    assert kind.labels
    amounts = Counter[str]()
    for (code, _), number in pipeline.amounts(cell).items():
        amounts[code] += number
    assert amounts == expected[name]
    counts = {code: Counter(map(id, own)) for code, own in examples.items()}
    assert all(number in (1, 10) for one in counts.values() for number in one.values())
    validation = pipeline.validation(cell, 2)
    sources = {"qaa"} if name not in ("tt", "in-language") else {"qac"}
    more = {"qab", "qac"} if name in ("tt-all", "both") else set()
    assert set(validation) == sources | more
    assert all(len(own) == 2 for own in validation.values())
    alone = name in ("fs", "fs-plain", "tt", "in-language", "sequential-3")
    assert (pipeline.training_files(cell) != pipeline.training_files(other)) == alone
    files = {(code, split) for _, code, split in pipeline.task_files}
    assert name == "in-language" or not any(split == "dev" and code != "qaa" for code, split in files)


def test_a_schedule_in_epochs_gives_way_to_the_epochs_of_what_comes_after(small) -> None:
    asked = small("teacher-ltsft@sequential-3")
    of_epochs = Schedule(epochs=7, at_least=100, learning_rate=1e-3)
    settings = asked.task["ner"]
    sft = replace(settings.sft, sparse=of_epochs)
    asked = replace(asked, task={"ner": replace(settings, sft=sft, head_learning_rate=1e-2)})
    [cell, *_] = asked.cells()
    then, found = asked.system(cell.system).then, asked.task_config(cell)
    assert found.sft.sparse.steps == then.epochs * math.ceil(3 / then.batch_size)
    assert (found.sft.sparse.epochs, found.sft.sparse.at_least) == (None, None)
    assert (found.sft.sparse.learning_rate, found.head_learning_rate) == (then.learning_rate, None)


@pytest.mark.parametrize("name", ["fs", "tt"])
def test_a_plan_counts_the_epochs_of_examples_that_are_not_there_yet(
    small, world_settings, tmp_path: Path, name: str
) -> None:
    task = "nli" if name == "tt" else "ner"
    asked = small(f"teacher-ltsft@{name}", task=task)
    of_epochs = Schedule(epochs=2, learning_rate=1e-3)
    settings = asked.task[task]
    settings = replace(settings, sft=replace(settings.sft, dense=of_epochs, sparse=of_epochs))
    asked, data = replace(asked, task={task: settings}), DataFolder(world_settings[0])
    stages = foresee(asked, data, Store(tmp_path, read_only=True)).values()
    [found, *_] = [stage.config["settings"] for stage in stages if stage.kind == "task-sft"]
    examples = sum({**COUNTS, **TRANSLATED}[name].values())
    assert found.sft.dense.steps == 2 * math.ceil(examples / settings.batch_size)


def test_the_data_panel_draws_a_bar_for_each_regime(small, world_settings, tmp_path: Path) -> None:
    names = ["teacher-ltsft", "teacher-ltsft@both", "teacher-ltsft@tt-all", "bistil-tf:2@both", "floor"]
    whole = small(*names, task="nli")
    whole = replace(whole, task={"nli": replace(whole.task["nli"], examples=5)})
    pipeline = Pipeline(whole, DataFolder(world_settings[0]), Store(tmp_path, read_only=True))
    panel = data_panel(pipeline)
    assert panel.model.options == {
        "system": ["teacher-ltsft", "bistil-tf:2"],
        "score": ["nli, qac", "nli, qab"],
    }
    [bars] = panel.model.figure().axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["zero-shot", "both", "tt-all"]
    assert [text.get_text() for text in bars.texts] == ["3", "49", "9"], (
        "`examples` are of a file, before upsampling"
    )
    panel.lists["system"].value = "bistil-tf:2"
    assert [text.get_text() for text in panel.model.figure().axes[0].texts] == ["26"]
    assert "var(--ink)" in panel.image.value
    assert panel.error.value == ""


def test_shots_are_the_first_of_one_shuffle_and_never_of_the_test_file(data, tmp_path: Path) -> None:
    task = find_task("ner")
    train, test = (task.read(data.file("ner", "qac", split)) for split in ("train", "test"))
    rows = Rows(language="qac", most=5, drawn=True)
    few = draw_shots("ner", rows, train, test, seed=1)
    many = draw_shots("ner", replace(rows, most=20), train, test, seed=1)
    assert many[:5] == few
    assert len(set(many)) == 20
    assert draw_shots("ner", rows, train, test, seed=2) != few
    assert draw_shots("pos", rows, train, test, seed=1) != few
    assert len(draw_shots("ner", replace(rows, most=500), train, test, seed=1)) == len(train)
    leaked = [*test, train[few[1]]]
    with pytest.raises(InputError, match=r"1 of 5 stand there too.*overlap: drop"):
        draw_shots("ner", rows, train, leaked, seed=1)
    assert (
        draw_shots("ner", replace(rows, overlap="drop"), train, leaked, seed=1)
        == [number for number in many if number != few[1]][:5]
    )
    with pytest.raises(InputError, match="there are none"):
        draw_shots("ner", replace(rows, overlap="drop"), train, train, seed=1)


def test_shots_come_from_dev_where_there_is_no_train_file(small, world_settings, tmp_path: Path) -> None:
    class Bare(DataFolder):
        def file(self, column: str, code: str, split: str) -> Path:
            if code == "qac" and split == "train":
                raise InputError("no such file")
            return super().file(column, code, split)

    pipeline = Pipeline(small("teacher-ltsft@fs"), Bare(world_settings[0]), Store(tmp_path))
    first, _ = pipeline.experiment.cells()
    shots = pipeline.shots("ner", "qac", 4, 1, "refuse")
    dev = find_task("ner").read(pipeline.data.file("ner", "qac", "dev"))
    _, examples = pipeline.training(first)
    assert examples["qac"][:4] == [dev[number] for number in shots.metrics["rows"]]


def test_a_task_module_for_all_targets_is_made_once(small) -> None:
    names = [f"teacher-ltsft@{name}" for name in ("sources", "fs", "fs-all")]
    forced = [f"bistil-tf:2@{name}" for name in ("fs", "fs-all")]
    stages = foresee(small(*names, *forced, "teacher-ltsft"))
    made = Counter(
        next(cell.system for cell in stage.cells) for stage in stages.values() if stage.kind == "task-sft"
    )
    assert made == {
        "teacher-ltsft@sources": 1,
        "teacher-ltsft@fs": 2,
        "teacher-ltsft@fs-all": 1,
        "bistil-tf@fs": 2,
        "bistil-tf@fs-all": 2,
        "teacher-ltsft": 1,
    }
    jobs = [job.stage for job in plan(small("teacher-ltsft@tt-all", "teacher-ltsft@ttest", task="nli"))]
    assert (jobs.count("translation"), jobs.count("task_sft"), jobs.count("shots")) == (6, 2, 0)


def test_batches_of_the_source_wear_its_module_or_a_targets_at_random(
    small, world_settings, tmp_path
) -> None:
    names = ("teacher-ltsft@exposed", "teacher-ltsft@own", "bistil-tf:2@exposed")
    whole = small(*names, "teacher-ltsft")
    made = [stage for stage in foresee(whole).values() if stage.kind == "task-sft"]
    worn = {
        stage.cells[0].system: {name for name in stage.inputs if "sft" in name} - {"task teacher"}
        for stage in made
    }
    every = {"source sft", "sft qab", "sft qac"}
    assert (len(made), worn["teacher-ltsft"], len(worn["teacher-ltsft@own"])) == (6, {"source sft"}, 2)
    assert worn["teacher-ltsft@exposed"] == every
    pipeline = Pipeline(whole, DataFolder(world_settings[0]), Store(tmp_path))
    cells = {cell.system: cell for cell in whole.cells() if cell.target == "qac"}
    assert pipeline.exposed(cells["teacher-ltsft@exposed"]) == ("qac", "qab")
    assert (
        pipeline.exposed(cells["bistil-tf@exposed"])
        == pipeline.exposed(cells["teacher-ltsft@own"])
        == ("qac",)
    )
    assert set(pipeline.training(cells["teacher-ltsft@exposed"])[1]) == {"qaa"}
    task = find_task("ner")
    rows = {"qaa": [{"input_ids": [1, 2, 3], "labels": [0, 0, 0]}] * 3}
    how = {"batch_size": 2, "steps": 300, "seed": 1}
    drawn = TaskBatches(task, rows, 0, **how, exposed={"qaa": ("qaa", "qac", "qab")})
    codes = Counter(drawn[step]["language"] for step in range(300))
    assert set(codes) == {"qaa", "qac", "qab"}
    assert all(80 < number < 120 for number in codes.values())
    assert {TaskBatches(task, rows, 0, **how)[step]["language"] for step in range(9)} == {"qaa"}


def test_what_was_there_keeps_its_key(small, world_settings, tmp_path: Path) -> None:
    """The rows of the table's in-language systems, and of plain ones, are those of the regime."""
    pipeline = Pipeline(
        small("teacher-full", "teacher-full@in-language", "teacher-full@fs"),
        DataFolder(world_settings[0]),
        Store(tmp_path),
    )
    plain_cell, own, few = (one for one in pipeline.experiment.cells() if one.target == "qac")
    assert set(pipeline.training_files(plain_cell)) == {"train", "dev"}
    assert set(pipeline.training_files(own)) == {"train qac", "dev"}
    assert set(pipeline.training_files(few)) == {"train", "shots qac", "dev"}


def test_a_shot_in_the_test_file_is_refused_before_any_work(small, tmp_path: Path) -> None:
    world = write_tiny_world(tmp_path / "world")
    train = world / "ner" / "qac-train.txt"
    (world / "ner" / "qac-test.txt").write_text(train.read_text(encoding="utf-8"), encoding="utf-8")
    pipeline = Pipeline(small("teacher-ltsft@fs"), DataFolder(world), Store(tmp_path / "store"))
    with pytest.raises(InputError, match="4 of 4 stand there too"):
        pipeline.check()


def test_a_model_translates_a_file_of_the_pipeline(small, world_settings, tmp_path: Path) -> None:
    data = DataFolder(world_settings[0])
    lines = read_lines(data.text("qaa"))
    said = {"kind": "seq2seq", "model": str(tmp_path / "model"), "max_length": 8}
    whole = replace(small("teacher-ltsft@tt-all", task="nli"), translators={"m": Translator(**said)})
    assert [job.stage for job in plan(whole)].count("translation") == 4
    hub = replace(whole.translators["m"], model="some/model-{source}-{target}")
    assert [job.stage for job in plan(replace(whole, translators={"m": hub}))].count("translation") == 4
    tokenizer = fast_tokenizer(lines, 80, ["__qaa__", "__qab__"])
    save(tmp_path / "model", M2M100ForConditionalGeneration, M2M100Config, tokenizer, len(tokenizer))
    pipeline = Pipeline(whole, data, Store(tmp_path / "store"))
    with pytest.raises(InputError, match="no token for 'qac'"):
        pipeline.check()
    made = pipeline.translation("nli", "train", "qaa", "qab", "m")
    found = find_task("nli").read(made.path(TRANSLATION))
    labels = [one.label for one in find_task("nli").read(data.file("nli", "qaa", "train"))]
    assert [one.label for one in found] == labels
    assert made.manifest["inputs"]["seq2seq"] == file_id(tmp_path / "model")
    assert [path.name for path in made.folder.glob("checkpoint*")] == []
    [told] = further_tables([], [made.manifest], None)
    assert (told.title, told.lines[0][:3]) == ("Translations", ("nli train, qaa → qab", "seq2seq", "3"))
    assert told.lines[0][-3:] == tuple(str(made.metrics[name]) for name in ("empty", "one_word", "long"))
    again = replace(whole.translators["m"], beams=2)
    other = Pipeline(replace(whole, translators={"m": again}), data, pipeline.store)
    assert other.translation("nli", "train", "qaa", "qab", "m").id != made.id


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_run_with_every_regime_from_file_to_report(small, world_settings, tmp_path: Path) -> None:
    kinds = ("fs", "both", "ttest", "sequential-2", "in-language", "exposed")
    names = [f"teacher-ltsft@{name}" for name in kinds]
    whole = small("teacher-ltsft", *names, "teacher-adapter@tt-all", "bistil-tf:2@both", task="nli")
    config = replace(whole.task["nli"], adapter=whole.language_adapter)
    whole = replace(whole, task={"nli": config})
    place = batch.Place(world_settings[0], tmp_path / "store")
    assert batch.run(whole, place, workers=1, say=lambda text: None) == []
    pipeline = Pipeline(whole, DataFolder(world_settings[0]), Store(place.store))
    cells = {cell.system: cell for cell in whole.cells() if cell.target == "qac"}
    both = pipeline.task_sft(cells["teacher-ltsft@both"])
    assert {"train", "train translated qac", "shots qab", "dev", "dev translated qab", "sft qac"} <= set(
        both.manifest["inputs"]
    )
    student = pipeline.task_sft(cells["bistil-tf@both"])
    assert student.manifest["inputs"]["task teacher"] == both.id
    exposed = pipeline.task_sft(cells["teacher-ltsft@exposed"])
    assert {"source sft", "sft qac", "sft qab"} <= set(exposed.manifest["inputs"])
    further = pipeline.task_sft(cells["teacher-ltsft@sequential-2"])
    assert further.manifest["inputs"]["task sft"] == pipeline.task_sft(cells["teacher-ltsft"]).id
    ttest = pipeline.evaluation(cells["teacher-ltsft@ttest"])
    assert ttest.manifest["inputs"]["task sft"] == pipeline.task_sft(cells["teacher-ltsft"]).id
    test = pipeline.translation("nli", "test", "qac", "qaa", "oracle")
    assert ttest.manifest["inputs"]["test"] == test.id
    assert (test.metrics["lines"], test.metrics["empty"]) == (3, 0)
    deployed = pipeline.deployed(cells["teacher-ltsft@ttest"])
    assert deployed.manifest["inputs"]["target sft"] == ttest.manifest["inputs"]["target sft"], "the source's"
    assert pipeline.test_path(cells["teacher-ltsft@ttest"]) == test.path(TRANSLATION)
    labels = [one.label for one in find_task("nli").read(pipeline.data.file("nli", "qac", "test"))]
    assert [one.label for one in find_task("nli").read(test.path(TRANSLATION))] == labels

    rows = batch.rows(batch.reader(whole, place))
    page = write_experiment_report(tmp_path / "report", whole, rows, pipeline.store, failures=[])
    found = {row["system"]: row["regime"] for row in read_results(page.parent / "results.csv")}
    assert set(found) == set(cells)
    assert found["teacher-ltsft"] == "source"
    timed = pipeline.timing("nli").metrics["systems"]  # one size, one timing, under whichever regime
    assert list(timed) == ["teacher-ltsft:1", "teacher-adapter:1", "bistil-tf:2"]
    assert {row["latency_ms"] for row in rows} == {one["latency_ms"] for one in timed.values()}
    assert found["teacher-ltsft@fs"].startswith("source+target:4 drawn x10, 3 there of ")
    assert found["teacher-ltsft@ttest"] == "source, test by oracle"
    text = page.read_text(encoding="utf-8")
    assert "It learns its task from examples of the source; 4 examples of the target" in text
    assert "Its test file is translated into the source language" in text
    assert "nli test, qac → qaa" in text
    kept = json.loads((page.parent / "experiment.json").read_text(encoding="utf-8"))
    assert kept["regimes"]["both"]["shots"] == 2


def test_entities_are_of_the_sources_types_where_it_is_learnt_from(
    small, world_settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Shots with further types leave what counts in a test file as it is."""
    pipeline = Pipeline(
        small("teacher-ltsft@fs", "teacher-ltsft@in-language"), DataFolder(world_settings[0]), Store(tmp_path)
    )
    found = {"qaa": [Tagged(("a",), ("B-PER",))], "qac": [Tagged(("b",), ("B-DATE",))]}
    monkeypatch.setattr(pipeline, "_read", lambda name, part, seed: found[part.language])
    few, own = (cell for cell in pipeline.experiment.cells() if cell.target == "qac")
    assert pipeline.training(few)[0].labels == ("O", "B-PER", "I-PER")
    assert pipeline.training(own)[0].labels == ("O", "B-DATE", "I-DATE")
