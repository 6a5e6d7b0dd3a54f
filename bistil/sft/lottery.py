"""LT-SFT, Lottery Ticket Sparse Fine-Tuning (Ansell et al. 2022, Alg. 1): what to train, what to select, the
L1 term.

Notable: selection takes exactly k entries without a copy of the differences (`top_k`), ties going to the
first tensor name and then the first position. The sparse phase is `SparseTraining`; the training loop itself
is not in this room.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.models.architectures import ARCHITECTURES, named_parts
from bistil.settings.ranges import Density, Settings, Weight
from bistil.sft.checks import check_same_layout
from bistil.sft.sparse_training import SparseTraining
from bistil.sft.top_k import entries_from, kth_largest, likely_bound, moved
from bistil.systems.layers import Part

Selection = Literal["top-k", "random", "biases", "all-biases", "all", "none", "given"]


__all__ = [
    "LotteryConfig",
    "SparseTraining",
    "decouple_output_embedding",
    "l1_term",
    "select_biases",
    "select_random",
    "select_top_k",
    "set_trainable",
    "snapshot",
]


@dataclass(frozen=True, kw_only=True)
class LotteryConfig(Settings):
    """Settings of one LT-SFT.

    Attributes:
        density: The share of all parameters of the encoder, embeddings and layer norms included, that the
            delta may change. Where an experiment trims its teacher first, they are those of the uncut one.
            The papers' language SFTs on mBERT have 0.043.
        l1: Lambda, the weight of the L1 term. The papers use 0.1 for languages and state none for tasks.
        freeze_layer_norms: Whether layer-norm weights and biases stay as they are; in the papers they do for
            languages and do not for tasks.
        select: "top-k" is LT-SFT. Its baselines have no dense phase: "random" (rand-SFT), and, whatever the
            density, "biases" (BitFit), "all-biases" (those of layer norms too, as in Bui's section 3.3.5),
            "all" (full fine-tuning) and "none" (the head alone). "given" is for a delta that is tuned
            further, in the entries that it has.
        freeze_embeddings: Whether the embedding layer stays as it is.
        part: Where in the encoder anything may change: the "outer" part, which is embeddings and the first
            and last quarter of layers, or the "middle" layers; None for all of it. A language in the one and
            a task in the other share no entry.
        only: Where anything may change, by the names of parts that students of a family share: `embeddings`,
            `layer:1` and so on; nothing named stands for all of it.
    """

    density: Density
    l1: Weight = 0.0
    freeze_layer_norms: bool = False
    select: Selection = field(default="top-k", metadata={"added_later": True})
    freeze_embeddings: bool = field(default=False, metadata={"added_later": True})
    part: Part | None = field(default=None, metadata={"added_later": True})
    only: tuple[str, ...] = field(default=(), metadata={"added_later": True})

    @property
    def frozen(self) -> dict[str, Any]:
        """What stays as it is, as arguments of `set_trainable`."""
        names = ("freeze_layer_norms", "freeze_embeddings", "part", "only")
        return {name: getattr(self, name) for name in names}

    def k(self, n_parameters: int) -> int:
        """Return how many of the encoder's `n_parameters` the delta may change, at least one."""
        return max(1, round(self.density * n_parameters))


def snapshot(encoder: nn.Module) -> dict[str, Tensor]:
    """Return theta0: a copy of every named parameter of the encoder."""
    return {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}


def set_trainable(
    encoder: Any,
    *,
    freeze_layer_norms: bool,
    freeze_embeddings: bool = False,
    part: Part | None = None,
    only: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Let every encoder parameter train except, if asked, those of layer norms, of the embedding layer, of
    what is not in the part `part`, and of what is not in the parts `only`; return the names that train.

    `select_top_k` chooses among what it is given: give it these names only, so that frozen tensors are no
    candidates."""
    frozen = _of_layer_norms(encoder) if freeze_layer_norms else set()
    if freeze_embeddings:
        frozen |= {id(parameter) for parameter in encoder.get_submodule("embeddings").parameters()}
    if part is not None:
        middle = _middle(encoder)
        kept = middle if part == "middle" else {id(one) for one in encoder.parameters()} - middle
        frozen |= {id(one) for one in encoder.parameters()} - kept
    if only:
        inside = map(encoder.get_submodule, named_parts(encoder, only))
        frozen |= {id(one) for one in encoder.parameters()} - {
            id(one) for module in inside for one in module.parameters()
        }
    for parameter in encoder.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    return tuple(name for name, parameter in encoder.named_parameters() if parameter.requires_grad)


def decouple_output_embedding(mlm: PreTrainedModel) -> None:
    """Untie the output embedding of a masked language model and freeze its whole head, in place.

    Without this most of the top k lands in the embedding matrix (thesis section 4.4.2). Decoder weight and
    bias and the head's transform are all frozen, so that everything a language SFT learns is in the encoder
    and travels with the delta. The model's config is marked untied, so that saving and loading keep it so;
    the encoder's output is unchanged.

    Raises:
        InputError: the model is no masked language model of a supported architecture.
    """
    head = next((kind.head for kind in ARCHITECTURES.values() if isinstance(mlm, kind.mlm)), None)
    if head is None:
        expected = ", ".join(kind.mlm.__name__ for kind in ARCHITECTURES.values())
        raise InputError(f"Expected a masked language model ({expected}), got {type(mlm).__name__}.")
    mlm.config.tie_word_embeddings = False
    decoder: Any = mlm.get_output_embeddings()
    embedding: Any = mlm.get_input_embeddings()
    if decoder.weight is embedding.weight:
        # the bias too has another name, which an untied model does not load
        for name, parameter in decoder.named_parameters():
            setattr(decoder, name, nn.Parameter(parameter.detach().clone()))
    for name in head:
        mlm.get_submodule(name).requires_grad_(False)


def l1_term(encoder: nn.Module, theta0: Mapping[str, Tensor], weight: float) -> Tensor:
    """Return weight / N * sum |theta - theta0| for the dense phase (thesis section 4.3.1; N = all parameters
    of the encoder).

    It has a gradient, 0 where theta equals theta0. In the sparse phase use `SparseTraining.l1_term`, the same
    number from phi alone. Shape: []."""
    parameters = dict(encoder.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    moved = [
        (parameter - theta0[name].to(parameter.device)).abs().sum()
        for name, parameter in parameters.items()
        if parameter.requires_grad
    ]
    if not moved:
        raise InputError(
            "The L1 term needs parameters that train, and every parameter of the encoder is frozen."
        )
    return torch.stack(moved).sum() * (weight / total)


def select_top_k(before: Mapping[str, Tensor], after: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Return the k entries that moved most, |after - before| in float32, ranked over all tensors together
    (LT-SFT Alg. 1, mu).

    Returns:
        for each tensor with a selected entry, its sorted flat row-major positions, int64. Shape: [K_n], and
        sum of K_n = k.

    Raises:
        InputError: names or shapes differ, k is below 1 or above the number of entries, or a difference is
            not finite.
    """
    check_same_layout(before, after)
    _check_k(k, sum(tensor.numel() for tensor in before.values()))
    bound = likely_bound(before, after, k)
    found: Iterable[tuple[str, Tensor, Tensor]] = (
        list(entries_from(bound, before, after)) if bound > 0 else []
    )
    if sum(len(values) for _, _, values in found) >= k:
        threshold, larger = kth_largest(lambda: (values for _, _, values in found), k)
    else:
        threshold, larger = kth_largest(
            lambda: (block for name in before for block in moved(before[name], after[name])), k
        )
        found = entries_from(threshold, before, after)
    chosen, ties_left = defaultdict[str, list[Tensor]](list), k - larger
    for name, positions, values in found:
        tie = values == threshold
        chosen[name].append(positions[(values > threshold) | tie & (tie.cumsum(0) <= ties_left)])
        ties_left -= min(ties_left, int(tie.sum()))
    return {name: positions for name, parts in chosen.items() if len(positions := torch.cat(parts))}


def select_random(tensors: Mapping[str, Tensor], k: int, random: np.random.Generator) -> dict[str, Tensor]:
    """Return k entries of all tensors together, each set equally likely (rand-SFT, thesis section 4.4.1), as
    `select_top_k` does.

    Raises:
        InputError: k is below 1 or above the number of entries.
    """
    names = sorted(tensors)
    ends = np.cumsum([0, *(tensors[name].numel() for name in names)])
    _check_k(k, int(ends[-1]))
    keys = random_positions(int(ends[-1]), k, random)
    cuts = torch.searchsorted(keys, torch.from_numpy(ends)).tolist()
    parts = {name: keys[cuts[i] : cuts[i + 1]] - int(ends[i]) for i, name in enumerate(names)}
    return {name: positions for name, positions in parts.items() if len(positions)}


def select_biases(encoder: nn.Module, *, norms: bool = False) -> dict[str, Tensor]:
    """Return every entry of every bias (BitFit; thesis section 4.4.1), as `select_top_k` does; those of layer
    norms too where `norms`.

    Raises:
        InputError: there are none, as in ModernBERT.
    """
    passed_over = set() if norms else _of_layer_norms(encoder)
    biases = {
        name: bias
        for name, bias in sorted(encoder.named_parameters())
        if name.endswith("bias") and id(bias) not in passed_over
    }
    if not biases:
        raise InputError(
            f"BitFit trains biases, and {type(encoder).__name__} has none outside its layer norms: select"
            " top-k or random."
        )
    return {name: torch.arange(bias.numel()) for name, bias in biases.items()}


def random_positions(numel: int, count: int, random: np.random.Generator) -> Tensor:
    """Return `count` of the positions below `numel`, sorted, each set equally likely. Shape: [count]."""
    return torch.from_numpy(np.sort(random.choice(numel, count, replace=False, shuffle=False)))


def check_parts(depth: int) -> None:
    """Refuse to tell outer and middle layers of so many apart.

    Raises:
        InputError: there are too few layers.
    """
    if depth < 4:
        raise InputError(f"Outer and middle layers are told apart from 4 layers on, but there are {depth}.")


def _middle(encoder: nn.Module) -> set[int]:
    """The ids of the parameters of the layers between the first and the last quarter."""
    config: Any = encoder.config
    depth, prefix = config.num_hidden_layers, ARCHITECTURES[config.model_type].layers
    check_parts(depth)
    quarter = depth // 4
    inner = (encoder.get_submodule(f"{prefix}{number}") for number in range(quarter, depth - quarter))
    return {id(parameter) for layer in inner for parameter in layer.parameters()}


def _of_layer_norms(encoder: nn.Module) -> set[int]:
    """The ids of the parameters of layer norms."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)]
    return {id(parameter) for norm in norms for parameter in norm.parameters()}


def _check_k(k: int, available: int) -> None:
    if not 1 <= k <= available:
        raise InputError(
            f"Expected k between 1 and the {available} entries of the tensors given, got {k}: lower the"
            " density."
        )
