"""The trimmed model: only the embedding rows of kept tokens, on both ends.

Notable: where positions are counted from the padding id, and that gets a smaller number, the position table
moves along, so that every token finds the same row as before."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.models.architectures import architecture
from bistil.vocab.counting import Ids

TOKEN_IDS = tuple(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep", "mask", "unk"))


def trim_model(model: PreTrainedModel, kept: Ids) -> None:
    """Keep only the embedding rows of `kept`, in place, and the output rows and bias of a masked language
    model; ties stay tied.

    `kept` is sorted. Each config's vocab_size and token ids follow. Make optimisers after this, as the
    parameters are new ones.
    """
    embedding: Any = model.get_input_embeddings()
    if len(kept) == 0 or kept[0] < 0 or kept[-1] >= embedding.num_embeddings:
        raise InputError(
            f"Kept ids should lie in 0..{embedding.num_embeddings - 1}, the model's rows. Do tokenizer and"
            " model belong together?"
        )
    config: Any = model.config
    old_padding = config.pad_token_id
    configs: list[Any] = [config] if model.base_model.config is config else [config, model.base_model.config]
    for one in configs:
        trim_config(one, kept)
    decoder: Any = model.get_output_embeddings() if isinstance(model, architecture(config).mlm) else None
    _trim_rows(
        model,
        [embedding.weight, *([] if decoder is None else [decoder.weight, *_biases(model, decoder)])],
        kept,
    )
    embedding.num_embeddings, embedding.padding_idx = len(kept), config.pad_token_id
    if decoder is not None:
        decoder.out_features = len(kept)
    if architecture(config).after_padding:
        _move_positions(model.base_model.embeddings, old_padding - config.pad_token_id, configs)


def trim_config(config: Any, kept: Ids) -> None:
    """Give `config` the vocabulary size and token ids of a model that has only the tokens `kept`, in
    place.
    """
    new = {int(i): position for position, i in enumerate(kept)}
    if architecture(config).after_padding and config.pad_token_id not in new:
        raise InputError(f"The padding id {config.pad_token_id} must be kept: positions are counted from it.")
    config.vocab_size = len(kept)
    for name in TOKEN_IDS:
        if getattr(config, name, None) is not None:
            setattr(config, name, new.get(getattr(config, name)))


def _biases(model: nn.Module, decoder: Any) -> list[nn.Parameter]:
    """The output bias, and the name for it that the decoder's parent has beside."""
    path = next(name for name, module in model.named_modules() if module is decoder)
    alias = getattr(model.get_submodule(path.rpartition(".")[0]), "bias", None)
    return [bias for bias in (decoder.bias, alias) if bias is not None]


def _trim_rows(model: nn.Module, parameters: list[nn.Parameter], kept: Ids) -> None:
    """Replace these parameters wherever they stand in the model by their rows `kept`, one new parameter for
    each.
    """
    rows: Mapping[int, nn.Parameter] = {id(parameter): _rows(parameter, kept) for parameter in parameters}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) in rows:
                setattr(module, name, rows[id(parameter)])


def _move_positions(embeddings: Any, by: int, configs: list[Any]) -> None:
    """Let positions begin `by` rows earlier, where the new padding id is."""
    table = embeddings.position_embeddings
    table.weight = nn.Parameter(table.weight.detach()[by:].clone(), requires_grad=table.weight.requires_grad)
    table.num_embeddings = len(table.weight)
    table.padding_idx = embeddings.padding_idx = configs[0].pad_token_id
    embeddings.position_ids = embeddings.position_ids[:, : len(table.weight)]
    embeddings.token_type_ids = embeddings.token_type_ids[:, : len(table.weight)]
    for config in configs:
        config.max_position_embeddings = len(table.weight)


def _rows(parameter: nn.Parameter, kept: Ids) -> nn.Parameter:
    index = torch.as_tensor(kept, device=parameter.device)
    return nn.Parameter(parameter.detach().index_select(0, index), requires_grad=parameter.requires_grad)
