"""Full-size configurations on the meta device (shapes, no memory): Table 2 of the BiStil paper, and what else
is as published.

Notable: the table's vocabularies are means rounded to thousands and its parameters means rounded to millions,
so a size fits where some vocabulary that rounds to the table's gives parameters that round to the table's. It
counts BERT's and XLM-R's pooler, which a student of ours has not: H * (H + 1) parameters."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

from bistil import vocab
from bistil.distil.start import initialise
from bistil.models.architectures import ARCHITECTURES, longest_sequence

XLM_R: dict[str, Any] = {
    "vocab_size": 250_002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
MDEBERTA: dict[str, Any] = {
    "vocab_size": 251_000,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "max_relative_positions": -1,
    "position_biased_input": False,
}
TEACHERS: dict[str, Any] = {
    "mBERT": BertConfig(vocab_size=119_547),
    "XLM-R base": XLMRobertaConfig(**XLM_R),
    "XLM-R large": XLMRobertaConfig(
        **XLM_R, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
    "mDeBERTa": DebertaV2Config(**MDEBERTA),
    "RoBERTa": RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1),
    "mmBERT": ModernBertConfig(vocab_size=256_000, pad_token_id=0),
}
TABLE_2 = [
    ("mBERT", 1, 12, None, 178),
    ("mBERT", 2, 6, None, 135),
    ("mBERT", 2, 6, 31, 67),
    ("mBERT", 3, 4, 31, 53),
    ("XLM-R base", 1, 12, None, 278),
    ("XLM-R base", 2, 6, 28, 65),
    ("XLM-R base", 3, 4, 28, 51),
    ("XLM-R large", 1, 24, None, 560),
    ("mDeBERTa", 1, 12, None, 278),
    ("mDeBERTa", 2, 6, 41, 75),
    ("mDeBERTa", 3, 4, 41, 60),
]


def encoder(teacher: str) -> PreTrainedModel:
    """An encoder without weights."""
    kind = ARCHITECTURES[TEACHERS[teacher].model_type]
    with torch.device("meta"):
        return kind.encoder(TEACHERS[teacher], **kind.settings)


def student(teacher: str, lrf: int, tokens: int | None) -> PreTrainedModel:
    """The student as the library makes it, with the first `tokens` tokens."""
    with torch.device("meta"):
        made = initialise(encoder(teacher), lrf)
        if tokens is not None:
            vocab.trim_model(made, np.arange(tokens))
    return made


def parameters(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("teacher", "lrf", "layers", "thousands", "millions"), TABLE_2)
def test_table_2_of_the_paper(
    teacher: str, lrf: int, layers: int, thousands: int | None, millions: int
) -> None:
    made = student(teacher, lrf, thousands and thousands * 1000)
    hidden, embedding = made.config.hidden_size, cast(nn.Embedding, made.get_input_embeddings())
    pooler = hidden * (hidden + 1) if ARCHITECTURES[made.config.model_type].settings else 0
    assert (made.config.num_hidden_layers, embedding.embedding_dim) == (layers, hidden)
    spread = 500 * hidden if thousands else 0
    counted = parameters(made) + pooler
    assert counted - spread < (millions + 0.5) * 1e6
    assert counted + spread >= (millions - 0.5) * 1e6
    assert abs(counted - millions * 1e6) < 0.7e6


def test_the_other_teachers_have_their_published_sizes() -> None:
    assert parameters(encoder("RoBERTa")) == pytest.approx(124.1e6, abs=0.1e6)
    assert parameters(encoder("mmBERT")) == pytest.approx(307e6, abs=0.5e6)
    assert [longest_sequence(TEACHERS[name]) for name in TEACHERS] == [512, 512, 512, 512, 512, 8192]


def test_mmberts_half_keeps_global_attention_at_every_third_layer() -> None:
    made = student("mmBERT", 2, 40_000)
    glob = [i for i, kind in enumerate(made.config.layer_types) if kind == "full_attention"]
    assert made.config.num_hidden_layers == 11
    assert glob == [1, 4, 7, 10]
    assert parameters(made) == pytest.approx(86e6, abs=0.5e6)
