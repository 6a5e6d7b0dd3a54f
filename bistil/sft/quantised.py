"""SpIEL on a 4-bit base: Y = X (DEQUANT(W_NF4) + Δ)ᵀ, Δ sparse in full precision (qSpIEL; thesis section
7.3.4, eq. 7.8).

Notable: the base is never written to; one layer's weight is dense only while it computes, Δ added in place.
The delta that comes out fits the encoder that was quantised, so it merges into full-precision weights like
any other:

>>> base = base_hash(encoder)
>>> quantise(encoder)
>>> with QuantisedSupport(encoder, config) as support:
...     train(spiel_optimizer(support, lr=1e-4))
...     delta = support.delta(base)
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bistil.errors import InputError
from bistil.sft import sampled
from bistil.sft.flat import add_at, read_at, write_at
from bistil.sft.spiel.config import SpielConfig
from bistil.sft.spiel.support import MovingSupport, choose_tensors


def library() -> Any:
    """bitsandbytes' functions, of which `quantize_4bit` and `dequantize_4bit` are used; they run on CPUs and
    on CUDA.

    Raises:
        InputError: it is not installed.
    """
    try:
        import bitsandbytes.functional as found  # an optional extra
    except ImportError as error:
        raise InputError(
            "A 4-bit base needs the bitsandbytes library: pip install -e '.[quantised]'."
        ) from error
    return found


class QuantisedLinear(nn.Linear):
    """A linear layer whose frozen weight is kept in NF4 with double quantisation, plus a sparse addition.

    `weight` is a stand-in of the right shape that holds one zero: what trains counts from the base, whatever
    its values. It is in no checkpoint, and neither is the base; quantising the same encoder again gives the
    same base. It stays on the device it was made on.

    Attributes:
        addition: sorted flat positions and values that are added to the base, or None. Shape: [K], [K].
        take: receives (gradient, input) of each backward pass, or None. Shape: [N, outputs], [N, inputs].
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self._functions = library()
        self._packed, self._state = self._functions.quantize_4bit(
            linear.weight.detach(), quant_type="nf4", compress_statistics=True
        )
        zero = torch.zeros((), dtype=linear.weight.dtype, device=linear.weight.device)
        self.weight = nn.Parameter(zero.expand(linear.weight.shape), requires_grad=False)
        self.bias = linear.bias
        self.addition: tuple[Tensor, Tensor] | None = None
        self.take: sampled.Take | None = None

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The base dequantised, plus the addition. Shape: [outputs, inputs]."""
        found: Tensor = self._functions.dequantize_4bit(self._packed, self._state)
        if self.addition is not None:
            positions, values = self.addition
            write_at(found, positions, add_at(read_at(found, positions), values))
        return found

    def forward(self, states: Tensor) -> Tensor:
        """Shape: [..., inputs] -> [..., outputs]."""
        found: Tensor = _Product.apply(states, self.weight, self.bias, self)
        return found

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}weight"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict({**state_dict, f"{prefix}weight": self.weight}, prefix, *rest)


def quantise(encoder: nn.Module) -> None:
    """Put the linear layers of the Transformer's blocks in 4 bits, in place; embeddings, biases and norms
    stay as they are.

    Raises:
        InputError: bitsandbytes is missing, or there is no such layer.
    """
    library()
    for name in choose_tensors(encoder):
        path = name.removesuffix(".weight")
        parent, _, child = path.rpartition(".")
        setattr(encoder.get_submodule(parent), child, QuantisedLinear(encoder.get_submodule(path)))  # type: ignore[arg-type]


@torch.no_grad()
def round_to_4_bits(encoder: nn.Module) -> None:
    """Make the weights that `quantise` would put in 4 bits what these say, in place and in full precision:
    tuning them by what only adds, such as SpIEL and LoRA, is tuning the 4-bit base (qSpIEL, QLoRA).

    Raises:
        InputError: as `quantise`.
    """
    library()
    for name in choose_tensors(encoder):
        linear: Any = encoder.get_submodule(name.removesuffix(".weight"))
        linear.weight.copy_(QuantisedLinear(linear).dense())


class QuantisedSupport(MovingSupport):
    """MovingSupport where some or all of the chosen tensors are in 4 bits; on exit their layers keep phi as
    their addition.

    Raises:
        InputError: no layer is in 4 bits, or as MovingSupport.
    """

    def __init__(
        self, encoder: nn.Module, config: SpielConfig, *, support: Mapping[str, Tensor] | None = None
    ) -> None:
        layers = {
            f"{name}.weight": layer
            for name, layer in encoder.named_modules()
            if isinstance(layer, QuantisedLinear)
        }
        if not layers:
            raise InputError(
                "Expected an encoder with layers in 4 bits: call quantise(encoder) first, or use"
                " MovingSupport."
            )
        super().__init__(encoder, config, support=support)
        self._layers = {name: layers[name] for name in self.parts if name in layers}

    def __enter__(self) -> Self:
        super().__enter__()
        for name, layer in self._layers.items():
            layer.take = self._collector(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for layer in self._layers.values():
            layer.take = None

    def write_back(self) -> None:
        """Make the encoder's support theta + phi; a layer in 4 bits is given phi to add."""
        super().write_back()
        for name, layer in self._layers.items():
            layer.addition = (self.positions(name), self.values.detach()[self.parts[name]])

    def move(self, dropped: Tensor, grown: Tensor) -> tuple[Tensor, Tensor]:
        """See MovingSupport."""
        found = super().move(dropped, grown)
        self.write_back()
        return found

    def _write(self, name: str, positions: Tensor, entries: Tensor) -> None:
        if name not in self._layers:
            super()._write(name, positions, entries)

    def _collector(self, name: str) -> sampled.Take:
        taken = self._taker(name)

        def take(gradient: Tensor, states: Tensor) -> None:
            if not self._observing() and sampled.pays(self._layers[name].weight, len(self.positions(name))):
                taken(gradient, states)
            else:
                dense = gradient.t() @ states
                self._accept(name, slice(None), read_at(dense, self.positions(name)))
                self._observe(name, dense)

        return take


class _Product(torch.autograd.Function):
    """A product with a weight that exists only during it, forwards and backwards."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, stand_in: Tensor, bias: Tensor | None, layer: QuantisedLinear
    ) -> Tensor:
        ctx.save_for_backward(states)
        ctx.layer = layer
        with torch.autocast(states.device.type, enabled=False):
            return functional.linear(
                states, layer.dense().to(states.dtype), None if bias is None else bias.to(states.dtype)
            )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:  # type: ignore[override]
        (states,) = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        below = gradient @ ctx.layer.dense().to(gradient.dtype) if ctx.needs_input_grad[0] else None
        if ctx.layer.take is not None:
            ctx.layer.take(flat, states.reshape(-1, states.shape[-1]))
        return below, None, flat.sum(0) if ctx.needs_input_grad[2] else None, None
