"""Text classification: both formats and their refusals, labels that training lacks, scores and floor by
hand.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks import Task
from bistil.tasks.classification import Classification, Text
from bistil.tasks.translation import check_translatable, measured, translated, write_translated
from bistil.text.languages import DataFolder

TEXTS = [
    Text("anna sees the big cat .", "animals"),
    Text("ben likes oslo", "places"),
    Text("the old dog visits rome .", "animals"),
]
LONG = "".join(f'{one.label},"{one.text}"\n' for one in TEXTS).replace(" ", "\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "".join(f"{one.label}\t{one.text}\n\n" for one in TEXTS)),
        ("a.txt", "".join(f" {one.label} \t {one.text.replace(' ', '  ')}\r\n" for one in TEXTS)),
        ("a.tsv", "Label\ttext\n" + "".join(f"{one.label}\t{one.text}\n" for one in TEXTS)),
        ("a.csv", "id,text,label\n" + "".join(f'7,"{one.text}",{one.label}\n' for one in TEXTS)),
        ("a.csv", "label,text\n" + LONG),
    ],
)
def test_both_formats(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert Classification().read(tmp_path / name) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", "x\ta b\nno tab\n", "a.tsv, line 2: expected a label, a tab and a text, but got 1 columns"),
        ("a.tsv", "text\tlabel\na b\tx\n", "line 1: .* the label first, .* the other way round"),
        ("a.tsv", "x\ta\tb\n", "line 1: .* got 3 columns"),
        ("a.tsv", "x\t \n", "line 1: .* got no text"),
        ("a.tsv", "\ta b\n", "line 1: .* got no label"),
        ("a.tsv", "\n", "At least one labelled text"),
        ("a.csv", "text,sentiment\na,b\n", "line 1: .* none for label among"),
        ("a.csv", "text,label\na,b\nc,\n", "line 3: .* got no label"),
    ],
)
def test_malformed_files_are_refused_with_the_line(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        Classification().read(tmp_path / name)


def test_scores_by_hand_and_against_sklearn() -> None:
    task = Classification().for_training(TEXTS)
    assert task.labels == ("animals", "places")
    found = task.score(TEXTS, ["animals", "animals", "animals"])
    # animals: precision 2/3, recall 1, F1 0.8; places: 0
    assert found == pytest.approx({"macro_f1": 40.0, "micro_f1": 200 / 3, "accuracy": 200 / 3})
    assert task.floor(TEXTS, TEXTS) == found
    strange = [*TEXTS, Text("cat", "weather")]
    found = task.score(strange, ["animals", "places", "animals", "places"])
    # animals 1, places 2/3, weather 0; micro with weather missed: 3 right of 4 guessed, of 4 gold
    assert found == pytest.approx({"macro_f1": 500 / 9, "micro_f1": 75.0, "accuracy": 75.0})
    with pytest.raises(InputError, match="there are none"):
        Classification().for_training([])
    with pytest.raises(InputError, match="Call for_training"):
        Classification().head(8)


def test_a_label_that_training_lacks_adds_nothing_to_the_loss(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    task = Classification(dropout=0.0).for_training(TEXTS)
    model = tiny_model(task)
    known = task.collate(task.encode(TEXTS, tokenizer, max_length=32), 0)
    both = task.collate(task.encode([*TEXTS, Text("cat", "weather")], tokenizer, max_length=32), 0)
    assert both["labels"].tolist() == [0, 1, 0, -100]
    torch.testing.assert_close(task.loss(model(both).logits, both), task.loss(model(known).logits, known))
    nothing = task.collate(task.encode([Text("cat", "weather")], tokenizer, max_length=32), 0)
    assert task.loss(model(nothing).logits, nothing) == 0.0


def test_a_tiny_model_learns_three_texts(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    task = Classification(dropout=0.0).for_training(TEXTS)
    model = tiny_model(task)
    batch = task.collate(task.encode(TEXTS, tokenizer, max_length=32), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(30):
        loss = task.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.score(TEXTS, task.predict(model, batch))["macro_f1"] == 100.0


def test_a_translation_keeps_labels_and_is_read_again(tmp_path: Path) -> None:
    check_translatable("classification")
    found = translated(TEXTS, lambda texts: [text.upper() for text in texts])
    assert found == [Text(one.text.upper(), one.label) for one in TEXTS]
    write_translated(tmp_path / "x.tsv", found)
    assert Classification().read(tmp_path / "x.tsv") == found
    assert measured(TEXTS, found)["lines"] == 3
    assert measured(TEXTS, TEXTS)["identical"] == 3


def test_the_world_has_each_topic_as_often(data: DataFolder) -> None:
    for code in data.languages:
        found = [one.label for one in Classification().read(data.file("classification", code, "test"))]
        assert sorted(found) == [f"topic{n}" for n in range(1, 7)]
