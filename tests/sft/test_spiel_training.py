"""SpIEL in a hand-written loop, in transformers.Trainer and in bistil.training.loop.fit, and that an
interruption changes nothing.
"""

import copy
import doctest
import io
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sft_examples import bits, encoder, same_bits
from spiel_reference import Blocks, loss
from test_train_sft import Parity, Sentences, model
from torch import nn
from transformers import BertForSequenceClassification, Trainer, TrainingArguments

from bistil.errors import InputError
from bistil.sft import spiel
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer
from bistil.sft.spiel.callback import SpielCallback
from bistil.training.loop import Run, Schedule, Stopped, fit
from bistil.training.progress import Event, Listener, silent

STEPS = 12


def config(method: str, **changes: Any) -> SpielConfig:
    return SpielConfig(
        **{
            "steps": STEPS,
            "interval": 4,
            "estimation": 3,
            "density": 0.1,
            "rate": 0.5,
            "method": method,
            **changes,
        }
    )


def test_the_example_of_the_docstring_runs() -> None:
    net = Blocks()
    example = SimpleNamespace(encoder=net, head=net.out, loss=lambda step: loss(net, step))
    names = {**vars(spiel), "model": example, "base": base_hash(net), "batches": range}
    test = doctest.DocTestParser().get_doctest(spiel.__doc__ or "", names, "spiel", None, 0)
    said = io.StringIO()
    assert doctest.DocTestRunner().run(test, out=said.write, clear_globs=False).failed == 0, said.getvalue()
    delta = test.globs["delta"]
    assert delta.size == round(0.05 * (42 + 30))
    assert bool(torch.cat([values for _, values in delta.tensors.values()]).any())
    assert base_hash(net.blocks) == base_hash(Blocks().blocks)


@pytest.mark.parametrize("changes", [{}, {"drop": "change"}, {"tensors": "global"}])
@pytest.mark.parametrize("method", ["ag", "ma"])
@pytest.mark.parametrize("when", [2, 4, 6])
@pytest.mark.parametrize("encoder_first", [True, False])
def test_a_checkpoint_continues_in_the_very_bits(
    method: str, changes: dict[str, Any], when: int, encoder_first: bool
) -> None:
    settled = config(method, **changes)

    def run(
        net: Blocks, steps: range, start: Any = None, scribble: bool = False
    ) -> tuple[Any, Any, SparseDelta]:
        with MovingSupport(net, settled) as support:
            optimizer = spiel_optimizer(support, net.out.parameters(), lr=0.01)
            net.out.requires_grad_(True)
            for step in range(90, 96) if scribble else ():
                loss(net, step).backward()
                optimizer.step()
                optimizer.zero_grad()
            if start:
                loads = [lambda: net.load_state_dict(start[0]), lambda: optimizer.load_state_dict(start[1])]
                for load in loads if encoder_first else reversed(loads):
                    load()
            for step in steps:
                loss(net, step).backward()
                optimizer.step()
                optimizer.zero_grad()
            return copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict()), support.delta("b")

    whole, half = run(Blocks(), range(STEPS)), run(Blocks(), range(when))
    saved = io.BytesIO()
    torch.save(half[:2], saved)
    for scribble in (False, True):
        start = torch.load(io.BytesIO(saved.getvalue()), weights_only=True)
        resumed = run(Blocks(), range(when, STEPS), start, scribble)
        assert same_bits(resumed[0], whole[0])
        assert resumed[2] == whole[2]
        torch.testing.assert_close(resumed[1], whole[1], rtol=0.0, atol=0.0)


def test_the_state_of_another_run_is_refused() -> None:
    with MovingSupport(Blocks(), config("ag")) as support:
        saved = spiel_optimizer(support, lr=0.01).state_dict()
    with MovingSupport(Blocks(), config("ag", density=0.5)) as support:
        optimizer = spiel_optimizer(support, lr=0.01)
        with pytest.raises(InputError, match="36 entries in the same 2 tensors, got one over 7"):
            optimizer.load_state_dict(saved)
        with pytest.raises(InputError, match="got one over no entries"):
            optimizer.load_state_dict(torch.optim.SGD([support.values], lr=0.1).state_dict())


class PowerCutError(Exception):
    """The machine went down."""


def by_fit(
    folder: Path, method: str, *, progress: Listener = silent, stop: threading.Event | None = None
) -> tuple[Any, SparseDelta, Any]:
    net, held = model(), Sentences(1, 99)[0]
    objective = Parity(net)
    with MovingSupport(net.encoder, config(method)) as support:
        optimizer = spiel_optimizer(support, net.head.parameters(), lr=5e-3)
        watcher = SpielCallback(optimizer)
        fit(
            objective,
            Sentences(STEPS, 3),
            lambda: {"loss": float(objective(held)[0])},
            Run(folder, "SpIEL", progress, stop),
            schedule=Schedule(steps=STEPS, learning_rate=5e-3, evaluations=4),
            select="loss",
            seed=3,
            optimizer=optimizer,
            callbacks=[watcher],
        )
        return net, support.delta("b"), watcher.updates


@pytest.mark.parametrize("method", ["ag", "ma"])
def test_fit_trains_it_and_a_stopped_run_ends_in_the_same_delta(method: str, tmp_path: Path) -> None:
    whole, delta, updates = by_fit(tmp_path / "whole", method)
    assert [update["step"] for update in updates] == [4, 8]
    assert updates[0]["replaced"] == delta.size
    fresh = model().encoder
    with deltas_applied(fresh, delta):
        assert same_bits(bits(fresh), bits(whole.encoder))
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.step == 7:
            stop.set()

    with pytest.raises(Stopped):
        by_fit(tmp_path / "halves", method, progress=watch, stop=stop)
    resumed, again, _ = by_fit(tmp_path / "halves", method)
    assert again == delta
    assert same_bits(bits(resumed), bits(whole))


def test_the_best_checkpoint_comes_back_with_its_own_support(tmp_path: Path) -> None:
    net, worse = model(), iter(range(99))
    with MovingSupport(net.encoder, config("ag")) as support:
        first = support.keys.clone()
        optimizer = spiel_optimizer(support, net.head.parameters(), lr=5e-3)
        fit(
            Parity(net),
            Sentences(STEPS, 3),
            lambda: {"loss": float(next(worse))},
            Run(tmp_path, "SpIEL"),
            schedule=Schedule(steps=STEPS, learning_rate=5e-3),
            select="loss",
            seed=3,
            optimizer=optimizer,
        )
        assert bool((optimizer.born > 0).all())
        assert torch.equal(support.keys, first)  # that of step 3; the first update is at step 4
        delta = support.delta("b")
    fresh = model().encoder
    with deltas_applied(fresh, delta):
        assert same_bits(bits(fresh), bits(net.encoder))


def classifier() -> BertForSequenceClassification:
    torch.manual_seed(2)
    made = encoder().config
    made.num_labels = 2
    return BertForSequenceClassification(made)


class Rows(torch.utils.data.Dataset):
    """Row k is a function of k."""

    def __len__(self) -> int:
        return 4 * STEPS

    def __getitem__(self, row: int) -> dict[str, Any]:
        ids = torch.randint(5, 60, (8,), generator=torch.Generator().manual_seed(row))
        return {"input_ids": ids, "labels": int(ids[0] % 2)}


def by_trainer(
    folder: Path, *, steps: int = STEPS, resume: bool = False, until: int | None = None
) -> tuple[Any, SparseDelta]:
    net = classifier()
    with MovingSupport(net.bert, config("ag")) as support:
        net.classifier.requires_grad_(True)
        optimizer = spiel_optimizer(support, net.classifier.parameters(), lr=5e-3)
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_steps=3,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            max_grad_norm=1.0,
            seed=1,
        )
        callback: Any = SpielCallback(optimizer)
        trainer = Trainer(
            net, arguments, train_dataset=Rows(), optimizers=(optimizer, None), callbacks=[callback]
        )
        if until:
            step = callback.on_step_end

            def interrupt(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                step(args, state, control, **kwargs)
                if state.global_step == until:
                    raise PowerCutError

            callback.on_step_end = interrupt
        trainer.train(resume_from_checkpoint=resume)
        return net, support.delta("b")


def test_transformers_trainer_trains_it_and_resumes_in_the_same_delta(tmp_path: Path) -> None:
    whole, delta = by_trainer(tmp_path / "whole")
    fresh = classifier()
    with deltas_applied(fresh.bert, delta):
        assert same_bits(bits(fresh.bert), bits(whole.bert))
    with pytest.raises(PowerCutError):
        by_trainer(tmp_path / "halves", until=8)
    resumed, again = by_trainer(tmp_path / "halves", resume=True)
    assert again == delta
    assert same_bits(bits(resumed), bits(whole))


def test_a_trainer_of_another_length_or_optimiser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="over 12 steps, but the Trainer takes 5"):
        by_trainer(tmp_path, steps=5)
    net = Blocks()
    with MovingSupport(net, config("ag")) as support:
        callback = SpielCallback(spiel_optimizer(support, lr=0.01))
        other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        with pytest.raises(InputError, match="does not train with the SpIEL optimiser"):
            callback.on_train_begin(None, SimpleNamespace(max_steps=STEPS), None, optimizer=other)
