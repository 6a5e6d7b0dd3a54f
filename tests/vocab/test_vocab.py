"""Vocabulary: counts equal a plain loop, trimming is exact for tokenizer and model, refusals in words."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    PreTrainedTokenizerFast,
)
from zoo import TOKENIZERS

from bistil import vocab
from bistil.distil.start import initialise
from bistil.errors import InputError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    "a",
    "b",
    "c",
    "d",
    "é",
    "##a",
    "##b",
    "##c",
    "##d",
    "##é",
    "ab",
    "abc",
    "##bc",
    "##cd",
    "da",
    "##dab",
    "Bc",
    "B",
    "!",
]
WORDS = [
    *PIECES[:4],
    *SPECIALS[:3],
    *PIECES[4:9],
    *SPECIALS[3:],
    *PIECES[9:],
]  # specials lie scattered, pad is not 0
LINES = ["abc dab ab", "abcd é!", "Bc abab", "ab"] * 3 + ["zz abc"]


def make(words: list[str] = WORDS, lower: bool = False) -> BertTokenizer:
    return BertTokenizer(
        vocab={word: i for i, word in enumerate(words)}, do_lower_case=lower, model_max_length=64
    )


def ids_of(tokenizer: BertTokenizer, *tokens: str) -> list[int]:
    return [tokenizer.get_vocab()[token] for token in tokens]


def test_counts_equal_a_plain_loop_whatever_the_tokenizer_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bistil.vocab.counting.CHUNK", 5)
    tokenizer = make()
    tokenizer(LINES, truncation=True, max_length=3, padding="max_length")
    plain = Counter(token for line in LINES for token in tokenizer.tokenize(line))
    counts = vocab.count_tokens(tokenizer, iter(LINES))
    assert counts.dtype == np.int64
    assert {tokenizer.convert_ids_to_tokens(int(i)): counts[i] for i in counts.nonzero()[0]} == plain
    share = vocab.sentence_share(tokenizer, iter(LINES))
    assert share[ids_of(tokenizer, "abc")[0]] == pytest.approx(7 / 13)
    assert vocab.count_tokens(tokenizer, []).sum() == 0


def test_choose_keeps_frequent_special_and_spelling_tokens_of_either_corpus() -> None:
    tokenizer = make()
    first, second = (vocab.count_tokens(tokenizer, [line]) for line in ("ab ab ab ab", "da"))
    kept = tokenizer.convert_ids_to_tokens(vocab.choose(tokenizer, [first, second], threshold=0.5).tolist())
    assert set(kept) == {*SPECIALS, "ab", "a", "b", "##a", "##b", "da", "d", "##d"}
    assert kept == sorted(kept, key=WORDS.index)


def test_threshold_is_inclusive_and_the_two_criteria_differ() -> None:
    tokenizer = make()
    lines = ["ab ab ab ab ab ab", "Bc", "da da"]
    counts, shares = vocab.count_tokens(tokenizer, lines), vocab.sentence_share(tokenizer, lines)
    assert ids_of(tokenizer, "Bc")[0] in vocab.choose(tokenizer, [counts], threshold=1 / 9)
    assert ids_of(tokenizer, "Bc")[0] not in vocab.choose(tokenizer, [counts], threshold=0.2)
    assert ids_of(tokenizer, "Bc")[0] in vocab.choose(
        tokenizer, [shares], threshold=1 / 3, criterion="sentences"
    )
    assert vocab.curve([counts], [0.0, 1 / 9, 0.5, 0.9]) == [len(WORDS), 3, 1, 0]


def test_added_tokens_survive() -> None:
    tokenizer = make()
    tokenizer.add_tokens(["<extra>"])
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, ["ab"])])
    trimmed = vocab.trim_tokenizer(tokenizer, kept)
    assert trimmed.tokenize("ab <extra>") == ["ab", "<extra>"]
    assert kept[trimmed("ab <extra>").input_ids].tolist() == tokenizer("ab <extra>").input_ids


@pytest.mark.parametrize("lower", [False, True])
def test_trimmed_tokenizer_reloads_the_same_and_keeps_its_settings(tmp_path: Path, lower: bool) -> None:
    tokenizer = make(lower=lower)
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, ["ab dab é", "Bc"])])
    trimmed = vocab.trim_tokenizer(tokenizer, kept)
    assert len(trimmed) == len(kept) < len(tokenizer)
    assert trimmed.do_lower_case == lower
    assert trimmed.model_max_length == 64
    trimmed.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(reloaded) is type(tokenizer)
    texts = ["ab dab é é", "Bc [MASK] zz", "", "ab"]
    wide, small, again = (
        t(texts, texts[::-1], padding=True, truncation=True, max_length=9)
        for t in (tokenizer, trimmed, reloaded)
    )
    assert small.data == again.data
    assert small.token_type_ids == wide.token_type_ids
    assert kept[np.array(small.input_ids)].tolist() == wide.input_ids
    assert trimmed(["abcd cdcd É"]).data == reloaded(["abcd cdcd É"]).data
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert kept[getattr(trimmed, f"{name}_token_id")] == getattr(tokenizer, f"{name}_token_id")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_words_whose_tokens_are_all_kept_do_not_change(data: st.DataObject) -> None:
    pieces = data.draw(
        st.sets(
            st.text("abc", min_size=1, max_size=4).flatmap(lambda s: st.sampled_from([s, "##" + s])),
            max_size=20,
        )
    )
    tokenizer = make([*SPECIALS, *sorted(pieces)])
    chosen = data.draw(st.sets(st.integers(5, 4 + len(pieces)))) if pieces else set()
    kept = np.array(sorted({*range(5), *chosen}), np.int64)
    trimmed = vocab.trim_tokenizer(tokenizer, kept)
    for word in data.draw(st.lists(st.text("abc", min_size=1, max_size=8), max_size=12)):
        before = tokenizer.encode(word, add_special_tokens=False)
        if tokenizer.unk_token_id not in before and set(before) <= set(kept.tolist()):
            assert kept[trimmed.encode(word, add_special_tokens=False)].tolist() == before


def test_an_unknown_word_may_become_spellable() -> None:
    tokenizer = make([*SPECIALS, "ab", "a", "##bc"])
    assert tokenizer.tokenize("abc") == ["[UNK]"]
    assert vocab.trim_tokenizer(tokenizer, np.array([0, 1, 2, 3, 4, 6, 7])).tokenize("abc") == ["a", "##bc"]


def config(tied: bool = True) -> BertConfig:
    pad = WORDS.index("[PAD]")
    return BertConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        pad_token_id=pad,
        tie_word_embeddings=tied,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_trimmed_masked_language_model_gives_equal_logits_at_kept_ids(tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(4)
    tokenizer = make()
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, LINES[:2])])
    model = BertForMaskedLM(config(tied)).eval()
    torch.nn.init.normal_(model.cls.predictions.decoder.bias)
    ids = torch.tensor(vocab.trim_tokenizer(tokenizer, kept)(["ab é!"]).input_ids)
    with torch.no_grad():
        before = model(torch.as_tensor(kept)[ids]).logits[..., torch.as_tensor(kept)]
        vocab.trim_model(model, kept)
        after = model(ids).logits
        assert after.shape[-1] == len(kept) == model.config.vocab_size == model.bert.config.vocab_size
        torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
        model.save_pretrained(tmp_path)
        assert torch.equal(BertForMaskedLM.from_pretrained(tmp_path)(ids).logits, after)
    assert (model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight) == tied
    assert kept[model.config.pad_token_id] == WORDS.index("[PAD]")
    assert model.bert.embeddings.word_embeddings.padding_idx == model.config.pad_token_id


def test_trimmed_student_of_full_depth_sees_what_the_teacher_sees() -> None:
    tokenizer = make()
    teacher = BertModel(config(), add_pooling_layer=False).eval()
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, LINES)])
    student = initialise(teacher, 1)
    vocab.trim_model(student, kept)
    assert teacher.config.vocab_size == len(WORDS) + 3
    batch = vocab.trim_tokenizer(tokenizer, kept)(LINES, padding=True, return_tensors="pt")
    mine = student(**batch, output_hidden_states=True).hidden_states
    theirs = teacher(
        **{**batch, "input_ids": torch.as_tensor(kept)[batch["input_ids"]]}, output_hidden_states=True
    ).hidden_states
    for own, reference in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, reference, atol=1e-6, rtol=0)


def test_report_counts_what_changed() -> None:
    tokenizer = make()
    kept = np.array(sorted(ids_of(tokenizer, *SPECIALS, "a", "b", "##a", "##b", "ab")), np.int64)
    found = vocab.report(
        tokenizer, vocab.trim_tokenizer(tokenizer, kept), kept, {"x": ["ab ab", "abc", "aab"], "none": []}
    )
    assert (found["tokens_before"], found["tokens_after"]) == (len(WORDS), 10)
    assert found["corpora"]["x"] == {
        "lines": 3,
        "share_identical": pytest.approx(2 / 3),
        "mean_tokens_before": pytest.approx(6 / 3),
        "mean_tokens_after": pytest.approx(6 / 3),
        "unknown_rate_before": 0.0,
        "unknown_rate_after": pytest.approx(1 / 6),
    }
    assert found["corpora"]["none"]["share_identical"] == 0.0


def test_refusals_are_in_words() -> None:
    tokenizer = make()
    counts = vocab.count_tokens(tokenizer, LINES)
    with pytest.raises(InputError, match="criterion"):
        vocab.choose(tokenizer, [counts], criterion="entropy")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shape"):
        vocab.choose(tokenizer, [counts[:-1]])
    with pytest.raises(InputError, match="empty"):
        vocab.choose(tokenizer, [counts, np.zeros_like(counts)])
    with pytest.raises(InputError, match="one string"):
        vocab.count_tokens(tokenizer, "abc")
    with pytest.raises(InputError, match="special ids"):
        vocab.trim_tokenizer(tokenizer, np.array([0, 1, 2]))
    with pytest.raises(InputError, match="outside"):
        vocab.trim_tokenizer(tokenizer, np.array([*range(len(WORDS)), 99]))
    with pytest.raises(InputError, match="rows"):
        vocab.trim_model(BertModel(config()), np.array([0, 99]))


def test_other_tokenizer_kinds_and_ones_that_do_not_come_back_are_refused() -> None:
    level = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words = PreTrainedTokenizerFast(tokenizer_object=level, unk_token="[UNK]")
    with pytest.raises(InputError, match="WordLevel"):
        vocab.choose(words, [np.array([1, 1])])
    changed = make()
    changed.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="come back the same"):
        vocab.trim_tokenizer(changed, np.arange(len(WORDS)))


def test_coverage_counts_tokens_and_words_with_something_unknown() -> None:
    tokenizer = make()
    tokenizer(LINES, truncation=True, max_length=3, padding="max_length")  # leaves both switched on
    found = vocab.coverage(tokenizer, ["abcd é!", "zz abc zaz!z", "ab"])
    assert found == vocab.Coverage(tokens_per_word=(2 + 2 + 1 + 1 + 3 + 1) / 6, unknown=2 / 6)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_coverage_is_that_of_words_one_by_one(name: str) -> None:
    tokenizer = TOKENIZERS[name](["the cat sat on the mat", "a cat is no mat"] * 20)
    lines = ["the cat é sat", " zebra,quick mat  no ☃☃ ☃ a", "cat"]
    words = [word for line in lines for word in line.split()]
    encoded = [tokenizer(" " + word, add_special_tokens=False).input_ids for word in words]
    unknown = sum(tokenizer.unk_token_id in ids for ids in encoded)
    assert vocab.coverage(tokenizer, lines).unknown == pytest.approx(unknown / len(words))
    assert (unknown > 0) == (name not in ("roberta", "modernbert"))  # the others fall back to bytes


def test_coverage_without_a_word_is_refused() -> None:
    with pytest.raises(InputError, match="at least one word"):
        vocab.coverage(make(), ["", " "])
