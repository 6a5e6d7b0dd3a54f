"""Translators of one's own: what is held out, new languages, resuming, the command and what it writes."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import ROOT
from transformers import M2M100Config, M2M100ForConditionalGeneration
from zoo import save_translator as save

from bistil.cli import main
from bistil.errors import InputError
from bistil.models.seq2seq import language_tokens, load_model, read_tokenizer
from bistil.pretrain import translator
from bistil.pretrain.parallel import TranslatorConfig, read_pairs
from bistil.pretrain.pieces import fast_tokenizer
from bistil.pretrain.translator import (
    initial_translator,
    save_translator,
    train_translator,
)
from bistil.settings.yaml import read_yaml
from bistil.tasks.translation import Translator, by_model
from bistil.training.loop import Run, Schedule, Stopped
from bistil.training.progress import Event

FILE = ROOT / "data" / "translators" / "miniworld.yaml"
CONFIG = replace(read_yaml(TranslatorConfig, FILE), pairs=("qaa-qab",), held_out=4)
LINES = ["a cold sea", "the sun is hot"]


@pytest.fixture(scope="module")
def parallel(world: Path):
    return read_pairs(CONFIG, world / "parallel")


def test_files_of_the_project_are_read(world: Path) -> None:
    africa = read_yaml(TranslatorConfig, FILE.with_name("eng-africa.yaml"))
    assert africa.languages == ("eng", "swa", "ibo", "pcm", "luo", "lug", "hau", "kin")
    assert len(read_yaml(TranslatorConfig, FILE).pairs) == 2


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    lines = [f"s{i}\tt{i}" for i in range(40)] + [f"s{i}\tu{i}" for i in range(40)] + ["s1\tt1"]
    (tmp_path / "eng-swa.tsv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "eng-luo.tsv").write_text("\n".join(f"s{i}\tl{i}" for i in range(30)), encoding="utf-8")
    config = replace(CONFIG, pairs=("eng-swa", "eng-luo"), held_out=5)
    found = read_pairs(config, tmp_path)
    assert {name: len(own) for name, own in found.held_out.items()} == {
        "eng-swa": 5,
        "eng-luo": 3,
        "swa-eng": 5,
        "luo-eng": 3,
    }
    unseen = {text for pairs in found.held_out.values() for pair in pairs for text in pair}
    assert all(unseen.isdisjoint(pair) for pairs in found.training.values() for pair in pairs)
    assert found.training["swa-eng"] == [(two, one) for one, two in found.training["eng-swa"]]
    assert read_pairs(config, tmp_path) == found
    assert set(read_pairs(replace(config, directions="back"), tmp_path).training) == {"swa-eng", "luo-eng"}
    with pytest.raises(InputError, match="none is left"):
        read_pairs(replace(config, lines=1), tmp_path)


def test_a_stopped_run_resumes_to_the_same_translator(parallel, tmp_path: Path) -> None:
    whole, tokenizer, history, report = train_translator(CONFIG, parallel, tmp_path / "whole")
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert set(report) == {"qaa-qab", "qab-qaa"}
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.step == 17:
            stop.set()

    with pytest.raises(Stopped):
        train_translator(CONFIG, parallel, tmp_path / "part", progress=watch, stop=stop)
    resumed, *_, again = train_translator(CONFIG, parallel, tmp_path / "part")
    assert again == report
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    save_translator(tmp_path / "made", whole, tokenizer, history, report)
    read, _ = read_tokenizer(tmp_path / "made")
    assert read.get_vocab() == tokenizer.get_vocab()
    sentence = parallel.held_out["qaa-qab"][0][0]
    assert read.decode(read(sentence, add_special_tokens=False)["input_ids"]) == sentence
    said = Translator(kind="seq2seq", model=str(tmp_path / "made"))
    assert len(by_model(tmp_path / "made", said, "qab", "qaa", run=Run(tmp_path, "t"))([sentence])) == 1


def test_a_step_adds_up_batches_of_its_own(parallel, tmp_path: Path, monkeypatch) -> None:
    """Twice two batches, none of them read twice."""
    made: list[int] = []

    class Watched(translator.Translated):
        def __init__(self, *rest, steps: int, **more) -> None:
            made.append(steps)
            super().__init__(*rest, steps=steps, **more)

    monkeypatch.setattr(translator, "Translated", Watched)
    schedule = Schedule(steps=2, accumulation=2, learning_rate=1e-3, evaluations=1)
    *_, history, _ = train_translator(replace(CONFIG, schedule=schedule), parallel, tmp_path)
    assert made == [4]
    assert history[-1]["step"] == 2


@pytest.mark.parametrize("like", [None, "swh_Latn"])
def test_a_new_language_starts_at_the_mean_or_at_one_like_it(tmp_path: Path, like: str | None) -> None:
    tokenizer = fast_tokenizer(LINES, 40, ["eng_Latn", "swh_Latn"])
    save(tmp_path, M2M100ForConditionalGeneration, M2M100Config, tokenizer, len(tokenizer))
    before = load_model(tmp_path).get_input_embeddings().weight.detach()
    known = language_tokens(tokenizer)
    config = TranslatorConfig(
        pairs=("eng-luo",),
        schedule=Schedule(steps=1, learning_rate=1e-3),
        start=str(tmp_path),
        codes={"luo": "luo_Latn"},
        start_from={"luo": like} if like else {},
    )
    model, extended = initial_translator(config, None)
    after = model.get_input_embeddings().weight.detach()
    assert language_tokens(extended) == {**known, "luo_Latn": len(tokenizer)}
    assert torch.equal(after[:-1], before)
    assert torch.equal(after[-1], before[known["swh_Latn"]] if like else before[list(known.values())].mean(0))
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path / "again")
    extended.save_pretrained(tmp_path / "again")
    assert language_tokens(read_tokenizer(tmp_path / "again")[0]) == language_tokens(extended)
    assert torch.equal(load_model(tmp_path / "again").get_input_embeddings().weight, after)
    with pytest.raises(InputError, match="no token for 'luo'"):
        initial_translator(replace(config, codes={}), None)


def test_bad_settings_are_refused() -> None:
    for wrong, told in (
        ({"pairs": ("eng",)}, "Two codes with one hyphen"),
        ({"heads": 5}, "`heads` should divide"),
        ({"start_from": {"qab": "qaa"}}, "`start_from` is for new languages"),
    ):
        with pytest.raises(InputError, match=told):
            replace(CONFIG, **wrong)


def test_the_command_writes_a_translator_and_its_report(world: Path, tmp_path: Path, capsys) -> None:
    said = (
        FILE.read_text(encoding="utf-8")
        .replace("steps: 30", "steps: 4")
        .replace("evaluations: 3", "evaluations: 1")
    )
    (tmp_path / "file.yaml").write_text(said, encoding="utf-8")
    arguments = [
        "translator",
        str(tmp_path / "file.yaml"),
        "--data",
        str(world),
        "--to",
        str(tmp_path / "made"),
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "qac-qaa" in out
    report = json.loads((tmp_path / "made" / "report.json").read_text(encoding="utf-8"))
    assert set(report) == {"qaa-qab", "qaa-qac", "qab-qaa", "qac-qaa"}
    assert all(set(one) == {"lines", "held_out", "loss", "chrf"} for one in report.values())
    assert (tmp_path / "made" / "history.json").is_file()
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"file.yaml", "made"}
    assert main(arguments) == 2
    assert "there is a finished translator already" in capsys.readouterr().err


def test_characters_that_are_rare_alike_are_chosen_by_their_order() -> None:
    """The library's own choice among them differs from run to run, and a resumed run learns it anew."""
    characters = [chr(0x4E00 + number) for number in range(1500)]
    tokenizer = fast_tokenizer([" ".join(characters)], 3000, ["__eng__"])
    assert {one for one in characters if one in tokenizer.get_vocab()} == {*characters[:999]}  # and the ▁


def test_pairs_are_named_once_and_by_codes_without_hyphen() -> None:
    with pytest.raises(InputError, match="the other way round"):
        TranslatorConfig(pairs=("eng-swa", "swa-eng"), schedule=Schedule(steps=1, learning_rate=1e-3))
    with pytest.raises(InputError, match="one hyphen"):
        TranslatorConfig(pairs=("eng-zh-Hant",), schedule=Schedule(steps=1, learning_rate=1e-3))
