"""Every family of tokenizers, on random vocabularies: text whose tokens are all kept stays the same, and
known text stays known.

BISTIL_EXAMPLES sets the number of vocabularies drawn for each property and family (10000 for a full run).
"""

import json
import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer
from zoo import BYTES, TOKENIZERS, gemma_tokenizer, modernbert_tokenizer

from bistil import vocab
from bistil.errors import InputError
from bistil.vocab.family import family_of
from bistil.vocab.tokenizer import trimmed_data

EXAMPLES = int(os.environ.get("BISTIL_EXAMPLES", "40"))
LETTERS = "abcé▁"
TEXTS = st.lists(st.text("abcdé日 ", max_size=14), min_size=1, max_size=6)
PIECES = st.lists(st.text(LETTERS, min_size=2, max_size=5), unique=True, max_size=14)

drawn = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def wordpieces(draw: Any) -> Tokenizer:
    pieces = [
        form for piece in (*draw(PIECES), *LETTERS) for form in (piece, "##" + piece) if draw(st.booleans())
    ]
    if draw(st.booleans()):
        pieces = [*pieces, *chain.from_iterable(map(spelled, pieces))]
    tokens = draw(st.permutations([*dict.fromkeys(pieces), "[UNK]"]))
    tokenizer = Tokenizer(
        models.WordPiece(
            {token: i for i, token in enumerate(tokens)}, unk_token="[UNK]", max_input_chars_per_word=100
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_specials(tokenizer, "[UNK]")


def spelled(piece: str) -> list[str]:
    """A piece of WordPiece, character by character."""
    bare = piece.removeprefix("##")
    return [c if i == 0 and bare == piece else f"##{c}" for i, c in enumerate(bare)]


def unknown_stays_unknown(tokenizer: Tokenizer) -> bool:
    """Whether the tokens of WordPiece can all be spelled, as in every trained vocabulary; elsewhere a shorter
    piece may spell more.
    """
    known = tokenizer.get_vocab().keys() - {"[UNK]", "[CLS]"}
    return all(c in known for token in known for c in spelled(token))


@st.composite
def unigrams(draw: Any) -> Tokenizer:
    scores = st.sampled_from([-0.5, -1.0, -2.0, -4.0, -9.0, -30.0])  # few values, so that paths tie
    single = [letter for letter in LETTERS if draw(st.integers(0, 2))]
    fallback = draw(st.booleans())
    tokens = draw(st.permutations([*draw(PIECES), *single]))
    pieces = [(token, draw(scores)) for token in tokens]
    pieces.insert(place := draw(st.integers(0, len(pieces))), ("[UNK]", 0.0))
    pieces += [(token, -5.0) for token in BYTES if fallback]
    tokenizer = Tokenizer(models.Unigram(pieces, place, fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return with_specials(tokenizer, "[UNK]")


def merges(draw: Any, letters: Sequence[str]) -> list[tuple[str, str]]:
    """Merges of tokens made so far, in an order that is not that of their making; a token may have
    several.
    """
    tokens, found = list(letters), []
    for _ in range(draw(st.integers(0, 16))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if len(whole := "".join(pair)) <= 6 and pair not in found:
            found.append(pair)
            tokens += [whole] * (whole not in tokens)
    return draw(st.permutations(found))


def bpe(draw: Any, alphabet: Sequence[str], letters: Sequence[str], **settings: Any) -> Tokenizer:
    found = merges(draw, letters)
    made = draw(st.permutations(list(dict.fromkeys([*letters, *map("".join, found), "[UNK]"]))))
    tokens = list(dict.fromkeys([*alphabet, *made]))
    whole_words, fuse = draw(st.booleans()), draw(st.booleans())
    model = models.BPE(
        {token: i for i, token in enumerate(tokens)},
        found,
        unk_token="[UNK]",
        fuse_unk=fuse,
        ignore_merges=whole_words,
        **settings,
    )
    return with_specials(Tokenizer(model), "[UNK]")


@st.composite
def byte_levels(draw: Any) -> Tokenizer:
    tokenizer = bpe(draw, pre_tokenizers.ByteLevel.alphabet(), ["a", "b", "c", "Ġ", "Ã", "©", "æ"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=draw(st.booleans()))
    return tokenizer


@st.composite
def byte_fallbacks(draw: Any) -> Tokenizer:
    letters = [letter for letter in LETTERS if draw(st.integers(0, 4))] or ["a"]
    tokenizer = bpe(draw, BYTES, letters, byte_fallback=True)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    return tokenizer


@st.composite
def characters(draw: Any) -> Tokenizer:
    tokenizer = bpe(draw, [], list(LETTERS))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    return tokenizer


def with_specials(tokenizer: Tokenizer, unknown: str) -> Tokenizer:
    tokenizer.add_special_tokens([unknown, "[CLS]"])
    return tokenizer


DRAWN = {
    "WordPiece": wordpieces(),
    "Unigram": unigrams(),
    "byte-level BPE": byte_levels(),
    "BPE with byte fallback": byte_fallbacks(),
    "BPE of characters": characters(),
}
KNOWS_BYTES = ("byte-level BPE", "BPE with byte fallback")


def trim(
    tokenizer: Tokenizer, chosen: set[int], *, every_character: bool = False
) -> tuple[Tokenizer, np.ndarray]:
    """The tokenizer with the chosen tokens and what they need."""
    family, data = family_of(tokenizer)
    always = {token["id"] for token in data["added_tokens"]}
    kept = np.array(sorted(always | chosen | family.needed(data, chosen - always, every_character)), np.int64)
    return Tokenizer.from_str(json.dumps(trimmed_data(family, data, kept))), kept


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", DRAWN)
def test_text_whose_tokens_are_all_kept_does_not_change(name: str) -> None:
    met = []

    @drawn
    @given(DRAWN[name], TEXTS, TEXTS, st.data())
    def check(tokenizer: Tokenizer, texts: list[str], others: list[str], data: st.DataObject) -> None:
        extra = data.draw(st.sets(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=5))
        trimmed, kept = trim(tokenizer, {i for text in texts for i in ids(tokenizer, text)} | extra)
        assert sorted(trimmed.get_vocab().values()) == list(range(len(kept)))
        for text in (*texts, *others, *(" ".join(reversed(text.split(" "))) for text in texts)):
            before = tokenizer.encode(text, add_special_tokens=False)
            exact = name != "WordPiece" or "[UNK]" not in before.tokens or unknown_stays_unknown(tokenizer)
            if exact and set(before.ids) <= set(kept.tolist()):
                after = trimmed.encode(text, add_special_tokens=False)
                assert after.tokens == before.tokens
                assert kept[after.ids].tolist() == before.ids
                assert after.offsets == before.offsets
                met.append(text not in texts and len(before.ids) > 2)

    check()
    assert any(met)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("every_character", [False, True])
def test_known_text_stays_known(name: str, every_character: bool) -> None:
    """Where every character is a token of its own; with `every_character` or bytes for all text, otherwise
    for kept characters.
    """

    @drawn
    @given(DRAWN[name], TEXTS, TEXTS)
    def check(tokenizer: Tokenizer, texts: list[str], others: list[str]) -> None:
        trimmed, _ = trim(
            tokenizer, {i for text in texts for i in ids(tokenizer, text)}, every_character=every_character
        )
        before, after = tokenizer.get_vocab(), trimmed.get_vocab()
        for text in others:
            spelled = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
            forms = [
                form
                for c in {*spelled, "▁"} - {" "}
                for form in ((c, f"##{c}") if name == "WordPiece" else (c,))
            ]
            alphabet = before if every_character else after
            if before["[UNK]"] not in ids(tokenizer, text) and (
                name in KNOWS_BYTES or all(form in alphabet for form in forms)
            ):
                assert after["[UNK]"] not in ids(trimmed, text)

    check()


LINES = [
    "the cat sat on the mat",
    "a dog ran after the cats",
    "where is the dog now ?",
    "é è ñandú corrió rápido",
    "der Hund läuft",
] * 8


@pytest.mark.parametrize("name", [*TOKENIZERS, "modernbert-bytes"])
def test_trained_tokenizers_reload_and_agree(name: str, tmp_path: Any) -> None:
    tokenizer = {**TOKENIZERS, "modernbert-bytes": modernbert_tokenizer}[name](LINES)
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, LINES[:2])])
    trimmed = vocab.trim_tokenizer(tokenizer, kept)
    trimmed.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(reloaded) is type(tokenizer)
    assert len(trimmed) == len(kept) < len(tokenizer)
    for pair in (("the cat sat", "on a dog"), ("<s> [CLS]", tokenizer.mask_token)):
        assert kept[trimmed(*pair).input_ids].tolist() == tokenizer(*pair).input_ids
        assert reloaded(*pair).data == trimmed(*pair).data
    for special in ("pad", "unk", "cls", "sep", "mask"):
        assert kept[getattr(reloaded, f"{special}_token_id")] == getattr(tokenizer, f"{special}_token_id")
    assert (
        vocab.report(tokenizer, trimmed, kept, {"same": LINES[:2]})["corpora"]["same"]["share_identical"]
        == 1.0
    )


def test_bytes_and_parts_are_kept_and_merges_keep_their_order() -> None:
    tokenizer = gemma_tokenizer(LINES)
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, ["the"])], threshold=0.01)
    trimmed = vocab.trim_tokenizer(tokenizer, kept)
    assert set(BYTES) <= trimmed.get_vocab().keys()
    before, after = (
        json.loads(one.backend_tokenizer.to_str())["model"]["merges"] for one in (tokenizer, trimmed)
    )
    assert after == [merge for merge in before if merge in after] != before
    assert trimmed.tokenize("the") == tokenizer.tokenize("the") == ["the"]


def test_the_worst_score_stays_so_that_the_unknown_token_does_not_become_cheaper() -> None:
    pieces = [("[UNK]", 0.0), ("a", -9.0), ("b", -9.0), ("cd", -9.0), ("abc", -0.5), ("zz", -30.0)]
    tokenizer = with_specials(Tokenizer(models.Unigram(pieces, 0, False)), "[UNK]")
    trimmed, kept = trim(tokenizer, {1, 2, 3, 4})
    assert 5 in kept
    assert trimmed.encode("abcd").tokens == tokenizer.encode("abcd").tokens == ["a", "b", "cd"]
    without = Tokenizer(models.Unigram(pieces[:-1], 0, False))
    assert without.encode("abcd").tokens == ["abc", "d"]  # 10 below -9 beats two more pieces


def test_kept_tokens_without_what_they_need_are_refused() -> None:
    for name, token in (("roberta", "Ġthe"), ("xlm-roberta", "▁cat")):
        tokenizer = TOKENIZERS[name](LINES)
        special = [*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids(token)]
        with pytest.raises(InputError, match=r"more to stay exact.*Use vocab\.choose"):
            vocab.trim_tokenizer(tokenizer, np.array(sorted(set(special))))


def test_marks_of_word_parts_and_dropout_are_refused() -> None:
    for settings_ in ({"end_of_word_suffix": "</w>"}, {"continuing_subword_prefix": "##"}, {"dropout": 0.1}):
        with pytest.raises(InputError, match=next(iter(settings_))):
            family_of(Tokenizer(models.BPE({"a": 0}, [], **settings_)))
