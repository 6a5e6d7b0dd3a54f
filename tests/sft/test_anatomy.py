"""Where a delta sits, from its names alone."""

import numpy as np
import pytest
import torch
from sft_examples import encoder, random_delta

from bistil.errors import InputError
from bistil.sft.anatomy import by_layer, by_tensor, common_to_all, densities, overlap_by_chance, place
from bistil.sft.delta import SparseDelta


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder.layer.11.attention.self.query.weight", ("11", "attention.self.query")),
        ("transformer.layer.2.ffn.lin1.bias", ("2", "ffn.lin1")),
        ("layers.0.mlp.Wi.weight", ("0", "mlp.Wi")),
        ("model.layers.4.self_attn.q_proj.weight", ("4", "self_attn.q_proj")),
        ("embeddings.word_embeddings.weight", ("-", "embeddings.word_embeddings")),
        ("embeddings.LayerNorm.bias", ("-", "embeddings.LayerNorm")),
    ],
)
def test_a_name_says_layer_and_module(name: str, expected: tuple[str, str]) -> None:
    assert place(name) == expected


def test_parts_add_up_to_the_delta() -> None:
    model = encoder()
    delta, parameters = random_delta(model, 1, 0.1), sum(p.numel() for p in model.parameters())
    for parts in (by_tensor(delta), by_layer(delta)):
        assert sum(part.entries for part in parts.values()) == delta.size
        assert sum(part.of or 0 for part in parts.values()) == parameters
        whole = torch.cat([values for _, values in delta.tensors.values()]).norm()
        assert sum(part.norm**2 for part in parts.values()) == pytest.approx(float(whole) ** 2, rel=1e-5)
    assert list(by_layer(delta)) == ["-", "0", "1"]


def test_the_grid_has_the_density_of_each_module_and_nothing_elsewhere() -> None:
    shape, entries = (4, 5), torch.tensor([0, 3, 19])
    tensors = {
        f"encoder.layer.{layer}.{rest}": (entries, torch.ones(3))
        for layer, rest in ((10, "a.weight"), (2, "a.weight"), (2, "b.weight"))
    }
    bias = {"encoder.layer.2.a.bias": (entries[:1], torch.ones(1))}
    shapes = {name: shape for name in tensors} | dict.fromkeys(bias, (4,))
    layers, modules, shares = densities(SparseDelta(tensors=tensors | bias, base="b", shapes=shapes))
    assert layers == ["2", "10"]
    assert modules == ["a", "b"]
    np.testing.assert_allclose(shares, [[4 / 24, 3 / 20], [3 / 20, np.nan]])
    assert np.isnan(densities(SparseDelta(tensors=tensors, base="b"))[2]).all()
    assert densities(SparseDelta(tensors={}, base="b"))[2].shape == (0, 0)


def test_overlap_by_chance_is_the_expectation_over_random_entries_of_the_same_tensors() -> None:
    shapes = {"a": (10,), "b": (100,)}
    tensors = {"a": (torch.arange(5), torch.ones(5)), "b": (torch.arange(20), torch.ones(20))}
    dense = SparseDelta(tensors=tensors, base="b", shapes=shapes)
    assert overlap_by_chance(dense, dense) == pytest.approx((5 * 5 / 10 + 20 * 20 / 100) / 25)
    random = np.random.default_rng(1)

    def drawn() -> SparseDelta:
        parts = {
            name: np.sort(random.choice(shapes[name][0], len(tensors[name][0]), replace=False))
            for name in tensors
        }
        return SparseDelta(
            tensors={name: (torch.from_numpy(part), torch.ones(len(part))) for name, part in parts.items()},
            base="b",
        )

    seen = np.mean([drawn().overlap(drawn()) for _ in range(2000)])
    assert seen == pytest.approx(overlap_by_chance(dense, dense), abs=0.01)
    with pytest.raises(InputError, match="needs the shape of a"):
        overlap_by_chance(drawn(), drawn())


def test_what_is_common_to_all_is_counted_over_all_tensors() -> None:
    def delta(**positions: list[int]) -> SparseDelta:
        tensors = {name: (torch.tensor(part), torch.ones(len(part))) for name, part in positions.items()}
        return SparseDelta(tensors=tensors, base="b")

    three = [delta(a=[1, 2, 3], b=[0, 5]), delta(a=[2, 3, 4], b=[5, 6]), delta(a=[0, 2, 3, 9], b=[5])]
    assert common_to_all(three) == 3 / 5
    assert common_to_all(three[:1]) == 1.0
    assert common_to_all([*three, delta(c=[1])]) == 0.0
    assert common_to_all(three[:2]) == three[0].overlap(three[1])
