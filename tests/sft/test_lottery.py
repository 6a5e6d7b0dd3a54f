import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sft_examples import bits, encoder, masked_lm, same_bits
from transformers import BertForMaskedLM

from bistil.errors import InputError
from bistil.sft import lottery, top_k
from bistil.sft.lottery import (
    LotteryConfig,
    decouple_output_embedding,
    l1_term,
    select_biases,
    select_random,
    select_top_k,
    set_trainable,
    snapshot,
)
from bistil.sft.top_k import kth_largest


def naive(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], k: int) -> dict[str, list[int]]:
    """A full sort by (difference descending, name, position)."""
    names = sorted(before)
    everything = [
        np.abs(after[n].float().numpy().reshape(-1) - before[n].float().numpy().reshape(-1)) for n in names
    ]
    owner = np.concatenate([np.full(len(part), i) for i, part in enumerate(everything)])
    place = np.concatenate([np.arange(len(part)) for part in everything])
    top = np.lexsort((place, owner, -np.concatenate(everything)))[:k]
    return {
        n: sorted(place[top[owner[top] == i]].tolist())
        for i, n in enumerate(names)
        if (owner[top] == i).any()
    }


def as_lists(chosen: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: positions.tolist() for name, positions in chosen.items()}


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 1000]), st.floats(0.01, 1.0))
def test_top_k_is_the_naive_full_sort_ties_included(seed: int, levels: int, share: float) -> None:
    random = np.random.default_rng(seed)
    shapes = {"b": (7, 3), "a": (5,), "c": (2, 3, 4)}
    before = {
        n: torch.from_numpy(random.integers(-levels, levels + 1, size=s).astype(np.float32))
        for n, s in shapes.items()
    }
    after = {
        n: torch.from_numpy(random.integers(-levels, levels + 1, size=s).astype(np.float32))
        for n, s in shapes.items()
    }
    k = max(1, round(share * 50))
    chosen = select_top_k(before, after, k)
    assert as_lists(chosen) == naive(before, after, k)
    assert sum(len(positions) for positions in chosen.values()) == k


def test_top_k_of_half_precision_and_of_an_unchanged_model() -> None:
    before = {"w": torch.randn(40).bfloat16(), "v": torch.randn(8, 5).bfloat16()}
    after = {name: (tensor + torch.randn(tensor.shape)).bfloat16() for name, tensor in before.items()}
    assert as_lists(select_top_k(before, after, 17)) == naive(before, after, 17)
    assert as_lists(select_top_k(before, before, 42)) == {"v": list(range(40)), "w": [0, 1]}


@given(st.lists(st.floats(0, width=32, allow_infinity=False), min_size=1, max_size=40), st.data())
def test_the_kth_largest_is_that_of_the_sorted_entries(entries: list[float], data) -> None:
    k, cut = data.draw(st.integers(1, len(entries))), data.draw(st.integers(0, len(entries)))
    blocks = [torch.tensor(entries[:cut]), torch.tensor(entries[cut:])]
    expected = sorted(entries, reverse=True)[k - 1]
    assert kth_largest(lambda: blocks, k) == (expected, sum(entry > expected for entry in entries))


@pytest.mark.parametrize("levels", [1, 1000])
def test_blocks_of_differences_make_no_difference(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"w": torch.zeros(7, 5), "v": torch.zeros(4)}
    after = {
        name: torch.randint(-levels, levels + 1, tensor.shape).float() for name, tensor in before.items()
    }
    monkeypatch.setattr(top_k, "BLOCK", 3)
    for k in range(1, 40):
        assert as_lists(select_top_k(before, after, k)) == naive(before, after, k)


@pytest.mark.parametrize("bound", [None, 0.0, float("inf")], ids=["sampled", "unknown", "too high"])
@pytest.mark.parametrize("levels", [2, 40, 10**6])
def test_a_sampled_bound_makes_no_difference(
    bound: float | None, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(levels)
    before = {"w": torch.zeros(70, 50), "v": torch.zeros(500)}
    after = {
        name: torch.randint(-levels, levels + 1, tensor.shape, generator=generator).float()
        for name, tensor in before.items()
    }
    if bound is not None:
        monkeypatch.setattr(lottery, "likely_bound", lambda *given: bound)
    for k in (1, 40, 170, 1500, 4000):
        assert as_lists(select_top_k(before, after, k)) == naive(before, after, k)


def test_a_sample_of_many_entries_leaves_few_candidates_and_one_of_ties_none() -> None:
    before = {"w": torch.zeros(1000, 600), "v": torch.zeros(40000)}
    after = {
        name: torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
        for name, tensor in before.items()
    }
    k = round(0.04 * 640000)
    bound = top_k.likely_bound(before, after, k)
    candidates = sum(len(values) for _, _, values in top_k.entries_from(bound, before, after))
    assert k <= candidates < 1.1 * k
    assert (
        top_k.likely_bound(before, {name: torch.ones_like(tensor) for name, tensor in before.items()}, k)
        == 0.0
    )


@pytest.mark.parametrize("k", [0, -1, 41])
def test_an_impossible_k_is_refused(k: int) -> None:
    before = {"w": torch.zeros(40)}
    with pytest.raises(InputError, match="between 1 and the 40"):
        select_top_k(before, before, k)


def test_a_diverged_or_different_model_is_refused() -> None:
    before = {"w": torch.zeros(4)}
    for value in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="diverged"):
            select_top_k(before, {"w": torch.tensor([0.0, value, 1.0, 2.0])}, 2)
    with pytest.raises(InputError, match="only one side"):
        select_top_k(before, {"v": torch.zeros(4)}, 2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_a_random_selection_has_exactly_k_entries_and_follows_its_seed(seed: int, k: int) -> None:
    tensors = {"b": torch.zeros(7, 3), "a": torch.zeros(5), "c": torch.zeros(2, 3, 4)}
    chosen, again = (select_random(tensors, k, np.random.default_rng(seed)) for _ in range(2))
    assert as_lists(chosen) == as_lists(again)
    assert sum(len(positions) for positions in chosen.values()) == k
    for name, positions in chosen.items():
        assert bool((positions[1:] > positions[:-1]).all())
        assert 0 <= int(positions[0]) <= int(positions[-1]) < tensors[name].numel()


def test_random_selections_cover_every_entry_alike() -> None:
    tensors, counts = {"a": torch.zeros(3), "b": torch.zeros(5)}, np.zeros(8)
    for seed in range(400):
        for name, positions in select_random(tensors, 2, np.random.default_rng(seed)).items():
            counts[positions.numpy() + (0 if name == "a" else 3)] += 1
    assert counts.sum() == 800
    assert np.abs(counts - 100).max() < 45  # five standard deviations
    with pytest.raises(InputError, match="between 1 and the 8"):
        select_random(tensors, 9, np.random.default_rng(0))


def test_biases_are_all_but_those_of_layer_norms() -> None:
    chosen = select_biases(encoder())
    assert len(chosen) == 2 * 6
    assert all(name.endswith(".bias") and "LayerNorm" not in name for name in chosen)
    assert sum(len(positions) for positions in chosen.values()) == 2 * (5 * 32 + 64)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, float("nan")])
def test_a_density_outside_its_range_is_refused(density: float) -> None:
    with pytest.raises(InputError, match="density"):
        LotteryConfig(density=density)


def test_the_config_counts_entries() -> None:
    assert LotteryConfig(density=0.08).k(1000) == 80
    assert LotteryConfig(density=1e-9).k(1000) == 1
    with pytest.raises(InputError, match="l1"):
        LotteryConfig(density=0.1, l1=-1.0)
    with pytest.raises(InputError, match="top-k, random, biases"):
        LotteryConfig(density=0.1, select="fisher")  # type: ignore[arg-type]


def test_layer_norms_are_frozen_for_languages_only() -> None:
    model = encoder()
    everything = {name for name, _ in model.named_parameters()}
    assert set(set_trainable(model, freeze_layer_norms=False)) == everything
    trained = set(set_trainable(model, freeze_layer_norms=True))
    assert everything - trained == {name for name in everything if "LayerNorm" in name}
    assert all(parameter.requires_grad == (name in trained) for name, parameter in model.named_parameters())


def test_the_outer_part_and_the_middle_are_all_and_share_nothing() -> None:
    model = encoder(layers=8)
    outer = set(set_trainable(model, freeze_layer_norms=False, part="outer"))
    middle = set(set_trainable(model, freeze_layer_norms=False, part="middle"))
    assert {name.split(".")[2] for name in middle} == set("2345")
    assert outer & middle == set()
    assert outer | middle == {name for name, _ in model.named_parameters()}
    assert any(name.startswith("embeddings") for name in outer)
    with pytest.raises(InputError, match="from 4 layers on, but there are 3"):
        set_trainable(encoder(layers=3), freeze_layer_norms=False, part="middle")


def test_only_the_parts_that_are_named_may_change() -> None:
    model = encoder(layers=4)
    names = set(set_trainable(model, freeze_layer_norms=False, only=("embeddings", "layer:2")))
    begins = ("embeddings.", "encoder.layer.1.")
    assert names == {name for name, _ in model.named_parameters() if name.startswith(begins)}
    norms = set(set_trainable(model, freeze_layer_norms=True, only=("layer:2",)))
    assert norms == {name for name in names if name.startswith(begins[1]) and "LayerNorm" not in name}
    for part, told in (("pooler", "`layer:1` to `layer:4`"), ("layer:5", "4 layers has no layer 5")):
        with pytest.raises(InputError, match=told):
            set_trainable(model, freeze_layer_norms=False, only=(part,))


def test_decoupling_keeps_the_function_and_trains_the_encoder_only(tmp_path) -> None:
    model = masked_lm()
    ids = torch.arange(5, 25).view(2, 10)
    expected = model(ids).logits
    decouple_output_embedding(model)
    decouple_output_embedding(model)
    assert torch.equal(model(ids).logits, expected)
    assert {
        name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad
    } == {"bert"}
    head = bits(model.cls)
    model(ids).logits.sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    assert same_bits(bits(model.cls), head)
    model.save_pretrained(tmp_path)
    read = BertForMaskedLM.from_pretrained(tmp_path)
    assert same_bits(bits(read), bits(model))
    assert not torch.equal(read.cls.predictions.decoder.weight, read.bert.embeddings.word_embeddings.weight)
    with pytest.raises(InputError, match=r"BertForMaskedLM, .*got BertModel"):
        decouple_output_embedding(model.bert)


def test_the_l1_term_is_its_formula_with_its_gradient() -> None:
    model = encoder()
    theta0 = snapshot(model)
    set_trainable(model, freeze_layer_norms=True)
    name = "encoder.layer.0.output.dense.weight"
    with torch.no_grad():
        model.get_parameter(name).view(-1)[:2] += torch.tensor([0.5, -0.25])
    total = sum(parameter.numel() for parameter in model.parameters())
    term = l1_term(model, theta0, 0.1)
    term.backward()
    torch.testing.assert_close(term.item(), 0.1 / total * 0.75, rtol=1e-5, atol=0.0)
    gradient = model.get_parameter(name).grad.view(-1)
    torch.testing.assert_close(gradient[:3], torch.tensor([1.0, -1.0, 0.0]) * 0.1 / total)
    model.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        l1_term(model, theta0, 0.1)
