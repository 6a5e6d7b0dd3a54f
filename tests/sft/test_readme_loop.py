"""The documentation's loop of ten lines runs as it stands, on an encoder and on a decoder, and its file is
the training's result.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sft_examples import bits, encoder, same_bits
from tiny import ROOT
from transformers import BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.spiel.support import choose_tensors

SHOWN = re.compile(r"<!-- sparse loop -->\n```python\n(.*?)```", re.DOTALL)


def classifier() -> Any:
    torch.manual_seed(2)
    return BertForSequenceClassification(encoder().config)


def decoder() -> Any:
    torch.manual_seed(2)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    )


@pytest.mark.parametrize("make", [classifier, decoder])
def test_the_loop_runs_and_its_file_is_what_was_learnt(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = SHOWN.findall((ROOT / "docs" / "concepts" / "sparse.md").read_text(encoding="utf-8"))
    assert len(code.splitlines()) == 10
    ids = torch.randint(5, 60, (4, 8), generator=torch.Generator().manual_seed(1))
    labels = ids if make is decoder else ids[:, 0] % 2
    model, fresh = make(), make()
    names = {"model": model, "batches": [{"input_ids": ids, "labels": labels}] * 45}
    exec(code, names)
    delta = SparseDelta.load("task.safetensors", base=base_hash(fresh.base_model))
    linears = sum(fresh.base_model.get_parameter(name).numel() for name in choose_tensors(fresh.base_model))
    assert delta.size == round(0.02 * linears)
    with deltas_applied(fresh.base_model, delta):
        assert same_bits(bits(fresh.base_model), bits(model.base_model))
        learnt = fresh(**names["batches"][0]).loss.item()
    assert learnt < fresh(**names["batches"][0]).loss.item()
