"""Questions: reading and refusals, SQuAD's scores, windows, the head against transformers, best spans against
brute force.
"""

import json
import os
import re
import string
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.models.load import TaskModel
from bistil.tasks import Task
from bistil.tasks.qa import Answer, Qa
from bistil.tasks.spans import best_spans, exact_match, f1, normalise
from bistil.tasks.squad import Question
from bistil.text.languages import DataFolder

WORDS = (
    "anna",
    "ben",
    "rome",
    "oslo",
    "sees",
    "visits",
    "the",
    "big",
    "small",
    "cat",
    "dog",
    "house",
    ",",
    ".",
    "and",
)
CONTEXT = (
    "anna sees the big cat . ben visits rome and oslo . the old dog likes the small house in rome . ben and"
    " anna visits the cat ."
)
ASKED = [
    ("q1", "sees", "the big cat"),
    ("q2", "visits rome", "ben"),
    ("q3", "likes house", "the old dog"),
    ("q4", "in", "rome ."),
]
QUESTIONS = [
    Question(name, asked, CONTEXT, ((answer, CONTEXT.index(answer)),)) for name, asked, answer in ASKED
]


def squad(**changes: Any) -> dict[str, Any]:
    """A file of one question, with the entries of its question changed."""
    entry = {"id": "q1", "question": "Who?", "answers": [{"text": "Ana", "answer_start": 0}], **changes}
    return {
        "version": "1.1",
        "data": [{"title": "x", "paragraphs": [{"context": "Ana sees.", "qas": [entry]}]}],
    }


def write(path: Path, content: object) -> Path:
    path.write_text(
        content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8"
    )
    return path


# -- reading
# --------------------------------------------------------------------------------------------------


def test_questions_are_read_with_all_their_answers(tmp_path: Path) -> None:
    answers = [{"text": "Ana", "answer_start": 0}, {"text": "sees", "answer_start": 4}]
    assert Qa().read(write(tmp_path / "a.json", squad(answers=answers))) == [
        Question("q1", "Who?", "Ana sees.", (("Ana", 0), ("sees", 4)))
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            squad(answers=[{"text": "Ana", "answer_start": 1}]),
            r"a.json, line 1, question q1: expected the answer 'Ana' at character 1, but got 'na '",
        ),
        (squad(answers=[{"text": "Ana", "answer_start": -9}]), "question q1: expected an answer with"),
        (squad(answers=[{"text": "", "answer_start": 0}]), "question q1: expected an answer with"),
        (squad(answers=[{"text": "Ana"}]), "question q1: expected an answer with .* None"),
        (squad(answers=[]), "question q1: expected at least one answer"),
        (squad(answers=None), "question q1: expected a list `answers`"),
        (squad(question=None), "question q1: expected a text `question`"),
        (squad(id=3), "number 1 of `paragraphs`, number 1 of `qas`: expected a text `id`"),
        (squad(question=" "), "question q1: expected a text `question`, but got a blank"),
        ({"data": [{}]}, "an article: expected a list `paragraphs`"),
        ({"data": []}, "At least one question"),
        ([], "the file: expected a list `data`"),
        ('{\n"data": [,]}', "line 2: expected JSON"),
    ],
)
def test_malformed_files_are_refused_with_the_question(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Qa().read(write(tmp_path / "a.json", content))


@pytest.mark.parametrize("name", ["q2", 'é"2'])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_shifted_answer_is_found_with_its_line(tmp_path: Path, name: str, ascii_only: bool) -> None:
    content = squad()
    entries = content["data"][0]["paragraphs"][0]["qas"]
    entries.append({**entries[0], "id": name, "answers": [{"text": "sees", "answer_start": 5}]})
    text = json.dumps(content, indent=1, ensure_ascii=ascii_only)
    line = next(
        i
        for i, one in enumerate(text.split("\n"), start=1)
        if json.dumps(name, ensure_ascii=ascii_only) in one
    )
    with pytest.raises(
        InputError,
        match=rf"a.json, line {line}, question .*: expected the answer 'sees' at character 5, but got 'ees.'",
    ):
        Qa().read(write(tmp_path / "a.json", text))


def test_the_world_is_read_and_its_answers_are_in_place(data) -> None:
    for code in data.languages:
        assert len(Qa().read(data.file("qa", code, "test"))) >= 2


@pytest.mark.real_data
@pytest.mark.skipif("BISTIL_DATA" not in os.environ, reason="BISTIL_DATA names no folder")
def test_real_files() -> None:
    data = DataFolder(Path(os.environ["BISTIL_DATA"]))
    assert len(Qa().read(data.file("qa", "eng", "dev"))) == 1472
    for code in ("ara", "ell", "spa", "zho"):
        assert len(Qa().read(data.file("qa", code, "test"))) == 1190
        assert not data.has("qa", code, "train")


# -- scores
# --------------------------------------------------------------------------------------------------


def reference(guess: str, gold: str) -> tuple[float, float]:
    """Exact match and F1 as SQuAD's script reckons them, step by step."""

    def words(text: str) -> list[str]:
        letters = [letter for letter in text.lower() if letter not in set(string.punctuation)]
        return [word for word in re.sub(r"\b(a|an|the)\b", " ", "".join(letters)).split() if word]

    left, right = words(guess), words(gold)
    same = sum((Counter(left) & Counter(right)).values())
    if same == 0:
        return float(left == right), 0.0
    precision, recall = same / len(left), same / len(right)
    return float(left == right), 2 * precision * recall / (precision + recall)


TEXTS = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["the", "a", "An", "cat", "Cat!", "b-c", " ", "dog", "."])).map(" ".join),
)


@given(TEXTS)
def test_normalisation_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(TEXTS, TEXTS)
def test_scores_are_those_of_the_definition(guess: str, gold: str) -> None:
    assert (exact_match(guess, gold), f1(guess, gold)) == pytest.approx(reference(guess, gold))
    assert f1(guess, gold) == f1(gold, guess)


def test_scores_by_hand() -> None:
    assert normalise("  The Cat's\tan-tenna, a dog. ") == "cats antenna dog"
    assert exact_match("the big cat", "Big cat!") == 1.0
    assert f1("the big old cat", "cat") == pytest.approx(0.5)
    assert (exact_match("the", "a"), f1("the", "a"), f1("", "")) == (1.0, 0.0, 0.0)
    two = Question("q", "x", "the big cat", (("cat", 8), ("big cat", 4)))
    scores = Qa().score([two, QUESTIONS[1]], [(Answer(4, 11, 1.0), Answer(8, 11, 0.5)), ()])
    assert scores == {"em": 50.0, "f1": 50.0}


def test_the_floor_is_the_first_words_of_the_context() -> None:
    asked = [Question("q", "x", CONTEXT, (("anna sees", 0),)), Question("q", "x", CONTEXT, (("cat", 18),))]
    train = [Question("q", "x", "a b c d", ((text, 0),)) for text in ("a", "a b", "a b c")]
    assert Qa().floor(train, asked) == {"em": 50.0, "f1": 50.0}


# -- windows
# --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=60),
    st.integers(0, 40),
    st.integers(24, 40),
    st.data(),
)
def test_windows_cover_every_token_and_share_some(
    words: list[str], asked: int, max_length: int, draw: st.DataObject
) -> None:
    tokenizer = BertTokenizer(
        vocab={piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    )
    context, first = " ".join(words), draw.draw(st.integers(0, len(words) - 1))
    last = draw.draw(st.integers(first, min(first + 4, len(words) - 1)))
    answer, start = " ".join(words[first : last + 1]), len(" ".join([*words[:first], ""]))
    [row] = Qa().encode(
        [Question("q", "cat " * asked, context, ((answer, start),))], tokenizer, max_length=max_length
    )
    batch = Qa().collate([row], 0)
    assert batch["input_ids"].shape[1] == max(row["lengths"]) <= max_length
    spans = [
        [(s, e) for s, e in zip(*pair, strict=True) if s >= 0]
        for pair in zip(batch["starts"].tolist(), batch["ends"].tolist(), strict=True)
    ]
    assert (
        sorted({span for window in spans for span in window})
        == tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    )
    assert all(len(set(one) & set(other)) >= max_length // 3 for one, other in pairwise(spans))
    found = 0
    for window, one, other in zip(range(len(spans)), row["first"], row["last"], strict=True):
        held = start >= spans[window][0][0] and start + len(answer) <= spans[window][-1][1]
        assert (one > 0) == held
        found += held
        if held:
            assert (int(batch["starts"][window, one]), int(batch["ends"][window, other])) == (
                start,
                start + len(answer),
            )
    assert found  # answers of up to 5 tokens are shorter than what two windows share


def test_questions_are_cut_and_too_short_windows_refused(tokenizer: BertTokenizer) -> None:
    [row] = Qa().encode(
        [Question("q", "cat " * 50, "anna sees ben", (("ben", 10),))], tokenizer, max_length=24
    )
    assert row["starts"] == [-1] * 10 + [0, 5, 10, -1]
    assert row["token_type_ids"] == [0] * 10 + [1] * 4
    assert tokenizer.backend_tokenizer.truncation is None
    with pytest.raises(InputError, match=r"at least 24 tokens .* max_length is 23"):
        Qa().encode(QUESTIONS, tokenizer, max_length=23)


# -- head, losses, predictions
# --------------------------------------------------------------------------------------------------------


def test_logits_are_those_of_transformers_on_the_context_and_losses_their_closed_forms(
    tokenizer: BertTokenizer,
) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    theirs, qa = BertForQuestionAnswering(config).eval(), Qa()
    model = TaskModel(encoder=theirs.bert, head=qa.head(32)).eval()
    model.head.qa_outputs.load_state_dict(theirs.qa_outputs.state_dict())
    batch = qa.collate(qa.encode(QUESTIONS, tokenizer, max_length=24), 0)
    assert len(batch["input_ids"]) > len(QUESTIONS)
    expected = theirs(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
    logits = model(batch).logits
    possible = (batch["starts"] >= 0) | (torch.arange(batch["starts"].shape[1]) == 0)
    for name, other in (("start", expected.start_logits), ("end", expected.end_logits)):
        torch.testing.assert_close(logits[name][possible], other[possible])
    parts = [
        (logits[name] + torch.where(possible, 0.0, -torch.inf)).log_softmax(-1) for name in ("start", "end")
    ]
    every = torch.arange(len(batch["first"]))
    torch.testing.assert_close(
        qa.loss(logits, batch), -(parts[0][every, batch["first"]] + parts[1][every, batch["last"]]).mean()
    )
    entropy = sum(-(part.exp() * part.masked_fill(~possible, 0.0)).sum(-1).mean() for part in parts)
    torch.testing.assert_close(qa.distillation_loss(logits, logits, batch), entropy)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 5), st.integers(1, 30))
def test_best_spans_are_those_of_brute_force(seed: int, length: int, longest: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 3, length, generator=generator)
    begin = torch.randint(0, length, (3, 1), generator=generator)
    context = torch.arange(length) >= begin
    scores, firsts, lasts = best_spans(start, end, context, longest=longest, n=n)
    for row in range(3):
        pairs = [(i, j) for i in range(int(begin[row]), length) for j in range(i, min(i + longest, length))]
        ranked = sorted(pairs, key=lambda pair: -float(start[row, pair[0]] + end[row, pair[1]]))[:n]
        found = [
            (int(i), int(j))
            for s, i, j in zip(scores[row], firsts[row], lasts[row], strict=True)
            if s > -torch.inf
        ]
        assert found == ranked


def test_predictions_are_the_best_of_all_windows_and_never_in_the_question(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    qa = Qa(longest=4, n_best=7)
    model = tiny_model(qa)
    torch.nn.init.normal_(model.head.qa_outputs.weight, std=3.0)
    batched = predict_all(model, qa, QUESTIONS, tokenizer, max_length=24, batch_size=3)
    for question, answers in zip(QUESTIONS, batched, strict=True):
        batch = qa.collate(qa.encode([question], tokenizer, max_length=24), 0)
        with torch.inference_mode():
            logits = model(batch).logits
        brute: dict[tuple[int, int], float] = {}
        for w in range(len(batch["first"])):
            inside = [i for i in range(batch["starts"].shape[1]) if batch["starts"][w, i] >= 0]
            for i in inside:
                for j in (j for j in inside if i <= j < i + 4):
                    span = (int(batch["starts"][w, i]), int(batch["ends"][w, j]))
                    brute[span] = max(
                        brute.get(span, -torch.inf), float(logits["start"][w, i] + logits["end"][w, j])
                    )
        best = sorted(brute.items(), key=lambda item: -item[1])[:7]
        assert [(answer.start, answer.end) for answer in answers] == [span for span, _ in best]
        assert [answer.score for answer in answers] == pytest.approx([score for _, score in best], abs=1e-4)


def test_tiny_model_learns_four_questions(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    qa = Qa()
    model = tiny_model(qa)
    batch = qa.collate(qa.encode(QUESTIONS, tokenizer, max_length=30), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        loss = qa.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert qa.score(QUESTIONS, qa.predict(model, batch)) == {"em": 100.0, "f1": 100.0}
    with pytest.raises(InputError, match="there are none"):
        Qa().for_training([])
