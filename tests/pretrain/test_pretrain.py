"""Pre-training: from nothing and from real weights, on text and on translations, interrupted and not."""

import copy
import dataclasses
import math
import shutil
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from zoo import write_teacher

from bistil.errors import InputError
from bistil.models.architectures import head_state
from bistil.models.load import load_teacher
from bistil.pretrain import (
    PretrainConfig,
    Text,
    initial_model,
    pretrain,
    read_text,
    save_teacher,
    unlearnt,
    weights_folder,
)
from bistil.tasks.retrieval import all_parallel_files, sentences_in
from bistil.text.corpora import cut, unigram
from bistil.text.languages import DataFolder
from bistil.text.sampling import temperature
from bistil.training.loop import Schedule, Stopped
from bistil.training.progress import Event

CONFIG = PretrainConfig(
    languages=("qaa", "qab"),
    schedule=Schedule(steps=30, learning_rate=5e-3, warmup_share=0.1, evaluations=3),
    layers=2,
    hidden=32,
    heads=2,
    vocabulary=250,
    length=24,
    batch_size=8,
    parallel_share=0.3,
)


@pytest.fixture(scope="module")
def text(world: Path) -> Text:
    corpora = {code: world / "corpora" / f"{code}.txt" for code in CONFIG.languages}
    return read_text(CONFIG, corpora, world / "parallel")


@pytest.fixture(scope="module")
def trained(text: Text, tmp_path_factory: pytest.TempPathFactory):
    return pretrain(CONFIG, text, tmp_path_factory.mktemp("pretrain"))


def test_text_is_read_with_its_translations(text: Text, world: Path) -> None:
    assert len(text.lines["qaa"]) == 150
    first = (world / "parallel" / "qaa-qab.tsv").read_text(encoding="utf-8").splitlines()
    assert len(text.pairs["qab"]) >= 19
    assert "\t".join(text.pairs["qab"][-1]) == first[-1]
    limited = read_text(
        dataclasses.replace(CONFIG, lines=7),
        {c: world / "corpora" / f"{c}.txt" for c in CONFIG.languages},
        None,
    )
    assert [len(lines) for lines in limited.lines.values()] == [7, 7]
    assert limited.pairs == {}


def test_aligned_files_are_translations_too(tmp_path: Path) -> None:
    (tmp_path / "ntrex").mkdir()
    (tmp_path / "ntrex" / "qaa.txt").write_text("one\n\nthree\n", encoding="utf-8")
    (tmp_path / "ntrex" / "qab.txt").write_text("eins\nzwei\ndrei\n", encoding="utf-8")
    for code in CONFIG.languages:
        (tmp_path / f"{code}.txt").write_text("text\n", encoding="utf-8")
    found = read_text(CONFIG, {code: tmp_path / f"{code}.txt" for code in CONFIG.languages}, tmp_path)
    assert found.pairs == {"qab": [("one", "eins"), ("three", "drei")]}


def test_thirty_steps_lower_the_held_out_loss(trained) -> None:
    """Of each language: of the few translations only one row is held out, which says nothing."""
    evaluations = [entry for entry in trained[2] if "eval_loss" in entry]
    for name in ("eval_loss_qaa", "eval_loss_qab"):
        assert evaluations[-1][name] < evaluations[0][name]
        assert evaluations[-1][name] < np.log(len(trained[1])) - 0.1
    assert all("eval_loss_parallel" in entry for entry in evaluations)


def test_a_teacher_that_learnt_only_how_often_tokens_are_used_is_a_warning(
    text: Text, tmp_path: Path
) -> None:
    told = list[str]()
    config = dataclasses.replace(CONFIG, schedule=Schedule(steps=2, learning_rate=1e-4), parallel_share=0.0)
    pretrain(config, text, tmp_path, progress=lambda event: told.append(event.stage) if event.told else None)
    [warning] = told
    assert "at or above the unigram entropy in qaa " in warning
    entropies = {"eval_entropy_a": 5.5, "eval_entropy_b": 5.0}
    history: list[dict[str, float]] = [
        {"eval_loss": 5.0, "eval_loss_a": 6.0, "eval_loss_b": 4.0, **entropies},
        {"eval_loss": 6.0, "eval_loss_a": 6.0, "eval_loss_b": 6.0, **entropies},
        {"loss": 4.0},
    ]
    assert "in a 6.00 of 5.50 nats" in unlearnt(history)  # of the kept model, whose loss is the least
    assert unlearnt([{**history[0], "eval_loss_a": 5.0}]) == unlearnt([]) == ""


def test_a_stopped_run_resumes_to_the_same_weights(trained, text: Text, tmp_path: Path) -> None:
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.step == 13:
            stop.set()

    with pytest.raises(Stopped):
        pretrain(CONFIG, text, tmp_path, progress=watch, stop=stop)
    resumed, tokenizer, _ = pretrain(CONFIG, text, tmp_path)
    assert tokenizer.get_vocab() == trained[1].get_vocab()
    for (name, one), other in zip(
        trained[0].state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_a_saved_teacher_loads_with_its_head(trained, tmp_path: Path) -> None:
    mlm, tokenizer, history = trained
    save_teacher(tmp_path / "teacher", mlm, tokenizer, history)
    loaded = load_teacher(tmp_path / "teacher")
    assert loaded.has_mlm_head
    assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert all(torch.equal(one, loaded.mlm.state_dict()[name]) for name, one in mlm.state_dict().items())
    assert (tmp_path / "teacher" / "history.json").is_file()


def test_weights_beyond_fp16_are_not_saved_as_fp16(trained, tmp_path: Path) -> None:
    mlm, tokenizer, history = copy.deepcopy(trained)
    with torch.no_grad():
        mlm.bert.encoder.layer[1].output.dense.bias[5] = 1e6
    with pytest.raises(InputError, match=r"too large for fp16 \(1 of the 32 values of .*layer\.1"):
        save_teacher(tmp_path / "teacher", mlm, tokenizer, history, half=True)
    assert not (tmp_path / "teacher").exists()


def test_real_weights_are_kept_and_new_pieces_start_at_their_translations(
    teacher_folder: Path, wordpiece, text: Text
) -> None:
    config = dataclasses.replace(CONFIG, start=str(teacher_folder), vocabulary=350)
    mlm, tokenizer, *_ = initial_model(config, text)
    old = load_teacher(teacher_folder)
    for name, tensor in old.encoder.state_dict().items():
        if "word_embeddings" not in name:
            assert torch.equal(tensor, mlm.bert.state_dict()[name]), name
    after = mlm.bert.embeddings.word_embeddings.weight
    assert mlm.cls.predictions.decoder.weight is after
    assert len(after) == len(tokenizer) == mlm.config.vocab_size
    only_first = Text({"qaa": text.lines["qaa"]})
    mlm, tokenizer, *_ = initial_model(dataclasses.replace(config, languages=("qaa",)), only_first)
    kept = [piece for piece in tokenizer.get_vocab() if piece in wordpiece.get_vocab()]
    own = old.encoder.state_dict()["embeddings.word_embeddings.weight"]
    rows = mlm.state_dict()["bert.embeddings.word_embeddings.weight"][
        [tokenizer.get_vocab()[piece] for piece in kept]
    ]
    assert torch.allclose(rows, own[[wordpiece.get_vocab()[piece] for piece in kept]], atol=1e-6)


@pytest.mark.parametrize("train", ["head", "layers", "all"])
def test_an_encoder_gets_a_masked_lm_head_and_keeps_its_tokenizer(
    train: str, text: Text, tmp_path: Path
) -> None:
    start = load_teacher(write_teacher(tmp_path / "start", "xlm-roberta", text.lines["qaa"]))
    start.encoder.save_pretrained(tmp_path / "encoder")  # the head stays behind
    start.tokenizer.save_pretrained(tmp_path / "encoder")
    config = dataclasses.replace(
        CONFIG, start=str(tmp_path / "encoder"), vocabulary=None, train=train, parallel_share=0.0
    )
    bare = load_teacher(tmp_path / "encoder")
    assert not bare.has_mlm_head
    mlm, tokenizer, history = pretrain(config, text, tmp_path / "run")
    assert tokenizer.get_vocab() == start.tokenizer.get_vocab()
    old, new = bare.encoder.state_dict(), mlm.base_model.state_dict()
    moved = {name for name, tensor in new.items() if not torch.equal(tensor, old[name])}
    words = "embeddings.word_embeddings.weight"
    assert bool(moved) == (train != "head")
    assert (words in moved) == (train == "all")
    assert mlm.get_output_embeddings().weight is mlm.get_input_embeddings().weight
    losses = [entry for entry in history if "eval_loss" in entry]
    assert losses[-1]["eval_loss"] < math.log(len(tokenizer))
    assert {"eval_entropy_qaa", "eval_entropy_qab"} <= losses[0].keys()
    save_teacher(tmp_path / "teacher", mlm, tokenizer, history)
    again = load_teacher(tmp_path / "teacher")
    assert again.has_mlm_head
    mine, theirs = head_state(mlm), head_state(again.mlm)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_new_heads_bias_starts_at_the_texts_unigram(text: Text, tmp_path: Path) -> None:
    """One that came with the start stays as it is."""
    start = load_teacher(write_teacher(tmp_path / "start", "xlm-roberta", text.lines["qaa"]))
    start.encoder.save_pretrained(tmp_path / "encoder")
    start.tokenizer.save_pretrained(tmp_path / "encoder")
    one_step = dataclasses.replace(CONFIG.schedule, steps=1, learning_rate=1e-9)
    config = dataclasses.replace(
        CONFIG, start=str(tmp_path / "encoder"), vocabulary=None, parallel_share=0.0, schedule=one_step
    )
    mlm, tokenizer, _ = pretrain(config, text, tmp_path / "run")
    bias: Tensor = mlm.get_output_embeddings().bias  # type: ignore[assignment]
    assert bias.exp().sum().item() == pytest.approx(1, abs=1e-4)
    blocks = {
        code: cut(tokenizer, lines, config.length, packed=True).split(0.05)[0]
        for code, lines in text.lines.items()
    }
    weights = temperature({code: len(lines) for code, lines in blocks.items()}, config.alpha)
    token = int(unigram(blocks["qaa"], tokenizer).argmax())
    share = sum(weights[code] * unigram(b, tokenizer)[token] for code, b in blocks.items())
    share /= sum(weights.values())
    assert bias.exp()[token].item() == pytest.approx(0.99 * share, rel=0.05)
    bare = load_teacher(tmp_path / "encoder").mlm.get_output_embeddings().bias
    assert not bare.any()  # type: ignore[union-attr,operator]
    kept, _, _ = pretrain(
        dataclasses.replace(config, start=str(tmp_path / "start")), text, tmp_path / "other run"
    )
    own: Tensor = start.mlm.get_output_embeddings().bias  # type: ignore[assignment]
    assert torch.allclose(kept.get_output_embeddings().bias, own, atol=1e-6)  # type: ignore[arg-type]


def test_a_head_of_its_own_needs_a_start_and_its_tokenizer() -> None:
    with pytest.raises(InputError, match="keeps the tokenizer of a `start`"):
        dataclasses.replace(CONFIG, vocabulary=None)
    with pytest.raises(InputError, match="set `vocabulary: null`"):
        dataclasses.replace(CONFIG, train="head")
    with pytest.raises(InputError, match="extended vocabulary"):
        dataclasses.replace(CONFIG, start="x", vocabulary=None, translation_share=0.5)


def test_bad_starts_are_refused(text: Text, teacher_folder: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        weights_folder("no_such_package:model")
    with pytest.raises(InputError, match="neither"):
        weights_folder("json:no_such_folder")
    with pytest.raises(InputError, match="at most the 64 positions"):
        initial_model(dataclasses.replace(CONFIG, start=str(teacher_folder), length=100), text)
    assert weights_folder("transformers:models").is_dir()


def test_a_start_with_damaged_weights_is_refused(text: Text, teacher_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher_folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][0, 0] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="Finite weights"):
        initial_model(dataclasses.replace(CONFIG, start=str(tmp_path), vocabulary=350), text)


def test_sentences_of_retrieval_may_be_left_out_of_the_text(world: Path) -> None:
    corpora = {code: world / "corpora" / f"{code}.txt" for code in CONFIG.languages}
    table = DataFolder(world)
    left_out = sentences_in(all_parallel_files(table, CONFIG.languages))
    assert left_out
    whole = read_text(CONFIG, corpora, None)
    gone = whole.lines["qab"][3]
    assert gone not in read_text(CONFIG, corpora, None, without={gone}).lines["qab"]
    assert read_text(CONFIG, corpora, None, without={gone}).lines["qaa"] == whole.lines["qaa"]
    pairs = read_text(CONFIG, corpora, world / "parallel").pairs["qab"]
    kept = read_text(CONFIG, corpora, world / "parallel", without={pairs[0][1]}).pairs["qab"]
    assert pairs[0] not in kept
    assert kept == [pair for pair in pairs if pair[1] != pairs[0][1]]
    assert "qab" not in read_text(CONFIG, corpora, world / "parallel", without=left_out).pairs


def test_composed_and_decomposed_spellings_are_one_sentence(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "café déjà vu") for form in ("NFC", "NFD"))
    for code in CONFIG.languages:
        (tmp_path / f"{code}.txt").write_text(f"{one}\n{other}\nelse\n", encoding="utf-8")
    (tmp_path / "qaa-qab.tsv").write_text(f"{other}\tx\ny\tz\n", encoding="utf-8")
    (tmp_path / "test.tsv").write_text(f"{one}\tu\n", encoding="utf-8")
    corpora = {code: tmp_path / f"{code}.txt" for code in CONFIG.languages}
    for text in (one, other):
        (tmp_path / "test.tsv").write_text(f"{text}\tu\n", encoding="utf-8")
        found = read_text(CONFIG, corpora, tmp_path, without=sentences_in([tmp_path / "test.tsv"]))
        assert found.lines == {code: ["else"] for code in CONFIG.languages}
        assert found.pairs == {"qab": [("y", "z")]}


@pytest.mark.parametrize(
    ("table", "told"),
    [(None, r"Translations of qaa were expected in .*parallel_share"), ("a\tb\tc\n", "line 1")],
)
def test_translations_that_are_asked_for_are_there(table: str | None, told: str, tmp_path: Path) -> None:
    corpora = {code: tmp_path / f"{code}.txt" for code in CONFIG.languages}
    for path in corpora.values():
        path.write_text("text\n", encoding="utf-8")
    if table:
        (tmp_path / "qaa-qab.tsv").write_text(table, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        read_text(CONFIG, corpora, tmp_path)


def test_pairs_are_read_for_either_share() -> None:
    assert not dataclasses.replace(CONFIG, parallel_share=0.0).reads_pairs
    start = dataclasses.replace(CONFIG, start="x", parallel_share=0.0, translation_share=0.5)
    assert CONFIG.reads_pairs
    assert start.reads_pairs


def test_only_a_bert_is_extended(text: Text, tmp_path: Path) -> None:
    write_teacher(tmp_path / "start", "distilbert", text.lines["qaa"])
    config = dataclasses.replace(CONFIG, start=str(tmp_path / "start"), parallel_share=0.0)
    with pytest.raises(InputError, match=r"A BERT, .* but its type is distilbert.*vocabulary: null"):
        initial_model(config, text)
