"""The trimmed model: only the embedding rows of kept tokens, on both ends.

Notable: input and output embeddings are those that the model and each of its parts name, so one function
serves encoders with any head, decoders and sequence-to-sequence models, tied or not. Where positions are
counted from the padding id, and that gets a smaller number, the position table moves along, so that every
token finds the same row as before.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bistil.errors import InputError
from bistil.models.architectures import ARCHITECTURES
from bistil.vocab.counting import Ids

NAMES_TOKENS = re.compile(
    r".*_token_ids?|(begin_)?suppress_tokens|(bad|force)_words_ids|lang_to_id|forced_decoder_ids|sequence_bias"
)
"""Entries of a configuration that hold token ids: numbers, lists or mappings of them, or pairs with them."""


def trim_model(model: PreTrainedModel, kept: Ids) -> None:
    """Keep only the embedding rows of `kept`, in place, on the output with its bias too; ties stay tied.

    `kept` is sorted. Each config's vocab_size and token ids follow. Make optimisers after this, as the
    parameters are new ones.

    Raises:
        InputError: for ids that are no rows, or without the padding id where positions count from it.
    """
    rows = len(cast(nn.Embedding, model.get_input_embeddings()).weight)
    if len(kept) == 0 or kept[0] < 0 or kept[-1] >= rows:
        raise InputError(
            f"Kept ids should lie in 0..{rows - 1}, the model's rows. Do tokenizer and model belong together?"
        )
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    inputs: list[Any] = [part.get_input_embeddings() for part in parts]
    outputs: list[Any] = [part.get_output_embeddings() for part in parts]
    ends = [end for end in {id(end): end for end in (*inputs, *outputs)}.values() if _is_end(end, rows)]
    old_padding, configs = model.config.pad_token_id, configs_of(model)
    for config in configs:
        trim_config(config, kept)
    biases = [bias for end in ends if isinstance(end, nn.Linear) for bias in _biases(model, end)]
    _trim_rows(model, [*(end.weight for end in ends), *biases], kept)
    for end in ends:
        if isinstance(end, nn.Linear):
            end.out_features = len(kept)
        else:
            end.num_embeddings = len(kept)
            end.padding_idx = None if end.padding_idx is None else model.config.pad_token_id
    for part in parts:
        if (bias := getattr(part, "final_logits_bias", None)) is not None:
            part.final_logits_bias = nn.Buffer(bias[:, torch.as_tensor(kept)])
    if _after_padding(model.config):
        _move_positions(model.base_model.embeddings, old_padding - model.config.pad_token_id, configs)


@torch.no_grad()
def take_over(model: PreTrainedModel, donor: PreTrainedModel, own: Ids, theirs: Ids) -> None:
    """Give `model` the weights of one of its shape with another vocabulary, in place; rows of tokens that the
    donor has not stay as they are.

    Args:
        own: the ids, in a vocabulary that both were cut from, of the model's tokens. Shape: [V].
        theirs: those of the donor's. Shape: [V_donor].
    """
    row_of = {int(i): row for row, i in enumerate(theirs)}
    rows = [(row, row_of[int(i)]) for row, i in enumerate(own) if int(i) in row_of]
    mine, yours = torch.tensor(rows, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    output: Any = model.get_output_embeddings()
    ends: list[Any] = [model.get_input_embeddings(), *([] if output is None else [output])]
    biases = [] if output is None else _biases(model, output)
    a_row_a_token = {id(one) for one in (*(end.weight for end in ends), *biases)}
    given = dict(donor.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in a_row_a_token:
            parameter[mine] = given[name][yours].to(parameter)
        else:
            parameter.copy_(given[name])


def trim_config(config: Any, kept: Ids) -> None:
    """Give `config`, a model's or a generation's, the vocabulary size and token ids of a model that has only
    the tokens `kept`, in place; an id that is not kept becomes None, and goes from a list.
    """
    new = {int(i): position for position, i in enumerate(kept)}
    if _after_padding(config) and config.pad_token_id not in new:
        raise InputError(f"The padding id {config.pad_token_id} must be kept: positions are counted from it.")
    if hasattr(config, "vocab_size"):
        config.vocab_size = len(kept)
    for entries, name in _token_entries(vars(config)):
        entries[name] = _kept_of(name, entries[name], new)


def named_tokens(config: Any) -> set[int]:
    """The ids of all tokens that a configuration, a model's or a generation's, names."""
    return {
        i for entries, name in _token_entries(vars(config)) for i in _numbers(_ids_of(name, entries[name]))
    }


def configs_of(model: PreTrainedModel) -> list[Any]:
    """Every configuration of a model and its parts, those of generation too, each once."""
    found: list[Any] = []
    for part in (part for part in model.modules() if isinstance(part, PreTrainedModel)):
        generation = getattr(part, "generation_config", None)
        inner = [value for value in vars(part.config).values() if isinstance(value, PreTrainedConfig)]
        found += [part.config, *inner, *([generation] if generation is not None else [])]
    return list({id(config): config for config in found}.values())


def _token_entries(entries: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The entries that hold token ids, those of mappings within too, each as its mapping and its name."""
    for name, value in entries.items():
        if isinstance(name, str) and NAMES_TOKENS.fullmatch(name):
            yield entries, name
        elif isinstance(value, dict):
            yield from _token_entries(value)


def _ids_of(name: str, value: Any) -> Any:
    """The ids in an entry."""
    if name == "forced_decoder_ids":
        return [i for _, i in value or ()]
    return [ids for ids, _ in _biased(value)] if name == "sequence_bias" else value


def _kept_of(name: str, value: Any, new: Mapping[int, int]) -> Any:
    """An entry with new ids, without the ids and sequences that are not kept."""
    if name == "forced_decoder_ids":
        pairs = [[place, new.get(i)] for place, i in value or () if i is None or i in new]
        return pairs or None
    if name == "sequence_bias":
        biased = [[_whole(ids, new), bias] for ids, bias in _biased(value)]
        return [pair for pair in biased if pair[0] is not None] or None
    return _renumbered(value, new)


def _biased(value: Any) -> list[tuple[list[int], float]]:
    """The sequences of ids whose scores a generation's configuration raises or lowers, by how much; they come
    as a mapping of tuples or, out of a file, as a list of pairs.
    """
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    return [(list(ids), bias) for ids, bias in pairs]


def _numbers(value: Any) -> Iterator[int]:
    """All ids in a number, list or mapping; negative ones stand for none."""
    if isinstance(value, int) and value >= 0:
        yield value
    elif isinstance(value, Mapping):
        yield from _numbers(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _numbers(one)


def _renumbered(value: Any, new: Mapping[int, int]) -> Any:
    """Ids by their new numbers; lists and mappings lose what is not kept, and None is for what has nothing
    left.
    """
    if isinstance(value, int):
        return new.get(value) if value >= 0 else value
    if isinstance(value, Mapping):
        named = {name: _renumbered(one, new) for name, one in value.items()}
        return {name: one for name, one in named.items() if one is not None} or None
    if isinstance(value, (list, tuple)):
        return [one for one in (_whole(one, new) for one in value) if one is not None] or None
    return value


def _whole(value: Any, new: Mapping[int, int]) -> Any:
    """One of a list's ids, or sequences of ids, by its new numbers; None where any of it is not kept."""
    if isinstance(value, (list, tuple)) and all(isinstance(i, int) for i in value):
        return [new[i] for i in value] if new.keys() >= set(value) else None
    return _renumbered(value, new)


def _is_end(module: Any, rows: int) -> bool:
    """Whether the module has a row a token."""
    return isinstance(module, (nn.Embedding, nn.Linear)) and len(module.weight) == rows


def _after_padding(config: Any) -> bool:
    known = ARCHITECTURES.get(getattr(config, "model_type", ""))
    return known is not None and known.after_padding


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
        if hasattr(config, "max_position_embeddings"):
            config.max_position_embeddings = len(table.weight)


def _rows(parameter: nn.Parameter, kept: Ids) -> nn.Parameter:
    index = torch.as_tensor(kept, device=parameter.device)
    return nn.Parameter(parameter.detach().index_select(0, index), requires_grad=parameter.requires_grad)
