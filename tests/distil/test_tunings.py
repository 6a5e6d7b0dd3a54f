"""How a family learns a task: what trains and what stays in each tuning, both students at once, a teacher's
logits beside gold labels, fresh layers under the head.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import masked_lm
from transformers import set_seed

from bistil.deploy.read import load_deployed
from bistil.distil.start import initialise
from bistil.distil.task import Followed, TaskConfig, TaskLearning, train_task_sft
from bistil.errors import InputError
from bistil.evaluation.score import evaluate, predict_all
from bistil.models.load import TaskModel
from bistil.pipeline import Pipeline
from bistil.pipeline.finished import save_finished
from bistil.sft.bottleneck import Adapter
from bistil.sft.config import AdapterConfig, SftConfig
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.lottery import LotteryConfig, select_biases
from bistil.store.artefacts import Store
from bistil.systems.learning import Learning
from bistil.systems.table import SYSTEMS
from bistil.tasks import task as find_task
from bistil.tasks.deeper import DeepHead, task_head
from bistil.training.loop import Run, Schedule

PHASE = Schedule(steps=3, learning_rate=1e-2, evaluations=1)
METHODS: dict[str, Any] = {
    "head": {"lottery": LotteryConfig(density=0.1, select="none")},
    "biases": {"lottery": LotteryConfig(density=0.1, select="biases")},
    "all-biases": {"lottery": LotteryConfig(density=0.1, select="all-biases")},
    "adapter": {"adapter": AdapterConfig(reduction=4)},
}


def kit(data):
    task = find_task("ner")
    examples = task.read(data.file(task.column, "qaa", "train"))
    return task.for_training(examples), examples


def students(vocabulary: int) -> list[Any]:
    """Two of three layers, with embeddings of their own."""
    return [initialise(masked_lm(vocabulary, seed=seed).bert, 2).eval() for seed in (1, 2)]


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def tune(data, wordpiece, folder: Path, method: str, *, both: bool = False, layers: int = 0):
    """What was tuned, and names of what changed in the first student, in the second one and in the head."""
    task, examples = kit(data)
    first, second = students(len(wordpiece))
    set_seed(3)
    model = TaskModel(encoder=first, head=task_head(task, first.config, layers)).eval()
    before = [state(one) for one in (first, second, model.head)]
    found, _ = train_task_sft(
        model,
        task,
        {"qaa": examples},
        wordpiece,
        config=TaskConfig(sft=SftConfig(sparse=PHASE, **METHODS[method]), batch_size=4, max_length=48),
        validate=lambda: evaluate(model, task, examples[:4], wordpiece, max_length=48),
        base=base_hash(first),
        run=Run(folder, "task SFT"),
        beside=second if both else None,
    )
    after = [state(one) for one in (first, second, model.head)]
    moved = [
        {name for name in new if not torch.equal(new[name], old[name])}
        for old, new in zip(before, after, strict=True)
    ]
    return found, moved, (first, second, model)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("both", [False, True])
def test_what_trains_and_what_stays(data, wordpiece, tmp_path: Path, method: str, both: bool) -> None:
    found, (first, second, head), (one, other, _) = tune(data, wordpiece, tmp_path, method, both=both)
    assert head == {"classifier.weight", "classifier.bias"}
    biases = set(select_biases(one, norms=method == "all-biases"))
    assert ("encoder.layer.0.output.LayerNorm.bias" in biases) == (method == "all-biases")
    if method in ("biases", "all-biases"):
        assert isinstance(found, SparseDelta)
        assert set(found.tensors) == biases
        assert first <= biases
        assert len(first) > len(biases) / 2
        # what both have in common is the first one's; all else of the second is as it was
        assert second == (biases if both else set())
        if both:
            assert all(torch.equal(one.get_parameter(name), other.get_parameter(name)) for name in biases)
            assert one.get_parameter(min(biases)) is other.get_parameter(min(biases))
    else:
        assert first == second == set()
        assert isinstance(found, Adapter) == (method == "adapter")
        assert not hasattr(other, "task_adapter")


def test_through_both_the_loss_is_the_mean_of_the_two(data, wordpiece) -> None:
    task, examples = kit(data)
    first, second = students(len(wordpiece))
    one = TaskModel(encoder=first, head=task.head(32)).eval()
    other = TaskModel(encoder=second, head=one.head).eval()
    batch = task.collate(task.encode(examples[:6], wordpiece, max_length=48), 0)
    alone = [TaskLearning(model, task).eval()(batch)[0] for model in (one, other)]
    assert not torch.equal(*alone)
    joint = TaskLearning(one, task, beside=other).eval()
    torch.testing.assert_close(joint(batch)[0], torch.stack(alone).mean())
    joint.train()
    assert second.training
    joint.eval()
    joint(batch)[0].backward()
    gradient = one.head.classifier.weight.grad.clone()
    one.head.zero_grad()
    (sum(alone) / 2).backward()
    torch.testing.assert_close(one.head.classifier.weight.grad, gradient)


def test_an_adapter_learns_from_both_students(data, wordpiece, tmp_path: Path) -> None:
    alone, _, _ = tune(data, wordpiece, tmp_path / "a", "adapter")
    joint, _, _ = tune(data, wordpiece, tmp_path / "b", "adapter", both=True)
    assert alone.tensors.keys() == joint.tensors.keys()
    assert any(not torch.equal(tensor, joint.tensors[name]) for name, tensor in alone.tensors.items())


@pytest.mark.parametrize("name", ["ner", "nli", "qa", "parsing", "choice", "classification"])
def test_half_of_the_logits_and_half_of_gold(name: str, data, wordpiece) -> None:
    kind = find_task(name)
    examples = kind.read(data.file(kind.column, "qaa", "train"))
    task = kind.for_training(examples)
    teacher, student = (
        TaskModel(encoder=encoder, head=task.head(32)).eval() for encoder in students(len(wordpiece))
    )
    for model in (teacher, student):
        for parameter in model.head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    follows = Followed(teacher=teacher, kept=None, terms={}, pairs=(), gold=True)
    batch = task.collate(task.encode(examples[:2], wordpiece, max_length=48), 0)
    loss, parts = TaskLearning(student, task, follows=follows).eval()(batch)
    gold = TaskLearning(student, task).eval()(batch)[0]
    own, wanted = (model(batch).logits for model in (student, teacher))
    torch.testing.assert_close(parts["gold"], gold.detach())
    torch.testing.assert_close(loss, (gold + parts["logits"]) / 2)
    assert torch.isfinite(loss)
    assert parts["logits"] > 0
    expected = torch.zeros(())
    for kind_of, logits in own.items():
        apart, known = (logits - wanted[kind_of]).square().sum(-1), batch.get("labels", batch.get("heads"))
        whole = known is None or known.shape != apart.shape
        expected = expected + (apart.mean() if whole else apart[known != -100].mean())
    torch.testing.assert_close(parts["logits"], expected.detach())


def test_padding_means_nothing_to_fresh_layers(data, wordpiece) -> None:
    task, examples = kit(data)
    encoder, _ = students(len(wordpiece))
    head = task_head(task, encoder.config, 2).eval()
    assert isinstance(head, DeepHead)
    assert len(head.layers) == 2
    model = TaskModel(encoder=encoder, head=head).eval()
    rows = task.encode(examples[:6], wordpiece, max_length=48)
    together = model(task.collate(rows, 0)).logits["labels"]
    for number, row in enumerate(rows):
        alone = model(task.collate([row], 0)).logits["labels"][0]
        torch.testing.assert_close(together[number, : len(alone)], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
def test_fresh_layers_train_on_a_frozen_student_and_travel_with_it(
    data, wordpiece, tmp_path: Path, layers: int
) -> None:
    found, (first, _, head), (_, _, model) = tune(data, wordpiece, tmp_path, "head", layers=layers)
    assert first == set()
    assert head == set(model.head.state_dict())
    assert {name for name in found.full} == {f"head.{name}" for name in head}
    task, examples = kit(data)
    save_finished(tmp_path / "x", model, task.labels, wordpiece)
    loaded, own, tokenizer = load_deployed(tmp_path / "x")
    assert (own.name, own.labels) == (task.name, task.labels)
    assert predict_all(loaded, own, examples, tokenizer, max_length=48) == predict_all(
        model, task, examples, wordpiece, max_length=48
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"select": "all", "through": "both"}, "the same in both"),
        ({"select": "biases", "through": "both"}, "carried: values"),
        ({"follows": "teacher", "layers": 2}, "cannot begin as the teacher's"),
    ],
)
def test_tunings_that_cannot_be_are_refused(said: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Learning(**said)


VARIANTS = {
    "deep": {"of": "monoshot", "learning": {"select": "none", "through": "source", "layers": 2}},
    "adapter": {"of": "monoshot", "learning": {"select": None, "adapter": True}},
    "adapter-source": {"of": "adapter", "learning": {"through": "source"}},
    "adapter-joint": {"of": "adapter", "learning": {"through": "both"}},
    "biases-joint": {
        "of": "monoshot",
        "learning": {"select": "biases", "through": "both", "carried": "values"},
    },
}


@pytest.mark.slow
def test_tunings_run_from_the_yaml(experiment, data, tmp_path: Path) -> None:
    small = experiment(
        systems=["monoshot:2", "monoshot-td:2", *(f"{name}:2" for name in VARIANTS)],
        variants=VARIANTS,
        targets={"ner": ["qac"]},
        language_sft=None,
        at_floor="continue",
    )
    settings = dataclasses.replace(
        small.task["ner"], adapter=SftConfig(adapter=AdapterConfig(reduction=4), sparse=PHASE)
    )
    small = dataclasses.replace(small, task={"ner": settings})
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    pipeline.check()
    cells = {cell.system: cell for cell in small.cells()}
    assert len({pipeline.task_sft(cell).id for cell in cells.values()}) == len(cells)
    scores = {name: pipeline.evaluation(cell) for name, cell in cells.items()}
    assert len({one.id for one in scores.values()}) == len(cells)
    assert SYSTEMS["monoshot-td"].guided
    taught = pipeline.task_sft(cells["monoshot-td"])
    assert (
        taught.manifest["inputs"]["task teacher"]
        == pipeline.task_sft(cells["monoshot-td"]._replace(system="teacher-full", lrf=1)).id
    )
    source, target = (pipeline._base(cells["deep"], side).load(pipeline)[0] for side in ("source", "target"))
    apart = "encoder.layer.0.output.dense.weight"
    for name in VARIANTS:
        used = pipeline.task_model(cells[name], "qac")[0].encoder
        assert torch.equal(used.get_parameter(apart), target.get_parameter(apart)), name
    tuned = SparseDelta.load(pipeline.task_sft(cells["biases-joint"]).path("delta.safetensors"))
    assert tuned.base == base_hash(source)
    tuned.apply(source)
    bias = "encoder.layer.0.output.dense.bias"
    used = pipeline.task_model(cells["biases-joint"], "qac")[0].encoder
    torch.testing.assert_close(used.get_parameter(bias), source.get_parameter(bias))
    assert pipeline.deployed(cells["deep"]).path("model/head.safetensors").is_file()
