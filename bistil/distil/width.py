"""Narrower students: hidden size, heads and feed-forward layers divided by drf, started by projecting the
teacher (BERT layout).

The maths. Rows are states; P [H, H'] has orthonormal columns, H' = H / drf, and the student's state z stands
for the teacher's h = z P^T.

* Basis: U holds the H' leading eigenvectors of sum h^T h over the states that stage 1 compares, on source and
  target text, in rising order of energy; P = U D with D the orthonormal DCT-II matrix. D spreads the energy
  evenly over the student's units, and its first, constant row belongs to the weakest direction, which is what
  centring in the student's layer norms takes away.
* A map from states (queries, keys, values, first feed-forward layer) becomes W P, one back to them P^T W and
    P^T b, embeddings E P.
* Heads stay whole (H' / head size of them): those kept in a layer have the largest mean ||W_O,a c_a||^2, c_a
  being head a's output. Of the feed-forward units those with the largest mean a^2 * ||w_out||^2 are kept.
* Layer norms do not commute with P: each gain and bias is the least-squares line, unit by unit, from the
  normalised x P to h P, where x and h are the teacher's norm's input and output.

Notable: the loss compares z M with h, M [H', H] starting as P^T, and the student's attention with the kept
heads' (`Narrowing`); whatever reads h, a task head say, starts in the student as the same thing reading z M.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from transformers import BertModel, PreTrainedConfig

from bistil.errors import InputError
from bistil.models.architectures import Block, blocks
from bistil.models.attention import Attention, watched
from bistil.models.load import Output, encode
from bistil.systems.layers import start_layers

Config = TypeVar("Config", bound=PreTrainedConfig)

Text = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Calibration text: each call gives the same batches of ids and attention mask in the teacher's ids. Shape:
[B, L] each.
"""


class Narrowing(nn.Module):
    """What ties a narrower student to its teacher; it has no part in the finished student.

    Args:
        map: M, from the student's states to the teacher's. Shape: [H', H].
        heads: the teacher's heads that each of the student's layers has, sorted. Shape: [L_S, heads'].
        learned: whether M trains along.
    """

    def __init__(self, map: Tensor, heads: Tensor, *, learned: bool = False) -> None:
        super().__init__()
        self.map = nn.Parameter(map.clone(memory_format=torch.contiguous_format), requires_grad=learned)
        self.heads: Tensor
        self.register_buffer("heads", heads.clone())

    def align(self, student: Output, teacher: Output, layers: Sequence[int]) -> tuple[Output, Output]:
        """Both outputs in one shape: the student's states times M, and of the teacher's `layers` the
        attention of the kept heads.
        """
        attention = list(teacher.attention)
        for layer, heads in zip(layers, self.heads, strict=True) if attention else ():
            whole = attention[layer - 1]
            attention[layer - 1] = whole.heads(heads) if isinstance(whole, Attention) else whole[:, heads]
        hidden = tuple(states @ self.map for states in student.hidden)
        return dataclasses.replace(student, hidden=hidden), dataclasses.replace(
            teacher, attention=tuple(attention)
        )

    @torch.no_grad()
    def head_state(self, teacher: Mapping[str, Tensor], student: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A task head's tensors for the student's states, from the teacher's head: every axis of size H is
        multiplied by M.

        An axis of H + 1, states with a constant 1, keeps that 1. Linear and biaffine heads then say of z what
        the teacher's say of z M; one with a layer of H units within is only near that.

        Raises:
            InputError: a tensor of the student's head has another shape than that gives.
        """
        extended = torch.block_diag(self.map, torch.ones(1, 1, device=self.map.device))
        by_size = {len(one.T): one for one in (self.map, extended)}
        found = {}
        for name, tensor in teacher.items():
            for axis, size in enumerate(tensor.shape):
                if size in by_size and student[name].shape[axis] == len(by_size[size]):
                    tensor = torch.tensordot(tensor, by_size[size], dims=([axis], [1])).movedim(-1, axis)
            if tensor.shape != student[name].shape:
                raise InputError(
                    f"The head's {name} should have the shape {tuple(student[name].shape)} in a narrower"
                    f" student, but the teacher's gives {tuple(tensor.shape)}: its axes must be the hidden"
                    " size, that plus 1, or the same in both."
                )
            found[name] = tensor
        return found


def check_drf(config: PreTrainedConfig, drf: int) -> None:
    """Refuse a hidden reduction factor that would split a head, and any but 1 for what is no BERT.

    Raises:
        InputError: it does not divide the teacher's heads and feed-forward units, or the teacher has another
            layout.
    """
    if drf == 1:
        return
    if config.model_type != "bert":
        raise InputError(
            "Narrower students are projected from teachers of the BERT layout so far, but this is a"
            f" {config.model_type}."
        )
    heads = config.num_attention_heads
    if drf < 1 or heads % drf or config.intermediate_size % drf:
        raise InputError(
            f"The hidden reduction factor must divide the teacher's {heads} heads, which stay whole, and its"
            f" {config.intermediate_size} feed-forward units; {drf} does not. Choose one of"
            f" {[one for one in range(1, heads + 1) if heads % one == 0]}."
        )


def narrowed(config: Config, drf: int) -> Config:
    """A copy of the configuration with hidden size, heads and feed-forward units divided by drf."""
    config = copy.deepcopy(config)
    if drf == 1:
        return config
    for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
        setattr(config, name, getattr(config, name) // drf)
    return config


@torch.no_grad()
def initialise_narrow(
    encoder: BertModel, lrf: int, drf: int, text: Text, *, learned: bool = False
) -> tuple[BertModel, Narrowing]:
    """Return a student of every `lrf`-th layer, `drf` times narrower, projected from the teacher, and what
    ties the two.

    `text` is run three times in eval mode: for the basis, for heads and units, and for the layer norms. The
    teacher may wear a language's SFT while a batch is run, and the student starts from the weights that it
    has when the text is at its end.
    """
    check_drf(encoder.config, drf)
    layers = start_layers("uniform", encoder.config.num_hidden_layers, lrf)
    narrow = encoder.config.hidden_size // drf
    training = encoder.training
    encoder.eval()
    basis = principal_basis(encoder, (0, *layers), narrow, text)
    every = blocks(encoder)
    copied = [every[layer - 1] for layer in layers]
    heads, units = _strongest(
        encoder,
        copied,
        encoder.config.num_attention_heads // drf,
        encoder.config.intermediate_size // drf,
        text,
    )
    norms = [
        encoder.embeddings.LayerNorm,
        *(norm for block in copied for norm in (block.attention_norm, block.outer_norm)),
    ]
    lines = _fitted_norms(encoder, norms, basis, text)
    student = _empty_student(encoder, len(layers), drf)
    _fill(student, encoder, copied, basis, heads, units, lines)
    encoder.train(training)
    return student.train(training), Narrowing(basis.T, heads, learned=learned)


def principal_basis(encoder: BertModel, layers: Sequence[int], narrow: int, text: Text) -> Tensor:
    """P = U D of the module's docstring, over the hidden states H_i of the layers. Shape: [H, H']."""
    moment: Tensor | None = None
    for ids, mask in text():
        states = encode(encoder, ids, mask, states=True, attention=False).hidden
        real = torch.cat([states[layer][mask == 1] for layer in layers]).double()
        moment = real.T @ real if moment is None else moment + real.T @ real
    if moment is None:
        raise InputError("Text to calibrate a narrower student on was expected, but there is none.")
    leading = torch.linalg.eigh(moment).eigenvectors[:, -narrow:]  # eigenvalues rise
    return (leading @ cosines(narrow).to(leading)).to(encoder.dtype)


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II matrix; its first row is constant. Shape: [size, size]."""
    row, column = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    matrix = (math.pi * row * (column + 0.5) / size).cos() * math.sqrt(2 / size)
    matrix[0] = 1 / math.sqrt(size)
    return matrix


@dataclass(frozen=True)
class _Line:
    """Gain and bias of a layer norm. Shape: [H'] each."""

    gain: Tensor
    bias: Tensor


def _strongest(
    encoder: BertModel, copied: Sequence[Block[Any]], heads: int, units: int, text: Text
) -> tuple[Tensor, list[Tensor]]:
    """The heads and the feed-forward units to keep in each block, sorted. Shape: [L_S, heads], L_S of
    [units].
    """
    size = encoder.config.hidden_size // encoder.config.num_attention_heads
    by_head = [
        torch.zeros(encoder.config.num_attention_heads, dtype=torch.float64, device=encoder.device)
        for _ in copied
    ]
    by_unit = [
        torch.zeros(encoder.config.intermediate_size, dtype=torch.float64, device=encoder.device)
        for _ in copied
    ]
    modules = [dense for block in copied for dense in (block.attention, block.outer)]
    for real, seen in _seen(encoder, modules, text):
        for number, block in enumerate(copied):
            context, active = (seen[2 * number + part][0][real] for part in (0, 1))
            for head in range(len(by_head[number])):
                part = slice(head * size, (head + 1) * size)
                written = context[:, part] @ block.attention.weight[:, part].T
                by_head[number][head] += written.double().square().sum()
            by_unit[number] += active.double().square().sum(0) * block.outer.weight.double().square().sum(0)
    chosen = torch.stack([energy.topk(heads).indices.sort().values for energy in by_head])
    return chosen, [energy.topk(units).indices.sort().values for energy in by_unit]


def _fitted_norms(encoder: BertModel, norms: Sequence[Any], basis: Tensor, text: Text) -> list[_Line]:
    """For each layer norm the least-squares line from its normalised, projected input to its projected
    output, unit by unit.
    """
    sums = [torch.zeros(4, basis.shape[1], dtype=torch.float64, device=basis.device) for _ in norms]
    count = 0
    for real, seen in _seen(encoder, norms, text):
        count += int(real.sum())
        for total, (before, after) in zip(sums, seen, strict=True):
            x = layer_norm(before[real] @ basis, basis.shape[1:], eps=encoder.config.layer_norm_eps).double()
            y = (after[real] @ basis).double()
            total += torch.stack([x.sum(0), y.sum(0), x.square().sum(0), (x * y).sum(0)])
    lines = []
    for total in sums:
        x, y, xx, xy = total / count
        gain = (xy - x * y) / (xx - x.square()).clamp(min=1e-12)
        lines.append(_Line(gain.to(basis.dtype), (y - gain * x).to(basis.dtype)))
    return lines


def _seen(
    encoder: BertModel, modules: Sequence[nn.Module], text: Text
) -> Iterator[tuple[Tensor, list[tuple[Tensor, Tensor]]]]:
    """For each batch of the text which tokens are real, and the first input and the output of each module."""
    for ids, mask in text():
        with watched(modules) as seen:
            encode(encoder, ids, mask, states=False)
        yield mask == 1, [seen[number] for number in range(len(modules))]


def _empty_student(encoder: BertModel, layers: int, drf: int) -> BertModel:
    config = narrowed(encoder.config, drf)
    config.num_hidden_layers = layers
    # the numbers drawn here are overwritten: leave the caller's stream alone
    with torch.random.fork_rng(devices=[]):
        student = BertModel(config, add_pooling_layer=False)
    nn.Module.to(student, encoder.device, encoder.dtype)
    return student


def _fill(
    student: Any,
    encoder: Any,
    copied: Sequence[Block[Any]],
    basis: Tensor,
    heads: Tensor,
    units: Sequence[Tensor],
    lines: Sequence[_Line],
) -> None:
    """Write the projected teacher into the student."""
    size = encoder.config.hidden_size // encoder.config.num_attention_heads
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        getattr(student.embeddings, name).weight.copy_(getattr(encoder.embeddings, name).weight @ basis)
    norms = [student.embeddings.LayerNorm]
    for own, block, kept, unit in zip(blocks(student), copied, heads, units, strict=True):
        rows = (kept[:, None] * size + torch.arange(size, device=kept.device)).flatten()
        _read(own.query, block.query, rows, basis)
        _read(own.key, block.key, rows, basis)
        _read(own.value, block.value, rows, basis)
        _write(own.attention, block.attention, rows, basis)
        _read(own.inner, block.inner, unit, basis)
        _write(own.outer, block.outer, unit, basis)
        norms += [own.attention_norm, own.outer_norm]
    for norm, line in zip(norms, lines, strict=True):
        norm.weight.copy_(line.gain)
        norm.bias.copy_(line.bias)


def _read(own: nn.Linear, teacher: nn.Linear, rows: Tensor, basis: Tensor) -> None:
    """A map from states to some of its outputs: W P."""
    own.weight.copy_(teacher.weight[rows] @ basis)
    own.bias.copy_(teacher.bias[rows])


def _write(own: nn.Linear, teacher: nn.Linear, columns: Tensor, basis: Tensor) -> None:
    """A map from some of its inputs back to states: P^T W."""
    own.weight.copy_(basis.T @ teacher.weight[:, columns])
    own.bias.copy_(teacher.bias @ basis)
