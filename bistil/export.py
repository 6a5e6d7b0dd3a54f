"""Finished students as classes of transformers, for use without bistil.

Notable: the heads of tagging, inference and question answering are layer for layer those of transformers' BERT classes, so the logits are
the same (of a question-answering student: on the context; what bistil calls impossible, a user of the plain class has to leave out).
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bistil.errors import InputError
from bistil.models import TaskModel, quiet
from bistil.tasks.nli import ClsClassifier
from bistil.tasks.qa import SpanHead
from bistil.tasks.tagging import TokenClassifier

FORMS: Mapping[type[nn.Module], tuple[type[PreTrainedModel], Mapping[str, str]]] = {
    TokenClassifier: (BertForTokenClassification, {"classifier": "classifier"}),
    ClsClassifier: (BertForSequenceClassification, {"dense": "bert.pooler.dense", "classifier": "classifier"}),
    SpanHead: (BertForQuestionAnswering, {"qa_outputs": "qa_outputs"}),
}
"""Head -> (class of transformers, where that class keeps each layer of the head)."""


def exportable(head: nn.Module) -> bool:
    """Whether transformers has a class with such a head."""
    return type(head) in FORMS


def export(folder: str | Path, model: TaskModel, labels: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> None:
    """Save a task model and its tokenizer so that transformers alone loads them and gives the same logits.

    :raises InputError: where transformers has no class with such a head, or the head has not one output for each label.
    """
    kind, places = FORMS.get(type(model.head), (PreTrainedModel, {}))
    outputs = getattr(model.head, next(reversed([*places]), ""), None)
    if not isinstance(outputs, nn.Linear) or outputs.out_features != len(labels):
        raise InputError(
            f"A {', '.join(form.__name__ for form in FORMS)} with one output for each of the {len(labels)} labels was expected, but the "
            f"head is {type(model.head).__name__} with {outputs}. Save the encoder with save_student, and the head beside it."
        )
    config: Any = copy.deepcopy(model.encoder.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.classifier_dropout = getattr(getattr(model.head, "dropout", None), "p", 0.0)
    with torch.device("meta"):  # only a shell: no memory, no random numbers
        shell: Any = kind(config)
    encoder = {f"bert.{name}": tensor for name, tensor in model.encoder.state_dict().items() if not name.startswith("pooler.")}
    head = {f"{places[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor for name, tensor in model.head.state_dict().items()}
    shell.load_state_dict(encoder | head, assign=True)
    with quiet():
        shell.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
