"""Small random encoders and random deltas for the tests of this folder."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertModel

from bistil.sft.delta import SparseDelta, base_hash


def config(num_hidden_layers: int = 2) -> BertConfig:
    return BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def encoder(seed: int = 0, *, layers: int = 2) -> BertModel:
    torch.manual_seed(seed)
    return BertModel(config(layers), add_pooling_layer=False)


def masked_lm(seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(config())


def random_delta(model: nn.Module, seed: int, share: float = 0.3, base: str | None = None) -> SparseDelta:
    random = np.random.default_rng(seed)
    tensors = {}
    for name, tensor in model.state_dict().items():
        positions = np.flatnonzero(random.random(tensor.numel()) < share)
        tensors[name] = (
            torch.from_numpy(positions),
            torch.from_numpy(random.normal(size=len(positions)).astype(np.float32)),
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return SparseDelta(tensors=tensors, base=base or base_hash(model), shapes=shapes)


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    def raw(tensor: Tensor) -> Tensor:
        return tensor.contiguous().reshape(-1).view(torch.uint8)

    return left.keys() == right.keys() and all(
        torch.equal(raw(left[name]), raw(right[name])) for name in left
    )
