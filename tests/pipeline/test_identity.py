"""A teacher's id: everything of it that a stage could see, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ROOT
from transformers import AutoModel
from zoo import write_teacher

from bistil.models.architectures import ARCHITECTURES
from bistil.models.load import load_teacher
from bistil.pipeline.identity import teacher_id
from bistil.sft.delta import base_hash


def entry(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        assert config.get(name) != value
        path.write_text(json.dumps({**config, name: value}), encoding="utf-8")

    return change


def swap_two_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    one, other = [token for token in vocabulary if not token.startswith("[")][:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def lowercase(folder: Path) -> None:
    for name, inner in (("tokenizer.json", "normalizer"), ("tokenizer_config.json", None)):
        path = folder / name
        found = json.loads(path.read_text(encoding="utf-8"))
        (found[inner] if inner else found)["lowercase" if inner else "do_lower_case"] = True
        path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def other_head(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["cls.predictions.transform.dense.weight"] += 1
    save_file(tensors, path, {"format": "pt"})


def no_head(folder: Path) -> None:
    AutoModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        entry("hidden_act", "relu"),
        entry("layer_norm_eps", 0.1),
        entry("num_attention_heads", 4),
        entry("hidden_dropout_prob", 0.3),
        swap_two_tokens,
        lowercase,
        other_head,
        no_head,
    ],
)
def test_teachers_with_the_same_encoder_weights_are_told_apart(
    change: Callable[[Path], None], teacher_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "other")
    change(folder)
    one, other = load_teacher(teacher_folder), load_teacher(folder)
    assert base_hash(one.encoder) == base_hash(other.encoder)
    assert teacher_id(one) != teacher_id(other)


def test_the_same_teacher_has_one_id_wherever_and_however_it_lies(
    teacher_folder: Path, tmp_path: Path
) -> None:
    teacher = load_teacher(teacher_folder)
    found = teacher_id(teacher)
    teacher.tokenizer(["a", "a b"], padding=True, truncation=True, max_length=3)
    teacher.encoder.set_attn_implementation("eager")
    assert teacher_id(teacher) == found
    teacher.mlm.save_pretrained(tmp_path)
    teacher.tokenizer.save_pretrained(tmp_path)
    entry("transformers_version", "0")(tmp_path)
    entry("id2label", {"0": "a"})(tmp_path)
    assert teacher_id(load_teacher(tmp_path)) == found


def test_the_projects_own_teacher_keeps_the_id_of_its_encoder(tmp_path: Path) -> None:
    folder = ROOT / "data" / "teachers" / "miniworld"
    teacher = load_teacher(folder)
    assert teacher_id(teacher) == f"sha256:{base_hash(teacher.encoder)}"
    changed = shutil.copytree(folder, tmp_path / "changed")
    entry("hidden_act", "relu")(changed)
    assert teacher_id(load_teacher(changed)) != teacher_id(teacher)


def test_a_head_that_is_no_part_of_the_folder_is_no_part_of_the_id(
    teacher_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "bare")
    no_head(folder)
    first, second = load_teacher(folder), load_teacher(folder)
    with torch.no_grad():
        second.mlm.get_parameter("cls.predictions.transform.dense.bias").add_(1)
    assert teacher_id(first) == teacher_id(second)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_teacher_of_every_family_keeps_its_id_when_it_is_saved_again(name: str, tmp_path: Path) -> None:
    lines = ["the cat sat on the mat", "where is the dog now ?", "der Hund läuft"] * 8
    teacher = load_teacher(write_teacher(tmp_path / "one", name, lines))
    teacher.mlm.save_pretrained(tmp_path / "again")
    teacher.tokenizer.save_pretrained(tmp_path / "again")
    assert teacher_id(load_teacher(tmp_path / "again")) == teacher_id(teacher)
