"""Random models and deltas of the bench's size."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from bistil.bench.measure import Size
from bistil.sft.delta import SparseDelta

DENSITY = 0.043
"""That of the language SFTs published with LT-SFT: 7,667,712 values of mBERT's 178 million."""


def config(size: Size, *, layers: int | None = None, vocabulary: int | None = None) -> BertConfig:
    """A BERT of the bench's size, with as many layers and tokens as the teacher unless told otherwise."""
    return BertConfig(
        vocab_size=vocabulary or size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=layers or size.layers,
        num_attention_heads=max(1, size.hidden // 64),
        intermediate_size=4 * size.hidden,
        max_position_embeddings=max(512, size.length),
    )


def bert(size: Size) -> BertModel:
    """A random teacher without head."""
    return BertModel(config(size), add_pooling_layer=False).eval()


def support(theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Random positions in each tensor, a share DENSITY of all."""
    return {
        name: (torch.rand(tensor.numel()) < DENSITY).nonzero().squeeze(1) for name, tensor in theta.items()
    }


def delta(theta: Mapping[str, Tensor], base: str) -> SparseDelta:
    """A random delta at such positions."""
    tensors = {
        name: (positions, 0.01 * torch.randn(len(positions))) for name, positions in support(theta).items()
    }
    return SparseDelta(tensors=tensors, base=base)
