"""Where a delta sits, from its names alone."""

import numpy as np
import pytest
import torch
from sft_examples import encoder, random_delta

from bistil.sft.anatomy import by_layer, by_tensor, densities, place
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
        f"encoder.layer.{layer}.{rest}": (entries, torch.ones(3)) for layer, rest in ((10, "a.weight"), (2, "a.weight"), (2, "b.weight"))
    }
    bias = {"encoder.layer.2.a.bias": (entries[:1], torch.ones(1))}
    shapes = {name: shape for name in tensors} | dict.fromkeys(bias, (4,))
    layers, modules, shares = densities(SparseDelta(tensors=tensors | bias, base="b", shapes=shapes))
    assert layers == ["2", "10"]
    assert modules == ["a", "b"]
    np.testing.assert_allclose(shares, [[4 / 24, 3 / 20], [3 / 20, np.nan]])
    assert np.isnan(densities(SparseDelta(tensors=tensors, base="b"))[2]).all()
    assert densities(SparseDelta(tensors={}, base="b"))[2].shape == (0, 0)
