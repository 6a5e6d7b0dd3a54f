"""A decoder through every method: the same start, the same number of values, and each learns the unseen
language.
"""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
)

from bistil.errors import InputError
from bistil.pretrain.causal import METHODS, DecoderSize, causal_loss, compare_on_decoder, load_decoder
from bistil.pretrain.pieces import fast_tokenizer
from bistil.sft import quantised
from bistil.store.artefacts import Store
from bistil.studies.decoder import Decoder, study_decoder
from bistil.text.corpora import read_lines
from bistil.text.languages import DataFolder

TINY = DecoderSize(
    seen=("qaa", "qab"),
    lines=150,
    vocabulary=300,
    layers=2,
    hidden=32,
    length=24,
    training_steps=40,
    steps=40,
    density=0.1,
    rates=(3e-3,),
    sm3_rates=(1e-2,),
)


def test_the_loss_is_that_of_transformers_and_heeds_no_padding() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
    )
    ids, mask = torch.randint(3, 30, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    expected = model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(causal_loss(model, {"input_ids": ids, "attention_mask": mask}), expected)
    mask[1, 4:] = 0
    short = causal_loss(model, {"input_ids": ids, "attention_mask": mask})
    ids[1, 4:] = 3
    torch.testing.assert_close(causal_loss(model, {"input_ids": ids, "attention_mask": mask}), short)


@pytest.mark.slow
def test_every_method_learns_with_as_many_values(world: Path) -> None:
    pytest.importorskip("peft")
    found = compare_on_decoder(DataFolder(world), TINY)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == list(METHODS) == ["full", "lt-sft", "spiel-ag", "spiel-ma", "lora"]
    for row in rows.values():
        assert row["test"] < found["before"]["test"]
    counts = {name: row["trained values"] for name, row in rows.items() if name != "full"}
    assert (
        counts["lt-sft"] == counts["spiel-ag"] == counts["spiel-ma"] == pytest.approx(counts["lora"], rel=0.3)
    )
    assert rows["full"]["trained values"] > 5 * counts["lt-sft"]


@pytest.mark.slow
def test_a_base_in_4_bits_is_tuned_by_what_adds_to_it(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library rounds to a few levels, which harms the base; its rounded weights stay."""
    pytest.importorskip("peft")

    def levels(weight: torch.Tensor, **kind: Any) -> tuple[torch.Tensor, torch.Tensor]:
        assert kind == {"quant_type": "nf4", "compress_statistics": True}
        return (weight / weight.abs().max() * 2).round(), weight.abs().max() / 2

    made = SimpleNamespace(quantize_4bit=levels, dequantize_4bit=lambda packed, scale: packed * scale)
    monkeypatch.setattr(quantised, "library", lambda: made)
    short = replace(TINY, steps=8)
    found, whole = (
        compare_on_decoder(DataFolder(world), replace(short, four_bits=on)) for on in (True, False)
    )
    assert [row["method"] for row in found["rows"]] == ["spiel-ag", "spiel-ma", "lora"]
    assert found["before"]["test"] > whole["before"]["test"]
    assert all(row["test"] < found["before"]["test"] for row in found["rows"])


@pytest.mark.slow
def test_two_languages_are_worn_together(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    small = {**vars(TINY), "seen": ("qaa",), "second": "qab", "seeds": (1,)}
    found = study_decoder(DataFolder(world), Store(tmp_path), Decoder(**small), say=lambda line: None)
    rows = {(row["method"], row["language"]): row for row in found.tables["composed"]}
    assert list(rows) == [(name, code) for name in METHODS for code in ("qac", "qab")]
    alone = {row["method"]: row["loss"] for row in found.tables["decoder"]}
    for (name, code), row in rows.items():
        assert row["alone"] < row["before"]
        assert row["both"] != row["alone"]
        assert code == "qab" or row["alone"] == alone[name]
        assert row["kept"] == pytest.approx(
            (row["before"] - row["both"]) / (row["before"] - row["alone"]), abs=1e-2
        )
    assert found.verdicts[0].claim.startswith("worn with another")
    assert set(found.figures) == {"learned", "composed"}
    for wrong in ({"second": "qac"}, {"second": TINY.seen[0]}, {"unseen": TINY.seen[0]}):
        with pytest.raises(InputError, match="has not read"):
            replace(TINY, **wrong)


@pytest.mark.slow
def test_a_study_keeps_each_seed_and_says_who_learned_more(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    small = {**vars(TINY), "training_steps": 8, "steps": 8, "seeds": (1, 2)}
    asked = Decoder(**small)
    said: list[str] = []
    found = study_decoder(DataFolder(world), Store(tmp_path), asked, say=said.append)
    rows = found.tables["decoder"]
    assert [(row["seed"], row["method"]) for row in rows] == [
        (seed, name) for seed in (1, 2) for name in METHODS
    ]
    assert all(row["learned"] == pytest.approx(row["before"] - row["loss"], abs=2e-4) for row in rows)
    assert len({row["before"] for row in rows}) == len(found.artefacts) == 2
    mean = {name: sum(row["learned"] for row in rows if row["method"] == name) / 2 for name in METHODS}
    assert [verdict.left for verdict in found.verdicts] == pytest.approx([1000 * mean["spiel-ag"]] * 2)
    assert [verdict.right for verdict in found.verdicts] == pytest.approx(
        [1000 * mean["lora"], 1000 * mean["spiel-ma"]]
    )
    assert said
    said.clear()
    assert study_decoder(DataFolder(world), Store(tmp_path), asked, say=said.append).tables == found.tables
    assert not said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "qwen"])
def test_a_ready_made_decoder_is_tuned_as_it_is(kind: str, world: Path, tmp_path: Path) -> None:
    """Tied to its embeddings or not, by the end of text where its tokenizer has no other special tokens."""
    pytest.importorskip("peft")
    lines = read_lines(DataFolder(world).text("qac"))[:100]
    tokenizer = fast_tokenizer(lines, 120, [])
    common = {"vocab_size": len(tokenizer), "tie_word_embeddings": kind == "qwen"}
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**common, **shape))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**common, **shape, num_key_value_heads=2))
    model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>").save_pretrained(
        tmp_path
    )
    ready = load_decoder(str(tmp_path))
    assert ready.tokenizer.sep_token == ready.tokenizer.eos_token == "</s>"
    assert ready.tokenizer.pad_token_id is not None
    found = compare_on_decoder(DataFolder(world), replace(TINY, model=str(tmp_path), steps=20))
    assert found["before"]["test"] == pytest.approx(math.log(len(tokenizer)), abs=0.5)
    assert all(row["test"] < found["before"]["test"] for row in found["rows"])


def test_what_is_no_decoder_is_refused(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="but it is a t5"):
        load_decoder(str(tmp_path))
