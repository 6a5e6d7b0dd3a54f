"""What is applied to which encoder, and how it comes off again.

Notable: each encoder has a stack of applied deltas, kept outside it (weakly), so that a deep copy or a saved model knows nothing of it.
"""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft.flat import add_at, read_at, write_at

_stacks: WeakKeyDictionary[nn.Module, list[object]] = WeakKeyDictionary()


class Applied:
    """A delta on an encoder; `revert` puts the overwritten values back, bit for bit.

    Training done at the delta's positions meanwhile is overwritten by `revert`: take its delta first. `changed` tells of it.

    Args:
        encoder: it wears the delta already.
        saved: positions and the entries that were there before, by name. Shape: [K_n], [K_n].
        values: what was added to them. Shape: [K_n].
    """

    def __init__(self, encoder: nn.Module, saved: Mapping[str, tuple[Tensor, Tensor]], values: Mapping[str, Tensor]) -> None:
        self._encoder, self._saved, self._values, self._token = encoder, saved, values, object()
        self._shapes = {name: tensor.shape for name, tensor in encoder.state_dict().items() if name in saved}
        _stacks.setdefault(encoder, []).append(self._token)

    def revert(self) -> None:
        """Restore the encoder.

        Raises:
            InputError: it was reverted before, a delta applied later is still on the encoder, or a tensor has gone or has another shape
                or type than when the delta was applied; the encoder is then untouched.
        """
        stack = _stacks.get(self._encoder, [])
        if self._token not in stack:
            raise InputError("This delta was reverted already; apply it again before reverting it again.")
        if stack[-1] is not self._token:
            later = len(stack) - 1 - stack.index(self._token)
            raise InputError(f"{later} delta(s) applied later are still on the encoder: revert those first (last applied, first reverted).")
        tensors = self._encoder.state_dict()
        for name, (_, old) in self._saved.items():
            found = (tensors[name].shape, tensors[name].dtype) if name in tensors else None
            if found != (self._shapes[name], old.dtype):
                raise InputError(
                    f"{name} was {tuple(self._shapes[name])}, {old.dtype}, when the delta was applied, and is now "
                    f"{'gone' if found is None else f'{tuple(found[0])}, {found[1]}'}: revert a delta before the encoder is rebuilt, "
                    "resized or converted."
                )
        put_back(tensors, self._saved)
        stack.pop()
        self._saved, self._values = {}, {}

    def changed(self) -> list[str]:
        """Return the tensors whose entries at the delta's positions are no longer what was written there, sorted.

        Of a delta that was applied later too this says nothing useful: ask the one applied last.
        """
        tensors = self._encoder.state_dict()
        written = {name: add_at(old, self._values[name].to(old.device)) for name, (_, old) in self._saved.items()}
        return sorted(name for name, (where, _) in self._saved.items() if not torch.equal(read_at(tensors[name], where), written[name]))


def put_back(tensors: Mapping[str, Tensor], saved: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Overwrite the saved positions of each named tensor with the saved entries. Shape: [K_n], [K_n]."""
    for name, (positions, old) in saved.items():
        tensor = tensors[name]
        write_at(tensor, positions.to(tensor.device), old.to(tensor.device))
