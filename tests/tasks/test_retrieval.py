"""Sentence retrieval: reading pairs, both scores against loops over tokens, both directions, one model for
two languages.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import masked_lm
from transformers import BertTokenizer

from bistil.errors import InputError
from bistil.tasks import retrieval
from bistil.tasks.retrieval import (
    RetrievalConfig,
    Side,
    bertscore,
    cosine,
    parallel,
    read_parallel,
    retrieve,
    retrieve_by_layers,
    token_states,
)
from bistil.text.languages import DataFolder


@pytest.fixture
def side(tokenizer: BertTokenizer) -> Side:
    return Side(masked_lm(len(tokenizer), layers=2).bert, tokenizer)


def test_pairs_of_a_table_and_of_two_files(tmp_path: Path) -> None:
    (tmp_path / "both.tsv").write_text("a b\tc\r\nd\te f\n", encoding="utf-8")
    (tmp_path / "left.txt").write_text("a b\nd\n", encoding="utf-8")
    (tmp_path / "right.txt").write_text("c\ne f", encoding="utf-8")
    pairs = [("a b", "c"), ("d", "e f")]
    assert (
        read_parallel(tmp_path / "both.tsv")
        == read_parallel(tmp_path / "right.txt", tmp_path / "left.txt")
        == pairs
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\tb\nc\n", r"line 2: expected two sentences"), ("a\t \n", "line 1"), ("", "file is empty")],
)
def test_bad_pairs_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_parallel(tmp_path / "a.tsv")


def test_files_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "left.txt").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "right.txt").write_text("a\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"As many lines as in .*left.txt \(2\) were expected in .*right.txt, but it has 1"
    ):
        read_parallel(tmp_path / "right.txt", tmp_path / "left.txt")


def states(generator: torch.Generator, lengths: list[int]) -> list[torch.Tensor]:
    return [torch.randn(length, 5, generator=generator) + 0.5 for length in lengths]


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_scores_are_those_of_plain_loops_over_tokens(seed: int, left: list[int], right: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    source, target = states(generator, left), states(generator, right)
    for i, one in enumerate(source):
        for j, other in enumerate(target):
            near = [[float(torch.cosine_similarity(a, b, dim=0)) for b in other] for a in one]
            precision = max(sum(max(row) for row in near) / len(one), 0.0)
            recall = max(sum(max(column) for column in zip(*near, strict=True)) / len(other), 0.0)
            matched = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            assert float(bertscore(source, target)[i, j]) == pytest.approx(matched, abs=1e-4)
            assert float(cosine(source, target)[i, j]) == pytest.approx(
                float(torch.cosine_similarity(one.mean(0), other.mean(0), dim=0)), abs=1e-5
            )


def test_states_are_those_of_single_sentences_without_special_tokens(side: Side) -> None:
    texts = ["anna sees the cat .", "ben", "the big house visits rome", ""]
    for layer in (0, 1, 2):
        [found] = token_states(side, texts, layers=(layer,), batch_size=3, max_length=16)
        for text, one in zip(texts[:3], found, strict=False):
            batch = side.tokenizer(text, return_tensors="pt")
            hidden = side.encoder(**batch, output_hidden_states=True).hidden_states[layer][0, 1:-1]
            torch.testing.assert_close(one, hidden, atol=1e-5, rtol=1e-4)
        [whole] = token_states(side, texts, layers=(layer,), special=True, batch_size=3, max_length=16)
        assert [len(own) for own in whole] == [*(len(own) + 2 for own in found[:3]), 2]
        torch.testing.assert_close(whole[2][1:-1], found[2], atol=1e-5, rtol=1e-4)
    assert len(found[3]) == 2  # nothing but special tokens
    assert side.tokenizer.backend_tokenizer.truncation is None


@pytest.mark.parametrize("by", ["cosine", "bertscore", "sentence"])
def test_a_sentence_finds_itself_and_equal_lines_are_one(side: Side, by: str) -> None:
    lines = ["anna sees the cat .", "ben visits rome", "the old dog", "ben visits rome"]
    same = [(line, line) for line in lines]
    assert retrieve(side, side, same, layer=2, by=by, batch_size=2) == {
        "forward": 100.0,
        "backward": 100.0,
        "accuracy": 100.0,
    }
    turned = list(zip(lines[:3], [*lines[1:3], lines[0]], strict=True))
    assert retrieve(side, side, turned, layer=2, by=by)["accuracy"] == 0.0


def test_directions_are_rows_and_columns(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(retrieval.SIMILARITIES, "cosine", lambda *_: torch.tensor([[0.9, 0.1], [0.8, 0.2]]))
    found = retrieve(side, side, [("anna", "ben"), ("rome", "oslo")], layer=0)
    assert found == {"forward": 50.0, "backward": 100.0, "accuracy": 75.0}


def test_the_prefix_and_special_tokens_count_as_sentence_encoders_have_it(side: Side, monkeypatch) -> None:
    read: list[Any] = []

    def noted(*both: Any) -> Any:
        read.append(both)
        return cosine(*both)

    monkeypatch.setitem(retrieval.SIMILARITIES, "sentence", noted)
    retrieve(side, side, [("anna", "ben")], layer=2, by="sentence", prefix="the cat ")
    for [states], text in zip(read[0], ("the cat anna", "the cat ben"), strict=True):
        batch = side.tokenizer(text, return_tensors="pt")
        whole = side.encoder(**batch).last_hidden_state[0].mean(0, keepdim=True)
        torch.testing.assert_close(states, whole, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_compared_is_refused(side: Side) -> None:
    for pairs, layer, by in (([], 1, "cosine"), ([("a", "b")], 3, "cosine"), ([("a", "b")], 1, "dot")):
        with pytest.raises(
            InputError,
            match="layers from 0 to 2 and a score among cosine, bertscore, sentence were expected",
        ):
            retrieve(side, side, pairs, layer=layer, by=by)


@pytest.mark.parametrize("by", ["cosine", "bertscore", "sentence"])
def test_several_layers_are_a_loop_over_layers_and_their_mean(side: Side, by: str, monkeypatch: Any) -> None:
    lines = ["anna sees the cat .", "ben visits rome", "the old dog", "oslo", "the big house visits rome"]
    pairs = list(zip(lines, [*lines[1:], lines[0]], strict=True))
    noted: list[torch.Tensor] = []
    plain = retrieval.accuracies

    def noting(found: torch.Tensor, pairs: Any) -> dict[str, float]:
        noted.append(found)
        return plain(found, pairs)

    monkeypatch.setattr(retrieval, "accuracies", noting)
    together, each = retrieve_by_layers(side, side, pairs, layers=(0, 1, 2), by=by, batch_size=2)
    *of_layers, whole = noted
    assert list(each) == [0, 1, 2]
    for layer, found in each.items():
        assert found == retrieve(side, side, pairs, layer=layer, by=by)
        torch.testing.assert_close(noted[-1], of_layers[layer], atol=1e-5, rtol=1e-4)
    assert together == plain(whole, pairs)
    if by == "bertscore":
        torch.testing.assert_close(whole, torch.stack(of_layers).mean(0))
        monkeypatch.setattr(retrieval, "HELD", 1)  # every layer in a pass of its own
        assert retrieve_by_layers(side, side, pairs, layers=(0, 1, 2), by=by) == (together, each)
    else:
        states = token_states(
            side, lines, layers=(0, 1, 2), special=by == "sentence", batch_size=5, max_length=16
        )
        means = [torch.stack([own.mean(0) for own in text]).mean(0) for text in zip(*states, strict=True)]
        expected = torch.cosine_similarity(means[0], means[1], dim=0)
        assert float(whole[0, 0]) == pytest.approx(float(expected), abs=1e-5)


def test_layers_are_named_by_depth_by_number_or_all() -> None:
    assert RetrievalConfig(depth=0.5).numbers(12) == (6,)
    assert RetrievalConfig(layers=()).numbers(3) == (1, 2, 3)
    assert RetrievalConfig(layers=(0, 2)).numbers(3) == (0, 2)


def test_a_data_folder_has_pairs_in_a_table_or_in_two_files(data, tmp_path: Path) -> None:
    table = parallel(data, "qaa", "qac")
    assert len(table) == 20
    rows = "".join(f"{code},N,F,no,c.txt,{code}.txt\n" for code in ("qaa", "qac"))
    (tmp_path / "languages.csv").write_text(
        f"code,name,family,seen,corpus,parallel\n{rows}", encoding="utf-8"
    )
    for place, code in enumerate(("qaa", "qac")):
        (tmp_path / f"{code}.txt").write_text("".join(f"{pair[place]}\n" for pair in table), encoding="utf-8")
    assert parallel(DataFolder(tmp_path), "qaa", "qac") == table
    with pytest.raises(
        InputError, match="A test file of qaa was expected from the table's column `parallel`"
    ):
        parallel(data, "qac", "qaa")


@pytest.mark.real_data
@pytest.mark.skipif("BISTIL_DATA" not in os.environ, reason="BISTIL_DATA names no folder")
def test_real_files() -> None:
    data = DataFolder(Path(os.environ["BISTIL_DATA"]))
    assert len(parallel(data, "eng", "deu")) == 1997
    assert len(parallel(data, "eng", "pcm")) > 7000
