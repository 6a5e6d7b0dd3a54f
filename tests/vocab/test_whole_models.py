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
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast
from zoo import TOKENIZERS, config, train_bpe, train_unigram, write_teacher

from bistil.cli import main
from bistil.errors import InputError
from bistil.models.architectures import ARCHITECTURES
from bistil.models.load import load_teacher
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


def changed(folder: Path, name: str, **entries: Any) -> None:
    """Rewrite some entries of a JSON file; None takes one out."""
    said = json.loads((folder / name).read_text(encoding="utf-8")) | entries
    kept = {key: value for key, value in said.items() if value is not None}
    (folder / name).write_text(json.dumps(kept), encoding="utf-8")


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        trim(tmp_path, {"one": KEPT}, tmp_path / "cut")
    source = tmp_path / "full"
    write_teacher(source, "bert", LINES)
    changed(source, "config.json", architectures=["BertForNothing"])
    with pytest.raises(InputError, match=r"class of transformers was expected.*'BertForNothing'"):
        trim(source, {"one": KEPT}, tmp_path / "cut")
    changed(source, "config.json", architectures=["BertForMaskedLM"])
    weights = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="could not be read"):
        trim(source, {"one": KEPT}, tmp_path / "cut")
    (source / "model.safetensors").write_bytes(weights)
    for path in source.glob("*token*"):
        path.unlink()
    (source / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"no tokens but special ones|No tokenizer could be read"):
        trim(source, {"one": KEPT}, tmp_path / "cut")


@pytest.mark.parametrize("name", ["bert", "deberta-v2"])
def test_a_head_stays_where_the_configuration_names_no_class(name: str, tmp_path: Path) -> None:
    source = tmp_path / "full"
    write_teacher(source, name, LINES)
    changed(source, "config.json", architectures=None)
    trim(source, {"one": KEPT}, tmp_path / "cut")
    one, other = load_teacher(source), load_teacher(tmp_path / "cut")
    assert (one.has_mlm_head, other.has_mlm_head) == (True, True)
    bare = tmp_path / "bare"
    one.encoder.save_pretrained(bare)
    one.tokenizer.save_pretrained(bare)
    changed(bare, "config.json", architectures=None)
    trim(bare, {"one": KEPT}, tmp_path / "cut-bare")
    assert not load_teacher(tmp_path / "cut-bare").has_mlm_head


def test_a_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "full"
    write_teacher(source, "bert", LINES)
    weights = load_file(source / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="Finite weights"):
        trim(source, {"one": KEPT}, tmp_path / "cut")
    with pytest.raises(InputError, match="same states"):
        whole._apart([torch.ones(2), torch.ones(2)], [torch.ones(2), torch.tensor([1.0, float("nan")])])


def test_short_models_and_rare_lines_are_compared_all_the_same(tmp_path: Path) -> None:
    tokenizer, source = TOKENIZERS["bert"](LINES), tmp_path / "full"
    made = config("bert", tokenizer, num_hidden_layers=2, max_position_embeddings=16)
    transformers.BertForMaskedLM(made).save_pretrained(source)
    tokenizer.save_pretrained(source)
    trim(source, {"one": [" ".join(KEPT)]}, tmp_path / "cut")
    many = {"one": ["zebra quiz"] * 200 + ["ab cab"] * 100_000}
    assert trim(source, many, tmp_path / "rare", threshold=5e-2).tokens[1] < len(tokenizer)


def test_a_cards_languages_are_text_whatever_they_are_called(tmp_path: Path) -> None:
    write_teacher(tmp_path / "full", "bert", LINES)
    trim(tmp_path / "full", {"no": KEPT, "x: [y": KEPT}, tmp_path / "cut")
    front = (tmp_path / "cut" / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(front)["language"] == ["no", "x: [y"]
