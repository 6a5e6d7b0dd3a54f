"""Choice: the format and its refusals, candidates in one batch, a softmax for each question, chance."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks import Task
from bistil.tasks.choice import Candidates, Choice, ChoiceHead

QUESTIONS = [
    Candidates("anna likes rome .", "anna likes", ("rome", "oslo"), 0),
    Candidates("ben likes the big house in oslo .", "ben likes", ("rome", "anna", "the house"), 2),
]
SOUND = {"context": "a", "question": "b", "choices": ["c", "d"], "label": 1}


def test_json_lines(tmp_path: Path) -> None:
    rows = [{**vars(one), "choices": list(one.choices), "id": 7} for one in QUESTIONS]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert Choice().read(tmp_path / "a.jsonl") == QUESTIONS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"context": None}, "a text under 'context', but got None"),
        ({"question": " "}, "a text under 'question', but got ' '"),
        ({"choices": ["c"]}, "two texts or more"),
        ({"choices": ["c", 1]}, "two texts or more"),
        ({"choices": "cd"}, "two texts or more"),
        ({"label": 2}, "from 0 to 1, under 'label', but got 2"),
        ({"label": True}, "but got True"),
        ({"label": "0"}, "but got '0'"),
    ],
)
def test_what_is_malformed_is_told_with_its_line(tmp_path: Path, changed: dict, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(SOUND) + "\n" + json.dumps({**SOUND, **changed}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"a.jsonl, line 2: expected .*{said}"):
        Choice().read(path)
    lacking = {name: value for name, value in SOUND.items() if name not in changed}
    path.write_text(json.dumps(lacking), encoding="utf-8")
    with pytest.raises(InputError, match="but got nothing"):
        Choice().read(path)


def test_candidates_are_read_one_by_one_and_the_longest_part_is_cut(tokenizer: BertTokenizer) -> None:
    [row] = Choice().encode(QUESTIONS[1:], tokenizer, max_length=10)
    each = Choice().collate([row], 0)
    assert each["counts"].tolist() == [3]
    assert [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in each["input_ids"]] == [
        "[CLS] ben likes the [SEP] ben likes [SEP] rome [SEP]",
        "[CLS] ben likes the [SEP] ben likes [SEP] anna [SEP]",
        "[CLS] ben likes [SEP] ben likes [SEP] the house [SEP]",
    ]
    assert each["token_type_ids"].tolist() == [[0] * 8 + [1] * 2, [0] * 8 + [1] * 2, [0] * 7 + [1] * 3]


def test_two_and_three_candidates_in_one_batch_are_as_alone(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    task = Choice()
    model = tiny_model(task)
    assert isinstance(model.head, ChoiceHead)
    torch.nn.init.normal_(model.head.unit.weight)
    rows = task.encode(QUESTIONS, tokenizer, max_length=32)
    both = task.collate(rows, 0)
    alone = [task.collate([row], 0) for row in rows]
    logits = model(both).logits
    assert logits["labels"].shape == (2, 3)
    losses = [task.loss(model(one).logits, one) for one in alone]
    torch.testing.assert_close(task.loss(logits, both), torch.stack(losses).mean())
    first = model(alone[0]).logits["labels"][0]
    torch.testing.assert_close(losses[0], -first.log_softmax(-1)[0])
    soft = task.distillation_loss(logits, logits, both)
    p = [model(one).logits["labels"][0].softmax(-1) for one in alone]
    torch.testing.assert_close(soft, torch.stack([-(one * one.log()).sum() for one in p]).mean())
    assert task.predict(model, both) == [task.predict(model, one)[0] for one in alone]


def test_accuracy_and_chance_by_hand() -> None:
    assert Choice().score(QUESTIONS, [0, 1]) == {"accuracy": 50.0}
    assert Choice().floor([], QUESTIONS) == {"accuracy": pytest.approx(100 * (1 / 2 + 1 / 3) / 2)}


def test_a_tiny_model_learns_two_questions(
    tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    task = Choice()
    model = tiny_model(task)
    batch = task.collate(task.encode(QUESTIONS, tokenizer, max_length=32), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = task.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.predict(model, batch) == [0, 2]
