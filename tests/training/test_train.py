"""The training path: it learns, keeps the best state, and an interrupted run ends in the same weights."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import set_seed

from bistil.distil.general import evaluate_general
from bistil.errors import InputError
from bistil.training import checkpoints
from bistil.training.loop import Objective, Run, Schedule, Stopped, fit
from bistil.training.meter import Pace
from bistil.training.progress import Event


class Regression(Objective):
    def forward(self, batch):
        x, y = batch["x"], batch["y"]
        loss = (self.model(x) - y).square().mean()
        return loss, {"square": loss.detach()}


class Points(Dataset):
    """Batch k is a function of k alone."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {"x": x, "y": x.sum(dim=1, keepdim=True)}


def make() -> Regression:
    set_seed(3)
    return Regression(nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 1)))


def run(
    objective: Regression,
    folder: Path,
    *,
    stop: threading.Event | None = None,
    progress=lambda event: None,
    steps: int = 20,
    rate: float = 0.05,
):
    held = Points(steps)[10_000]

    def evaluate() -> dict[str, float]:
        return {"loss": float((objective.model(held["x"]) - held["y"]).square().mean())}

    set_seed(5)
    schedule = Schedule(steps=steps, learning_rate=rate, evaluations=4)
    return fit(
        objective,
        Points(steps),
        evaluate,
        Run(folder, "test", progress, stop),
        schedule=schedule,
        select="loss",
        seed=5,
    )


def weights(objective: Regression) -> list[torch.Tensor]:
    return [p.detach().clone() for p in objective.model.parameters()]


def test_training_learns_and_ends_in_its_best_state(tmp_path: Path) -> None:
    objective = make()
    history = run(objective, tmp_path)
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    held = Points(20)[10_000]
    objective.model.eval()
    assert losses[-1] < 0.5 * float(Points(20)[10_000]["y"].square().mean())
    assert float((objective.model(held["x"]) - held["y"]).square().mean()) == pytest.approx(
        min(losses), rel=1e-6
    )
    assert all("square" in entry for entry in history if "loss" in entry)


@pytest.mark.parametrize("when", [7, *(pytest.param(when, marks=pytest.mark.slow) for when in (1, 13, 19))])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path, when: int) -> None:
    whole = make()
    run(whole, tmp_path / "whole")
    stop = threading.Event()
    broken = make()
    with pytest.raises(Stopped):
        run(
            broken,
            tmp_path / "broken",
            stop=stop,
            progress=lambda event: stop.set() if event.step == when else None,
        )
    resumed = make()
    run(resumed, tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


class Halves(Dataset):
    """The first and the second half of each batch of another dataset, in turn."""

    def __init__(self, points: Points) -> None:
        self.points = points

    def __len__(self) -> int:
        return 2 * len(self.points)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        own = slice(4 * (item % 2), 4 * (item % 2) + 4)
        return {name: tensor[own] for name, tensor in self.points[item // 2].items()}


def accumulated(folder: Path, batches: Dataset, *, stop=None, progress=lambda event: None, **said):
    set_seed(3)
    objective = Regression(nn.Linear(4, 1))
    schedule = Schedule(steps=6, learning_rate=0.05, evaluations=2, clip=1.0, **said)
    assert len(batches) == schedule.batches  # type: ignore[arg-type]
    run = Run(folder, "test", progress, stop)
    fit(objective, batches, lambda: {"loss": 1.0}, run, schedule=schedule, select="loss", seed=5)
    return weights(objective)


def test_two_batches_that_a_step_adds_up_are_one_of_twice_the_size(tmp_path: Path) -> None:
    whole = accumulated(tmp_path / "whole", Points(6))
    halves = accumulated(tmp_path / "halves", Halves(Points(6)), accumulation=2)
    for one, other in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, other)
    stop = threading.Event()
    with pytest.raises(Stopped):
        accumulated(
            tmp_path / "broken", Halves(Points(6)), accumulation=2, stop=stop,
            progress=lambda event: stop.set() if event.step == 2 else None,
        )  # fmt: skip
    resumed = accumulated(tmp_path / "broken", Halves(Points(6)), accumulation=2)
    assert all(torch.equal(one, other) for one, other in zip(halves, resumed, strict=True))


def test_a_training_that_ends_early_follows_the_whole_schedule_and_is_not_gone_on_with(
    tmp_path: Path,
) -> None:
    def train(folder: str, until: int | None) -> tuple[list[torch.Tensor], list[int], list[float]]:
        steps, rates, objective = list[int](), list[float](), make()

        def watch(event: Event) -> None:
            steps.append(event.step)
            rates.append(event.metrics.get("learning_rate", 0.0))

        schedule = Schedule(steps=20, learning_rate=0.05, evaluations=4)
        held = Points(20)[10_000]
        fit(
            objective,
            Points(20),
            lambda: {"loss": float((objective.model(held["x"]) - held["y"]).square().mean())},
            Run(tmp_path / folder, "test", watch),
            schedule=schedule,
            select="loss",
            seed=5,
            until=until,
        )
        return weights(objective), steps, rates

    early, steps, rates = train("early", 10)
    whole, _, _ = train("whole", None)
    assert steps[-1] == 10
    assert rates[-1] == pytest.approx(0.05 * 0.5, rel=0.1), "half of the whole schedule's fall"
    again, more, _ = train("early", 10)  # as after a kill between the last checkpoint and the artefact
    assert more == []
    assert all(torch.equal(one, other) for one, other in zip(early, again, strict=True))
    on, later, _ = train("early", None)
    assert later[0] == 11
    assert all(torch.equal(one, other) for one, other in zip(whole, on, strict=True))


def test_handing_on_can_be_tried_again(tmp_path: Path) -> None:
    run(make(), tmp_path / "one")
    for _ in range(2):
        checkpoints.hand_on(tmp_path / "one", tmp_path / "other")
    first, second = (checkpoints.newest(tmp_path / name) for name in ("one", "other"))
    assert first is not None
    assert second is not None
    assert first.name == second.name
    (tmp_path / "other" / first.name / checkpoints.MARKER).unlink()  # a kill in the middle
    checkpoints.hand_on(tmp_path / "one", tmp_path / "other")
    assert checkpoints.newest(tmp_path / "other") == second


def test_tokens_of_all_batches_of_a_step_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    usual = Pace.read

    def spy(self: Pace, means: dict[str, float], of: int) -> dict[str, float]:
        seen.append(means.get("tokens", 0.0))
        return usual(self, means, of)

    monkeypatch.setattr(Pace, "read", spy)
    monkeypatch.setattr("bistil.training.trainer.of_step", lambda *_: {"tokens": 7.0})
    accumulated(tmp_path, Halves(Points(6)), accumulation=2)
    assert set(seen) == {14.0}


def test_epsilon_is_adam_s(tmp_path: Path) -> None:
    usual = accumulated(tmp_path / "usual", Points(6))
    same = accumulated(tmp_path / "same", Points(6), epsilon=1e-8)
    damped = accumulated(tmp_path / "damped", Points(6), epsilon=1e3)
    assert all(torch.equal(one, other) for one, other in zip(usual, same, strict=True))
    set_seed(3)
    start = nn.Linear(4, 1)
    for one, other in zip(damped, start.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach(), atol=1e-3, rtol=0)
    assert not any(torch.equal(one, other) for one, other in zip(usual, damped, strict=True))
    assert Schedule(epochs=2, learning_rate=0.1, accumulation=5).counted(100, 4).steps == 10


def test_a_half_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    whole = make()
    run(whole, tmp_path / "whole")
    stop, broken = threading.Event(), make()
    with pytest.raises(Stopped):
        run(
            broken,
            tmp_path / "broken",
            stop=stop,
            progress=lambda event: stop.set() if event.step == 12 else None,
        )
    (tmp_path / "broken" / "checkpoint-15").mkdir()
    (tmp_path / "broken" / "checkpoint-15" / "model.safetensors").write_bytes(b"half")
    resumed = make()
    run(resumed, tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def stopped_at(folder: Path, when: int) -> None:
    stop = threading.Event()
    with pytest.raises(Stopped):
        run(make(), folder, stop=stop, progress=lambda event: stop.set() if event.step == when else None)


def empty(checkpoint: Path) -> None:
    for path in checkpoint.iterdir():
        if path.name != "complete":
            path.write_bytes(b"")


def empty_all(checkpoint: Path) -> None:
    for path in checkpoint.iterdir():
        path.write_bytes(b"")


def flip(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 4
    (checkpoint / "optimizer.pt").write_bytes(content)


@pytest.mark.parametrize("damage", [empty, empty_all, flip])
def test_a_damaged_newest_checkpoint_costs_an_interval_and_not_the_run(damage, tmp_path: Path) -> None:
    whole, resumed, steps = make(), make(), list[int]()
    run(whole, tmp_path / "whole")
    stopped_at(tmp_path / "broken", 17)
    assert (tmp_path / "broken" / "checkpoint-17" / "complete").is_file()
    damage(tmp_path / "broken" / "checkpoint-17")
    run(resumed, tmp_path / "broken", progress=lambda event: steps.append(event.step))
    assert steps[0] == 16, "not from the checkpoint of step 15"
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_a_damaged_best_checkpoint_does_not_end_in_another_state(tmp_path: Path) -> None:
    whole, resumed = make(), make()
    run(whole, tmp_path / "whole")
    stopped_at(tmp_path / "broken", 17)
    flip(tmp_path / "broken" / "checkpoint-15")  # the best so far
    run(resumed, tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_a_finished_run_ends_in_its_best_state_wherever_its_folder_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(folder: Path) -> list[torch.Tensor]:
        objective, losses = make(), iter((1.0, 3.0, 4.0, 5.0))
        schedule = Schedule(steps=20, learning_rate=0.05, evaluations=4)
        place = Run(folder, "test")
        fit(
            objective,
            Points(20),
            lambda: {"loss": next(losses)},
            place,
            schedule=schedule,
            select="loss",
            seed=5,
        )
        return weights(objective)

    monkeypatch.chdir(tmp_path)
    best = ended(Path("one"))
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir("inside")
    assert all(map(torch.equal, ended(Path("../one")), best))
    (tmp_path / "one").rename(tmp_path / "moved")
    assert all(map(torch.equal, ended(tmp_path / "moved"), best))


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="steps"):
        Schedule(steps=0, learning_rate=0.1)


@pytest.mark.parametrize("able", [True, False])
def test_a_processor_without_bfloat16_computes_in_float32(
    able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bistil.training.loop.has_bfloat16", lambda device: able)
    seen = []

    class Noted(Regression):
        def forward(self, batch):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(batch)

    schedule = Schedule(steps=2, learning_rate=0.05, evaluations=1, bf16=True)
    objective, place = Noted(make().model), Run(tmp_path, "test")
    fit(objective, Points(2), lambda: {"loss": 1.0}, place, schedule=schedule, select="loss", seed=5)
    assert set(seen) == {able}


@pytest.mark.parametrize("first", [True, False])
def test_each_training_of_a_model_has_the_precision_of_its_own_schedule(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phases of an SFT share one objective; its held-out loss is told in float32 under both."""
    monkeypatch.setattr("bistil.training.loop.has_bfloat16", lambda device: True)
    seen: list[bool] = []

    class Noted(Regression):
        def forward(self, batch):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(batch)

    objective, held = Noted(make().model), [{**Points(1)[0], "language": "qaa"}]
    for name, half in (("one", first), ("two", not first)):
        seen.clear()
        schedule = Schedule(steps=2, learning_rate=0.05, evaluations=1, bf16=half)
        fit(
            objective,
            Points(2),
            lambda: evaluate_general(objective, held),
            Run(tmp_path / name, "test"),
            schedule=schedule,
            select="loss",
            seed=5,
        )
        assert seen == [half, half, False]


def test_bf16_is_refused_where_a_gpu_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    objective, elsewhere = make(), SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(objective, "parameters", lambda: iter([elsewhere]))
    schedule = Schedule(steps=1, learning_rate=0.1, bf16=True)
    with pytest.raises(InputError, match="an old GPU lacks bfloat16"):
        fit(
            objective,
            Points(1),
            dict,
            Run(tmp_path, "test"),
            schedule=schedule,
            select="loss",
            seed=1,
        )


def test_a_training_that_diverged_ends_in_an_error_and_not_in_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test should end .* of 0\.weight .*training diverged"):
        run(make(), tmp_path, rate=1e30)


def test_the_log_of_a_training_that_fails_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = list[str]()
    monkeypatch.setattr("bistil.training.logs.end", lambda: ended.append("log"))

    def fails(event: Event) -> None:
        raise InputError("no room")

    with pytest.raises(InputError, match="no room"):
        run(make(), tmp_path, progress=fails)
    assert ended == ["log"]


def test_a_broken_start_is_not_told_to_learn_more_slowly(tmp_path: Path) -> None:
    objective = make()
    with torch.no_grad():
        objective.model[3].weight[0, 2] = torch.nan
    with pytest.raises(
        InputError, match=r"start from finite weights, but 1 of the 16 values of 3\.weight"
    ) as told:
        run(objective, tmp_path)
    assert "learning_rate" not in str(told.value)


def test_epochs_become_steps_within_their_bounds() -> None:
    def steps(**said: float) -> int:
        return Schedule(learning_rate=0.1, **said).counted(1000, 32).steps  # type: ignore[arg-type]

    assert steps(epochs=10) == 313
    assert steps(epochs=0.5) == 16
    assert steps(epochs=100, at_least=30_000, at_most=100_000) == 30_000
    assert steps(epochs=1000, at_most=5000) == 5000
    assert steps(steps=7) == 7
    for wrong in ({}, {"steps": 3, "epochs": 1}, {"steps": 3, "at_most": 4}):
        with pytest.raises(InputError, match="epochs"):
            steps(**wrong)
    with pytest.raises(InputError, match="At least 9 and at most 4"):
        steps(epochs=1, at_least=9, at_most=4)
