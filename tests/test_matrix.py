"""Architecture x task x layer reduction factor, end to end on tiny models: language SFTs, trimming, both
stages, scores, deployment.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import entries
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from zoo import TOKENIZERS, write_teacher

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.models.load import encode, load_encoder
from bistil.pipeline import Pipeline
from bistil.settings.yaml import build
from bistil.store.artefacts import Store
from bistil.tasks.retrieval import Side, parallel, retrieve
from bistil.text.corpora import read_lines

TASKS = {
    "parsing": {"uas", "las"},
    "ner": {"f1"},
    "pos": {"accuracy"},
    "nli": {"accuracy"},
    "classification": {"macro_f1", "micro_f1", "accuracy"},
    "choice": {"accuracy"},
    "qa": {"em", "f1"},
}
OTHERS = ("bistil-st:3", "multilingual-distil:2", "scratch:2")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipelines(world: Path, data, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pipeline]:
    """A pipeline an architecture, its store shared by the tests."""
    root, made = tmp_path_factory.mktemp("matrix"), {}

    def pipeline(name: str) -> Pipeline:
        if name not in made:
            lines = [
                line for code in ("qaa", "qab") for line in read_lines(world / "corpora" / f"{code}.txt")
            ]
            whole = entries(write_teacher(root / f"teacher-{name}", name, lines), steps=2)
            short = {"steps": 2, "learning_rate": 1e-3, "evaluations": 1}
            plan = {
                **whole,
                "targets": {task: ["qac"] for task in TASKS},
                "task": dict.fromkeys(TASKS, whole["task"]["ner"]),
                "systems": ["bistil-tf:2", "bistil-tf:3", *OTHERS],
                "general": {**whole["general"], "schedule": short},
                "scratch": {**whole["scratch"], "schedule": short},
                "vocabulary": {"threshold": 1e-3},
            }
            made[name] = Pipeline(build(Experiment, plan, "matrix"), data, Store(root / name))
            made[name].check()
        return made[name]

    return pipeline


@pytest.mark.parametrize("lrf", [2, 3])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_cell_ends_in_a_score_and_a_student_to_take_away(
    pipelines, name: str, task: str, lrf: int
) -> None:
    pipeline, cell = pipelines(name), Cell("bistil-tf", task, "qac", lrf, 1)
    found = pipeline.evaluation(cell).metrics
    assert all(0.0 <= found[metric] <= 100.0 for metric in TASKS[task])
    assert found["vocabulary"] < len(pipeline.teacher.tokenizer)
    assert found["flops_per_example"] > 0
    encoder = load_encoder(pipeline.student(cell).path("model"))
    assert encoder.config.num_hidden_layers == 6 // lrf
    deployed = pipeline.deployed(cell).path("model")
    plain, tokenizer = (
        AutoModel.from_pretrained(deployed, **_without_pooler(encoder)).eval(),
        AutoTokenizer.from_pretrained(deployed),
    )
    ids = torch.tensor([tokenizer("a b c").input_ids])
    model, _, own = pipeline.task_model(cell, "qac")
    assert own("a b c").input_ids == tokenizer("a b c").input_ids
    expected = encode(model.encoder, ids, torch.ones_like(ids), states=False).last
    with torch.no_grad():
        assert torch.equal(
            plain(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state, expected
        )


@pytest.mark.parametrize("system", OTHERS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_other_recipes_run(pipelines, name: str, system: str) -> None:
    recipe, _, lrf = system.partition(":")
    assert 0.0 <= pipelines(name).evaluation(Cell(recipe, "ner", "qac", int(lrf), 1)).metrics["f1"] <= 100.0


@pytest.mark.parametrize("name", TOKENIZERS)
def test_sentences_are_retrieved(pipelines, name: str) -> None:
    pipeline, cell = pipelines(name), Cell("bistil-tf", "nli", "qac", 2, 1)
    source, target = (Side(*pipeline.encoder(cell, code)) for code in ("qaa", "qac"))
    for by in ("cosine", "bertscore"):
        found = retrieve(source, target, parallel(pipeline.data, "qaa", "qac"), layer=3, by=by)
        assert all(0.0 <= value <= 100.0 for value in found.values())


def test_lengths_are_checked_against_positions_behind_the_padding(pipelines, data, tmp_path: Path) -> None:
    plan = entries(Path(pipelines("xlm-roberta").experiment.teacher), steps=1)
    plan["text"] = {**plan["text"], "length": 67}
    with pytest.raises(InputError, match=r"up to the 66 positions .* asks for 67"):
        Pipeline(build(Experiment, plan, "tiny"), data, Store(tmp_path)).check()


def test_a_vocabulary_that_cannot_be_reduced_is_refused_before_any_work(
    pipelines, data, tmp_path: Path
) -> None:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    level = Tokenizer(
        models.WordLevel({name: i for i, name in enumerate([*names, "a", "b"])}, unk_token="[UNK]")
    )
    level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, unk, cls, sep, mask = names
    words = PreTrainedTokenizerFast(
        tokenizer_object=level, pad_token=pad, unk_token=unk, cls_token=cls, sep_token=sep, mask_token=mask
    )
    folder = shutil.copytree(pipelines("bert").experiment.teacher, tmp_path / "teacher")
    words.save_pretrained(folder)
    with pytest.raises(InputError, match="vocabularies can be reduced; this tokenizer's model is WordLevel"):
        Pipeline(build(Experiment, entries(folder, steps=1), "tiny"), data, Store(tmp_path / "store")).check()
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").iterdir())


def _without_pooler(encoder) -> dict[str, bool]:
    return {"add_pooling_layer": False} if hasattr(encoder, "pooler") else {}
