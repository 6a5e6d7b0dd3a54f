"""The table of systems, their names in experiment files and results, and every further one from the YAML to
its rows.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ROOT, entries, masked_lm
from zoo import write_teacher

from bistil import batch
from bistil.deploy import write
from bistil.errors import InputError
from bistil.evaluation.results import COLUMNS
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.pipeline.bases import kept_ids
from bistil.plan import Job
from bistil.report.experiment import write_experiment_report
from bistil.sft.delta import SparseDelta
from bistil.store.artefacts import Store, file_id
from bistil.systems.table import SYSTEMS, rank
from bistil.tasks.retrieval import Side, parallel, retrieve
from bistil.text.languages import DataFolder
from bistil.workbench.stages import steps_of

TEACHERS = ["teacher-full", "teacher-head", "teacher-bitfit", "teacher-rand-sft"]
REDUCED = [name for name, system in SYSTEMS.items() if system.reduced]
STUDENTS = ["minilm:2", "distilmbert:2", "distilmbert-pair:2"]


def test_names_in_experiment_files(experiment) -> None:
    small = experiment()
    assert small.parse_system("teacher-ltsft") == ("teacher-ltsft", 1, 1)
    assert small.parse_system("minilm:3") == ("minilm", 3, 1)
    assert small.parse_system("bistil-st:2x4") == ("bistil-st", 2, 4)
    assert small.named(Cell("bistil-tf", "ner", "qac", 2, 1, 2)) == "bistil-tf:2x2"
    assert small.named(Cell("floor", "ner", "qac", 1, 1)) == "floor"
    for bad in (
        "minilm",
        "teacher-full:2",
        "bistil-tf:0",
        "bistil-tf:2x0",
        "bistil-tf:x2",
        "scratch:2x2",
        "bert",
        "",
        "bistil-tf:2:2",
    ):
        with pytest.raises(InputError, match="is not a system"):
            small.parse_system(bad)
    with pytest.raises(InputError, match=r"Did you mean bistil-tf\?"):
        small.parse_system("bistl-tf:2")


def test_every_system_has_a_place_a_sentence_a_source_and_a_colour() -> None:
    assert rank("teacher-ltsft") < rank("bistil-tf") < rank("bistil-st") < rank("unheard-of")
    assert all(system.told.endswith(".") for system in SYSTEMS.values())
    assert all(system.source for name, system in SYSTEMS.items() if not system.guesses)
    assert len({system.colour for system in SYSTEMS.values()}) == len(SYSTEMS)


def test_the_documentation_names_every_system() -> None:
    table = (ROOT / "docs" / "concepts" / "systems.md").read_text(encoding="utf-8")
    assert all(f"`{name}{':2' if name in REDUCED else ''}`" in table for name in SYSTEMS)


def test_students_are_shared_by_recipe() -> None:
    assert SYSTEMS["bistil-st"].student is SYSTEMS["bistil-tf"].student
    others = [SYSTEMS[name].student for name in REDUCED if name != "bistil-st"]
    assert all(one != other for i, one in enumerate(others) for other in others[:i])


def test_settings_that_no_system_reads_are_refused(experiment) -> None:
    with pytest.raises(InputError, match="'bistil-tf' is none of them"):
        experiment(schedules={"bistil-tf": {"steps": 2, "learning_rate": 1e-3}})
    with pytest.raises(InputError, match="`mask_share` above 0"):
        experiment(systems=["distilmbert:2"], general={**entries(Path())["general"], "mask_share": 0.0})


def test_layers_and_heads_of_minilm_are_checked_before_any_work(experiment, data, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of the teacher's 6 layers"):
        Pipeline(
            experiment(systems=["minilm:2"], minilm={"teacher_layer": 12}), data, Store(tmp_path)
        ).check()


def evaluated(experiment: Any, data: Any, folder: Path) -> Pipeline:
    pipeline = Pipeline(experiment, data, Store(folder))
    pipeline.check()
    for cell in experiment.cells():
        rows = pipeline.rows(cell)
        assert {row["metric"] for row in rows} == {"f1", "precision", "recall"}
        assert all(
            set(row) == set(COLUMNS) and 0.0 <= row["value"] <= 100.0 and row["system"] == cell.system
            for row in rows
        )
    return pipeline


def figures_of(pipeline: Pipeline, folder: Path) -> set[str]:
    """The names of the figures in the report of what was evaluated."""
    rows = [row for cell in pipeline.experiment.cells() for row in pipeline.rows(cell)]
    page = write_experiment_report(folder, pipeline.experiment, rows, pipeline.store, failures=[])
    assert all(
        SYSTEMS[system].told in page.read_text(encoding="utf-8").replace("&#39;", "'")
        for system in {row["system"] for row in rows}
    )
    return {path.name for path in (folder / "figures").iterdir()}


def delta_of(pipeline: Pipeline, cell: Cell) -> SparseDelta:
    return SparseDelta.load(pipeline.task_sft(cell).path("delta.safetensors"))


@pytest.mark.slow
def test_teachers_tuned_otherwise_run_from_the_yaml_and_change_what_they_say(
    experiment, data, tmp_path: Path
) -> None:
    schedule = {"steps": 3, "learning_rate": 1e-3, "evaluations": 1}
    small = experiment(systems=TEACHERS, targets={"ner": ["qac"]}, schedules={"teacher-full": schedule})
    pipeline = evaluated(small, data, tmp_path)
    rows = {cell.system: pipeline.rows(cell)[0] for cell in small.cells()}
    cells = {cell.system: cell for cell in small.cells()}
    total = sum(parameter.numel() for parameter in pipeline.teacher.encoder.parameters())
    assert rows["teacher-rand-sft"]["density"] == 0.1
    assert rows["teacher-head"]["density"] == delta_of(pipeline, cells["teacher-head"]).size == 0
    assert 0.5 < rows["teacher-full"]["density"] <= 1.0
    assert pipeline.task_sft(cells["teacher-full"]).metrics["steps"] == 3
    bitfit = delta_of(pipeline, cells["teacher-bitfit"])
    assert rows["teacher-bitfit"]["density"] == pytest.approx(bitfit.size / total, rel=5e-3)
    assert all(name.endswith("bias") for name in bitfit.tensors)
    worn = [pipeline.worn(cells[name], "qac") for name in TEACHERS]
    assert worn[:2] == [None, None]
    assert worn[2] is not None
    assert worn[3] is not None
    assert worn[2].id != worn[3].id
    assert all(name.endswith("bias") for name in SparseDelta.load(worn[2].path("delta.safetensors")).tensors)
    assert {"language-sfts-teacher--biases.svg", "language-sfts-teacher--random.svg"} <= figures_of(
        pipeline, tmp_path / "report"
    )


@pytest.mark.slow
def test_lora_and_ia3_run_from_the_yaml(experiment, data, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    language = {"peft": {"density": 0.1}, "sparse": {"steps": 2, "learning_rate": 1e-3, "evaluations": 1}}
    systems = ["teacher-lora", "teacher-ia3", "teacher-ltsft"]
    pipeline = evaluated(
        experiment(systems=systems, targets={"ner": ["qac"]}, language_sft=language), data, tmp_path
    )
    lora, ia3, _ = (pipeline.rows(cell)[0]["density"] for cell in pipeline.experiment.cells())
    assert lora == pytest.approx(0.1, abs=0.05)
    assert 0 < ia3 < 0.02
    assert pipeline.worn(pipeline.experiment.cells()[0], "qac") is None
    assert SparseDelta.load(pipeline.language_sft("qac").path("delta.safetensors")).notes["method"] == "lora"


@pytest.mark.slow
def test_spiel_on_the_task_alone_is_what_an_experiment_by_spiel_does_without_adaptation(
    experiment, data, tmp_path: Path
) -> None:
    spiel = {
        "spiel": {"density": 0.1, "interval": 2, "estimation": 1},
        "sparse": {"steps": 3, "learning_rate": 1e-3, "evaluations": 1},
    }
    systems = ["teacher-spiel-ag", "teacher-spiel-ma", "teacher-no-adaptation"]
    task = {"ner": {"batch_size": 4, "max_length": 48, "sft": spiel}}
    pipeline = evaluated(experiment(systems=systems, targets={"ner": ["qac"]}, task=task), data, tmp_path)
    ag, ma, bare = pipeline.experiment.cells()
    assert pipeline.task_sft(ag).id == pipeline.task_sft(bare).id != pipeline.task_sft(ma).id
    assert {pipeline.rows(cell)[0]["density"] for cell in (ag, ma, bare)} == {0.1}
    assert pipeline.worn(ma, "qac") is None
    assert pipeline.experiment.task_config(ma).sft.spiel.method == "ma"


@pytest.mark.slow
def test_students_by_other_recipes_run_from_the_yaml(experiment, data, tmp_path: Path) -> None:
    small = experiment(
        systems=STUDENTS, targets={"ner": ["qac"]}, minilm={"relation_heads": 8, "teacher_layer": 5}
    )
    pipeline = evaluated(small, data, tmp_path)
    minilm, seen, pair = small.cells()
    vocabulary = {cell: pipeline.rows(cell)[0]["vocabulary"] for cell in small.cells()}
    assert vocabulary[pair] <= vocabulary[minilm] == vocabulary[seen] == len(pipeline.teacher.tokenizer)
    assert pipeline.worn(minilm, "qac") is None
    assert pipeline.worn(pair, "qac") is None
    assert pipeline.worn(seen, "qac") is not None
    assert set(pipeline.student(seen).manifest["inputs"]) == {"teacher", "text qaa", "text qab"}
    assert set(pipeline.student(pair).manifest["inputs"]) == {"teacher", "text qaa", "text qac", "vocabulary"}
    assert pipeline.student(minilm).manifest["config"]["minilm"] == {"relation_heads": 8, "teacher_layer": 5}
    for cell in small.cells():
        assert pipeline.encoder(cell, "qac")[0].config.num_hidden_layers == 3
    assert {
        "student-minilm-lrf-2.svg",
        "student-distilmbert-lrf-2.svg",
        "language-sfts-distilmbert-student-lrf-2.svg",
    } <= figures_of(pipeline, tmp_path / "report")


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_students_of_the_target_alone_and_of_the_pair_run_from_the_yaml(
    experiment, data, tmp_path: Path
) -> None:
    small = experiment(
        systems=["eliquare:2", "eliquare-pre:2", "no-cosine:2", "bilingual-monoshot:2"],
        variants={"no-cosine": {"of": "eliquare-pre", "recipe": {"terms": {"cosine": None}}}},
        targets={"ner": ["qac"]},
    )
    place = batch.Place(data.root, tmp_path / "store")
    assert batch.run(small, place, workers=1, say=lambda text: None) == []
    pipeline = Pipeline(small, data, Store(place.store))
    whole, cut, ablated, pair = small.cells()
    rows = {row["system"]: row for row in batch.rows(batch.reader(small, place))}
    sizes = [rows[cell.system]["vocabulary"] for cell in small.cells()]
    assert sizes[1] == sizes[2] < sizes[3] < sizes[0] == len(pipeline.teacher.tokenizer)
    assert set(pipeline.student(whole).manifest["inputs"]) == {"teacher", "text qac"}
    assert set(pipeline.student(cut).manifest["inputs"]) == {"teacher", "text qac", "vocabulary"}
    assert set(pipeline.vocabulary("qac", "target").metrics["corpora"]) == {"qac"}
    terms = [set(pipeline.student(cell).manifest["config"]["recipe"]["terms"]) for cell in (cut, ablated)]
    assert terms == [{"soft", "cosine", "masked"}, {"soft", "masked"}]
    history = json.loads(pipeline.student(pair).path("history.json").read_text(encoding="utf-8"))
    assert any({"gold", "prediction", "embedding", "hidden", "scores"} <= set(entry) for entry in history)
    made_from = pipeline.task_sft(cut).manifest["inputs"]
    assert set(made_from) == {"base", "train qac", "dev"}
    assert made_from["dev"] == file_id(data.file("ner", "qac", "dev"))
    assert pipeline.task_sft(pair).manifest["inputs"]["dev"] == file_id(data.file("ner", "qaa", "dev"))
    assert [rows[name]["regime"] for name in ("eliquare-pre", "bilingual-monoshot")] == ["target", "source"]
    assert [rows[name]["languages"] for name in ("eliquare-pre", "bilingual-monoshot")] == ["target", "pair"]
    page = write_experiment_report(tmp_path / "report", small, [*rows.values()], pipeline.store, failures=[])
    assert (page.parent / "figures" / "student-no-cosine-lrf-2.svg").is_file()
    write.export(pipeline, cut, "folder", tmp_path / "taken", say=lambda line: None)
    told = (tmp_path / "taken" / "README.md").read_text(encoding="utf-8")
    name = data.language("qac").name
    assert f"task data was in {name} only" in told
    assert "never saw task data" not in told
    assert data.language("qaa").name not in told.partition("## Scores")[0]


@pytest.mark.slow
def test_truncated_teachers_are_copies_that_no_stage_trains(experiment, data, tmp_path: Path) -> None:
    names = ["truncated-uniform", "truncated-odd", "truncated-top", "truncated-bottom"]
    small = experiment(systems=[f"{name}:2" for name in names], targets={"ner": ["qac"]}, seeds=[1, 2])
    pipeline = evaluated(small, data, tmp_path)
    kept = kept_ids(pipeline.vocabulary("qac"))
    whole = pipeline.teacher.encoder.state_dict()
    for name, layers in zip(names, ([2, 4, 6], [1, 3, 5], [4, 5, 6], [1, 2, 3]), strict=True):
        first, second = (cell for cell in small.cells() if cell.system == name)
        student = pipeline.student(first)
        assert student.id == pipeline.student(second).id
        assert student.metrics["steps"] == steps_of(small, Job("student", (first,))) == 0
        own = pipeline.encoder(first, "qac")[0].state_dict()
        for m, n in enumerate(layers):
            weights = (own, m), (whole, n - 1)
            mine, theirs = (state[f"encoder.layer.{i}.output.dense.weight"] for state, i in weights)
            assert torch.equal(mine, theirs)
        words = "embeddings.word_embeddings.weight"
        assert torch.equal(own[words], whole[words][kept])
        assert pipeline.task_sft(first).id != pipeline.task_sft(second).id
    assert not any(name.startswith("student-") for name in figures_of(pipeline, tmp_path / "report"))


def test_what_a_teacher_cannot_be_asked_is_said_before_any_work(
    experiment, data, wordpiece, tmp_path: Path
) -> None:
    masked_lm(len(wordpiece)).bert.save_pretrained(tmp_path / "bare")
    wordpiece.save_pretrained(tmp_path / "bare")
    for name in ("eliquare:2", "bilingual-hinton:2", "distilmbert:2"):
        bare = experiment(teacher=str(tmp_path / "bare"), systems=[name])
        with pytest.raises(InputError, match="`bistil pretrain` and `train: layers`"):
            Pipeline(bare, data, Store(tmp_path / "store")).check()
    lines = data.text("qaa").read_text(encoding="utf-8").splitlines()
    write_teacher(tmp_path / "deberta", "deberta-v2", lines)
    disentangled = experiment(teacher=str(tmp_path / "deberta"), systems=["bilingual-tinybert:2"])
    with pytest.raises(InputError, match="scores can be read"):
        Pipeline(disentangled, data, Store(tmp_path / "store")).check()
    for name in ("bilingual-tinybert:2", "truncated-top:2", "scratch:2"):
        bare = experiment(teacher=str(tmp_path / "bare"), systems=[name])
        Pipeline(bare, data, Store(tmp_path / "store")).check()


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_general_students_are_measured_by_retrieval_without_any_task(
    experiment, data, tmp_path: Path
) -> None:
    systems = ["teacher-ltsft", "teacher-no-adaptation", "bistil-tf:2", "bistil-st:2", "minilm:2", "floor"]
    small = experiment(
        systems=systems, targets={"retrieval": ["qac"]}, task={}, retrieval={"by": "bertscore", "depth": 0.5}
    )
    pipeline = Pipeline(small, data, Store(tmp_path))
    pipeline.check()
    assert batch.run(small, batch.Place(data.root, tmp_path), workers=1, say=lambda text: None) == []
    rows = {row["system"]: row for row in batch.rows(batch.reader(small, batch.Place(data.root, tmp_path)))}
    assert set(rows) == {name.partition(":")[0] for name in systems}
    assert all(
        row["metric"] == "accuracy" and row["n_examples"] == 20 and row["density"] is None
        for row in rows.values()
    )
    assert rows["floor"]["value"] == 5.0
    assert rows["bistil-tf"]["artefact"] == rows["bistil-st"]["artefact"]
    assert rows["bistil-tf"]["parameters"] < rows["teacher-ltsft"]["parameters"]
    assert pipeline.evaluation(small.cells()[0]).metrics["layer"] == 3
    source, target = (Side(*pipeline.encoder(small.cells()[0], code)) for code in ("qaa", "qac"))
    expected = retrieve(source, target, parallel(data, "qaa", "qac"), layer=3, by="bertscore", max_length=24)
    assert rows["teacher-ltsft"]["value"] == expected["accuracy"]
    assert not (tmp_path / "task-sft").exists()
    with pytest.raises(InputError, match="depth should be at least 0 and at most 1"):
        experiment(retrieval={"depth": 1.5})


@pytest.mark.slow
def test_a_sentence_student_never_sees_the_sentences_that_it_is_asked_for(
    experiment, data, tmp_path: Path
) -> None:
    world = tmp_path / "world"
    shutil.copytree(data.root, world)
    pairs = parallel(data, "qaa", "qac")
    for place, code in enumerate(("qaa", "qac")):
        with (world / "corpora" / f"{code}.txt").open("a", encoding="utf-8") as corpus:
            corpus.writelines(f"{pair[place]}\n" for pair in pairs)
    asked = {"by": "sentence", "depth": 1.0, "prefix": "", "pairs": 12}
    text = {"length": 24, "batch_size": 4, "packed": False}
    settings = {"systems": ["bistil-sentence:2"], "targets": {"retrieval": ["qac"]}, "task": {}}
    small = experiment(**settings, retrieval=asked, text={**text, "without_pairs": True})
    pipeline = Pipeline(small, DataFolder(world), Store(tmp_path / "store"))
    pipeline.check()
    [cell] = small.cells()
    lines = [set(pipeline.lines(code)) for code in ("qaa", "qac")]
    assert all(lines)
    assert not any(pair[place] in lines[place] for pair in pairs for place in (0, 1))
    found = pipeline.evaluation(cell)
    assert (found.metrics["n_examples"], found.metrics["layer"]) == (12, 3)
    side = Side(*pipeline.encoder(cell, "qac"))
    expected = retrieve(side, side, pairs[:12], layer=3, by="sentence", max_length=24)
    assert found.metrics["accuracy"] == expected["accuracy"]
    student = pipeline.student(cell)
    history = json.loads(student.path("history.json").read_text(encoding="utf-8"))
    assert any("sentence" in entry for entry in history)
    named = set(student.manifest["inputs"])
    assert named == {"teacher", "vocabulary", "text qaa", "text qac", "without qaa-qac.tsv"}
    assert "without qaa-qac.tsv" in pipeline.vocabulary("qac").manifest["inputs"]
    whole = Pipeline(experiment(**settings, retrieval=asked, text=text), DataFolder(world), Store(tmp_path))
    assert all(set(whole.lines(code)) > kept for code, kept in zip(("qaa", "qac"), lines, strict=True))
    assert set(whole.texts(("qaa",))) == {"text qaa"}


@pytest.mark.slow
def test_one_student_for_a_group_of_targets_drawn_by_their_weights(
    experiment, data, teacher_folder: Path, tmp_path: Path
) -> None:
    general = {**entries(teacher_folder)["general"], "weights": {"qac": 50.0}}
    changes = {"systems": ["bistil-tf:2"], "targets": {"ner": ["qab", "qac"]}, "groups": [["qab", "qac"]]}
    pipeline = evaluated(experiment(general=general, **changes), data, tmp_path)
    first, second = pipeline.experiment.cells()
    student = pipeline.student(first)
    assert student.id == pipeline.student(second).id
    assert pipeline.task_sft(first).id == pipeline.task_sft(second).id
    assert pipeline.evaluation(first).id != pipeline.evaluation(second).id
    assert {name for name in student.manifest["inputs"] if name.startswith("sft")} == {
        "sft qaa",
        "sft qab",
        "sft qac",
    }
    assert student.manifest["config"]["general"]["weights"] == {"qac": 50.0}
    assert set(pipeline.vocabulary("qab").metrics["corpora"]) == {"qaa", "qab", "qac"}
    for weights in (None, {"qac": 50.0}):
        alone = experiment(general={**general, "weights": weights}, **{**changes, "systems": ["scratch:2"]})
        made = Pipeline(alone, data, Store(tmp_path / "store")).student(alone.cells()[0])
        assert made.manifest["config"].get("weights") == weights


@pytest.mark.slow
def test_spiel_takes_the_place_of_lt_sft_at_equal_density(
    experiment, data, teacher_folder: Path, tmp_path: Path
) -> None:
    phase = {"steps": 3, "learning_rate": 1e-3, "evaluations": 1}
    moving = {"spiel": {"density": 0.1, "interval": 1, "estimation": 1}, "sparse": phase}
    task = {**entries(teacher_folder)["task"]["ner"], "sft": moving}
    small = experiment(
        systems=["teacher-ltsft", "bistil-tf:2"],
        targets={"ner": ["qac"]},
        language_sft=moving,
        task={"ner": task},
    )
    pipeline = evaluated(small, data, tmp_path)
    other = experiment()
    for cell in small.cells():
        delta = delta_of(pipeline, cell)
        base = pipeline.encoder(cell, "qaa")[0]
        assert delta.size == other.task["ner"].sft.lottery.k(
            sum(parameter.numel() for parameter in base.parameters())
        )
        assert all(".layer." in name and name.endswith("weight") for name in delta.tensors)
        assert bool(torch.cat([values for _, values in delta.tensors.values()]).any())
        assert pipeline.rows(cell)[0]["density"] == 0.1
    assert pipeline.language_sft("qac").metrics["steps"] == 3
