"""Folders of finished students, as models again: a class of transformers, an encoder with a small head beside
it, or an ONNX graph.

Notable: a folder says by itself what it does, so a file name is all that `bistil predict` needs. Whatever
runs it, a task sees the logits that it saw in training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.deploy.graph import Graph, graph_in, open_graph
from bistil.errors import InputError
from bistil.models.architectures import architecture
from bistil.models.config import read_config
from bistil.models.finite import not_finite
from bistil.models.load import Output, TaskModel, check_rows, load_tokenizer, load_weights, model_class
from bistil.pipeline.finished import ADAPTERS, HEAD, LABELS
from bistil.settings.files import read_json
from bistil.sft.bottleneck import NAMED, Adapter
from bistil.sft.delta import base_hash
from bistil.tasks.choice import Choice
from bistil.tasks.classification import Classification
from bistil.tasks.deeper import depth_of, task_head
from bistil.tasks.ner import Ner
from bistil.tasks.nli import LABELS as INFERENCES
from bistil.tasks.nli import Nli
from bistil.tasks.parsing import Parsing
from bistil.tasks.pos import Pos
from bistil.tasks.qa import Qa, on_context
from bistil.tasks.task import Task

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
        """Named logits, as of any `TaskModel`; states are not to be had of a graph.

        Raises:
            InputError: where an output is no number, as of a graph with damaged weights.
        """
        found = self.outputs(batch)
        if any(bool(one.isnan().any()) for one in of_real_tokens(found, batch)):
            raise InputError("Numbers were expected of the student, but it gave none. Export it again.")
        return Output(last=found[0], logits=self.finish(found, batch))


def of_real_tokens(outputs: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """A model's outputs without those at padding; what it gives once for a whole sentence stays."""
    real = batch["attention_mask"].bool()
    of_tokens = [one.shape[:2] == real.shape and (one.ndim > 2 or len(outputs) > 1) for one in outputs]
    return [one[real] if each else one for one, each in zip(outputs, of_tokens, strict=True)]


def load_deployed(folder: Path) -> tuple[Deployed, Task, PreTrainedTokenizerFast]:
    """A folder's model, ready for `predict_all`, with its task and tokenizer.

    Raises:
        InputError: where the folder holds no finished student, its labels are not numbered from 0, a tensor
            is missing, left over or not finite, the tokenizer has more tokens than the model, a file is
            damaged, or it holds a graph and the extra `onnx` is missing.
    """
    config = _config(folder)
    form = str((config.architectures or [""])[0])
    state = _head_state(folder / HEAD) if (folder / HEAD).is_file() else None
    labels = _listed(folder / LABELS) if state else _numbered(folder, config.id2label or {})
    task, finish = _task(folder, form, state, labels)
    if state is not None:
        finish = _by_head(_filled(folder / HEAD, task_head(task, config, depth_of(state)), state))
    path = graph_in(folder)
    graph = open_graph(path) if path else None
    model = None if graph else _model(folder, config, "" if state is not None else form)
    if model is not None:
        _hang(folder, model)
    tokenizer = load_tokenizer(str(folder))
    check_rows(folder, tokenizer, config)
    return Deployed(config, model, graph, finish).eval(), task, tokenizer


def _hang(folder: Path, encoder: PreTrainedModel) -> None:
    """Hang the adapters on an encoder that stand beside it."""
    found = [file for role in NAMED if (file := folder / ADAPTERS.format(role)).is_file()]
    base = base_hash(encoder) if found else ""
    for adapter in [Adapter.load(file, base=base) for file in found]:
        adapter.apply(encoder)


def _config(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The folder of a finished student was expected at {folder}, but it has no config.json. `make"
            " demo` says where it puts one."
        )
    return read_config(folder)


def _numbered(folder: Path, names: Mapping[int, str]) -> tuple[str, ...]:
    """Labels by their numbers, whatever their order in the file."""
    if sorted(names) != list(range(len(names))):
        raise InputError(
            f"Labels numbered from 0 to {len(names) - 1} were expected under `id2label` of"
            f" {folder / 'config.json'}, but their numbers are {', '.join(map(str, sorted(names)))}. Copy the"
            " student again."
        )
    return tuple(names[number] for number in range(len(names)))


def _listed(path: Path) -> tuple[str, ...]:
    labels = read_json(path, list)
    if not all(isinstance(label, str) for label in labels):
        raise InputError(
            f"A list of labels was expected in {path}, but it holds {labels!r:.200}. Copy the student again."
        )
    return tuple(labels)


def _head_state(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, "the tensors of a head", error) from error


def _filled(path: Path, head: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The head with the file's tensors."""
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise _damaged(path, f"the tensors of a {type(head).__name__} for these labels", error) from error
    if broken := not_finite(head):
        raise InputError(f"Finite weights were expected in {path}, but {broken}. Export the student again.")
    return head.eval()


def _model(folder: Path, config: Any, form: str) -> PreTrainedModel:
    """The model of a class, or the bare encoder where none is named, with all of the folder's weights and no
    others.
    """
    bare = architecture(config) if not form else None
    kind = bare.encoder if bare else model_class(form)
    if kind is None:
        raise InputError(f"A model of transformers was expected in {folder}, but there is no {form}.")
    model, missing, unplaced = load_weights(kind, str(folder), **(bare.settings if bare else {}))
    for found, what in (
        (missing, "tensors are missing, which would be filled at random"),
        (unplaced, "tensors have no place in the model"),
    ):
        if found:
            raise InputError(
                f"The weights in {folder} should be all of the {kind.__name__} that its config.json"
                f" describes, but {len(found)} {what}, such as {min(found)}. Copy or export the student"
                " again."
            )
    return cast(PreTrainedModel, model)


def _damaged(path: Path, expected: str, error: Exception) -> InputError:
    return InputError(
        f"{path} should hold {expected}, but it cannot be read as that"
        f" ({type(error).__name__}: {error!s:.500}). Copy or export the student again."
    )


def _task(
    folder: Path, form: str, state: Mapping[str, Tensor] | None, labels: tuple[str, ...]
) -> tuple[Task, Finish]:
    """What a folder does, by the name of its class or by the tensors of its head."""
    deep = state is not None and depth_of(state) > 0
    own = [name.removeprefix("head.") for name in state or {} if not (deep and name.startswith("layers."))]
    names = {name.partition(".")[0] for name in own}
    known = state is None and model_class(form) is not None
    if (known and form.endswith("ForTokenClassification")) or names == {"classifier"}:
        return (Ner(labels=labels) if Ner.other in labels else Pos(labels=labels)), _labels
    if (known and form.endswith("ForSequenceClassification")) or names == {"dense", "classifier"}:
        return (Nli if set(labels) == set(INFERENCES) else Classification)(labels=labels), _labels
    if (known and form.endswith("ForQuestionAnswering")) or names == {"qa_outputs"}:
        return Qa(), _spans
    if names == {"unit"}:
        return Choice(), _labels
    if names == {"arcs", "relations"}:
        return Parsing(labels=labels), _labels
    raise InputError(
        "A tagger, a parser, a classifier or a model for questions or choices was expected in"
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
    return "add_pooling_layer" in architecture(config).settings
