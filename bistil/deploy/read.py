"""Folders of finished students, as models again: a class of transformers, an encoder with a small head beside
it, or an ONNX graph.

Notable: a folder says by itself what it does, so a file name is all that `bistil predict` needs. Whatever
runs it, a task sees the logits that it saw in training."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from bistil.deploy.graph import Graph, open_graph
from bistil.errors import InputError
from bistil.models.load import Output, TaskModel, load_tokenizer, quiet
from bistil.pipeline.finished import HEAD, LABELS
from bistil.tasks.ner import Ner
from bistil.tasks.nli import Nli
from bistil.tasks.parsing import Parsing
from bistil.tasks.pos import Pos
from bistil.tasks.qa import Qa, on_context
from bistil.tasks.task import Task

GRAPHS = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}
"""Form -> the graph's file."""
Batch = Mapping[str, Tensor]
Finish = Callable[[Sequence[Tensor], Batch], Mapping[str, Tensor]]


class Deployed(TaskModel):
    """A finished student: `outputs` are those of the folder's model or graph, and calling it names them as
    its task does.

    model: of transformers, with its head where the class has one; None where `graph` runs instead.
    """

    def __init__(self, config: Any, model: Any, graph: Graph | None, finish: Finish) -> None:
        super().__init__(encoder=model, head=nn.Identity())
        self.config, self.graph, self.finish = config, graph, finish

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What of a batch goes into the model. Shape of each: [B, L]."""
        segments = {"token_type_ids": batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))}
        return {name: batch[name] for name in ("input_ids", "attention_mask")} | (
            segments if getattr(self.config, "type_vocab_size", 0) > 1 else {}
        )

    def outputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Logits of the model or graph, or last hidden states where the head stands beside it."""
        if self.graph is not None:
            return self.graph(self.inputs(batch))
        return tuple(self.encoder(**self.inputs(batch)).to_tuple())

    def forward(self, batch: Batch, *, states: bool = False, maps: bool = True) -> Output:
        """Named logits, as of any `TaskModel`; states are not to be had of a graph."""
        found = self.outputs(batch)
        return Output(last=found[0], logits=self.finish(found, batch))


def load_deployed(folder: Path) -> tuple[Deployed, Task, PreTrainedTokenizerFast]:
    """A folder's model, ready for `predict_all`, with its task and tokenizer.

    :raises InputError: where the folder holds no finished student, or a graph and the extra `onnx` is
    missing."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The folder of a finished student was expected at {folder}, but it has no config.json. `make"
            " demo` says where it puts one."
        )
    config = AutoConfig.from_pretrained(folder)
    form = str((config.architectures or [""])[0])
    state = load_file(folder / HEAD) if (folder / HEAD).is_file() else None
    labels = (
        json.loads((folder / LABELS).read_text(encoding="utf-8"))
        if state
        else list((config.id2label or {}).values())
    )
    task, finish = _task(folder, form, state, tuple(labels))
    if state is not None:
        head = task.head(config.hidden_size).eval()
        head.load_state_dict(state)
        finish = _by_head(head)
    path = next((folder / name for name in GRAPHS.values() if (folder / name).is_file()), None)
    graph = open_graph(path) if path else None
    model = None
    if graph is None:
        with quiet():
            kind: Any = AutoModel if state is not None else getattr(transformers, form)
            model = kind.from_pretrained(
                folder, **({"add_pooling_layer": False} if kind is AutoModel and pools(config) else {})
            ).eval()
    return Deployed(config, model, graph, finish), task, load_tokenizer(str(folder))


def _task(
    folder: Path, form: str, state: Mapping[str, Tensor] | None, labels: tuple[str, ...]
) -> tuple[Task, Finish]:
    """What a folder does, by the name of its class or by the tensors of its head."""
    names = {name.partition(".")[0] for name in state or {}}
    if form.endswith("ForTokenClassification") or names == {"classifier"}:
        return (Ner(labels=labels) if Ner.other in labels else Pos(labels=labels)), _labels
    if form.endswith("ForSequenceClassification") or names == {"dense", "classifier"}:
        return Nli(labels=labels), _labels
    if form.endswith("ForQuestionAnswering") or names == {"qa_outputs"}:
        return Qa(), _spans
    if names == {"arcs", "relations"}:
        return Parsing(labels=labels), _labels
    raise InputError(
        "A tagger, a parser, a classifier of sentence pairs or a model for questions was expected in"
        f" {folder}, but it holds {form or 'a bare encoder'}."
    )


def _labels(found: Sequence[Tensor], batch: Batch) -> Mapping[str, Tensor]:
    return {"labels": found[0]}


def _spans(found: Sequence[Tensor], batch: Batch) -> Mapping[str, Tensor]:
    return on_context(found[0], found[1], batch)


def _by_head(head: nn.Module) -> Finish:
    def finish(found: Sequence[Tensor], batch: Batch) -> Mapping[str, Tensor]:
        logits: Mapping[str, Tensor] = head(found[0], batch)
        return logits

    return finish


def pools(config: Any) -> bool:
    """Whether the bare encoder would come with a pooler that nothing here needs."""
    return config.model_type in ("bert", "roberta", "xlm-roberta")
