"""The sparse phase of LT-SFT: train K numbers as if the rest of the encoder were masked (LT-SFT Alg. 1,
second half).

Notable: the optimiser sees one vector phi [K], so its state is O(K), and weight decay pulls phi towards 0 and
touches nothing else. The encoder computes with ordinary dense tensors; large layers compute phi's gradient
alone (`sampled`), and any other dense gradient is gathered into phi's and freed as soon as it exists."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bistil.errors import InputError
from bistil.sft import sampled
from bistil.sft.checks import check_gradients
from bistil.sft.delta import SparseDelta
from bistil.sft.flat import add_at, read_at, write_at

NAME = "sft_values"


class SparseTraining:
    """A context in which only `support` of the encoder trains, starting from theta0.

    On entry the encoder is rewound to theta0 and gets one float32 parameter `sft_values` (phi, zeros), which
    checkpoints thus contain. Build the optimiser inside the context, `attach` it, and train as usual,
    gradient accumulation included. On exit `sft_values` and all hooks are gone, requires_grad is as before,
    and the encoder is left at theta0 + phi (at theta0 after `rewind`). Works on one device.

    Args:
        encoder: the encoder; its parameters may be in any floating-point type (phi is float32, and a write
            rounds once).
        support: sorted flat positions by parameter name, as from `select_top_k`. Shape: [K_n].
        theta0: the starting point, every named parameter of the encoder, as from `snapshot`; let go of once
            it is written back.
        dense_gradients: compute every gradient in full and gather from it, also where `sampled.pays`.

    Raises:
        InputError: the support is empty or outside the encoder, or theta0 lacks a parameter or has another
            shape.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        support: Mapping[str, Tensor],
        theta0: Mapping[str, Tensor],
        dense_gradients: bool = False,
    ) -> None:
        self.encoder, self.dense_gradients = encoder, dense_gradients
        self._theta0 = theta0
        parameters = dict(encoder.named_parameters())
        _check(parameters, support, theta0)
        first = parameters[min(support)]
        self._positions = {name: support[name].to(first.device, torch.int64) for name in sorted(support)}
        self._start = {
            name: read_at(theta0[name].to(first.device), positions)
            for name, positions in self._positions.items()
        }
        ends = torch.tensor([len(positions) for positions in self._positions.values()]).cumsum(0).tolist()
        self._slices = {
            name: slice(end - len(self._positions[name]), end)
            for name, end in zip(self._positions, ends, strict=True)
        }
        self._phi = nn.Parameter(torch.zeros(ends[-1], device=first.device))
        self._handles: list[RemovableHandle] = []
        self._rerouted: list[nn.Module] = []
        self._required: dict[str, bool] = {}
        self._steps = 0

    @property
    def values(self) -> nn.Parameter:
        """The one trained parameter, phi, float32; tensors of the support follow one another by name. Shape:
        [K].
        """
        return self._phi

    def __enter__(self) -> Self:
        parameters = dict(self.encoder.named_parameters())
        _check(parameters, self._positions, self._theta0)
        if any(tensor.is_meta for tensor in self._theta0.values()):
            raise InputError("This context was entered before and has let go of theta0: make a new one.")
        self._required = {name: parameter.requires_grad for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            # theta0 may be the encoder's own parameters, which need no copy
            if self._theta0[name].data_ptr() != parameter.data_ptr():
                parameter.detach().copy_(self._theta0[name])
            parameter.requires_grad_(name in self._positions)
            parameter.grad = None
            # the hook runs as soon as this one gradient is there, so that no two dense ones are alive at once
            if name in self._positions:
                self._handles.append(parameter.register_post_accumulate_grad_hook(self._gatherer(name)))
        # shapes and types alone are needed now
        self._theta0 = {name: tensor.detach().to("meta") for name, tensor in self._theta0.items()}
        if not self.dense_gradients:
            chosen = [
                name
                for name, positions in self._positions.items()
                if sampled.pays(parameters[name], len(positions))
            ]
            takers = {parameters[name]: self._taker(name) for name in chosen}
            self._rerouted = sampled.reroute(self.encoder, takers, lambda: not self._observing())
        # a parameter of the encoder, so that checkpoints hold phi and a trainer sees that it trains
        self.encoder.register_parameter(NAME, self._phi)
        self._handles.append(self.encoder.register_load_state_dict_post_hook(lambda *_: self._after_load()))
        self.write_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        sampled.restore(self._rerouted)
        self._rerouted = []
        delattr(self.encoder, NAME)
        self._phi.grad = None
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(self._required[name])

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Write phi into the encoder after each `optimizer.step()`; an accelerate wrapper around the
        optimiser is looked through.

        From then on a step with a gradient that is not finite raises InputError and changes nothing.

        Raises:
            InputError: the optimiser does not train `values` (it was built before the context was entered).
        """
        inner = getattr(optimizer, "optimizer", optimizer)
        if not any(parameter is self._phi for group in inner.param_groups for parameter in group["params"]):
            raise InputError(
                "The optimiser does not hold SparseTraining.values: build it inside the context, from the"
                " model's parameters."
            )
        self._handles.append(inner.register_step_pre_hook(lambda *_: self._before_step(inner)))
        self._handles.append(inner.register_step_post_hook(lambda *_: self.write_back()))

    @torch.no_grad()
    def write_back(self) -> None:
        """Make the encoder's support theta0 + phi."""
        for name, positions in self._positions.items():
            self._write(name, positions, add_at(self._start[name], self._phi[self._slices[name]]))

    @torch.no_grad()
    def rewind(self) -> None:
        """Put theta0 back, bit for bit, and phi to zero; take `delta` first. Also works after the context."""
        self._phi.zero_()
        for name, positions in self._positions.items():
            self._write(name, positions, self._start[name])

    def l1_term(self, weight: float) -> Tensor:
        """Return weight / N * sum |phi| (N = all parameters of the encoder), with gradient: |theta - theta0|
        is 0 elsewhere. Shape: [].
        """
        return self._phi.abs().sum() * (weight / sum(tensor.numel() for tensor in self._theta0.values()))

    def delta(
        self, base: str, *, full: Mapping[str, Tensor] | None = None, notes: Mapping[str, str] | None = None
    ) -> SparseDelta:
        """Return phi as a SparseDelta of exactly K entries, zeros included; applied to theta0 it gives the
        encoder's very bits.

        `base` is the hash of the base model, before any language delta that theta0 contains.
        """
        tensors = {
            name: (positions, self._phi[self._slices[name]]) for name, positions in self._positions.items()
        }
        shapes = {name: tuple(self._theta0[name].shape) for name in tensors}
        return SparseDelta(tensors=tensors, base=base, full=full or {}, shapes=shapes, notes=notes or {})

    def _write(self, name: str, positions: Tensor, entries: Tensor) -> None:
        write_at(self.encoder.get_parameter(name), positions, entries)

    def _gatherer(self, name: str) -> Any:
        def gather(parameter: Tensor) -> None:
            if parameter.grad is not None:  # None where the gradient was taken by a sampled layer
                self._accept(name, slice(None), read_at(parameter.grad, self._positions[name]))
                self._observe(name, parameter.grad)
                parameter.grad = None

        return gather

    def _taker(self, name: str) -> sampled.Take:
        def take(gradient: Tensor, source: Tensor) -> None:
            positions = self._positions[name]
            if source.is_floating_point():
                self._accept(name, slice(None), sampled.linear_entries(positions, gradient, source))
            else:
                self._accept(name, *sampled.embedding_entries(positions, gradient, source))

        return take

    def _accept(self, name: str, where: slice | Tensor, values: Tensor) -> None:
        """Add to the gradient of phi, at some of one tensor's entries."""
        if self._phi.grad is None:
            self._phi.grad = torch.zeros_like(self._phi)
        self._phi.grad[self._slices[name]][where] += values.float()

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        done = int(optimizer.state.get(self._phi, {}).get("step", self._steps))
        check_gradients(optimizer.param_groups, self._phi, self._slices, done)
        self._steps = done + 1

    def _observe(self, name: str, gradient: Tensor) -> None:
        """A subclass may look at each dense gradient before it is freed."""

    def _observing(self) -> bool:
        """Whether `_observe` needs the dense gradients of this step."""
        return False

    def _after_load(self) -> None:
        # loading with `assign` puts another parameter in phi's place, and the support is made from phi anew
        # whatever the checkpoint held there
        self._phi = self.encoder.get_parameter(NAME)  # type: ignore[assignment]
        self.write_back()


def _check(
    parameters: Mapping[str, nn.Parameter], support: Mapping[str, Tensor], theta0: Mapping[str, Tensor]
) -> None:
    if NAME in parameters:
        raise InputError("The encoder is in a SparseTraining already: leave that context first.")
    unknown = sorted(support.keys() - parameters.keys())
    if unknown or not any(len(positions) for positions in support.values()):
        raise InputError(
            "Expected a support within the encoder's parameters; it is empty or names unknown ones:"
            f" {', '.join(unknown[:5])}."
        )
    for name, parameter in parameters.items():
        if name not in theta0 or theta0[name].shape != parameter.shape:
            raise InputError(
                f"theta0 must have every parameter of the encoder in its shape; {name} is missing or differs."
                " Use snapshot(encoder)."
            )
    for name, positions in support.items():
        inside = bool((positions >= 0).all()) and bool((positions < parameters[name].numel()).all())
        if not inside or not bool((positions[1:] > positions[:-1]).all()):
            raise InputError(
                f"The support of {name} must be strictly increasing positions below"
                f" {parameters[name].numel()}."
            )
        if parameters[name].device != parameters[min(support)].device:
            raise InputError("The supported parameters are on several devices; sparse training works on one.")
