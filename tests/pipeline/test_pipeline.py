"""The pipeline end to end on the tiny experiment, and everything that `check` refuses before any work."""

import dataclasses
import errno
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SYSTEMS

from bistil.errors import InputError
from bistil.evaluation.results import COLUMNS, primary_metric, read_results, write_results
from bistil.experiment import Cell, Experiment
from bistil.models.device import has_bfloat16
from bistil.models.load import load_teacher, save_student
from bistil.pipeline import Pipeline, inputs, tuned
from bistil.pipeline.inputs import keep_history
from bistil.pipeline.started import followed_teacher
from bistil.plan import foresee
from bistil.report.experiment import further_tables
from bistil.report.page import write_report
from bistil.sft.delta import SparseDelta
from bistil.store.artefacts import NotBuilt, Store, StoreError
from bistil.store.provenance import file_id, plain
from bistil.tasks.task import Task
from bistil.text.languages import DataFolder

NER = Cell("bistil-tf", "ner", "qac", 2, 1)


def reader(finished: Pipeline, experiment: Experiment | None = None) -> Pipeline:
    """The same over a store in which nothing can be built."""
    return Pipeline(
        experiment or finished.experiment, finished.data, Store(finished.store.root, read_only=True)
    )


@pytest.mark.slow
def test_every_system_ends_in_rows_with_all_columns(finished: Pipeline, tmp_path: Path) -> None:
    rows = [row for cell in finished.experiment.cells() for row in finished.rows(cell)]
    assert all(set(row) == set(COLUMNS) for row in rows)
    systems = {name.partition(":")[0] for name in SYSTEMS}
    for task, metrics in (("parsing", {"las", "uas"}), ("ner", {"f1", "precision", "recall"})):
        found = {(row["system"], row["metric"]) for row in rows if row["task"] == task}
        assert found == {(system, metric) for system in systems for metric in metrics}
    for row in rows:
        assert 0.0 <= row["value"] <= 100.0
        costs = (
            "parameters",
            "vocabulary",
            "flops_per_example",
            "latency_ms",
            "examples_per_second",
            "disk_bytes",
        )
        assert all(row[name] is None if row["system"] == "floor" else row[name] > 0 for name in costs), row
        assert row["n_examples"] == 8
    write_results(tmp_path / "results.csv", rows)
    assert len(read_results(tmp_path / "results.csv")) == len(rows)


@pytest.mark.slow
def test_students_are_smaller_and_bilingual_ones_have_the_small_vocabulary(finished: Pipeline) -> None:
    of = {cell.system: finished.rows(cell)[0] for cell in finished.experiment.cells() if cell.task == "ner"}
    assert of["bistil-tf"]["vocabulary"] == of["bistil-st"]["vocabulary"] == of["scratch"]["vocabulary"]
    assert (
        of["bistil-tf"]["vocabulary"]
        <= of["multilingual-distil"]["vocabulary"]
        == of["teacher-ltsft"]["vocabulary"]
    )
    assert of["bistil-tf"]["parameters"] < of["teacher-ltsft"]["parameters"]
    assert of["bistil-tf"]["flops_per_example"] < 0.7 * of["teacher-ltsft"]["flops_per_example"]


@pytest.mark.slow
def test_a_second_run_builds_nothing(finished: Pipeline) -> None:
    again = reader(finished)
    again.check()
    assert [again.evaluation(cell).id for cell in again.experiment.cells()] == [
        finished.evaluation(cell).id for cell in finished.experiment.cells()
    ]


@pytest.mark.slow
def test_what_seeds_share_and_what_they_do_not(finished: Pipeline, experiment) -> None:
    two = reader(finished, experiment(seeds=[1, 2]))
    assert two.language_sft("qac").id == finished.language_sft("qac").id
    assert two.vocabulary("qac").id == finished.vocabulary("qac").id
    for stage in (two.task_sft, two.student):
        with pytest.raises(NotBuilt):
            stage(NER._replace(seed=2))
    assert (
        two.evaluation(NER._replace(system="floor", lrf=1, seed=2)).id
        == two.evaluation(NER._replace(system="floor", lrf=1)).id
    )
    assert finished.student(NER).id == finished.student(NER._replace(system="bistil-st", task="parsing")).id


@pytest.mark.slow
def test_settings_of_one_stage_leave_the_stages_before_it(finished: Pipeline, experiment) -> None:
    longer = {"lrf": 2, "batch_size": 4, "schedule": {"steps": 9, "learning_rate": 1e-3, "evaluations": 2}}
    changed = reader(finished, experiment(general=longer))
    assert changed.language_sft("qaa").id == finished.language_sft("qaa").id
    assert changed.task_sft(NER._replace(system="teacher-ltsft", lrf=1)).id
    with pytest.raises(NotBuilt):
        changed.student(NER)


@pytest.mark.slow
def test_another_order_of_targets_changes_no_artefact(finished: Pipeline, experiment) -> None:
    again = reader(finished, experiment(targets={"ner": ["qac"], "parsing": ["qac"]}, name="renamed"))
    assert [again.evaluation(cell).id for cell in again.experiment.cells()]


@pytest.mark.slow
def test_manifests_say_where_each_artefact_comes_from(finished: Pipeline) -> None:
    for kind in ("vocabulary", "language-sft", "student", "task-sft", "evaluation", "timing"):
        for artefact in finished.store.all(kind):
            assert artefact.manifest["status"] == "complete"
            assert artefact.manifest["versions"]["torch"] == torch.__version__
            assert not list(artefact.folder.glob("checkpoint*"))
    manifest = finished.student(NER).manifest
    assert manifest["device"] == "cpu"
    assert "no CUDA" in manifest["device_reason"] or "cuda" in manifest["device_reason"]
    assert manifest["bfloat16"] is has_bfloat16(torch.device("cpu"))


@pytest.mark.slow
def test_predictions_are_one_for_each_sentence(finished: Pipeline) -> None:
    task, _ = finished.training(NER)
    sentences = task.read(finished.data.file("ner", "qac", "test"))
    predictions = finished.predictions(NER, sentences)
    assert [len(tags) for tags in predictions] == [len(sentence.words) for sentence in sentences]


DEPLOYED = """
import json, sys
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer
folder, words = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForTokenClassification.from_pretrained(folder).eval()
batch = tokenizer(words, is_split_into_words=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
assert "bistil" not in sys.modules
print(json.dumps([batch["input_ids"].tolist(), logits.tolist(), model.config.id2label]))
"""


@pytest.mark.slow
def test_the_saved_ner_student_needs_transformers_only(finished: Pipeline, tmp_path: Path) -> None:
    deployed = finished.deployed(NER)
    folder = shutil.copytree(deployed.path("model"), tmp_path / "taken-away")
    model, task, tokenizer = finished.task_model(NER, "qac")
    sentence = task.read(finished.data.file("ner", "qac", "test"))[0]
    command = [sys.executable, "-c", DEPLOYED, str(folder), json.dumps(sentence.words)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    ids, logits, labels = json.loads(ran.stdout.splitlines()[-1])
    batch = task.collate(task.encode([sentence], tokenizer, max_length=48), 0)
    assert batch["input_ids"].tolist() == ids
    with torch.inference_mode():
        expected = model(batch).logits["labels"]
    assert torch.allclose(torch.tensor(logits), expected, atol=1e-6)
    assert tuple(labels.values()) == task.labels
    assert deployed.metrics["labels"] == list(task.labels)


@pytest.mark.slow
def test_a_delta_for_another_base_is_refused_before_training(finished: Pipeline, tmp_path: Path) -> None:
    root = shutil.copytree(finished.store.root, tmp_path / "store")
    broken = Pipeline(finished.experiment, finished.data, Store(root))
    own = broken.language_sft("qac")
    path = own.path("delta.safetensors")
    delta = SparseDelta.load(path)
    SparseDelta(tensors=delta.tensors, base="f" * 64, shapes=delta.shapes).save(path)
    files = {**own.manifest["files"], path.name: {"bytes": path.stat().st_size, "hash": file_id(path)}}
    told = {name: part for name, part in own.manifest.items() if name != "checksum"}  # as before checksums
    (own.folder / "manifest.json").write_text(json.dumps({**told, "files": files}))
    with pytest.raises(InputError, match=f"{'f' * 64}, expected {delta.base}"):
        broken.task_model(NER._replace(system="teacher-ltsft", lrf=1), "qac")
    with pytest.raises(InputError, match="nothing on another base"):
        broken.student(NER._replace(lrf=3))
    assert not list(root.glob("student/*.partial/checkpoint-*"))


# -- refused before any work
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    """A data folder of one's own to spoil."""
    return shutil.copytree(world, tmp_path / "data")


def spoil_tree(folder: Path, split: str, code: str) -> None:
    path = folder / "ud" / f"{code}-{split}.conllu"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[3] = lines[3].replace("\t", " ")
    path.write_text("".join(lines), encoding="utf-8")


def spoil_ner(folder: Path) -> None:
    path = folder / "ner" / "qac-test.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[1] = lines[1].strip() + " extra\n"
    path.write_text("".join(lines), encoding="utf-8")


def spoil_text(folder: Path) -> None:
    path = folder / "corpora" / "qac.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[40] = b"\xc3(\n"
    path.write_bytes(b"".join(lines))


Spoil = Callable[[Path], object]
BAD_DATA: dict[str, tuple[Spoil, str]] = {
    "malformed training tree": (
        lambda f: spoil_tree(f, "train", "qaa"),
        r"qaa-train.conllu, line 4: expected 10 columns",
    ),
    "malformed test tree": (
        lambda f: spoil_tree(f, "test", "qac"),
        r"qac-test.conllu, line 4: expected 10 columns",
    ),
    "NER columns": (spoil_ner, r"qac-test.txt, line 2: expected 2 columns"),
    "labels of another scheme": (
        lambda f: (f / "ner" / "qac-test.txt").write_text("a B-Person\nb O\n"),
        r"training file has \(.*PER.*\) were expected in .*qac-test.txt, but it has others only: Person",
    ),
    "corpus not UTF-8": (spoil_text, r"qac.txt, but line 41 holds the byte 0xc3"),
    "corpus of a seen language missing": (
        lambda f: (f / "corpora" / "qab.txt").unlink(),
        r"expected at .*qab.txt, but there is none",
    ),
    "empty corpus": (
        lambda f: (f / "corpora" / "qac.txt").write_text("\n"),
        "qac.txt, but the file is empty",
    ),
    "short corpus": (
        lambda f: (f / "corpora" / "qac.txt").write_text("a b .\n"),
        r"at least two blocks of 24 tokens .*qac.txt",
    ),
    "missing test file": (
        lambda f: (f / "ner" / "qac-test.txt").unlink(),
        "A test file of qac was expected from the table's column `ner`",
    ),
    "missing dev file": (
        lambda f: (f / "ner" / "qaa-dev.txt").unlink(),
        "A dev file of qaa was expected from the table's column `ner`",
    ),
}
BAD_SETTINGS: dict[str, tuple[dict[str, object], str]] = {
    "lrf": ({"systems": ["bistil-tf:4"]}, "4 does not divide 6"),
    "source as target": ({"targets": {"ner": ["qaa"]}}, "'qaa' is the source or there already"),
    "target twice": ({"targets": {"ner": ["qac", "qac"]}}, "'qac' is the source or there already"),
    "unknown target": ({"targets": {"ner": ["qxx"]}}, "'qxx' is not in it"),
    "unknown source": ({"source": "qxx"}, "'qxx' is not in it"),
    "unknown seen language": ({"seen": ["qaa", "qxx"]}, "'qxx' is not in it"),
    "unknown weight": (
        {
            "general": {
                "lrf": 3,
                "schedule": {"steps": 2, "learning_rate": 1e-3},
                "weights": {"qaa": 0.5, "qxx": 1.0},
            }
        },
        "'qxx' is not in it",
    ),
    "unknown share": (
        {"text": {"length": 24, "batch_size": 4, "held_out_shares": {"qxx": 0.1}}},
        "'qxx' is not in it",
    ),
    "too long": ({"text": {"length": 65, "batch_size": 4}}, "up to the 64 positions"),
    "a layer that a student has not": (
        {"systems": ["bistil-tf:2"], "targets": {"retrieval": ["qac"]}, "retrieval": {"layers": [4]}},
        "Layers from 0 to 3 were expected under `layers` of `retrieval`, since bistil-tf has so many",
    ),
    "a term of the task between layers that are not there": (
        {
            "systems": ["far:2"],
            "variants": {
                "far": {"of": "bistil-tf", "learning": {"terms": {"attention": {"layers": "1-99"}}}}
            },
        },
        "a teacher's from 1 to 6",
    ),
    "a narrower student with a term of its own layers": (
        {
            "systems": ["far:2x2"],
            "variants": {"far": {"of": "bistil-tf", "learning": {"terms": {"hidden": {"layers": "3-6"}}}}},
        },
        "the narrower far to follow its task's teacher by, but got hidden",
    ),
}


def nothing_begun(root: Path) -> bool:
    return not root.exists() or not any(root.iterdir())


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused_before_any_work(name: str, experiment, copy: Path, tmp_path: Path) -> None:
    spoil, message = BAD_DATA[name]
    spoil(copy)
    with pytest.raises(InputError, match=message):
        Pipeline(experiment(), DataFolder(copy), Store(tmp_path / "store")).check()
    assert nothing_begun(tmp_path / "store")


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused_before_any_work(name: str, experiment, data, tmp_path: Path) -> None:
    changes, message = BAD_SETTINGS[name]
    with pytest.raises(InputError, match=message):
        Pipeline(experiment(**changes), data, Store(tmp_path / "store")).check()
    assert nothing_begun(tmp_path / "store")


def test_types_of_shots_are_none_that_a_source_teaches(experiment, copy: Path, tmp_path: Path) -> None:
    """Entities are learnt by the source's types, so others in a target's files are refused, shots or not."""
    for split in ("train", "dev", "test"):
        path = copy / "ner" / f"qac-{split}.txt"
        path.write_text(path.read_text(encoding="utf-8").replace("-", "-X"), encoding="utf-8")
    asked = experiment(systems=["teacher-ltsft@fs"], targets={"ner": ["qac"]}, regimes={"fs": {"shots": 2}})
    with pytest.raises(InputError, match="Labels that the source language's training file has"):
        Pipeline(asked, DataFolder(copy), Store(tmp_path / "store")).check()


@pytest.mark.slow
def test_labels_that_training_lacks_are_warned_of_and_reported(
    experiment, copy: Path, tmp_path: Path
) -> None:
    asked = experiment(systems=["floor"], targets={"ner": ["qac"]})
    path = copy / "ner" / "qac-test.txt"
    path.write_text(path.read_text(encoding="utf-8") + "\nx B-NEW\ny I-NEW\n", encoding="utf-8")
    pipeline = Pipeline(asked, DataFolder(copy), Store(tmp_path / "store"))
    assert pipeline.check() == [f"{path} has NEW 1, which training in qaa lacks (O in every score)"]
    made = [pipeline.evaluation(cell) for cell in asked.cells()]
    rows = [row for cell in asked.cells() for row in pipeline.rows(cell)]
    [told] = further_tables(rows, [one.manifest for one in made], None)
    assert told.title == "Labels of test files that training lacks"
    assert told.lines == [("ner", "qac", "NEW 1", "O in every score", "floor")]


def test_validation_reads_no_more_than_its_rows_say(experiment, data, tmp_path: Path) -> None:
    rows = [{"language": "target", "split": "dev", "most": 2}]
    asked = experiment(
        systems=["few"],
        targets={"ner": ["qac"]},
        variants={"few": {"of": "teacher-ltsft", "learning": {"validated": rows}}},
    )
    own = Pipeline(asked, data, Store(tmp_path / "store"))
    [cell] = asked.cells()
    assert {code: len(found) for code, found in own.validation(cell, None).items()} == {"qac": 2}
    assert {code: len(found) for code, found in own.validation(cell, 1).items()} == {"qac": 1}


def test_what_a_manifest_calls_best_is_of_the_phase_whose_model_is_kept(tmp_path: Path) -> None:
    dense = [{"step": step, "epoch": step / 20, "eval_f1": 70.0} for step in (10, 20)]
    sparse = [{"step": step, "epoch": step / 40, "eval_f1": 0.2} for step in (20, 40)]
    assert keep_history(tmp_path, [*dense, *sparse], "f1") == {"steps": 40, "best_f1": 0.2}
    assert keep_history(tmp_path, [], "f1") == {"steps": 0, "best_f1": None}


def test_a_student_that_diverged_is_no_artefact_and_has_no_score(experiment, data, tmp_path: Path) -> None:
    diverging = {"steps": 2, "learning_rate": 1e30, "evaluations": 1}
    asked = experiment(
        systems=["multilingual-distil:2"],
        targets={"retrieval": ["qac"]},
        task={},
        language_sft=None,
        general={"lrf": 2, "batch_size": 4, "schedule": diverging},
    )
    own = Pipeline(asked, data, Store(tmp_path / "store"))
    with pytest.raises(InputError, match="the training diverged"):
        own.evaluation(asked.cells()[0])
    assert not own.store.all("student")
    assert not own.store.all("evaluation")


def test_a_teacher_that_learnt_nothing_is_scored_and_followed_only_when_asked(
    experiment, data, tmp_path: Path
) -> None:
    """Two steps at a tiny rate teach no entities: validation is below one point of F1, and a guess has 0."""
    phases = {name: {"steps": 2, "learning_rate": 1e-9, "evaluations": 1} for name in ("dense", "sparse")}
    task = {"ner": {"batch_size": 4, "sft": {"lottery": {"density": 0.1}, **phases}}}
    systems, targets = ["teacher-ltsft", "bistil-tf:2"], {"ner": ["qac"]}
    asked = experiment(systems=systems, targets=targets, task=task, language_sft=None, at_floor="stop")
    teacher, student = asked.cells()
    told: list[str] = []
    own = Pipeline(asked, data, Store(tmp_path / "store", lambda event: told.append(event.stage)))
    assert own.evaluation(teacher).metrics["n_examples"] == 8
    [warning] = [one for one in told if one.startswith("warning: ")]
    assert "ner, teacher-ltsft, qac, seed 1: its best validation score is 0.0 f1, no better" in warning
    with pytest.raises(InputError, match=r"above a guess \(0\.0 f1\).*bistil-tf to follow.*--anyway"):
        own.evaluation(student)
    assert len(own.store.all("task-sft")) == 1
    reader = Pipeline(asked, data, Store(tmp_path / "store", read_only=True))
    assert reader.rows(teacher)[0]["system"] == "teacher-ltsft", (
        "what is built can be read beside what is not"
    )
    with pytest.raises(NotBuilt):
        reader.rows(student)
    anyway = Pipeline(dataclasses.replace(asked, at_floor="continue"), data, own.store)
    assert anyway.evaluation(student).metrics["f1"] >= 0
    assert reader.rows(student)[0]["value"] >= 0, "what was built anyway, too"


@pytest.mark.parametrize(
    ("best", "dense", "said"),
    [
        (40.0, 30.0, ""),
        (40.0, None, ""),
        (None, None, ""),
        (10.5, 30.0, "its best validation score is 10.5 f1, no better than a guess (10.0). Give"),
        (40.0, 10.0, "the best of its dense phase is 10.0 f1, no better than a guess (10.0), so what may"),
    ],
)
def test_a_training_that_learnt_nothing_is_doubted(best: Any, dense: Any, said: str) -> None:
    metrics = {"best_f1": best, tuned.FLOOR: 10.0, **({} if dense is None else {tuned.DENSE: dense})}
    found = tuned._doubt(metrics, "f1")
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize("lacking", ["unk_token", "mask_token"])
def test_a_tokenizer_without_its_special_tokens_is_refused(
    lacking: str, teacher_folder: Path, experiment, data, tmp_path: Path
) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings[lacking] = None
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(InputError, match=f"lacks the special tokens {lacking.removesuffix('_token')}"):
        Pipeline(experiment(teacher=str(folder)), data, Store(tmp_path / "store")).check()
    assert nothing_begun(tmp_path / "store")


def test_a_teacher_is_found_relative_to_the_project(experiment, data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(inputs, "load_teacher", asked.append)
    whole = {"text": {"trim": "none"}}
    Pipeline(experiment(teacher="data/experiments", **whole), data, Store(tmp_path / "store")).fresh_teacher()
    Pipeline(experiment(teacher="google/bert", **whole), data, Store(tmp_path / "store")).fresh_teacher()
    assert Path(asked[0]).is_absolute()
    assert Path(asked[0]).is_dir()
    assert asked[1] == "google/bert"


def test_a_full_disk_is_said_clearly_and_the_next_run_goes_on(
    experiment, data, tmp_path: Path, monkeypatch
) -> None:
    own = Pipeline(experiment(), data, Store(tmp_path / "store"))
    with monkeypatch.context() as patch:

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(SparseDelta, "save", full)
        with pytest.raises(StoreError, match=r"disk is full: .*Free some space"):
            own.language_sft("qac")
    assert own.store.all("language-sft") == []
    [partial] = (tmp_path / "store" / "language-sft").glob("*.partial")
    assert list(partial.glob("checkpoint-sparse/checkpoint-2/complete"))
    steps = []
    own.progress = lambda event: steps.append(event.stage)
    artefact = own.language_sft("qac")
    assert artefact.manifest["resumed"] is True
    assert steps == []


def test_validation_examples_limits_what_picks_the_checkpoint_and_not_what_is_scored(
    experiment, data, tmp_path: Path, monkeypatch
) -> None:
    whole = experiment()
    limited = dataclasses.replace(whole.task["ner"], validation_examples=3)
    assert "validation_examples" not in plain(
        whole.task["ner"]
    )  # artefacts made before the setting existed are still found
    own = Pipeline(
        dataclasses.replace(whole, task={**whole.task, "ner": limited}), data, Store(tmp_path / "store")
    )
    seen: list[int] = []

    def noting(model: object, task: Task, examples: list[Any], *rest: object, **named: object) -> list[Any]:
        seen.append(len(examples))
        return [one.tags for one in examples]

    monkeypatch.setattr(tuned, "predict_all", noting)
    own.task_sft(NER._replace(system="teacher-no-adaptation", lrf=1))
    assert set(seen) == {3}


@pytest.mark.slow
def test_a_pairs_student_is_scored_on_its_source_too_and_not_as_zero_shot(
    experiment, data, tmp_path: Path
) -> None:
    asked = {"ner": ["qac", "qab"]}
    systems = ["teacher-ltsft", "bistil-tf:2", "teacher-of-two", "floor"]
    variants = {"teacher-of-two": {"of": "teacher-full", "learning": {"rows": [{"language": "target"}]}}}
    plain = experiment(systems=systems, targets=asked, variants=variants, seeds=[1])
    whole = replace(plain, on_source=True)
    store = Store(tmp_path / "store")
    pipeline = Pipeline(whole, data, store)
    pipeline.check()
    assert ("ner", "qaa", "test") in pipeline.task_files
    jobs = [stage for stage in foresee(whole, data).values() if stage.job.stage == "source_evaluation"]
    # the teacher wears the source's SFT for every target: one score; a student is another for each pair
    assert Counter(stage.cells[0].system for stage in jobs) == {"teacher-ltsft": 1, "bistil-tf": 2}
    cells = {(cell.system, cell.target): cell for cell in whole.cells()}
    cell = cells["bistil-tf", "qac"]
    found = pipeline.source_evaluation(cell)
    assert found.manifest["inputs"]["test"] == file_id(data.file("ner", "qaa", "test"))
    assert found.manifest["inputs"]["task sft"] == pipeline.evaluation(cell).manifest["inputs"]["task sft"]
    rows = {row["metric"]: row for row in pipeline.rows(cell)}
    assert rows["source-f1"]["value"] == found.metrics["f1"]
    assert rows["f1"]["value"] == pipeline.evaluation(cell).metrics["f1"]
    assert (rows["source-f1"]["target"], rows["source-f1"]["artefact"]) == ("qac", found.id)
    assert [row["metric"] for row in Pipeline(plain, data, store).rows(cell)] == ["f1", "precision", "recall"]
    page = write_report(tmp_path / "report", rows.values(), title="both", manifests=[])
    assert "F1 on the source (%)" in page.read_text(encoding="utf-8")
    assert primary_metric(rows.values(), "ner") == "f1"


def test_languages_are_learnt_through_a_head_that_predicts(
    experiment, data, teacher_folder: Path, tmp_path: Path
) -> None:
    folder, teacher = tmp_path / "encoder", load_teacher(teacher_folder)
    save_student(folder, teacher.encoder, teacher.tokenizer)
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match="masked-LM head was expected, by which teacher-ltsft learns lang"):
        Pipeline(experiment(teacher=str(folder)), data, store).check()
    plain = experiment(teacher=str(folder), language_sft=None, systems=["teacher-ltsft", "bistil-tf:2"])
    Pipeline(plain, data, store).check()


def test_a_teacher_that_wears_sfts_predicts_by_the_rows_that_they_left(
    experiment, data, tmp_path: Path
) -> None:
    variant = {"of": "bistil-tf", "recipe": {"terms": {"prediction": {"of": "prediction", "by": "kl"}}}}
    asked = experiment(variants={"predicting": variant}, systems=["predicting:2"], targets={"ner": ["qac"]})
    pipeline = Pipeline(asked, data, Store(tmp_path / "store"))
    [cell] = asked.cells()
    recipe = pipeline.system(cell).student
    worn = {code: pipeline.language_sft(code) for code in ("qaa", "qac")}
    teacher = followed_teacher(pipeline, recipe, None, worn)
    bare = teacher.mlm.get_output_embeddings().weight.clone()
    teacher.wear("qac")
    assert torch.equal(teacher.mlm.get_output_embeddings().weight, bare)
    assert not torch.equal(teacher.mlm.get_input_embeddings().weight, bare)


def test_a_student_without_stage_1_follows_its_task_teacher_layer_by_layer(
    experiment, data, tmp_path: Path
) -> None:
    variant = {"of": "bistil-tf", "recipe": {"terms": {"attention": None, "hidden": None}}}
    asked = experiment(variants={"no-stage-1": variant}, systems=["no-stage-1:2"], targets={"ner": ["qac"]})
    pipeline = Pipeline(asked, data, Store(tmp_path / "store"))
    assert pipeline.rows(asked.cells()[0])[0]["metric"] == "f1"
