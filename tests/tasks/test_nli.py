"""Inference: the published formats and their refusals, the head and its loss against transformers, accuracy
and floor by hand.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks import Task
from bistil.tasks.nli import LABELS, Nli, Pair
from bistil.text.languages import DataFolder

PAIRS = [
    Pair("anna sees the big cat .", "anna sees the cat .", "entailment"),
    Pair('ben likes "rome', "ben likes oslo", "neutral"),
    Pair("the old dog visits oslo .", "cat", "contradiction"),
]
MULTINLI = "index\tgenre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label"
TABLES = {
    "miniworld": ["premise\thypothesis\tlabel", *(f"{p.premise}\t{p.hypothesis}\t{p.label}" for p in PAIRS)],
    "americasnli": [
        "id\tlanguage\tpremise\thypothesis\tlabel",
        *(f"7\taym\t{p.premise}\t{p.hypothesis}\t{p.label}" for p in PAIRS),
    ],
    "multinli": [
        MULTINLI,
        *(f"0\tx\t( a )\t{p.premise}\t{p.hypothesis}\tneutral\t{p.label}" for p in PAIRS),
        "1\tx\t\tp\th\tneutral\t-",
    ],
    "xnli": [
        "language\tgold_label\tsentence1\tsentence2\tmatch",
        *(f"sw\t{p.label}\t{p.premise}\t{p.hypothesis}" for p in PAIRS),
    ],
    "xnli translated": [
        "premise\thypo\tlabel",
        *(f"{p.premise}\t{p.hypothesis}\t{p.label.replace('ction', 'ctory')}" for p in PAIRS),
    ],
    "snli": ["sentence1\tsentence2\tgold_label", *(f"{p.premise}\t{p.hypothesis}\t{p.label}" for p in PAIRS)],
    "label first, no header": [f"{p.label}\t{p.premise}\t{p.hypothesis}" for p in PAIRS],
    "label last, no header": [f"{p.premise}\t{p.hypothesis}\t{p.label}" for p in PAIRS],
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_published_tables(tmp_path: Path, name: str, end: str) -> None:
    (tmp_path / "a.tsv").write_bytes((end.join(TABLES[name]) + end).encode())
    assert Nli().read(tmp_path / "a.tsv") == PAIRS


def test_a_premise_of_white_space_is_read_as_it_is(tmp_path: Path) -> None:
    """As three of AmericasNLI's Nahuatl."""
    path = tmp_path / "nah.tsv"
    path.write_text("premise\thypothesis\tlabel\n \tb\tneutral\n", encoding="utf-8")
    assert Nli().read(path) == [Pair(" ", "b", "neutral")]


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {
            "gold_label": p.label,
            "sentence1": p.premise,
            "sentence2": p.hypothesis,
            "annotator_labels": ["neutral"],
        }
        for p in PAIRS
    ]
    rows.append({**rows[0], "gold_label": "-"})
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    assert Nli().read(tmp_path / "a.jsonl") == PAIRS


def test_undecided_pairs_are_left_out_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\t-\n\t\t-\nc\td\tneutral\n", encoding="utf-8")
    assert Nli().read(tmp_path / "a.tsv") == [Pair("c", "d", "neutral")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.tsv",
            "premise\thypothesis\tlabel\na\tb\tneutral\na\tb\tmaybe\n",
            r"a.tsv, line 3: expected a label, .* but got 'maybe'",
        ),
        (
            "a.tsv",
            "premise\tlabel\na\tneutral\n",
            r"line 1: expected the columns .* got none for hypothesis among premise, label",
        ),
        ("a.tsv", "premise\thypothesis\tlabel\n\na\tb\n", "line 3: .* none for label"),
        (
            "a.tsv",
            "premise\thypothesis\tlabel\na\tb\tc\tneutral\n",
            "line 2: expected 3 columns with tabs between them, but got 4",
        ),
        ("a.tsv", "premise\thypothesis\tlabel\n", "At least one labelled pair"),
        ("a.tsv", "\tb\tneutral\n", "line 1: expected a text as premise, but got a blank"),
        (
            "a.jsonl",
            '{"sentence1": "a", "sentence2": " ", "gold_label": "neutral"}\n',
            "line 1: expected a text as hypothesis",
        ),
        (
            "a.tsv",
            "language\tpremise\thypothesis\tlabel\nsw\ta\tb\tneutral\nur\ta\tb\tneutral\n",
            "holds sw, ur. Split the file",
        ),
        (
            "a.jsonl",
            '{"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}\n{"a"\n',
            "line 2: expected a JSON object",
        ),
        (
            "a.jsonl",
            (
                '{"sentence1": "a", "sentence2": "b", "gold_label": "-"}\n{"sentence1": "a", "sentence2":'
                ' "b", "gold_label": "yes"}\n'
            ),
            r"a.jsonl, line 2: expected a label, one of entailment, .* but got 'yes'",
        ),
        ("a.jsonl", '{"sentence1": "a", "sentence2": "b", "gold_label": 1}\n', "label, but got 1, a number"),
        ("a.jsonl", '{"sentence1": "a", "sentence2": null, "label": "-"}\n', "the hypothesis, but got None"),
        ("a.jsonl", '{"sentence1": "a", "sentence2": "b"}\n', "none for label among sentence1"),
        ("a.jsonl", '{"label": "-", "label": "neutral"}\n', "line 1: .* 'label' is there twice"),
        ("a.jsonl", '{"premise": "\\ud83d", "hypothesis": "b"}\n', r"line 1: .*half of a surrogate pair"),
        ("a.jsonl", "[]\n", "line 1: expected a JSON object, but got list"),
        ("a.tsv", "premise\tlabel\thypothesis\tlabel\na\t-\tb\tneutral\n", "line 1: .* 'label' twice"),
        ("a.tsv", "", "At least one labelled pair"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        Nli().read(tmp_path / name)


def test_the_world_has_each_label_as_often(data) -> None:
    for code in data.languages:
        assert Counter(pair.label for pair in Nli().read(data.file("nli", code, "test"))) == dict.fromkeys(
            LABELS, 1
        )


def test_pairs_are_encoded_as_two_segments_and_the_longer_sentence_is_cut(tokenizer: BertTokenizer) -> None:
    (row,) = Nli().encode(PAIRS[:1], tokenizer, max_length=10)
    assert (
        " ".join(tokenizer.convert_ids_to_tokens(row["input_ids"]))
        == "[CLS] anna sees the big [SEP] anna sees the [SEP]"
    )
    assert row["token_type_ids"] == [0] * 6 + [1] * 4
    assert row["label"] == [0]
    assert tokenizer.backend_tokenizer.truncation is None


def test_head_and_loss_are_those_of_transformers_sequence_classifier(tokenizer: BertTokenizer) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    config.num_labels = 3
    reference = BertForSequenceClassification(config).eval()
    nli = Nli()
    model = TaskModel(encoder=reference.bert, head=nli.head(32)).eval()
    model.head.dense.load_state_dict(reference.bert.pooler.dense.state_dict())
    model.head.classifier.load_state_dict(reference.classifier.state_dict())
    batch = nli.collate(nli.encode(PAIRS, tokenizer, max_length=32), 0)
    expected = reference(**batch)
    logits = model(batch).logits
    torch.testing.assert_close(logits["labels"], expected.logits)
    torch.testing.assert_close(nli.loss(logits, batch), expected.loss)
    log_p = logits["labels"].log_softmax(-1)
    torch.testing.assert_close(
        nli.distillation_loss(logits, logits, batch), -(log_p.exp() * log_p).sum(-1).mean()
    )
    assert nli.predict(model, batch) == [LABELS[i] for i in expected.logits.argmax(-1)]


def test_accuracy_and_floor_by_hand() -> None:
    assert Nli().score(PAIRS, ["entailment", "neutral", "neutral"]) == {"accuracy": pytest.approx(200 / 3)}
    assert Nli().floor([PAIRS[1], PAIRS[2], PAIRS[2]], PAIRS) == {"accuracy": pytest.approx(100 / 3)}
    with pytest.raises(InputError, match="there are none"):
        Nli().for_training([])


def test_tiny_model_learns_three_pairs(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    nli = Nli(dropout=0.0)
    model = tiny_model(nli)
    batch = nli.collate(nli.encode(PAIRS, tokenizer, max_length=32), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(30):
        loss = nli.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert nli.score(PAIRS, nli.predict(model, batch)) == {"accuracy": 100.0}


@pytest.mark.real_data
@pytest.mark.skipif("BISTIL_DATA" not in os.environ, reason="BISTIL_DATA names no folder")
def test_real_files() -> None:
    data = DataFolder(Path(os.environ["BISTIL_DATA"]))
    assert len(Nli().read(data.file("nli", "eng", "train"))) > 5000
    for code in ("aym", "nah", "tar"):
        assert set(Counter(pair.label for pair in Nli().read(data.file("nli", code, "test")))) == set(LABELS)
