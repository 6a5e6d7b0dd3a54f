"""A sparse training whose support moves: delta on frozen theta, kept merged in place (thesis section 7.3.1,
eqs. 7.2-7.4).

Notable: the support, phi and the overwritten values of theta are buffers of the encoder, so every checkpoint
of the model holds a whole delta, and the one loaded at the end is the one exported. Over all tensors the
support is one sorted vector of keys.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft.flat import read_at
from bistil.sft.lottery import random_positions
from bistil.sft.sparse_training import SparseTraining
from bistil.sft.spiel.config import SpielConfig
from bistil.training.parallel import processes

KEYS, START = "sft_keys", "sft_start"


def choose_tensors(encoder: nn.Module, *, embeddings: bool = False) -> list[str]:
    """Return the names of the weights of linear layers in the Transformer's blocks, and of embeddings if
    asked, sorted.

    Blocks are what stands in an nn.ModuleList, so poolers and heads are left out (thesis section 7.3.1).

    Raises:
        InputError: there is none.
    """
    blocks = [name for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    inside = {
        f"{name}.weight"
        for name, module in encoder.named_modules()
        if (isinstance(module, nn.Linear) and any(name.startswith(f"{block}.") for block in blocks))
        or (embeddings and isinstance(module, nn.Embedding))
    }
    # a tied weight under its first name only
    names = sorted(name for name, _ in encoder.named_parameters() if name in inside)
    if not names:
        raise InputError(
            f"Expected linear layers in an nn.ModuleList of blocks, but {type(encoder).__name__} has none."
        )
    return names


class MovingSupport(SparseTraining):
    """A context in which K entries of the encoder train, and `move` replaces some of them by others.

    On entry theta is the encoder as it stands, no copy is made, and everything but phi is frozen. Loading a
    checkpoint's state restores support and phi. On exit the encoder is left at theta + phi (at theta after
    `rewind`). Works on one device.

    Args:
        encoder: as SparseTraining's.
        config: says which tensors, how many entries, and the seed of the random support.
        support: sorted flat positions by name to start from, instead of random ones.
        dense_gradients: as SparseTraining's.

    Raises:
        InputError: K is larger than the chosen tensors, the support does not fit the encoder, or several
            processes train together: each would grow what its own share of a batch asks for.
    """

    def __init__(
        self,
        encoder: nn.Module,
        config: SpielConfig,
        *,
        support: Mapping[str, Tensor] | None = None,
        dense_gradients: bool = False,
    ) -> None:
        if processes() > 1:
            raise InputError(
                f"SpIEL trains in one process, but there are {processes()}. Start it without torchrun, or use"
                " LT-SFT."
            )
        parameters = dict(encoder.named_parameters())
        names = (
            sorted(support) if support is not None else choose_tensors(encoder, embeddings=config.embeddings)
        )
        numels = [parameters[name].numel() if name in parameters else 0 for name in names]
        if support is None:
            random = np.random.default_rng(config.seed)
            quotas = config.quotas(numels)
            support = {
                name: random_positions(numel, count, random)
                for name, numel, count in zip(names, numels, quotas, strict=True)
            }
        super().__init__(encoder, support=support, theta0=parameters, dense_gradients=dense_gradients)
        self.config = config
        self.quotas = {name: len(positions) for name, positions in self._positions.items()}
        self.observer: Callable[[str, Tensor], None] | None = None
        self.observing: Callable[[], bool] = lambda: False
        bounds = np.cumsum([0, *numels])
        self._bounds = torch.from_numpy(bounds).to(self._phi.device)
        self.offsets = dict(zip(names, bounds.tolist(), strict=False))
        self._keys = torch.cat(
            [positions + self.offsets[name] for name, positions in self._positions.items()]
        )
        wide = max((start.dtype for start in self._start.values()), key=lambda dtype: dtype.itemsize)
        self._overwritten = torch.cat(
            [start.to(torch.promote_types(wide, torch.float32)) for start in self._start.values()]
        )

    @property
    def keys(self) -> Tensor:
        """The support: a position plus the number of entries of all tensors before it by name, strictly
        increasing. Shape: [K].
        """
        return self._keys

    @property
    def parts(self) -> Mapping[str, slice]:
        """Where in `keys` and `values` each tensor's entries are."""
        return self._slices

    def positions(self, name: str) -> Tensor:
        """Return the sorted flat positions of the support in one tensor. Shape: [K_n]."""
        return self._positions[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor of the encoder."""
        return tuple(self._theta0[name].shape)

    def __enter__(self) -> Self:
        self._read_start()
        self._split()
        super().__enter__()
        self.encoder.register_buffer(KEYS, self._keys)
        self.encoder.register_buffer(START, self._overwritten)
        self._handles.append(
            self.encoder.register_load_state_dict_pre_hook(lambda *_: self._put_start_back())
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        delattr(self.encoder, KEYS)
        delattr(self.encoder, START)

    @torch.no_grad()
    def move(self, dropped: Tensor, grown: Tensor) -> tuple[Tensor, Tensor]:
        """Put theta back at the dropped entries, bit for bit, and take the grown ones in at phi = 0.

        Args:
            dropped: which entries of `keys` go. Shape: [K], bool.
            grown: as many sorted keys, none of which stays in the support. Shape: [k].

        Returns:
            where in the new `keys` the surviving and the grown entries are. Shape: [K - k], [k].
        """
        for name, place in self._slices.items():
            gone = dropped[place]
            self._write(name, self._positions[name][gone], self._start[name][gone])
        keys, order = torch.cat([self._keys[~dropped], grown]).sort()
        where = order.argsort()
        surviving, new = where[: len(keys) - len(grown)], where[len(keys) - len(grown) :]
        values, start = self._phi[~dropped], self._overwritten[~dropped]
        self._keys.copy_(keys)
        self._split()
        self._read_start()
        self._overwritten[surviving] = start
        self._split()
        self._phi.zero_()
        self._phi[surviving] = values
        return surviving, new

    def _observe(self, name: str, gradient: Tensor) -> None:
        if self.observer is not None:
            self.observer(name, gradient)

    def _observing(self) -> bool:
        return self.observing()

    def _split(self) -> None:
        """Refresh what is kept for each tensor from the vectors over all tensors."""
        cuts = torch.searchsorted(self._keys, self._bounds).tolist()
        self._slices = {name: slice(*cuts[number : number + 2]) for number, name in enumerate(self.offsets)}
        self._positions = {
            name: self._keys[place] - self.offsets[name] for name, place in self._slices.items()
        }
        self._start = {
            name: self._overwritten[place].to(self._theta0[name].dtype)
            for name, place in self._slices.items()
        }

    def _read_start(self) -> None:
        for name, place in self._slices.items():
            self._overwritten[place] = read_at(self.encoder.get_parameter(name), self._positions[name]).to(
                self._overwritten.dtype
            )

    @torch.no_grad()
    def _put_start_back(self) -> None:
        for name, positions in self._positions.items():
            self._write(name, positions, self._start[name])

    def _after_load(self) -> None:
        self._keys, self._overwritten = self.encoder.get_buffer(KEYS), self.encoder.get_buffer(START)
        self._split()
        super()._after_load()
