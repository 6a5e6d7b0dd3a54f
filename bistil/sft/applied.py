"""What is applied to which encoder, and how it comes off again.

Notable: each encoder has a stack of applied deltas, kept outside it (weakly), so that a deep copy or a saved
model knows nothing of it."""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft.flat import add_at, read_at, write_at

Entries = Mapping[str, tuple[Tensor, Tensor]]
"""For each tensor flat positions and what stands there. Shape: [K_n], [K_n]."""

_stacks: WeakKeyDictionary[nn.Module, list[object]] = WeakKeyDictionary()


class Applied:
    """A delta on an encoder; `revert` puts the overwritten values back, bit for bit, and `again` the delta's.

    Training done at the delta's positions meanwhile is overwritten by `revert`: take its delta first.
    `changed` tells of it.

    Args:
        encoder: it wears the delta already.
        saved: the entries of its tensors without the delta.
        worn: the same entries with it.
        values: the delta's own values at those entries.
    """

    def __init__(self, encoder: nn.Module, saved: Entries, worn: Entries, values: Entries) -> None:
        self._encoder, self._saved, self._worn, self._token = encoder, saved, worn, object()
        self._values = values
        self._shapes = {name: tensor.shape for name, tensor in encoder.state_dict().items() if name in saved}
        stack = _stacks.setdefault(encoder, [])
        self._below = tuple(stack)
        stack.append(self._token)

    def revert(self) -> None:
        """Restore the encoder.

        Raises:
            InputError: it was reverted before, a delta applied later is still on the encoder, or a tensor has
                gone or has another shape or type than when the delta was applied; the encoder is then
                untouched.
        """
        stack = _stacks.get(self._encoder, [])
        if self._token not in stack:
            raise InputError("This delta was reverted already; apply it again before reverting it again.")
        if stack[-1] is not self._token:
            later = len(stack) - 1 - stack.index(self._token)
            raise InputError(
                f"{later} delta(s) applied later are still on the encoder: revert those first (last applied,"
                " first reverted)."
            )
        tensors = self._encoder.state_dict()
        for name, (_, old) in self._saved.items():
            found = (tensors[name].shape, tensors[name].dtype) if name in tensors else None
            if found != (self._shapes[name], old.dtype):
                raise InputError(
                    f"{name} was {tuple(self._shapes[name])}, {old.dtype}, when the delta was applied, and is"
                    f" now {'gone' if found is None else f'{tuple(found[0])}, {found[1]}'}: revert a delta"
                    " before the encoder is rebuilt, resized or converted."
                )
        put_back(tensors, self._saved)
        stack.pop()

    def changed(self) -> list[str]:
        """Return the tensors whose entries at the delta's positions are no longer what was written there,
        sorted.

        Of a delta that was applied later too, or is reverted, this says nothing useful: ask the one applied
        last.
        """
        tensors = self._encoder.state_dict()
        return sorted(
            name
            for name, (where, entries) in self._worn.items()
            if not torch.equal(read_at(tensors[name], where), entries)
        )

    def again(self, *, trained: bool = False) -> None:
        """Put the reverted delta on the same encoder once more: one write of its entries.

        Args:
            trained: whether the encoder's own entries may have changed since it was reverted, so that they
                are read anew; otherwise what is written is what was written the first time.

        Raises:
            InputError: it is on the encoder now, or other deltas are than were then.
        """
        stack = _stacks.setdefault(self._encoder, [])
        if tuple(stack) != self._below:
            raise InputError(
                "This delta can come on again only after its `revert`, over the same deltas as the first"
                " time. Apply it anew."
            )
        tensors = self._encoder.state_dict()
        if trained:
            self._saved = {name: (at, read_at(tensors[name], at)) for name, (at, _) in self._saved.items()}
            self._worn = with_values(self._saved, self._values)
        put_back(tensors, self._worn)
        stack.append(self._token)


def with_values(saved: Entries, values: Entries) -> Entries:
    """The saved entries with a delta's values added to them."""
    return {name: (at, add_at(old, values[name][1].to(old.device))) for name, (at, old) in saved.items()}


def put_back(tensors: Mapping[str, Tensor], saved: Entries) -> None:
    """Overwrite the saved positions of each named tensor with the saved entries."""
    for name, (positions, old) in saved.items():
        tensor = tensors[name]
        write_at(tensor, positions.to(tensor.device), old.to(tensor.device))
