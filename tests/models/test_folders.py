"""Folders of models as people have them: damaged or incomplete configurations, several files of weights, a
vocabulary alone.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from bistil.errors import InputError
from bistil.models.load import load_encoder, load_teacher
from bistil.models.packaged import teacher_config

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CASED = [*SPECIAL, "Ada", "sees", "Köln", "koln", "ada"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A teacher with `pytorch_model.bin`, as older ones are."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    mlm = BertForMaskedLM(BertConfig(vocab_size=len(CASED), max_position_embeddings=16, **sizes))
    mlm.config.save_pretrained(tmp_path)
    torch.save(mlm.state_dict(), tmp_path / "pytorch_model.bin")
    BertTokenizer(vocab={word: i for i, word in enumerate(CASED)}, do_lower_case=False).save_pretrained(
        tmp_path
    )
    return tmp_path


def changed(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **entries}), encoding="utf-8")


@pytest.mark.parametrize("name", ["eng-sft.safetensors", "adapter_model.safetensors"])
def test_other_safetensors_are_not_the_model(name: str, folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, folder / name)
    assert load_teacher(folder).has_mlm_head
    assert load_encoder(folder).config.hidden_size == 8


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"model_type": "bert",\n}', "config.json, line 2: expected JSON"),
        (b"[]", "expected a mapping in JSON"),
        (b"\xef\xbb\xbf" + b'{"model_type": "bert"}', "byte order mark"),
        ('{"model_type": "bert"}'.encode("utf-16"), "UTF-16"),
        (b"{}", '"model_type": "bert"'),
        (b'{"model_type": "elephant"}', "config.json cannot be used"),
        (b'{"model_type": "bert", "num_hidden_layers": 10000000}', "from 1 to 1,000 .*num_hidden_layers"),
        (b'{"model_type": "modernbert", "num_hidden_layers": -1}', "num_hidden_layers"),
        (b'{"model_type": "bert", "hidden_size": 1.5}', "hidden_size"),
        (b'{"model_type": "bert", "hidden_size": null}', "hidden_size"),
        (b'{"model_type": "bert", "num_labels": 1000000000}', "num_labels"),
        (b'{"model_type": "bert", "hidden_act": 3}', "config.json cannot be used"),
    ],
)
def test_each_fault_of_a_configuration_has_its_own_words(content: bytes, said: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        load_teacher(folder)
    assert "neither a folder" not in str(error.value)
    with pytest.raises(InputError, match=said):
        teacher_config(str(folder))


@pytest.mark.parametrize("content", [b"", pickle.dumps(pickle.Unpickler, protocol=2), b"no tensors"])
def test_damaged_weights_of_torch_are_told_without_unsafe_advice(content: bytes, folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(InputError, match="could not be read") as error:
        load_teacher(folder)
    assert "weights_only" not in str(error.value)


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_teacher(tmp_path)


def test_weights_of_another_size_are_named(folder: Path) -> None:
    changed(folder, vocab_size=len(CASED) + 3)
    with pytest.raises(InputError, match=r"word_embeddings.weight .* \(10, 8\), but .* \(13, 8\)"):
        load_teacher(folder)


def vocabulary_alone(folder: Path, words: list[str]) -> list[str]:
    """How a teacher without settings of its tokenizer takes a text apart."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    return load_teacher(folder).tokenizer.tokenize("Ada sees Köln")


def test_a_cased_vocabulary_alone_is_not_lowered(folder: Path) -> None:
    assert vocabulary_alone(folder, CASED) == ["Ada", "sees", "Köln"]


def test_an_uncased_vocabulary_alone_is_lowered(folder: Path) -> None:
    words = [word for word in CASED if word == word.lower() or word in SPECIAL]
    assert vocabulary_alone(folder, words) == ["ada", "sees", "koln"]


def test_what_a_file_says_of_case_goes_first(folder: Path) -> None:
    vocabulary_alone(folder, CASED)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    assert load_teacher(folder).tokenizer.tokenize("Ada sees Köln") == ["ada", "sees", "koln"]
