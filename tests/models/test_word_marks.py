"""Tokenizers that mark words by the space before them: the start of a text is marked, and every part of the
tokenizer knows of it.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import zoo
from tokenizers import pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.models.load import load_tokenizer
from bistil.tasks.qa import Qa
from bistil.tasks.squad import Question

LINES = ["oslo is big and rome is old", "ben saw oslo in nineteen ten .", "who saw it ?"] * 20
WAYS = {
    "text": None,
    "words": [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=True)],
    "split": [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Punctuation()],
}


def saved_roberta(folder: Path, way: str, *, added: bool) -> PreTrainedTokenizerFast:
    """RoBERTa's tokenizer under the general class, with another pre-tokenizer and trimming of places."""
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=zoo.roberta_tokenizer(LINES).backend_tokenizer,
        **{f"{name}_token": f"<{name}>" for name in ("unk", "pad", "mask")},
        cls_token="<s>",
        sep_token="</s>",
    )
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence(WAYS[way]) if WAYS[way] else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.sep_token_id),
        ("<s>", tokenizer.cls_token_id),
        trim_offsets=True,
        add_prefix_space=added,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("context", ["oslo is big", "  oslo is big", "ben saw oslo in nineteen ten ."])
def test_the_tokens_of_an_answer_hold_all_its_letters(
    way: str, added: bool, context: str, tmp_path: Path
) -> None:
    saved_roberta(tmp_path, way, added=added)
    tokenizer = load_tokenizer(str(tmp_path))
    question = Question("q", "who ?", context, (("oslo", context.index("oslo")),))
    [row] = Qa().encode([question], tokenizer, max_length=64)
    [first], [last] = row["first"], row["last"]
    assert context[row["starts"][first] : row["ends"][last]] == "oslo"


@pytest.mark.parametrize("name", ["roberta", "modernbert", "gemma", "xlm_roberta", "deberta"])
def test_places_hold_words_and_decoding_gives_the_text_back(name: str, tmp_path: Path) -> None:
    getattr(zoo, f"{name}_tokenizer")(LINES).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    for text in ("oslo is big", "big oslo"):
        [row] = Qa().encode(
            [Question("q", "who ?", text, (("oslo", text.index("oslo")),))], tokenizer, max_length=64
        )
        places = [(s, e) for s, e in zip(row["starts"], row["ends"], strict=True) if s >= 0]
        held = {place for pair in places for place in range(*pair)}
        assert held == {place for place, letter in enumerate(text) if letter != " "}
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.backend_tokenizer.decode(ids).removeprefix(" ") == text
        assert tokenizer(text.split(), is_split_into_words=True, add_special_tokens=False).input_ids == ids


def test_a_tokenizer_that_loses_letters_is_refused_with_the_question(tmp_path: Path) -> None:
    tokenizer = saved_roberta(tmp_path, "words", added=True)  # as it is, not loaded by bistil
    question = Question("q7", "who ?", "ben saw oslo", (("oslo", 8),))
    with pytest.raises(InputError, match=r"q7.*answer 'oslo'.*'slo'"):
        Qa().encode([question], tokenizer, max_length=64)


def test_spaces_around_a_gold_answer_are_no_part_of_it(tmp_path: Path) -> None:
    saved_roberta(tmp_path, "text", added=False)
    question = Question("q", "who ?", " oslo is big ", ((" oslo is big ", 0),))
    [row] = Qa().encode([question], load_tokenizer(str(tmp_path)), max_length=64)
    assert row["first"] != [0]
    assert (row["starts"][row["first"][0]], row["ends"][row["last"][0]]) == (1, 12)


def test_what_a_student_was_saved_with_is_mended_at_loading(tmp_path: Path) -> None:
    saved_roberta(tmp_path / "old", "text", added=False)
    tokenizer = load_tokenizer(str(tmp_path / "old"))
    tokenizer.save_pretrained(tmp_path / "new")
    shutil.rmtree(tmp_path / "old")
    again = load_tokenizer(str(tmp_path / "new"))
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert again("oslo", return_offsets_mapping=True)["offset_mapping"][1][0] == 0
