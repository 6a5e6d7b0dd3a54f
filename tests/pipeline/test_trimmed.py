"""A teacher cut to the experiment gives the states, deltas, students and scores of the uncut one."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from bistil.batch.account import Place
from bistil.batch.stage import build_stage, stages_of
from bistil.experiment import Cell
from bistil.models.load import encode, load_teacher
from bistil.pipeline import Pipeline, inputs
from bistil.plan import foresee, plan
from bistil.sft.delta import SparseDelta
from bistil.sft.spiel.config import SpielSft
from bistil.store.artefacts import Store
from bistil.text.corpora import read_lines
from bistil.workbench.stages import describe

TEXT = {"length": 24, "batch_size": 4, "lines": 100}
SYSTEMS = ["teacher-no-adaptation", "bistil-st:2", "multilingual-distil:2", "floor"]
TEACHER = Cell("teacher-no-adaptation", "ner", "qac", 1, 1)
STUDENT = Cell("bistil-st", "ner", "qac", 2, 1)
Make = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def make(experiment, data, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a pipeline whose teacher is cut or whole, over a store of its own for each."""
    stores = {trim: Store(tmp_path_factory.mktemp(trim)) for trim in ("experiment", "none")}

    def made(trim: str, **changes: Any) -> Pipeline:
        entries = {"systems": SYSTEMS[:2], "targets": {"ner": ["qac"]}, "language_sft": None, **changes}
        return Pipeline(experiment(**entries, text={**TEXT, "trim": trim}), data, stores[trim])

    return made


@pytest.fixture(scope="module")
def both(make: Make) -> tuple[Pipeline, Pipeline]:
    """The same experiment with the cut teacher and with the whole one."""
    return make("experiment"), make("none")


def kept(pipeline: Pipeline) -> torch.Tensor:
    """What the cut teacher's tokens were called before."""
    lines = read_lines(pipeline.trimmed_teacher().path("teacher/kept.txt"))
    return torch.tensor([int(line) for line in lines])


def test_no_text_of_the_experiment_has_other_tokens_or_states(both, data) -> None:
    cut, whole = both
    ids = kept(cut)
    assert len(ids) == len(cut.teacher.tokenizer) < len(whole.teacher.tokenizer)
    sides = cut.teacher, whole.teacher
    for code in ("qaa", "qac"):
        lines = read_lines(data.text(code), 100)
        mine, theirs = (one.tokenizer(lines, padding=True, return_tensors="pt") for one in sides)
        assert torch.equal(ids[mine["input_ids"]], theirs["input_ids"])
        outs = [
            encode(side.encoder, batch["input_ids"], batch["attention_mask"], states=True)
            for side, batch in zip(sides, (mine, theirs), strict=True)
        ]
        assert all(map(torch.equal, outs[0].hidden, outs[1].hidden))


def test_a_task_changes_the_very_entries_of_the_uncut_teacher(both) -> None:
    cut, whole = both
    mine, theirs = (SparseDelta.load(one.task_sft(TEACHER).path("delta.safetensors")) for one in both)
    share = cut.experiment.task["ner"].sft.density
    assert mine.size == theirs.size == round(share * whole.teacher.encoder.num_parameters())
    assert mine.tensors.keys() == theirs.tensors.keys()
    ids, width = kept(cut), whole.teacher.encoder.config.hidden_size
    rows = "embeddings.word_embeddings.weight"
    for name, (positions, values) in mine.tensors.items():
        if name == rows:
            positions = ids[positions // width] * width + positions % width
        assert torch.equal(positions, theirs.tensors[name][0]), name
        assert torch.equal(values, theirs.tensors[name][1]), name
    assert all(torch.equal(head, theirs.full[name]) for name, head in mine.full.items())


def test_a_student_is_that_of_the_uncut_teacher(both) -> None:
    mine, theirs = (one.student(STUDENT).path("model") for one in both)
    weights = [load_file(one / "model.safetensors") for one in (mine, theirs)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    for name in ("config.json", "tokenizer.json"):
        assert json.loads((mine / name).read_text("utf-8")) == json.loads((theirs / name).read_text("utf-8"))
    told = [one.vocabulary("qac").metrics for one in both]
    assert told[0] == told[1]


@pytest.mark.slow
@pytest.mark.parametrize("cell", [TEACHER, STUDENT, TEACHER._replace(task="retrieval")])
def test_scores_and_sizes_are_those_of_the_uncut_teacher(cell: Cell, make: Make) -> None:
    of = {"targets": {"ner": ["qac"], "retrieval": ["qac"]}}
    rows = [
        [
            (row["metric"], row["value"], row["parameters"], row["vocabulary"], row["disk_bytes"])
            for row in make(trim, **of).rows(cell)
        ]
        for trim in ("experiment", "none")
    ]
    for mine, theirs in zip(*rows, strict=True):
        assert mine[:4] == theirs[:4]
        if mine[4] is not None:
            assert mine[4] == pytest.approx(theirs[4], rel=1e-3)  # of the file, the names of tensors


@pytest.mark.parametrize("method", ["top-k", "random", "spiel", "lora"])
def test_a_density_is_a_share_of_the_uncut_teacher(method: str, make: Make, experiment) -> None:
    plain = experiment().language_sft
    density = plain.density
    if method == "spiel":
        moving = SpielSft(density=density, interval=1, estimation=1)
        sft = dataclasses.replace(plain, lottery=None, dense=None, spiel=moving)
    else:
        sft = plain.by(method)
    sizes = []
    for trim in ("experiment", "none"):
        pipeline = make(trim)
        pipeline.experiment = dataclasses.replace(pipeline.experiment, language_sft=sft)
        sizes.append(pipeline.language_sft("qac").metrics["values"])
        if method == "random":  # of a draw among all entries, those in rows that are gone change nothing
            assert sizes[-1] == round(density * pipeline.teacher.encoder.num_parameters())
    assert method == "random" or sizes[0] == sizes[1]


def test_the_plan_has_the_cut_before_everything_else(both, make: Make, data) -> None:
    cut, whole = both
    stages = [*foresee(cut.experiment, data, cut.store, teacher_id=cut.teacher_id).values()]
    first = stages[0]
    assert (first.kind, first.name, str(first.job)) == ("trimmed-teacher",) * 2 + ("trimmed teacher",)
    assert first.id == cut.trimmed_teacher().id
    assert describe(first.job) == "teacher, cut to the experiment"
    waiting = {stage.kind for stage in stages if first.id in stage.after}
    assert waiting == {"vocabulary", "student", "task-sft"}
    assert all(job.stage != "trimmed_teacher" for job in plan(whole.experiment))
    assert stages_of(cut).keys() == {stage.id for stage in stages}


def test_one_stage_by_its_id_makes_it(make: Make, data, tmp_path: Path) -> None:
    pipeline = make("experiment")
    name = next(iter(stages_of(pipeline)))
    made = build_stage(pipeline.experiment, Place(data.root, tmp_path / "store"), name)
    assert made.metrics["tokens"][1] == len(AutoTokenizer.from_pretrained(made.path("teacher")))


def test_what_the_teacher_is_cut_to_grows_with_the_experiment(make: Make) -> None:
    pair, seen = make("experiment"), make("experiment", systems=[SYSTEMS[2]])
    assert set(pair.trimmed_teacher().metrics["corpora"]) == {"qaa", "qac"}
    assert set(seen.trimmed_teacher().metrics["corpora"]) == {"qaa", "qab"}


def test_what_stands_before_sentences_to_be_found_is_kept(make: Make) -> None:
    """A prefix of words that no text of the experiment has."""
    targets = {"ner": ["qac"], "retrieval": ["qac"]}
    plain = make("experiment", targets=targets)
    prefix = next(
        token
        for token, i in sorted(plain.uncut_teacher().tokenizer.get_vocab().items())
        if token.isalpha() and i not in set(kept(plain).tolist())
    )
    found = make("experiment", targets=targets, retrieval={"prefix": f"{prefix} "})
    ids = plain.uncut_teacher().tokenizer(prefix, add_special_tokens=False)["input_ids"]
    assert set(ids) <= set(kept(found).tolist())


def test_pairs_that_pick_a_checkpoint_are_kept_whole(make: Make) -> None:
    schedule = {"steps": 2, "learning_rate": 1e-3, "evaluations": 1}
    general = {"lrf": 2, "batch_size": 4, "select": "retrieval", "schedule": schedule}
    cut = make("experiment", systems=["bistil-st:2"], general=general)
    pairs = cut.spare_pairs(("qaa", "qac"))["qac"]
    sentences = [sentence for pair in pairs for sentence in pair]
    mine = [kept(cut)[ids].tolist() for ids in cut.teacher.tokenizer(sentences).input_ids]
    assert mine == make("none").teacher.tokenizer(sentences).input_ids
    assert "pairs qac 0" in cut.trimmed_teacher().manifest["inputs"]


def test_settings_of_stages_do_not_tell_twice(make: Make, experiment, data, tmp_path: Path) -> None:
    unsaid = Pipeline(
        dataclasses.replace(make("none").experiment, text=experiment(text=TEXT).text),
        data,
        make("none").store,
    )
    assert unsaid.student(STUDENT).id == make("none").student(STUDENT).id
    student = make("experiment").student(STUDENT)
    assert student.id != unsaid.student(STUDENT).id
    assert "trim" not in student.manifest["config"]["text"]


def test_a_large_vocabulary_is_cut_unasked(make: Make, experiment, data, monkeypatch) -> None:
    def trims(**text: Any) -> bool:
        return Pipeline(experiment(text=text), data, Store(Path("nowhere"))).trims

    assert not trims()
    assert trims(trim="experiment")
    monkeypatch.setattr(inputs, "LARGE", 100)
    assert trims()
    assert not trims(trim="none")
    public = experiment(teacher="FacebookAI/xlm-roberta-base")
    assert "trimmed_teacher" in {job.stage for job in plan(public)}
    assert "trimmed_teacher" not in {job.stage for job in plan(experiment(teacher="nobody/knows"))}


def test_a_teacher_without_a_head_gets_the_one_that_it_had_uncut(
    make: Make, teacher_folder: Path, experiment, data, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    load_teacher(teacher_folder).encoder.save_pretrained(bare)
    load_teacher(teacher_folder).tokenizer.save_pretrained(bare)
    asked = make("experiment").experiment
    pipeline = Pipeline(dataclasses.replace(asked, teacher=str(bare)), data, Store(tmp_path / "store"))
    cut, whole = pipeline.teacher, load_teacher(bare)
    assert not cut.has_mlm_head
    heads = [one.mlm.cls.predictions.transform.state_dict() for one in (cut, whole)]
    assert all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())


def test_epochs_are_counted_by_the_whole_teacher_where_its_cut_is_not_there(make: Make, data) -> None:
    schedule = {"epochs": 3, "learning_rate": 1e-3}
    sft = {"lottery": {"density": 0.1}, "dense": schedule, "sparse": schedule}
    counted = []
    for trim in ("experiment", "none"):
        pipeline = make(trim, systems=["teacher-ltsft"], language_sft=sft)
        stages = foresee(pipeline.experiment, data, pipeline.store, teacher_id=pipeline.teacher_id)
        counted.append(
            [stage.config["sft"].dense.steps for stage in stages.values() if stage.kind == "language-sft"]
        )
    assert counted[0] == counted[1]
    assert min(counted[0]) > 3
