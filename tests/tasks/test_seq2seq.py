"""Translation models, made at random with tokenizers of their own: which tokens they read and write,
sentences once each in order, killed runs, what is refused.
"""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
)
from zoo import save_translator as save

from bistil.errors import InputError
from bistil.models import seq2seq
from bistil.models.seq2seq import OTHERS, language_token, language_tokens, load_model, read_tokenizer
from bistil.pretrain.parallel import Parallel, TranslatorConfig
from bistil.pretrain.pieces import fast_tokenizer
from bistil.pretrain.translator import initial_translator
from bistil.tasks import task, translation
from bistil.tasks.classification import Text
from bistil.tasks.nli import Nli, Pair
from bistil.tasks.translation import (
    DONE,
    NOTHING,
    Translator,
    by_model,
    measured,
    translated,
    write_translated,
)
from bistil.training.loop import Run, Schedule, Stopped
from bistil.training.progress import Event

LINES = ["the sun is hot", "a cold sea", "the sea is hot", "sun and sea", "a hot sun and a cold cold sea"]


def pieces(folder: Path) -> Path:
    """A SentencePiece model and its vocabulary."""
    (folder / "text").write_text("\n".join(LINES * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "m"), vocab_size=20, minloglevel=2
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "m.model"))
    names = ["</s>", "<unk>", *(model.id_to_piece(i) for i in range(3, model.vocab_size())), "<pad>"]
    (folder / "v.json").write_text(json.dumps({one: i for i, one in enumerate(names)}), encoding="utf-8")
    return folder / "m.model"


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nllb")
    tokens = ["eng_Latn", "swh_Latn", "zho_Hans", "zho_Hant"]
    tokenizer = fast_tokenizer(LINES, 60, tokens)
    kinds = (M2M100ForConditionalGeneration, M2M100Config)
    return save(folder, *kinds, tokenizer, len(tokenizer))


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    made = pieces(folder)
    tokenizer = MarianTokenizer(str(made), str(made), str(folder / "v.json"))
    return save(folder / "eng-swa", MarianMTModel, MarianConfig, tokenizer, tokenizer.vocab_size)


def settings(model: Path, **said: Any) -> Translator:
    return Translator(kind="seq2seq", model=str(model), **said)


def plain(model: Path, sentence: str, before: list[int], **asked: Any) -> str:
    """What transformers writes for one sentence alone."""
    tokenizer, _ = read_tokenizer(model)
    ids = [*before, *tokenizer(sentence, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    found = load_model(model).generate(input_ids=torch.tensor([ids]), **asked)
    return " ".join(tokenizer.decode(found[0], skip_special_tokens=True).split())


@pytest.mark.parametrize("beams", [None, 2])
def test_many_languages_are_read_and_written_by_their_tokens(nllb: Path, tmp_path: Path, beams) -> None:
    known = language_tokens(read_tokenizer(nllb)[0])
    asked = {"num_beams": beams or 1, "forced_bos_token_id": known["swh_Latn"]}
    expected = [plain(nllb, line, [known["eng_Latn"]], **asked) for line in LINES]
    found = by_model(nllb, settings(nllb, beams=beams), "eng", "swa", run=Run(tmp_path, "t"))(LINES)
    assert found == expected
    assert len(set(found)) > 1
    back = by_model(nllb, settings(nllb), "swa", "eng", run=Run(tmp_path / "back", "t"))
    (tmp_path / "back").mkdir()
    assert back(LINES) != found


def test_marian_translates_its_pair(marian: Path, tmp_path: Path) -> None:
    said = settings(marian.parent / "{source}-{target}")
    folder = Path(said.model_for("eng", "swa"))
    assert folder == marian
    found = by_model(folder, said, "eng", "swa", run=Run(tmp_path, "t"))(LINES)
    assert found == [plain(marian, line, []) for line in LINES]
    assert replace(said, codes={"eng": "en"}).model_for("eng", "swa").endswith("/en-swa")
    (tmp_path / "few").mkdir()
    few = by_model(folder, replace(said, max_length=8), "eng", "swa", run=Run(tmp_path / "few", "t"))(LINES)
    assert few == [plain(marian, line, [], max_length=8) for line in LINES]


def test_the_language_tokens_of_m2m100(tmp_path: Path) -> None:
    made = pieces(tmp_path)
    tokenizer = M2M100Tokenizer(str(tmp_path / "v.json"), str(made))
    folder = save(
        tmp_path / "m", M2M100ForConditionalGeneration, M2M100Config, tokenizer, tokenizer.vocab_size + 100
    )
    read, kind = read_tokenizer(folder)
    assert kind == "m2m_100"
    assert language_token(read, "swa", {}) == tokenizer.get_lang_id("sw")
    assert language_token(read, "ceb", {}) == tokenizer.get_lang_id("ceb")
    assert language_token(read, "pcm", {"pcm": "en"}) == tokenizer.get_lang_id("en")
    two = {one for one in language_tokens(read) if len(one) == 2}
    assert two == {one for names in OTHERS.values() for one in names if len(one) == 2}
    run = Run(tmp_path, "t")
    ids = {"forced_bos_token_id": tokenizer.get_lang_id("sw")}
    expected = [plain(folder, line, [tokenizer.get_lang_id("en")], **ids) for line in LINES]
    assert by_model(folder, settings(folder), "eng", "swa", run=run)(LINES) == expected


def test_a_tokenizer_without_a_number_for_a_new_token_is_refused(tmp_path: Path) -> None:
    made = pieces(tmp_path)
    tokenizer = M2M100Tokenizer(str(tmp_path / "v.json"), str(made))
    rows = tokenizer.vocab_size + 100
    folder = save(tmp_path / "m", M2M100ForConditionalGeneration, M2M100Config, tokenizer, rows)
    schedule = Schedule(steps=1, learning_rate=1e-3)
    config = TranslatorConfig(pairs=("eng-luo",), schedule=schedule, start=str(folder))
    with pytest.raises(InputError, match="M2M100Tokenizer gives __luo__ the number of another"):
        initial_translator(config, Parallel({}, {}))


def test_a_killed_run_loses_a_batch_at_most_and_ends_in_the_same_file(
    nllb: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(seq2seq, "TOKENS", 12)
    pairs = [Pair(one, two, "neutral") for one in LINES for two in (*LINES, "the sun")]
    sizes = []
    first = translation.generate

    def noted(model: Any, tokenizer: Any, rows: Any, *rest: Any, **asked: Any) -> list[str]:
        sizes.append([len(row) for row in rows])
        return first(model, tokenizer, rows, *rest, **asked)

    monkeypatch.setattr(translation, "generate", noted)

    def write(folder: Path, stop: threading.Event | None, progress: Any) -> None:
        folder.mkdir(exist_ok=True)
        look = by_model(nllb, settings(nllb), "eng", "swa", run=Run(folder, "t", progress, stop))
        write_translated(folder / "out.tsv", translated(pairs, look))

    write(tmp_path / "whole", None, lambda event: None)
    once = [length for batch in sizes for length in batch]
    assert once == sorted(once, reverse=True)
    assert len(once) == len(LINES) + 1
    assert len(sizes) > 2
    assert all(max(batch) * len(batch) <= 12 for batch in sizes)
    stop, folder = threading.Event(), tmp_path / "killed"

    def end(event: Event) -> None:
        if event.step == 2:
            stop.set()

    with pytest.raises(Stopped, match="batch 2 of"):
        write(folder, stop, end)
    with (folder / DONE).open("ab") as file:
        file.write(b'["torn')
    done = len(sizes)
    write(folder, None, lambda event: None)
    assert len(sizes) - done == (done - 2) - 2
    assert (folder / "out.tsv").read_bytes() == (tmp_path / "whole" / "out.tsv").read_bytes()


def test_what_comes_back_odd_is_counted_kept_and_read_again(tmp_path: Path) -> None:
    before = [Pair("the sun is hot", "a sea", "neutral"), Pair("sun", "the cold sea", "entailment")]
    after = [Pair("", "moto moto moto moto moto", "neutral"), Pair("jua", "jua", "entailment")]
    write_translated(tmp_path / "out.tsv", after)
    assert Nli().read(tmp_path / "out.tsv") == [replace(after[0], premise=NOTHING), after[1]]
    write_translated(tmp_path / "texts.tsv", [Text("jua kali", "sun"), Text("", "sea")])
    assert task("classification").read(tmp_path / "texts.tsv") == [
        Text("jua kali", "sun"),
        Text(NOTHING, "sea"),
    ]
    told = measured(before, after)
    assert (told["empty"], told["one_word"], told["long"]) == (1, 2, 1)


def test_a_language_without_a_token_is_refused_with_what_to_do(nllb: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, "t")
    with pytest.raises(
        InputError, match=r"no token for 'luo'; it knows eng_Latn.*`codes`.*bistil translator"
    ):
        by_model(nllb, settings(nllb), "eng", "luo", run=run)
    with pytest.raises(InputError, match=r"several tokens for zho: zho_Hans, zho_Hant.*\{zho: zho_Hans\}"):
        by_model(nllb, settings(nllb), "eng", "zho", run=run)
    by_model(nllb, settings(nllb, codes={"zho": "zho_Hant"}), "eng", "zho", run=run)


def test_other_models_and_weights_are_refused(nllb: Path, tmp_path: Path) -> None:
    for path in nllb.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(nllb / "model.safetensors"), tmp_path / "pytorch_model.bin")
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")  # not the model
    with pytest.raises(InputError, match="Weights as safetensors were expected"):
        load_model(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text("utf-8").replace('"m2m_100"', '"t5"'), encoding="utf-8")
    with pytest.raises(InputError, match="type t5"):
        read_tokenizer(tmp_path)
    for wrong, told in (({}, "needs a `model`"), ({"model": "x", "world": "w"}, "`noise` and `world`")):
        with pytest.raises(InputError, match=told):
            Translator(kind="seq2seq", **wrong)
    with pytest.raises(InputError, match=r"`beams`.* are for `kind: seq2seq` alone"):
        Translator(kind="table", beams=2)
