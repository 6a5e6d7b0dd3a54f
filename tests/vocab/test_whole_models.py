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
from bistil.deploy.sentences import load_sentences, write_sentences
from bistil.errors import InputError
from bistil.models.architectures import ARCHITECTURES
from bistil.models.load import load_encoder, load_teacher, load_tokenizer
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
    for named in (["BertForNothing"], ["BertTokenizer"]):
        changed(source, "config.json", architectures=named)
        with pytest.raises(InputError, match=rf"class of transformers was expected.*{named[0]}"):
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


def bert(**settings: Any) -> tuple[Any, Any]:
    """A tokenizer, and the settings of a model with a few more rows."""
    tokenizer = TOKENIZERS["bert"](LINES)
    return tokenizer, config("bert", tokenizer, num_hidden_layers=2, **settings)


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_that_names_no_class_is_refused(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bert"](LINES)
    sizes = transformers.AlbertConfig(
        **LAYER, intermediate_size=32, vocab_size=len(tokenizer), pad_token_id=0
    )
    save(tmp_path / "full", transformers.AlbertForMaskedLM(sizes), tokenizer)
    changed(tmp_path / "full", "config.json", architectures=None)
    with pytest.raises(InputError, match="under `architectures`"):
        trim(tmp_path / "full", {"one": KEPT}, tmp_path / "cut")


def test_weights_that_the_class_has_no_place_for_are_told(tmp_path: Path, capsys) -> None:
    tokenizer, sizes = bert()
    source = save(tmp_path / "full", transformers.BertForPreTraining(sizes), tokenizer)
    assert trim(source, {"one": KEPT}, tmp_path / "whole").left == ()
    changed(source, "config.json", architectures=["BertForMaskedLM"])
    (tmp_path / "eng.txt").write_text("\n".join(KEPT), encoding="utf-8")
    command = ["trim", str(source), "--text", str(tmp_path / "eng.txt"), "--to", str(tmp_path / "cut")]
    assert main(command) == 0
    card = (tmp_path / "cut" / "README.md").read_text(encoding="utf-8")
    for told in (capsys.readouterr().out, card):
        assert "bert.pooler.dense.weight" in told
        assert "cls.seq_relationship.bias" in told
    assert "taken over" not in (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")


def test_a_short_line_shortens_no_comparison_where_there_is_no_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    source = save(tmp_path / "full", *GENERATIVE["gpt2"]())

    def wrong(model: Any, kept: Any) -> None:
        embeddings.trim_model(model, kept)
        model.transformer.wpe.weight.data[1:] += 1.0

    monkeypatch.setattr(whole, "trim_model", wrong)
    with pytest.raises(InputError, match="same states"):
        trim(source, {"one": ["a", *KEPT]}, tmp_path / "cut")


def test_special_tokens_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, sizes = bert()
    source = save(tmp_path / "full", transformers.BertForTokenClassification(sizes), tokenizer)

    def wrong(model: Any, kept: Any) -> None:
        embeddings.trim_model(model, kept)
        place = kept.tolist().index(tokenizer.sep_token_id)
        model.get_input_embeddings().weight.data[place].normal_()

    monkeypatch.setattr(whole, "trim_model", wrong)
    with pytest.raises(InputError, match="same states"):
        trim(source, {"one": KEPT}, tmp_path / "cut")


def test_settings_of_single_tasks_name_the_new_tokens(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, tokenizer = GENERATIVE["mbart"]()
    swahili = tokenizer.get_vocab()["swa_Latn"]
    model.config.task_specific_params = {"to_swa": {"decoder_start_token_id": swahili, "num_beams": 5}}
    trim(save(tmp_path / "full", model, tokenizer), {"one": KEPT}, tmp_path / "cut")
    written = json.loads((tmp_path / "cut" / "config.json").read_text(encoding="utf-8"))
    again = AutoTokenizer.from_pretrained(tmp_path / "cut").get_vocab()["swa_Latn"]
    assert again < swahili
    assert written["task_specific_params"] == {"to_swa": {"decoder_start_token_id": again, "num_beams": 5}}


def test_ids_without_a_token_go_from_lists_and_sequences(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, tokenizer = GENERATIVE["qwen2"]()
    end, none = tokenizer.eos_token_id, len(tokenizer) + 2
    said = model.generation_config
    said.eos_token_id, said.suppress_tokens, said.bad_words_ids = [end, none], [none], [[end, none], [end]]
    trim(save(tmp_path / "full", model, tokenizer), {"one": KEPT}, tmp_path / "cut")
    small: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    again: Any = AutoTokenizer.from_pretrained(tmp_path / "cut")
    new = again.eos_token_id
    found = small.generation_config
    assert (found.eos_token_id, found.suppress_tokens, found.bad_words_ids) == ([new], None, [[new]])
    assert len(small.generate(**again(KEPT[0], return_tensors="pt"), max_new_tokens=2)) == 1


def test_an_ordinary_token_that_a_configuration_names_has_what_it_needs(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, tokenizer = GENERATIVE["qwen2"]()
    long = max((token for token in tokenizer.get_vocab() if "z" in token), key=len)
    model.generation_config.suppress_tokens = [tokenizer.get_vocab()[long]]
    trim(save(tmp_path / "full", model, tokenizer), {"one": KEPT}, tmp_path / "cut", characters="kept")
    assert long in AutoTokenizer.from_pretrained(tmp_path / "cut").get_vocab()


def test_an_unknown_token_that_only_the_backend_names_stays(tmp_path: Path) -> None:
    torch.manual_seed(1)
    backend = Tokenizer(models.Unigram(train_unigram(LINES, 60, ["<pad>", "</s>", "<unk>"]), unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    undeclared = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    ids = {"pad_token_id": 0, "decoder_start_token_id": 0}
    sizes = transformers.T5Config(**{**T5, **ids}, vocab_size=len(undeclared))
    model = transformers.T5ForConditionalGeneration(sizes)
    found = trim(save(tmp_path / "full", model, undeclared), {"one": KEPT}, tmp_path / "cut")
    assert "<unk>" in AutoTokenizer.from_pretrained(tmp_path / "cut").get_vocab()
    assert found.corpora["one"]["share_identical"] == 1.0


def test_a_choice_is_compared_and_what_reads_no_lines_is_refused(tmp_path: Path) -> None:
    tokenizer, sizes = bert()
    source = save(tmp_path / "full", transformers.BertForMultipleChoice(sizes), tokenizer)
    assert trim(source, {"one": KEPT}, tmp_path / "cut").apart < 1e-5
    pair = translating()  # its lines have no end, without which this head reads nothing
    bart = transformers.BartConfig(**BART, vocab_size=len(pair), pad_token_id=1, eos_token_id=2)
    other = save(tmp_path / "bart", transformers.BartForSequenceClassification(bart), pair)
    with pytest.raises(InputError, match="BartForSequenceClassification does not"):
        trim(other, {"one": KEPT}, tmp_path / "none")


def test_a_size_may_be_null_where_it_follows_from_others(tmp_path: Path) -> None:
    tokenizer = byte_level()
    sizes = transformers.GPTNeoConfig(
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global"], 2]],
        vocab_size=len(tokenizer),
    )
    source = save(tmp_path / "full", transformers.GPTNeoForCausalLM(sizes), tokenizer)
    said = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"intermediate_size": None}
    (source / "config.json").write_text(json.dumps(said), encoding="utf-8")
    assert trim(source, {"one": KEPT}, tmp_path / "cut").apart < 1e-5


def test_a_language_with_a_bar_in_its_name_breaks_no_table(tmp_path: Path) -> None:
    write_teacher(tmp_path / "full", "bert", LINES)
    trim(tmp_path / "full", {"a|b": KEPT}, tmp_path / "cut")
    [row] = [line for line in (tmp_path / "cut" / "README.md").read_text().splitlines() if "100.00" in line]
    assert row.count("|") == 6


def test_signs_of_no_script_stay_with_the_characters_of_scripts(tmp_path: Path) -> None:
    letters = sorted({*"".join(KEPT), "1", "º", "µ", "з"} - {" "})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    tokenizer = transformers.BertTokenizer(
        vocab={word: i for i, word in enumerate(words)}, do_lower_case=False, strip_accents=False
    )
    model = transformers.BertForMaskedLM(config("bert", tokenizer, num_hidden_layers=1))
    trim(save(tmp_path / "full", model, tokenizer), {"spa": KEPT}, tmp_path / "cut")
    again = AutoTokenizer.from_pretrained(tmp_path / "cut")
    assert again.tokenize("1º µ з") == ["1", "##º", "µ", "[UNK]"]


def test_what_sentence_transformers_keeps_beside_a_model_comes_along_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "full"
    write_teacher(source, "bert", LINES)
    write_sentences(tmp_path / "st", load_encoder(source), load_tokenizer(str(source)), prefix="query: ")
    module, secret = tmp_path / "st" / "3_Dense", tmp_path / "secret.json"
    module.mkdir()
    (module / "model.safetensors").write_bytes(b"weights")
    secret.write_text("{}", encoding="utf-8")
    for name in ("own.py", "pytorch_model.bin"):
        (module / name).write_text("code", encoding="utf-8")
    (module / "config.json").symlink_to(secret)
    (tmp_path / "st" / "other.json").write_text("{}", encoding="utf-8")
    left = trim(tmp_path / "st", {"one": KEPT}, tmp_path / "cut").left
    assert set(left) == {"3_Dense/config.json", "3_Dense/own.py", "3_Dense/pytorch_model.bin"}
    here = {path.relative_to(tmp_path / "cut").as_posix() for path in (tmp_path / "cut").rglob("*")}
    assert {"modules.json", "1_Pooling/config.json", "3_Dense/model.safetensors"} <= here
    assert not here & {*left, "other.json"}
    one, other = load_sentences(tmp_path / "st"), load_sentences(tmp_path / "cut")
    torch.testing.assert_close(one(KEPT[:2]), other(KEPT[:2]))
