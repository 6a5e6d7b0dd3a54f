"""Whole models cut to a language: encoders with heads, decoders and sequence-to-sequence models give the same
states and logits, name the same tokens in every configuration, and come as plain folders.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast
from zoo import TOKENIZERS, config, train_bpe, train_unigram, write_teacher

from bistil.cli import main
from bistil.errors import InputError
from bistil.models.architectures import ARCHITECTURES
from bistil.vocab import embeddings, whole
from bistil.vocab.whole import trim

LINES = ["abc dab ab", "abcd é", "bca abab", "ab cab", "dad bad cab", "zebra quiz"] * 4
KEPT = [line for line in LINES if "z" not in line]
LAYER = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
CODES = ["eng_Latn", "swa_Latn"]


def byte_level() -> PreTrainedTokenizerFast:
    """GPT-2's kind, also that of Qwen and Llama 3: byte-level BPE, the end of text behind the vocabulary."""
    steps = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary, merges = train_bpe(LINES, 300, [], steps, pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = steps
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, bos_token=end, unk_token=end)


def unigram(specials: list[str], extra: list[str], **named: Any) -> PreTrainedTokenizerFast:
    """mBART's, NLLB's and T5's kind: language codes or sentinels are added tokens at the end."""
    pieces = train_unigram(LINES, 60, specials)
    backend = Tokenizer(models.Unigram(pieces, unk_id=specials.index("<unk>")))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", **named)
    wrapped.add_special_tokens({"additional_special_tokens": extra})
    return wrapped


def translating() -> PreTrainedTokenizerFast:
    return unigram(["<s>", "<pad>", "</s>", "<unk>"], CODES, pad_token="<pad>", bos_token="<s>")


def t5() -> PreTrainedTokenizerFast:
    return unigram(["<pad>", "</s>", "<unk>"], ["<extra_id_1>", "<extra_id_0>"], pad_token="<pad>")


def decoder(kind: str, **settings: Any) -> Callable[[], tuple[Any, Any]]:
    def make() -> tuple[Any, Any]:
        tokenizer = byte_level()
        config = getattr(transformers, f"{kind}Config")(
            **LAYER,
            **settings,
            vocab_size=len(tokenizer) + 7,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        name = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
        return getattr(transformers, name)(config), tokenizer

    return make


def seq2seq(kind: str, **settings: Any) -> Callable[[], tuple[Any, Any]]:
    def make() -> tuple[Any, Any]:
        tokenizer = t5() if "T5" in kind else translating()
        config = getattr(transformers, f"{kind}Config")(
            **settings,
            vocab_size=len(tokenizer) + 3,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id if "T5" in kind else tokenizer.eos_token_id,
        )
        model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
        known = tokenizer.get_vocab()
        rare = next(i for piece, i in known.items() if "z" in piece)
        model.generation_config.suppress_tokens = [rare, known["<unk>"]]
        model.generation_config.bad_words_ids = [[known["</s>"], rare]]
        model.generation_config.sequence_bias = [[[known["</s>"], rare], -2.0]]
        model.generation_config.forced_bos_token_id = known.get("swa_Latn", known["</s>"])
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
        return model, tokenizer

    return make


BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 80,
    "bos_token_id": 0,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
GENERATIVE = {
    "gpt2": decoder("GPT2", n_positions=80),
    "llama-untied": decoder("Llama", intermediate_size=32, num_key_value_heads=1, tie_word_embeddings=False),
    "llama-tied": decoder("Llama", intermediate_size=32, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": decoder("Qwen2", intermediate_size=32, num_key_value_heads=1, tie_word_embeddings=True),
    "qwen3": decoder("Qwen3", intermediate_size=32, num_key_value_heads=1, head_dim=8),
    "nllb": seq2seq("M2M100", **BART),
    "mbart": seq2seq("MBart", **BART),
    "t5-tied": seq2seq("T5", **T5),
    "mt5-untied": seq2seq("MT5", **T5, tie_word_embeddings=False),
}


@pytest.mark.parametrize("name", GENERATIVE)
def test_a_generating_model_says_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, tokenizer = GENERATIVE[name]()
    model.eval().save_pretrained(tmp_path / "full")
    tokenizer.save_pretrained(tmp_path / "full")
    found = trim(tmp_path / "full", {"one": KEPT}, tmp_path / "cut")
    assert found.tokens[1] < found.tokens[0] == len(tokenizer)
    assert found.corpora["one"]["share_identical"] == 1.0
    kept = np.loadtxt(tmp_path / "cut" / "kept.txt", dtype=int)
    small: Any = type(model).from_pretrained(tmp_path / "cut").eval()
    again = AutoTokenizer.from_pretrained(tmp_path / "cut")
    assert small.config.vocab_size == len(again) == len(kept)
    batch, cut = tokenizer(KEPT[0], return_tensors="pt"), again(KEPT[0], return_tensors="pt")
    assert kept[cut["input_ids"]].tolist() == batch["input_ids"].tolist()
    wide = small_inputs = {}
    if model.config.is_encoder_decoder:
        wide, small_inputs = (
            {"decoder_input_ids": batch["input_ids"]},
            {"decoder_input_ids": cut["input_ids"]},
        )
    with torch.inference_mode():
        before = model(input_ids=batch["input_ids"], **wide).logits[..., torch.as_tensor(kept)]
        after = small(input_ids=cut["input_ids"], **small_inputs).logits
    assert torch.allclose(before, after, atol=1e-5)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (small.get_output_embeddings().weight is small.get_input_embeddings().weight)
    for named, other in ((model.config, small.config), (model.generation_config, small.generation_config)):
        assert embeddings.named_tokens(named) == {int(kept[i]) for i in embeddings.named_tokens(other)}
    biased = small.generation_config.sequence_bias or []
    assert [([int(kept[i]) for i in ids], bias) for ids, bias in biased] == [
        tuple(pair) for pair in model.generation_config.sequence_bias or []
    ]


def test_a_translator_generates_the_same_in_the_forced_language(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, tokenizer = GENERATIVE["nllb"]()
    model.generation_config.suppress_tokens = [
        i for i in range(len(tokenizer)) if "z" in tokenizer.decode([i])
    ]
    model.generation_config.bad_words_ids = model.generation_config.sequence_bias = None
    model.save_pretrained(tmp_path / "full")
    tokenizer.save_pretrained(tmp_path / "full")
    trim(tmp_path / "full", {"one": KEPT}, tmp_path / "cut")
    said = []
    for folder in ("full", "cut"):
        one, words = (
            kind.from_pretrained(tmp_path / folder) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer)
        )
        out = one.generate(**words(KEPT[:2], return_tensors="pt", padding=True), max_new_tokens=3)
        said.append([words.convert_ids_to_tokens(row)[:2] for row in out])
    assert said[0] == said[1] == [["</s>", "swa_Latn"]] * 2


HEADS = ("TokenClassification", "SequenceClassification", "QuestionAnswering", "MaskedLM")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_encoder_keeps_its_head(name: str, head: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    tokenizer = TOKENIZERS[name](LINES)
    kind = getattr(transformers, ARCHITECTURES[name].mlm.__name__.replace("MaskedLM", head))
    kind(config(name, tokenizer, num_hidden_layers=2, layer_types=["full_attention"] * 2)).save_pretrained(
        tmp_path / "full"
    )
    tokenizer.save_pretrained(tmp_path / "full")
    found = trim(tmp_path / "full", {"one": KEPT[:8], "two": KEPT[8:]}, tmp_path / "cut")
    assert found.tokens[1] < found.tokens[0]
    written = json.loads((tmp_path / "cut" / "config.json").read_text(encoding="utf-8"))
    assert written["architectures"] == [kind.__name__]
    assert AutoTokenizer.from_pretrained(tmp_path / "cut").tokenize("ab cab") == tokenizer.tokenize("ab cab")


def test_the_command_writes_a_folder_with_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_teacher(tmp_path / "full", "xlm-roberta", LINES)
    (tmp_path / "eng.txt").write_text("\n".join(KEPT), encoding="utf-8")
    command = ["trim", str(tmp_path / "full"), "--to", str(tmp_path / "cut")]
    assert main([*command, "--text", str(tmp_path / "eng.txt")]) == 0
    told = capsys.readouterr().out
    assert "100.00 % of" in told
    assert "megabytes" in told
    card = (tmp_path / "cut" / "README.md").read_text(encoding="utf-8")
    assert "language: [eng]" in card
    assert "XLMRobertaForMaskedLM" in card
    assert main([*command, "--text", str(tmp_path / "eng.txt")]) == 2
    assert "already" in capsys.readouterr().err
    assert main(command) == 2
    assert "--text" in capsys.readouterr().err


def test_a_copy_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_teacher(tmp_path / "full", "bert", LINES)

    def wrong(model: Any, kept: Any) -> None:
        embeddings.trim_model(model, kept)
        model.get_input_embeddings().weight.data[5:] += 0.1

    monkeypatch.setattr(whole, "trim_model", wrong)
    with pytest.raises(InputError, match="same states"):
        trim(tmp_path / "full", {"one": KEPT}, tmp_path / "cut")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No model"):
        trim(tmp_path, {"one": KEPT}, tmp_path / "cut")
