"""An encoder that is trained while each batch wears its language's SFT, against two tensors kept apart."""

import copy
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import masked_lm
from torch import Tensor

from bistil.adapt.wardrobe import Wardrobe
from bistil.distil.task import TaskConfig, train_task_sft
from bistil.models.load import TaskModel
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.flat import add_at, read_at, write_at
from bistil.sft.lottery import LotteryConfig, select_random, select_top_k, snapshot
from bistil.sft.train_sft import SUPPORT
from bistil.tasks import task as find_task
from bistil.tasks.training import TaskBatches
from bistil.training.loop import Run, Schedule, Stopped

STEPS, RATE = 200, 1e-3


@pytest.fixture
def parts(wordpiece, data) -> Any:
    """A model without dropout, its task, examples of two languages, and an SFT for each."""
    task = find_task("ner")
    examples = {code: task.read(data.file("ner", code, "train"))[:12] for code in ("qaa", "qab")}
    task = task.for_training([one for own in examples.values() for one in own])
    encoder = masked_lm(len(wordpiece), layers=2).bert
    model = TaskModel(encoder=encoder, head=task.head(32))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model, task, examples, {code: worn(encoder, seed) for seed, code in enumerate(examples)}


def worn(encoder: Any, seed: int) -> SparseDelta:
    """A delta of a tenth of the encoder."""
    places = select_random(dict(encoder.named_parameters()), 3000, np.random.default_rng(seed))
    torch.manual_seed(seed)
    tensors = {name: (where, 0.1 * torch.randn(len(where))) for name, where in places.items()}
    return SparseDelta(tensors=tensors, base=base_hash(encoder))


def trained(parts: Any, wordpiece: Any, lottery: LotteryConfig, run: Run, steps: int = STEPS) -> Any:
    """The model after the project's own training, and the delta that it made."""
    model, task, examples, clothes = parts
    model = copy.deepcopy(model)
    schedule = Schedule(steps=steps, learning_rate=RATE, evaluations=1)
    sft = SftConfig(lottery=lottery, dense=schedule, sparse=schedule, seed=3)
    config = TaskConfig(sft=sft, batch_size=4, max_length=48, head_learning_rate=RATE)
    wardrobe = Wardrobe(model.encoder, clothes, trained=True)
    delta, _ = train_task_sft(
        model,
        task,
        examples,
        wordpiece,
        config=config,
        validate=lambda: {"f1": 0.0},
        base=base_hash(model.encoder),
        run=run,
        wardrobe=wardrobe,
    )
    return model, delta


def reference(
    parts: Any, wordpiece: Any, order: int, support: Mapping[str, Tensor] | None, pull: float = 0.0
) -> dict[str, Tensor]:
    """The task's own values after the same training with what is worn kept in another tensor: a step's
    gradients are those of the sum, and AdamW moves the task's values alone.
    """
    whole, task, examples, clothes = parts
    model = copy.deepcopy(whole)
    own, start = snapshot(model.encoder), snapshot(model.encoder)
    phi = None if support is None else torch.zeros(sum(map(len, support.values())))
    leaves = [torch.nn.Parameter(one) for one in (own.values() if phi is None else [phi])]
    total = sum(one.numel() for one in own.values())
    groups: list[Any] = [{"params": leaves}, {"params": list(model.head.parameters()), "lr": RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.0)
    rows = {code: task.encode(one, wordpiece, max_length=48) for code, one in examples.items()}
    batches = TaskBatches(task, rows, 0, batch_size=4, steps=STEPS, seed=order)
    names = sorted(support) if support is not None else list(own)
    for step in range(STEPS):
        batch = dict(batches[step])
        if support is None:
            own = {name: leaf.detach().clone() for name, leaf in zip(names, leaves, strict=True)}
        else:
            own, place = dict(start), 0
            for name in names:
                where, entries = (
                    support[name],
                    leaves[0].detach()[place : (place := place + len(support[name]))],
                )
                own[name] = start[name].clone()
                write_at(own[name], where, add_at(read_at(start[name], where), entries))
        for name, parameter in model.encoder.named_parameters():
            parameter.grad = None
            parameter.detach().copy_(own[name])
        for name, (where, values) in clothes[batch.pop("language")].tensors.items():
            parameter = model.encoder.get_parameter(name)
            write_at(parameter, where, add_at(read_at(parameter, where), values))
        model.train()
        task.loss(model(batch).logits, batch).backward()
        found = {name: one.grad for name, one in model.encoder.named_parameters()}
        if support is None:
            for name, leaf in zip(names, leaves, strict=True):
                leaf.grad = found[name]
                if pull:
                    zero = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                    leaf.grad = zero + torch.sign(own[name] - start[name]) * (pull / total)
        else:
            leaves[0].grad = torch.cat([read_at(found[name], support[name]) for name in names])
        for group in optimizer.param_groups:
            group["lr"] = RATE * (STEPS - step) / STEPS
        optimizer.step()
        optimizer.zero_grad()
    if support is None:
        return {name: leaf.detach() for name, leaf in zip(names, leaves, strict=True)}
    return {"all": leaves[0].detach()}


def test_the_dense_phase_is_that_of_two_tensors(parts, wordpiece, tmp_path: Path) -> None:
    model, _ = trained(parts, wordpiece, LotteryConfig(density=1.0, select="all"), Run(tmp_path, "x"))
    expected = reference(parts, wordpiece, order=4, support=None)
    for name, parameter in model.encoder.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_the_sparse_phase_is_that_of_two_tensors(parts, wordpiece, tmp_path: Path) -> None:
    lottery = LotteryConfig(density=0.1, select="random")
    _, delta = trained(parts, wordpiece, lottery, Run(tmp_path, "x"))
    support = load_file(tmp_path / SUPPORT)
    common = [
        name
        for name, (where, _) in parts[3]["qaa"].tensors.items()
        if name in support and torch.isin(where, support[name]).any()
    ]
    assert common
    expected = reference(parts, wordpiece, order=4, support=support)["all"]
    found = torch.cat([delta.tensors[name][1] for name in sorted(support)])
    assert torch.equal(found, expected)
    assert float(found.abs().max()) > 1e-3


def test_the_penalty_and_the_choice_read_the_tasks_own_values(parts, wordpiece, tmp_path: Path) -> None:
    lottery = LotteryConfig(density=0.1, l1=5.0)
    trained(parts, wordpiece, lottery, Run(tmp_path, "x"))
    start = snapshot(parts[0].encoder)
    own = reference(parts, wordpiece, order=3, support=None, pull=5.0)
    expected = select_top_k(start, own, lottery.k(sum(one.numel() for one in start.values())))
    found = load_file(tmp_path / SUPPORT)
    assert found.keys() == expected.keys()
    common = sum(int(torch.isin(found[name], expected[name]).sum()) for name in found)
    assert common / sum(map(len, expected.values())) > 0.999


def test_a_thousand_switches_leave_every_bit(parts) -> None:
    model, _, _, clothes = parts
    before = base_hash(model.encoder)
    wardrobe = Wardrobe(model.encoder, clothes, trained=True)
    for number in range(1000):
        wardrobe.wear(("qaa", "qab", None)[number % 3])
    wardrobe.wear(None)
    assert base_hash(model.encoder) == before


def test_a_run_stopped_and_taken_up_again_ends_in_the_same_bits(parts, wordpiece, tmp_path: Path) -> None:
    lottery = LotteryConfig(density=0.1, l1=0.1)
    _, whole = trained(parts, wordpiece, lottery, Run(tmp_path / "whole", "x"), steps=12)
    for number in (5, 10):  # in the dense phase, and in the sparse one
        stop, steps = threading.Event(), iter(range(number))

        def listen(event: Any, stop: threading.Event = stop, steps: Any = steps) -> None:
            if next(steps, None) is None:
                stop.set()

        with pytest.raises(Stopped):
            trained(parts, wordpiece, lottery, Run(tmp_path / "cut", "x", listen, stop), steps=12)
    _, found = trained(parts, wordpiece, lottery, Run(tmp_path / "cut", "x"), steps=12)
    assert found == whole
