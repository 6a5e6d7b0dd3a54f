"""One student of several teachers: its loss, its batches, which copies it learns from."""

import shutil
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from tiny import masked_lm
from torch.nn.functional import cross_entropy, kl_div

from bistil.distil.general import GeneralConfig
from bistil.distil.labels import Labels, LabelSettings, write_labels
from bistil.distil.merge import MergeConfig, MergedBatches, Merging, collated, merge, pool
from bistil.errors import InputError
from bistil.losses import stored_loss
from bistil.systems.recipe import Term
from bistil.systems.table import SYSTEMS
from bistil.text.corpora import lines_to_blocks, read_lines
from bistil.training.loop import Run, Schedule


@pytest.fixture(scope="module")
def stores(world, wordpiece, tmp_path_factory) -> dict[str, list[Labels]]:
    """Of two languages: one teacher of the first, two of the second; every logit of a token is stored."""
    found: dict[str, list[Labels]] = {}
    tokens = len(wordpiece)
    for code, seeds in (("qaa", (0,)), ("qab", (0, 1))):
        blocks = lines_to_blocks(wordpiece, read_lines(world / "corpora" / f"{code}.txt", 40), 24)
        for seed in seeds:
            folder = tmp_path_factory.mktemp(f"{code}{seed}")
            settings = LabelSettings(k=tokens, masks=2, share=0.3, seed=seed)
            places = torch.arange(tokens, dtype=torch.int32)
            write_labels(folder, masked_lm(tokens, seed=seed), wordpiece, blocks, places, settings)
            found.setdefault(code, []).append(Labels(folder))
    return found


def test_all_logits_and_a_constant_weight_are_eliquares_loss_on_masked_tokens(stores, wordpiece) -> None:
    student, teacher = masked_lm(len(wordpiece), seed=5), masked_lm(len(wordpiece), seed=0)
    batch: dict[str, Any] = collated([stores["qaa"][0].row(i) for i in range(4)], wordpiece.pad_token_id)
    loss, parts = Merging(student, SYSTEMS["merged"].student.terms)({**batch, "weight": 5 / 7})
    rows, at = (batch["gold"] != -100).nonzero(as_tuple=True)
    where = batch["positions"][rows, at]
    own, theirs = (
        one(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[rows, where]
        for one in (student, teacher)
    )
    soft = kl_div(own.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
    entropy = -(theirs.softmax(-1) * theirs.log_softmax(-1)).sum(-1).mean()
    gold = cross_entropy(own, batch["gold"][rows, at])
    assert float(loss) == pytest.approx(float((5 * (soft + entropy) + 2 * gold) / 7), rel=1e-3)
    assert float(parts["masked"]) == pytest.approx(float(gold), rel=1e-5)
    exact = stored_loss(own, torch.arange(own.shape[1]).expand(len(own), -1), theirs)
    assert torch.allclose(exact, soft + entropy, atol=1e-4)


def test_the_stored_loss_of_the_largest_logits_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    ids, values = torch.tensor([[2, 0], [1, 2]]), torch.tensor([[1.0, 1.0], [100.0, 0.0]])
    logs = logits.log_softmax(-1)
    expected = -(0.5 * logs[0, 2] + 0.5 * logs[0, 0] + logs[1, 1]) / 2
    assert torch.allclose(stored_loss(logits, ids, values), expected)
    assert float(stored_loss(logits[:0], ids[:0], values[:0])) == 0
    with pytest.raises(InputError, match="as many rows"):
        stored_loss(logits, ids[:1], values[:1])


def test_batches_mix_languages_and_copies_and_hang_on_seed_and_step_alone(stores) -> None:
    pools = {code: pool(own, "all", 0.1)[0] for code, own in stores.items()}

    def batches(steps: int, seed: int = 1) -> MergedBatches:
        return MergedBatches(stores, pools, {"qaa": 1.0, "qab": 3.0}, batch_size=8, steps=steps, seed=seed)

    ten, four = batches(10), batches(4)
    assert torch.equal(ten[3]["input_ids"], four[3]["input_ids"])
    assert not torch.equal(ten[3]["positions"], batches(10, seed=2)[3]["positions"])
    assert [ten[step]["weight"] for step in (0, 5)] == [1.0, 0.5]
    constant = MergedBatches(
        stores, pools, {"qaa": 1.0, "qab": 3.0}, batch_size=8, steps=4, seed=1, constant=0.2
    )
    assert constant[3]["weight"] == 0.2
    assert len(pools["qab"]) == 2 * len(pools["qaa"])


class Fake:
    """A store of which the losses alone matter."""

    def __init__(self, losses: list[float], blocks: int) -> None:
        self.per_character, self.blocks = np.array(losses), blocks

    def __len__(self) -> int:
        return len(self.per_character)


def test_the_best_copy_is_that_of_the_teacher_with_less_loss_per_character() -> None:
    first, second = Fake([1.0, 5.0, 1.0, 1.0], 2), Fake([2.0, 3.0, 0.5, 4.0], 2)  # two blocks, masked twice
    training, held = pool([first, second], "best", 0.5)  # type: ignore[list-item]
    assert held.tolist() == [[0, 0]]
    assert training.tolist() == [[0, 3], [1, 1]]  # block 0 is held out in both masks
    training, _ = pool([first, second], "all", 0.5)  # type: ignore[list-item]
    assert training.tolist() == [[0, 1], [0, 3], [1, 1], [1, 3]]
    with pytest.raises(InputError, match="packed: false"):
        pool([first, Fake([1.0] * 6, 3)], "best", 0.5)  # type: ignore[list-item]
    first, second = Fake([1.0, np.inf, np.inf, 1.0], 2), Fake([2.0, 3.0, np.inf, np.inf], 2)
    training, _ = pool([first, second], "best", 0.5)  # type: ignore[list-item]
    assert training.tolist() == [[0, 3], [1, 1]], "a copy without labels is never the best"
    with pytest.raises(InputError, match="at least two blocks was expected"):
        pool([Fake([1.0], 1)], "all", 0.5)  # type: ignore[list-item]


def test_a_training_that_ends_early_is_the_beginning_of_the_whole(stores, wordpiece, tmp_path) -> None:
    terms = {"stored": Term(of="prediction", by="stored"), "masked": Term(of="prediction", by="ce")}
    schedule = Schedule(steps=10, learning_rate=1e-3, evaluations=5)
    config = GeneralConfig(lrf=1, schedule=schedule, batch_size=4)
    found = {}
    for until in (0.2, 1.0):
        how = MergeConfig(taught_by={"qaa": ("a",), "qab": ("a", "b")}, until=until)
        student = masked_lm(len(wordpiece), layers=2, seed=9)
        run = Run(tmp_path / str(until), "merge")
        found[until] = merge(student, stores, terms, how=how, config=config, run=run)
    early, whole = ([one for one in found[until] if "eval_loss" in one] for until in (0.2, 1.0))
    assert [one["step"] for one in early] == [2]
    assert early[0]["eval_loss"] == whole[0]["eval_loss"] != whole[-1]["eval_loss"]
    assert {"eval_loss_qaa", "eval_loss_qab"} < set(whole[0])


@pytest.mark.parametrize(("until", "goes_on"), [(0.2, True), (0.4, True), (0.3, False)])
def test_what_goes_on_from_an_early_end_is_the_whole(
    stores, wordpiece, tmp_path, until: float, goes_on: bool
) -> None:
    terms = {"stored": Term(of="prediction", by="stored"), "masked": Term(of="prediction", by="ce")}
    schedule = Schedule(steps=10, learning_rate=1e-3, evaluations=5)
    config = GeneralConfig(lrf=1, schedule=schedule, batch_size=4)
    how = MergeConfig(taught_by={"qaa": ("a",), "qab": ("a", "b")})

    def train(name: str, ends: float, earlier=MappingProxyType({})):
        steps: list[int] = []
        student = masked_lm(len(wordpiece), layers=2, seed=9)
        run = Run(tmp_path / name, "merge", lambda event: steps.append(event.step))
        only = replace(how, until=ends)
        history = merge(student, stores, terms, how=only, config=config, run=run, earlier=earlier)
        return student.state_dict(), [one for one in history if "eval_loss" in one], steps

    whole, losses, _ = train("whole", 1.0)
    _, _, done = train("early", until)
    shutil.move(tmp_path / "early", tmp_path / "kept")
    found, again, steps = train("later", 1.0, {until: tmp_path / "kept"})
    assert min(steps) == (max(done) + 1 if goes_on else 1)
    assert again == losses
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.items())
