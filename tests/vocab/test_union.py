"""The union of vocabularies: equal strings are one token, ids survive as their strings, cutting stays."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.pretrain.wordpiece import train_wordpiece
from bistil.text.corpora import read_lines
from bistil.vocab.union import ROLES, unite


@pytest.fixture(scope="module")
def lines(world: Path) -> dict[str, list[str]]:
    return {code: read_lines(world / "corpora" / f"{code}.txt") for code in ("qaa", "qac")}


@pytest.fixture(scope="module")
def teachers(lines) -> dict[str, PreTrainedTokenizerFast]:
    found: dict[str, PreTrainedTokenizerFast] = {
        code: train_wordpiece(text, 150, lowercase=False) for code, text in lines.items()
    }
    found["qac"].add_special_tokens({"additional_special_tokens": ["[X]"]})
    return found


def sizes(teachers) -> dict[str, int]:
    return {name: len(tokenizer) + 3 for name, tokenizer in teachers.items()}


def test_every_teachers_id_is_its_string_in_the_union_and_equal_strings_are_one(teachers) -> None:
    union = unite(teachers, sizes(teachers))
    strings = union.tokenizer.get_vocab()
    assert sorted(strings.values()) == list(range(len(strings)))
    assert set(strings) == set().union(*(set(one.get_vocab()) for one in teachers.values()))
    for name, tokenizer in teachers.items():
        for token, i in tokenizer.get_vocab().items():
            assert union.maps[name][i] == strings[token]
        assert union.maps[name][len(tokenizer) :].tolist() == [-1] * 3
    common = set(teachers["qaa"].get_vocab()) & set(teachers["qac"].get_vocab())
    assert union.shared == len(common) > 20
    assert union.own == {name: len(one) - len(common) for name, one in teachers.items()}
    assert sum(union.own.values()) + union.shared == len(union.tokenizer)
    assert [getattr(union.tokenizer, f"{role}_token_id") for role in ROLES] == [0, 1, 2, 3, 4]


def test_a_teachers_own_tokenizer_cuts_as_before_and_gives_ids_of_the_union(
    teachers, lines, tmp_path
) -> None:
    union = unite(teachers, sizes(teachers))
    for name, tokenizer in teachers.items():
        union.read_by[name].save_pretrained(tmp_path / name)
        again = type(tokenizer).from_pretrained(tmp_path / name)
        for line in lines[name][:20]:
            before = tokenizer(line).input_ids
            assert again(line).input_ids == union.maps[name][before].tolist()
            assert union.read_by[name].convert_ids_to_tokens(again(line).input_ids) == tokenizer.tokenize(
                line, add_special_tokens=True
            )
    shorter = [
        len(union.tokenizer(line).input_ids) <= len(teachers["qaa"](line).input_ids) for line in lines["qaa"]
    ]
    assert sum(shorter) > 0.8 * len(shorter)  # a longer match may be there


def test_one_vocabulary_is_a_union_too(teachers) -> None:
    union = unite({"qaa": teachers["qaa"]}, {"qaa": len(teachers["qaa"])})
    assert union.tokenizer.get_vocab() == teachers["qaa"].get_vocab()
    assert (union.own, union.shared) == ({"qaa": len(teachers["qaa"])}, 0)


def test_other_normalisation_needs_a_word_and_other_families_do_not_unite(teachers, lines) -> None:
    mixed = {"qaa": teachers["qaa"], "low": train_wordpiece(lines["qaa"], 150, lowercase=True)}
    with pytest.raises(InputError, match="`normaliser: <teacher>`"):
        unite(mixed, sizes(mixed))
    said = unite(mixed, sizes(mixed), "low").tokenizer
    assert said.backend_tokenizer.normalizer.normalize_str("ABC") == "abc"
    backend = json.loads(teachers["qaa"].backend_tokenizer.to_str())
    backend["model"]["max_input_chars_per_word"] = 3  # longer words are unknown
    short = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), **teachers["qaa"].special_tokens_map
    )
    with pytest.raises(InputError, match="`normaliser: <teacher>`"):
        unite({"qaa": teachers["qaa"], "short": short}, {"qaa": 200, "short": 200})
    pieces = [("<pad>", 0.0), ("<unk>", 0.0), ("a", -1.0)]
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(Unigram(pieces, 1)), unk_token="<unk>")
    with pytest.raises(InputError, match="has Unigram: how it cuts"):
        unite({"qaa": teachers["qaa"], "uni": other}, {"qaa": 200, "uni": 3})
