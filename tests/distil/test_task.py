"""Task tuning: on gold labels, and after a teacher without any."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import masked_lm
from transformers import set_seed

from bistil.distil.start import initialise
from bistil.distil.task import Followed, TaskConfig, TaskDistillation, TaskLearning, train_task_sft
from bistil.evaluation.score import evaluate
from bistil.models.load import TaskModel
from bistil.sft.config import PeftSft, SftConfig
from bistil.sft.delta import base_hash
from bistil.sft.lottery import LotteryConfig
from bistil.sft.peers import library, peft_settings
from bistil.systems.layers import layer_pairs
from bistil.systems.recipe import STATES
from bistil.tasks import task as find_task
from bistil.tasks.training import TaskBatches
from bistil.training.loop import Run, Schedule, Stopped
from bistil.training.progress import Event

PHASE = Schedule(steps=4, learning_rate=3e-3, evaluations=2)
CONFIG = TaskConfig(
    sft=SftConfig(lottery=LotteryConfig(density=0.1), dense=PHASE, sparse=PHASE), batch_size=4, max_length=48
)


def kit(name: str, data):
    task = find_task(name)
    examples = task.read(data.file(task.column, "qaa", "train"))
    return task.for_training(examples), examples


def models(task, vocabulary: int) -> tuple[TaskModel, TaskModel]:
    """A task teacher of 6 layers and its student of 3, each with a head of its own."""
    encoder = masked_lm(vocabulary).bert
    set_seed(5)
    teacher, student = (
        TaskModel(encoder=encoder, head=task.head(32)),
        TaskModel(encoder=initialise(encoder, 2), head=task.head(32)),
    )
    return teacher.eval(), student.eval()


def followed(teacher: TaskModel, student: TaskModel, kept=None) -> Followed:
    depths = (one.encoder.config.num_hidden_layers for one in (teacher, student))
    return Followed(teacher=teacher, kept=kept, terms=STATES, pairs=layer_pairs("uniform", *depths))


def tune(
    name: str,
    data,
    wordpiece,
    folder: Path,
    *,
    forced: bool,
    examples_of=lambda examples: examples,
    **watched,
):
    task, examples = kit(name, data)
    teacher, student = models(task, len(wordpiece))
    base = base_hash(student.encoder)
    validation = task.read(data.file(task.column, "qaa", "dev"))
    delta, history = train_task_sft(
        student,
        task,
        {"qaa": examples_of(examples)},
        wordpiece,
        config=CONFIG,
        validate=lambda: evaluate(student, task, validation, wordpiece, max_length=48),
        base=base,
        run=Run(folder, "task SFT", **watched),
        follows=followed(teacher, student) if forced else None,
    )
    return student, delta, history


@pytest.mark.parametrize("name", ["parsing", "ner", "pos", "nli", "qa"])
def test_batches_are_a_function_of_seed_and_step(name: str, data, wordpiece) -> None:
    task, examples = kit(name, data)
    rows = task.encode(examples, wordpiece, max_length=48)
    one, other = (TaskBatches(task, {"qaa": rows}, 0, batch_size=4, steps=9, seed=3) for _ in range(2))
    assert len(one) == 9
    for step in reversed(range(9)):
        mine, again = one[step], other[step]
        assert mine.pop("language") == again.pop("language") == "qaa"
        assert all(torch.equal(tensor, again[key]) for key, tensor in mine.items())


def test_a_student_that_is_its_teacher_has_only_the_teachers_entropy(data, wordpiece) -> None:
    task, examples = kit("ner", data)
    teacher, _ = models(task, len(wordpiece))
    _, copy = models(task, len(wordpiece))
    student = TaskModel(encoder=initialise(teacher.encoder, 1), head=copy.head).eval()
    student.head.load_state_dict(teacher.head.state_dict())
    batch = task.collate(task.encode(examples[:4], wordpiece, max_length=48), 0)
    loss, parts = TaskDistillation(student, task, followed(teacher, student))(batch)
    probabilities = teacher(batch).logits["labels"][batch["labels"] != -100].softmax(-1)
    entropy = -(probabilities * probabilities.log()).sum(-1).mean()
    assert float(parts["attention"]) == float(parts["hidden"]) == 0.0
    assert float(loss) == pytest.approx(float(entropy), rel=1e-4)


def test_distillation_of_entities_ignores_gold_labels(data, wordpiece) -> None:
    task, examples = kit("ner", data)
    teacher, student = models(task, len(wordpiece))
    objective = TaskDistillation(student, task, followed(teacher, student))
    batch = task.collate(task.encode(examples[:6], wordpiece, max_length=48), 0)
    real = batch["labels"] != -100
    permuted = {
        **batch,
        "labels": torch.where(real, (batch["labels"] + 1) % len(task.labels), batch["labels"]),
    }
    assert not torch.equal(permuted["labels"], batch["labels"])
    assert torch.equal(objective(batch)[0], objective(permuted)[0])
    assert not torch.equal(TaskLearning(student, task)(batch)[0], TaskLearning(student, task)(permuted)[0])


def test_distillation_of_trees_ignores_gold_relations(data, wordpiece) -> None:
    task, examples = kit("parsing", data)
    teacher, student = models(task, len(wordpiece))
    objective = TaskDistillation(student, task, followed(teacher, student))
    batch = task.collate(task.encode(examples[:6], wordpiece, max_length=48), 0)
    relations = torch.where(
        batch["relations"] >= 0, (batch["relations"] + 1) % len(task.labels), batch["relations"]
    )
    assert torch.equal(objective(batch)[0], objective({**batch, "relations": relations})[0])


@pytest.mark.slow
def test_tuning_after_a_teacher_gives_the_same_delta_whatever_the_gold_labels(
    data, wordpiece, tmp_path: Path
) -> None:
    def relabel(examples):
        swap = {
            tag: other
            for tag, other in zip(
                kit("ner", data)[0].labels, reversed(kit("ner", data)[0].labels), strict=True
            )
        }
        return [
            dataclasses.replace(example, tags=tuple(swap[tag] for tag in example.tags))
            for example in examples
        ]

    _, one, _ = tune("ner", data, wordpiece, tmp_path / "gold", forced=True)
    _, other, _ = tune("ner", data, wordpiece, tmp_path / "swapped", forced=True, examples_of=relabel)
    assert one == other


@pytest.mark.parametrize("name", ["parsing", "ner"])
def test_a_forced_students_head_starts_as_the_teachers(
    name: str, data, wordpiece, tmp_path: Path, monkeypatch
) -> None:
    started = []
    original = TaskDistillation.forward

    def forward(self, batch):
        teacher = self._follows[0].teacher.head.state_dict()
        started.append(
            all(torch.equal(tensor, teacher[key]) for key, tensor in self.model.head.state_dict().items())
        )
        return original(self, batch)

    monkeypatch.setattr(TaskDistillation, "forward", forward)
    student, delta, history = tune(name, data, wordpiece, tmp_path, forced=True)
    assert started == [True, False, False, False] * 2
    assert set(delta.full) == {f"head.{key}" for key in student.head.state_dict()}
    assert all({"attention", "hidden", "prediction"} <= set(entry) for entry in history if "loss" in entry)


def test_a_temperature_softens_predictions_and_keeps_their_weight(data, wordpiece) -> None:
    task, examples = kit("ner", data)
    teacher, student = models(task, len(wordpiece))
    batch = task.collate(task.encode(examples[:4], wordpiece, max_length=48), 0)
    follows = dataclasses.replace(followed(teacher, student), temperature=2.0)
    soft = TaskDistillation(student, task, follows)(batch)[1]["prediction"]
    halves = [{name: z / 2 for name, z in one(batch).logits.items()} for one in (student, teacher)]
    assert float(soft) == pytest.approx(4 * float(task.distillation_loss(*halves, batch)), rel=1e-5)


def test_a_forced_student_sees_no_dropout_and_maps_ids(data, wordpiece) -> None:
    task, examples = kit("ner", data)
    teacher, _ = models(task, len(wordpiece))
    batch = task.collate(task.encode(examples[:4], wordpiece, max_length=48), 0)
    kept = torch.randperm(len(wordpiece), generator=torch.Generator().manual_seed(0))
    seen = []
    teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]["input_ids"]))
    student = TaskModel(encoder=initialise(teacher.encoder, 2), head=task.head(32))
    TaskDistillation(student, task, followed(teacher, student, kept))(batch)
    assert torch.equal(seen[0], kept[batch["input_ids"]])


@pytest.mark.parametrize("name", ["parsing", "ner", "nli", "qa"])
@pytest.mark.parametrize("peft", [False, True])
def test_a_forced_student_is_a_function_of_the_batch_while_it_trains(
    name: str, peft: bool, data, wordpiece
) -> None:
    """Whatever is hung on it, no dropout is left on; the parser's head alone keeps its own."""
    task, examples = kit(name, data)
    teacher, student = models(task, len(wordpiece))
    other = models(task, len(wordpiece))[1]
    for parameter in (*teacher.head.parameters(), *student.head.parameters(), *other.head.parameters()):
        torch.nn.init.normal_(parameter, std=0.1)  # a parser's begins at 0, which hides what is dropped
    objective = TaskDistillation(student, task, followed(teacher, student))
    if peft:
        library().get_peft_model(student.encoder, peft_settings(student.encoder, PeftSft(density=0.1), 0))
    objective.train()
    batch = task.collate(task.encode(examples[:4], wordpiece, max_length=48), 0)
    first, second = (objective(batch)[0] for _ in range(2))
    assert torch.equal(first, second) == (name != "parsing")
    if name == "parsing":
        head: Any = student.head
        head.dropout = 0.0
        assert torch.equal(*(objective(batch)[0] for _ in range(2)))
    gold = TaskLearning(other, task).train()
    assert not torch.equal(gold(batch)[0], gold(batch)[0])


def test_a_student_may_follow_predictions_alone(data, wordpiece) -> None:
    task, examples = kit("ner", data)
    teacher, student = models(task, len(wordpiece))
    follows = dataclasses.replace(followed(teacher, student), terms={})
    batch = task.collate(task.encode(examples[:4], wordpiece, max_length=48), 0)
    loss, parts = TaskDistillation(student, task, follows)(batch)
    assert set(parts) == {"prediction"}
    assert torch.equal(loss, parts["prediction"])


@pytest.mark.parametrize("name", ["parsing", "ner"])
def test_gold_labels_are_learnt(name: str, data, wordpiece) -> None:
    task, examples = kit(name, data)
    _, student = models(task, len(wordpiece))
    batch = task.collate(task.encode(examples[:8], wordpiece, max_length=48), 0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss, parts = TaskLearning(student, task)(batch)
        assert parts == {}
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["dense", "sparse"])
def test_a_stopped_task_sft_resumes_to_the_same_delta(phase: str, data, wordpiece, tmp_path: Path) -> None:
    _, whole, _ = tune("ner", data, wordpiece, tmp_path / "whole", forced=True)
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.stage.endswith(phase) and event.step == 3:
            stop.set()

    with pytest.raises(Stopped):
        tune("ner", data, wordpiece, tmp_path / "broken", forced=True, progress=watch, stop=stop)
    _, resumed, _ = tune("ner", data, wordpiece, tmp_path / "broken", forced=True)
    assert resumed == whole
