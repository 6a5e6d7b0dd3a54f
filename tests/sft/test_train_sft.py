"""LT-SFT as one call: what it leaves alone, what it returns, and that an interruption in either phase changes
nothing.
"""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sft_examples import bits, config, encoder, same_bits
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertModel, set_seed

from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.lottery import LotteryConfig, Selection, snapshot
from bistil.sft.train_sft import Penalised, lottery_ticket, phases
from bistil.sft.tuning import Tuning
from bistil.training.loop import History, Objective, Run, Schedule, Stopped
from bistil.training.progress import Event, Listener, silent

PHASE = Schedule(steps=6, learning_rate=5e-3, evaluations=3)
CONFIG = SftConfig(
    lottery=LotteryConfig(density=0.05, l1=0.1, freeze_layer_norms=True), dense=PHASE, sparse=PHASE, seed=4
)


class Sentences(Dataset):
    """Batch k is a function of seed and k; the label of a row is whether its first id is even."""

    def __init__(self, steps: int, seed: int) -> None:
        self.steps, self.seed = steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        ids = torch.randint(5, 60, (4, 8), generator=torch.Generator().manual_seed(1000 * self.seed + step))
        return {"ids": ids, "labels": ids[:, 0] % 2}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = BertModel(config(), add_pooling_layer=False)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(32, 2)


class Parity(Objective):
    def forward(self, batch):
        states = self.model.encoder(input_ids=batch["ids"]).last_hidden_state[:, 0]
        loss = nn.functional.cross_entropy(self.model.head(self.model.dropout(states)), batch["labels"])
        return loss, {"cost": loss.detach()}


def model() -> Classifier:
    set_seed(11)
    return Classifier()


def train(
    net: Classifier,
    folder: Path,
    *,
    config: SftConfig = CONFIG,
    progress: Listener = silent,
    stop: threading.Event | None = None,
    base: str | None = None,
    spy: Callable[[int, int], None] = lambda steps, seed: None,
    title: str = "SFT",
    named: str = "",
) -> tuple[SparseDelta, History]:
    held = Sentences(1, 99)[0]
    objective = Parity(net)

    def batches(steps: int, seed: int) -> Dataset:
        spy(steps, seed)
        return Sentences(steps, seed)

    tuning = Tuning(
        objective=objective,
        encoder=net.encoder,
        head=net.head,
        batches=batches,
        evaluate=lambda: {"loss": float(objective(held)[0])},
        select="loss",
        base=base or base_hash(net.encoder),
        named=named,
    )
    assert config.lottery is not None
    return lottery_ticket(tuning, config, config.lottery, Run(folder, title, progress, stop))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Classifier, dict[str, Tensor], SparseDelta, History]:
    net = model()
    before = bits(net.encoder)
    delta, history = train(net, tmp_path_factory.mktemp("sft"))
    return net, before, delta, history


def test_the_delta_has_exactly_k_entries_and_the_whole_head(trained) -> None:
    net, before, delta, _ = trained
    assert delta.size == CONFIG.lottery.k(sum(tensor.numel() for tensor in snapshot(net.encoder).values()))
    assert set(delta.full) == {"head.weight", "head.bias"}
    assert torch.equal(delta.full["head.weight"], net.head.weight)
    fresh = model()
    assert delta.base == base_hash(fresh.encoder)
    assert same_bits(before, bits(fresh.encoder))


def test_theta0_with_the_delta_is_the_trained_encoder(trained) -> None:
    net, before, delta, _ = trained
    fresh = model().encoder
    with deltas_applied(fresh, delta):
        assert same_bits(bits(fresh), bits(net.encoder))
    assert same_bits(bits(fresh), before)


def test_frozen_layer_norms_and_everything_outside_the_support_stay(trained) -> None:
    net, before, delta, _ = trained
    assert not any("LayerNorm" in name for name in delta.tensors)
    for name, tensor in net.encoder.state_dict().items():
        untouched = torch.ones(tensor.numel(), dtype=torch.bool)
        if name in delta.tensors:
            untouched[delta.tensors[name][0]] = False
        assert torch.equal(tensor.reshape(-1)[untouched], before[name].reshape(-1)[untouched]), name


@pytest.mark.parametrize("select", ["random", "biases"])
def test_the_baselines_have_no_dense_phase_and_resume_like_the_rest(
    select: Selection, tmp_path: Path
) -> None:
    settled = CONFIG.by(select)
    phases, stop = list[str](), threading.Event()
    delta, _ = train(
        model(), tmp_path / "whole", config=settled, progress=lambda event: phases.append(event.stage)
    )
    assert set(phases) == {"SFT, sparse"}
    assert bool(torch.cat([values for _, values in delta.tensors.values()]).any())
    if select == "random":
        assert delta.size == settled.lottery.k(
            sum(tensor.numel() for tensor in snapshot(model().encoder).values())
        )
        assert not any("LayerNorm" in name for name in delta.tensors)
    else:
        assert all(name.endswith("bias") for name in delta.tensors)

    def watch(event: Event) -> None:
        if event.step == 3:
            stop.set()

    with pytest.raises(Stopped):
        train(model(), tmp_path / "halves", config=settled, progress=watch, stop=stop)
    assert train(model(), tmp_path / "halves", config=settled)[0] == delta


def test_a_random_support_hangs_on_what_is_learnt_and_not_on_the_run_s_title(tmp_path: Path) -> None:
    settled = CONFIG.by("random")
    found = [train(model(), tmp_path / title, config=settled, title=title)[0] for title in ("one", "two")]
    other = train(model(), tmp_path / "three", config=settled, named="task pos")[0]
    assert found[0] == found[1] != other


def test_layer_norms_may_move_when_not_frozen(tmp_path: Path) -> None:
    free = dataclasses.replace(CONFIG, lottery=LotteryConfig(density=1.0))
    delta, _ = train(model(), tmp_path, config=free)
    assert any("LayerNorm" in name and bool(values.any()) for name, (_, values) in delta.tensors.items())


def test_phases_are_reported_with_their_penalty_and_their_own_seeds(tmp_path: Path) -> None:
    phases, asked = [], []
    _, history = train(
        model(),
        tmp_path,
        progress=lambda event: phases.append(event.stage),
        spy=lambda *call: asked.append(call),
    )
    assert list(dict.fromkeys(phases)) == ["SFT, dense", "SFT, sparse"]
    assert asked == [(6, 4), (6, 5)]
    assert len([entry for entry in history if "eval_loss" in entry]) == 6
    assert all({"l1", "cost"} <= set(entry) for entry in history if "loss" in entry)


def test_the_head_starts_both_phases_from_the_same_numbers(tmp_path: Path) -> None:
    net = model()
    start = {name: tensor.clone() for name, tensor in net.head.state_dict().items()}
    found: dict[str, list[bool]] = {"SFT, dense": [], "SFT, sparse": []}
    original = Parity.forward
    stage: list[bool] = []

    def forward(self, batch):
        if self.model.training:
            same = all(
                torch.equal(tensor, start[name]) for name, tensor in self.model.head.state_dict().items()
            )
            found["SFT, sparse" if stage else "SFT, dense"].append(same)
        return original(self, batch)

    def watch(event: Event) -> None:
        if event.stage == "SFT, dense" and event.step == event.of:
            stage.append(True)

    Parity.forward = forward  # type: ignore[method-assign]
    try:
        train(net, tmp_path, progress=watch)
    finally:
        Parity.forward = original  # type: ignore[method-assign]
    assert found["SFT, dense"] == found["SFT, sparse"] == [True, *[False] * 5]


@pytest.mark.parametrize(
    ("phase", "when"),
    [
        pytest.param("dense", 1, marks=pytest.mark.slow),
        ("dense", 5),
        ("sparse", 3),
        pytest.param("sparse", 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_in_either_phase_ends_in_the_same_delta(
    trained, tmp_path: Path, phase: str, when: int
) -> None:
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.stage == f"SFT, {phase}" and event.step == when:
            stop.set()

    with pytest.raises(Stopped):
        train(model(), tmp_path, progress=watch, stop=stop)
    net, stages = model(), []
    delta, history = train(net, tmp_path, progress=lambda event: stages.append(event.stage))
    assert delta == trained[2]
    assert same_bits(bits(net), bits(trained[0]))
    assert [entry["step"] for entry in history] == [entry["step"] for entry in trained[3]], "of both phases"
    assert ("SFT, dense" in stages) == (phase == "dense")


@pytest.mark.slow
def test_a_crash_between_selection_and_its_writing_repeats_only_the_selection(
    trained, tmp_path: Path, monkeypatch
) -> None:
    from bistil.sft import train_sft

    def crash(path: Path, support: dict[str, Tensor]) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(train_sft, "write_support", crash)
        with pytest.raises(RuntimeError, match="killed"):
            train(model(), tmp_path)
    delta, _ = train(model(), tmp_path)
    assert delta == trained[2]


def test_an_sft_on_top_of_another_belongs_to_the_bare_base(tmp_path: Path) -> None:
    net = model()
    base = base_hash(net.encoder)
    generator = torch.Generator().manual_seed(0)
    first = SparseDelta(
        tensors={
            "embeddings.word_embeddings.weight": (torch.arange(50), torch.randn(50, generator=generator))
        },
        base=base,
    )
    first.apply(net.encoder)
    delta, _ = train(net, tmp_path, base=base)
    fresh = encoder()
    fresh.load_state_dict(model().encoder.state_dict())
    with deltas_applied(fresh, first, delta):
        assert same_bits(bits(fresh), bits(net.encoder))


def test_phases_begin_where_steps_do_again_or_go_on_behind_an_end() -> None:
    def entries(*steps: int, of: int) -> list[dict[str, float]]:
        return [{"step": step, "epoch": step / of} for step in steps]

    long, short = entries(50, 100, 100, of=100), entries(10, 20, 30, 30, of=30)
    assert phases([*long, *short]) == [long, short]
    assert phases([*short, *long]) == [short, long]
    assert phases(long) == [long]


def test_phases_of_one_entry_and_one_evaluation_at_the_same_step_are_told_apart() -> None:
    dense, sparse = (
        [{"step": 2, "epoch": 1.0, "loss": loss}, {"step": 2, "epoch": 1.0, "eval_loss": loss}]
        for loss in (3.0, 2.0)
    )
    assert phases([*dense, *sparse]) == [dense, sparse]
    assert phases(dense) == [dense]


def test_the_penalty_is_of_theta_alone_in_every_batch_of_a_step() -> None:
    inner, dressed = Parity(model()), list[bool]()

    def undress() -> None:
        dressed.clear()

    class Dressing(Objective):
        def forward(self, batch):
            dressed.append(True)
            return inner(batch)

    def term() -> Tensor:
        assert not dressed
        return torch.tensor(2.0)

    penalised = Penalised(Dressing(inner.model), term, undress=undress)
    for step in range(2):  # as batches of one step, between which nothing is taken off
        _, parts = penalised(Sentences(2, 1)[step])
        assert float(parts["l1"]) == 2.0
