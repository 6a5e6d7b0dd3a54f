"""The encoders that can be teachers: for each, where its parts are and what it needs besides when layers or
tokens go.

Notable: whatever a model says of itself is read from the model (its encoder, embeddings, attention kernels,
segments), and only the rest stands here. To add an architecture, add an entry to `ARCHITECTURES`; it must
give attention distributions and all hidden states.
* BERT numbers positions from 0, RoBERTa and XLM-R from the padding id + 1.
* DeBERTa's layers share one table of relative positions, which the student copies whole. Its published
  masked-LM head stands under other names and is the same function.
* DistilBERT is BERT without segments and under other names; its class for sentences has another activation
  than our head.
* ELECTRA is BERT with embeddings that may be narrower than the states they are mapped to, and without a
  pooler; its class for sentences has another activation than our head. Its generators have a masked-LM head.
* ModernBERT alternates global and local attention; a student's layer has the type of the teacher layer that
  it copies. Its first layer has no norm before the attention: a student's first layer has the scale of that
  norm in its projection instead, the nearest it can be.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import transformers
from torch import Tensor
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.systems.layers import PARTS

Tensors = dict[str, Tensor]
Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class Form:
    """A class of transformers with a task head.

    Attributes:
        kind: its name.
        places: where it keeps each layer of our head.
        settings: what its configuration needs besides.
    """

    kind: str
    places: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Block(Generic[Part]):
    """The parts of a Transformer block, as names within it or as modules.

    Attributes:
        query: the map from states to queries.
        key: the map from states to keys; the same part as `query` where one map gives all three.
        value: the map from states to values.
        attention: the map from the heads back to states.
        inner: the map from states to feed-forward units, or to units and their gates.
        outer: the map from feed-forward units back to states.
        attention_norm: the layer norm behind the sum of attention and states; in ModernBERT before the maps.
        outer_norm: the layer norm behind the sum of feed-forward and states; in ModernBERT before `inner`.
    """

    query: Part
    key: Part
    value: Part
    attention: Part
    inner: Part
    outer: Part
    attention_norm: Part
    outer_norm: Part


BERT = Block(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention="attention.output.dense",
    inner="intermediate.dense",
    outer="output.dense",
    attention_norm="attention.output.LayerNorm",
    outer_norm="output.LayerNorm",
)
"""Where BERT, RoBERTa and XLM-R keep the parts of a block."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One family of encoders.

    Attributes:
        encoder: a class of transformers.
        mlm: a class of transformers.
        layers: the state's prefix of numbered layers.
        block: where each of them keeps its parts.
        head: the masked LM's modules that turn hidden states into logits, one after the other.
        settings: of the encoder's constructor.
        renamed: patterns of a published checkpoint's names, and ours.
        after_padding: whether positions begin after the padding id.
        norms_first: whether a block norms its input, rather than the sum with it.
        embedding: the configuration's name for the width of what the embedding layer gives.
        adapt: called with a copy of the teacher's configuration and 1-based layers; changes the former so
            that it suits a student of the latter.
        first: called with the student's tensors, the teacher's and a 1-based layer; changes the first where
            the student's first layer is a copy of that one.
        forms: classes for tasks, by what a head does.
    """

    encoder: type[PreTrainedModel]
    mlm: type[PreTrainedModel]
    layers: str = "encoder.layer."
    block: Block[str] = BERT
    head: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    after_padding: bool = False
    norms_first: bool = False
    embedding: str = "hidden_size"
    adapt: Callable[[Any, Sequence[int]], None] = lambda config, layers: None
    first: Callable[[Tensors, Mapping[str, Tensor], int], None] = lambda student, teacher, layer: None
    forms: Mapping[str, Form]


def architecture(config: Any) -> Architecture:
    """Return the architecture of a configuration; InputError for one that is not supported."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise InputError(
            f"{config.model_type} models cannot be teachers; supported architectures:"
            f" {', '.join(ARCHITECTURES)}. A teacher must give attention distributions and hidden states of"
            " every layer and have a masked-language-model head."
        )
    return found


def blocks(encoder: PreTrainedModel) -> list[Block[Any]]:
    """Return the parts of an encoder's Transformer blocks, the first block first."""
    kind = architecture(encoder.config)
    layers = (encoder.get_submodule(f"{kind.layers}{i}") for i in range(encoder.config.num_hidden_layers))
    places: dict[str, str] = vars(kind.block)
    return [Block(**{part: layer.get_submodule(at) for part, at in places.items()}) for layer in layers]


def named_parts(encoder: PreTrainedModel, parts: Iterable[str]) -> list[str]:
    """Return the names of an encoder's modules that are its `embeddings` and its layers by `layer:1` and so
    on, as settings say them; a masked-LM `head` is in no encoder.

    Raises:
        InputError: for another name, or a layer that the encoder has not.
    """
    prefix, depth = architecture(encoder.config).layers, encoder.config.num_hidden_layers
    found = []
    for part in parts:
        if not re.fullmatch(PARTS, part):
            raise InputError(
                f"`embeddings`, or `layer:1` to `layer:{depth}`, was expected, but got {part!r}."
            )
        number = int(part.partition(":")[2] or 0)
        if number > depth:
            raise InputError(f"An encoder of {depth} layers has no layer {number}.")
        if part != "head":
            found.append(f"{prefix}{number - 1}" if number else part)
    return found


def longest_sequence(config: Any) -> int:
    """Return how many tokens a sequence may have, special tokens included."""
    return int(config.max_position_embeddings) - (
        config.pad_token_id + 1 if architecture(config).after_padding else 0
    )


def embedding_width(config: Any) -> int:
    """Return how many values the embedding layer gives for a token."""
    return int(getattr(config, architecture(config).embedding))


def student_config(config: Any, layers: Sequence[int]) -> Any:
    """Return a copy of a teacher's configuration for a student whose layers are copies of these 1-based
    `layers`.

    Raises:
        InputError: where the architecture makes no sense with these layers alone.
    """
    changed = copy.deepcopy(config)
    changed.num_hidden_layers = len(layers)
    if list(layers) != list(range(1, config.num_hidden_layers + 1)):
        architecture(config).adapt(changed, layers)
    return changed


def student_tensors(
    config: Any, source: Mapping[str, Tensor], names: Sequence[str], layers: Sequence[int]
) -> Tensors:
    """Return the student's tensors `names` from those of an encoder with `config`, layer i from the 1-based
    layers[i].
    """
    kind = architecture(config)

    def origin(name: str) -> str:
        if not name.startswith(kind.layers):
            return name
        number, _, rest = name.removeprefix(kind.layers).partition(".")
        return f"{kind.layers}{layers[int(number)] - 1}.{rest}"

    tensors = {name: source[origin(name)] for name in names}
    if layers[0] > 1:
        kind.first(tensors, source, layers[0])
    return tensors


def mlm_logits(mlm: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The masked-LM head on hidden states. Shape: [..., H] to [..., V]."""
    for name in architecture(mlm.config).head:
        hidden = mlm.get_submodule(name)(hidden)
    return hidden


def before_logits(mlm: PreTrainedModel, hidden: Tensor) -> Tensor:
    """What the masked-LM head gives to its output embedding, whose product with it `mlm_logits` returns.
    Shape: [..., H] to [..., E], E the output embedding's width.
    """
    output: Any = mlm.get_output_embeddings()
    output.forward = lambda given: given
    try:
        return mlm_logits(mlm, hidden)
    finally:
        del output.forward


def head_state(mlm: PreTrainedModel) -> Tensors:
    """Copies of the masked-LM head's tensors, for `load_head`."""
    return {
        f"{name}.{key}": tensor.clone()
        for name in architecture(mlm.config).head
        for key, tensor in mlm.get_submodule(name).state_dict().items()
    }


def load_head(mlm: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    """Give the masked LM the head that `head_state` has read from another."""
    for name in architecture(mlm.config).head:
        own = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in state.items()
            if key.startswith(f"{name}.")
        }
        mlm.get_submodule(name).load_state_dict(own)


def with_encoder(mlm: PreTrainedModel, encoder: PreTrainedModel) -> PreTrainedModel:
    """The masked LM `mlm`, changed in place: its head over another encoder, the output embedding as it
    was.
    """
    setattr(mlm, mlm.base_model_prefix, encoder)
    mlm.config = encoder.config
    return mlm


def _without_convolution(config: Any, layers: Sequence[int]) -> None:
    """DeBERTa-v2's large models have a convolution beside their first layer, which no other layer stands in
    for.
    """
    if getattr(config, "conv_kernel_size", 0) > 0:
        raise InputError(
            f"This DeBERTa has a convolution beside its first layer; a student of the layers {tuple(layers)}"
            " would have it beside another. Take a DeBERTa without one (conv_kernel_size 0), such as"
            " mDeBERTa-v3 base."
        )


def _same_attention(config: Any, layers: Sequence[int]) -> None:
    """ModernBERT: keep each layer's type of attention, and refuse where no global attention would be left."""
    types = config.layer_types
    config.layer_types = [types[layer - 1] for layer in layers]
    if "full_attention" in types and "full_attention" not in config.layer_types:
        pattern = "".join("G" if one == "full_attention" else "l" for one in types)
        raise InputError(
            f"A student of the layers {tuple(layers)} of this ModernBERT would have local attention only: the"
            f" teacher's layers are {pattern} (G global, l local). Choose another layer reduction factor."
        )
    if config.norm_bias:
        raise InputError(
            "This ModernBERT has biases in its layer norms, which a student's first layer has no place for"
            " (norm_bias)."
        )


def _fold_norm(student: Tensors, teacher: Mapping[str, Tensor], layer: int) -> None:
    """Put the scale of the attention norm, which a first layer has not, into its projection.

    The norm would also bring each token's embedding to unit variance; the embedding's own norm does that up
    to its scale, whose root mean square is divided out here."""
    spread = teacher["embeddings.norm.weight"].double().square().mean().sqrt()
    scale = teacher[f"layers.{layer - 1}.attn_norm.weight"].double() / spread
    name = "layers.0.attn.Wqkv.weight"
    student[name] = (student[name].double() * scale).to(student[name].dtype)


def _forms(name: str, *, settings: Mapping[str, Any] | None = None, **sentence: str) -> Mapping[str, Form]:
    """The task classes of a family; `sentence` says where that for sentences keeps each layer of our head,
    without which there is none.
    """
    found = {
        "words": Form(kind=f"{name}ForTokenClassification", places={"classifier": "classifier"}),
        "span": Form(kind=f"{name}ForQuestionAnswering", places={"qa_outputs": "qa_outputs"}),
    }
    kind = f"{name}ForSequenceClassification"
    return (
        {**found, "sentence": Form(kind=kind, places=sentence, settings=settings or {})}
        if sentence
        else found
    )


_ROBERTA = Architecture(
    encoder=transformers.RobertaModel,
    mlm=transformers.RobertaForMaskedLM,
    head=("lm_head",),
    settings={"add_pooling_layer": False},
    after_padding=True,
    forms=_forms("Roberta", dense="classifier.dense", classifier="classifier.out_proj"),
)
ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture(
        encoder=transformers.BertModel,
        mlm=transformers.BertForMaskedLM,
        head=("cls",),
        settings={"add_pooling_layer": False},
        forms=_forms("Bert", dense="bert.pooler.dense", classifier="classifier"),
    ),
    "xlm-roberta": replace(
        _ROBERTA,
        encoder=transformers.XLMRobertaModel,
        mlm=transformers.XLMRobertaForMaskedLM,
        forms=_forms("XLMRoberta", dense="classifier.dense", classifier="classifier.out_proj"),
    ),
    "roberta": _ROBERTA,
    "deberta-v2": Architecture(
        encoder=transformers.DebertaV2Model,
        mlm=transformers.DebertaV2ForMaskedLM,
        block=replace(
            BERT,
            query="attention.self.query_proj",
            key="attention.self.key_proj",
            value="attention.self.value_proj",
        ),
        head=("cls",),
        renamed={
            r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.": r"cls.predictions.transform.\1.",
            r"^lm_predictions\.lm_head\.bias$": "cls.predictions.bias",
        },
        adapt=_without_convolution,
        forms=_forms(
            "DebertaV2",
            dense="pooler.dense",
            classifier="classifier",
            settings={"pooler_hidden_act": "tanh"},
        ),
    ),
    "distilbert": Architecture(
        encoder=transformers.DistilBertModel,
        mlm=transformers.DistilBertForMaskedLM,
        layers="transformer.layer.",
        block=Block(
            query="attention.q_lin",
            key="attention.k_lin",
            value="attention.v_lin",
            attention="attention.out_lin",
            inner="ffn.lin1",
            outer="ffn.lin2",
            attention_norm="sa_layer_norm",
            outer_norm="output_layer_norm",
        ),
        head=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
        forms=_forms("DistilBert"),
    ),
    "electra": Architecture(
        encoder=transformers.ElectraModel,
        mlm=transformers.ElectraForMaskedLM,
        head=("generator_predictions", "generator_lm_head"),
        embedding="embedding_size",
        forms=_forms("Electra"),
    ),
    "modernbert": Architecture(
        encoder=transformers.ModernBertModel,
        mlm=transformers.ModernBertForMaskedLM,
        layers="layers.",
        block=Block(
            query="attn.Wqkv",
            key="attn.Wqkv",
            value="attn.Wqkv",
            attention="attn.Wo",
            inner="mlp.Wi",
            outer="mlp.Wo",
            attention_norm="attn_norm",
            outer_norm="mlp_norm",
        ),
        head=("head", "decoder"),
        norms_first=True,
        adapt=_same_attention,
        first=_fold_norm,
        # its task classes have a dense layer with a norm before every classifier, which our heads have not
        forms={},
    ),
}
"""model_type of the configuration -> what is particular to it."""
