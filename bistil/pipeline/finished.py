"""Finished students as classes of transformers, for use without bistil.

Notable: the heads of tagging, inference and question answering are layer for layer those of the classes that
`architectures` names, so the logits are the same (of a question-answering student: on the context; what
bistil calls impossible, a user of the plain class has to leave out)."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.models.architectures import Form, architecture
from bistil.models.load import TaskModel, quiet, save_student
from bistil.sft.bottleneck import Adapter, without_adapters
from bistil.sft.delta import base_hash
from bistil.tasks.labelling import ClsClassifier
from bistil.tasks.qa import SpanHead
from bistil.tasks.tagging import TokenClassifier
from bistil.text.written import open_to_others

HEADS: Mapping[type[nn.Module], str] = {TokenClassifier: "words", ClsClassifier: "sentence", SpanHead: "span"}
"""Head -> what it does, as `architectures` calls it."""
HEAD, LABELS = "head.safetensors", "labels.json"
"""What stands beside an encoder whose head no class of transformers has."""
ADAPTERS = "{}-adapter.safetensors"
"""The file of an adapter that an encoder wears, by its role."""


def exportable(model: TaskModel) -> bool:
    """Whether transformers has a class with such a head for such an encoder; adapters it has in none."""
    with without_adapters(model.encoder) as adapters:
        return _form(model) is not None and not adapters


def save_finished(
    folder: Path, model: TaskModel, labels: Sequence[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Save a task model as a class of transformers where there is one, or else its encoder with the head, the
    labels and the adapters that it wears beside it.
    """
    if exportable(model):
        export(folder, model, labels, tokenizer)
        return
    with without_adapters(model.encoder) as adapters:
        save_student(folder, model.encoder, tokenizer)
        base = base_hash(model.encoder)
    for role, module in adapters.items():
        one = Adapter(settings=module.settings, role=role, tensors=module.state_dict(), base=base)
        one.save(folder / ADAPTERS.format(role))
    save_file(dict(model.head.state_dict()), folder / HEAD)
    (folder / LABELS).write_text(json.dumps(list(labels)), encoding="utf-8")


def export(
    folder: str | Path, model: TaskModel, labels: Sequence[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Save a task model and its tokenizer so that transformers alone loads them and gives the same logits.

    Raises:
        InputError: where transformers has no class with such a head, or the head has not one output for each
            label.
    """
    form = _form(model)
    outputs = getattr(model.head, [*form.places][-1], None) if form else None
    if form is None or not isinstance(outputs, nn.Linear) or outputs.out_features != len(labels):
        raise InputError(
            f"A {', '.join(head.__name__ for head in HEADS)} that transformers has a class for, with one"
            f" output for each of the {len(labels)} labels was expected, but the head is"
            f" {type(model.head).__name__} with {outputs} on a {type(model.encoder).__name__}. Save the"
            " encoder with save_student, and the head beside it."
        )
    config: Any = copy.deepcopy(model.encoder.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.classifier_dropout = getattr(getattr(model.head, "dropout", None), "p", 0.0)
    for name, value in form.settings.items():
        setattr(config, name, value)
    with torch.device("meta"):  # only a shell: no memory, no random numbers
        shell: Any = getattr(transformers, form.kind)(config)
    state = model.encoder.state_dict().items()
    encoder = {
        f"{shell.base_model_prefix}.{name}": tensor
        for name, tensor in state
        if not name.startswith("pooler.")
    }
    head = {
        f"{form.places[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor
        for name, tensor in model.head.state_dict().items()
    }
    shell.load_state_dict(encoder | head, assign=True)
    with quiet():
        shell.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    open_to_others(Path(folder))


def _form(model: TaskModel) -> Form | None:
    return architecture(model.encoder.config).forms.get(HEADS.get(type(model.head), ""))
