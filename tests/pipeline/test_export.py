"""Exports: the logits of every head as a class of transformers, its labels and dropout, and what cannot be
exported.
"""

from pathlib import Path

import pytest
import torch
from tiny import masked_lm
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertTokenizer,
)

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.pipeline.finished import export, exportable
from bistil.tasks import task as find_task

CLASSES = {
    "ner": AutoModelForTokenClassification,
    "pos": AutoModelForTokenClassification,
    "nli": AutoModelForSequenceClassification,
    "classification": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}


def trained(name: str, data, wordpiece: BertTokenizer):
    kind = find_task(name)
    examples = kind.read(data.file(kind.column, "qaa", "test"))
    task = kind.for_training(examples)
    torch.manual_seed(1)
    model = TaskModel(encoder=masked_lm(len(wordpiece), layers=2).bert, head=task.head(32)).eval()
    return model, task, task.collate(task.encode(examples, wordpiece, max_length=48), 0)


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_alone_gives_the_same_logits(
    name: str, data, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    model, task, batch = trained(name, data, wordpiece)
    state = torch.random.get_rng_state()
    export(tmp_path / "x", model, task.labels, wordpiece)
    assert torch.equal(torch.random.get_rng_state(), state)
    loaded = CLASSES[name].from_pretrained(tmp_path / "x").eval()
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
    with torch.inference_mode():
        expected, found = model(batch).logits, loaded(**inputs)
    if name == "qa":
        context = batch["starts"] >= 0
        torch.testing.assert_close(found.start_logits[context], expected["start"][context])
        torch.testing.assert_close(found.end_logits[context], expected["end"][context])
    else:
        torch.testing.assert_close(found.logits, expected["labels"])
        assert loaded.config.classifier_dropout == 0.1
    assert tuple(loaded.config.id2label.values()) == task.labels
    assert AutoTokenizer.from_pretrained(tmp_path / "x")("a b").input_ids == wordpiece("a b").input_ids


def test_other_heads_and_other_labels_are_refused(data, wordpiece: BertTokenizer, tmp_path: Path) -> None:
    parser, task, _ = trained("parsing", data, wordpiece)
    assert not exportable(parser)
    with pytest.raises(InputError, match="the head is ShallowBiaffine"):
        export(tmp_path / "x", parser, task.labels, wordpiece)
    tagger, _, _ = trained("ner", data, wordpiece)
    with pytest.raises(InputError, match="each of the 1 labels"):
        export(tmp_path / "x", tagger, ["O"], wordpiece)
