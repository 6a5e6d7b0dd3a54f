"""What is applied to which encoder, and how it comes off again.

Notable: each encoder has a stack of applied deltas, kept outside it (weakly), so that a deep copy or a saved model knows nothing of it.
"""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft.flat import write_at

Entries = Mapping[str, tuple[Tensor, Tensor]]
"""For each tensor flat positions and what stands there. Shape: [K_n], [K_n]."""

_stacks: WeakKeyDictionary[nn.Module, list[object]] = WeakKeyDictionary()


class Applied:
    """A delta on an encoder; `revert` puts the overwritten values back, bit for bit, and `again` the delta's.

    Training done at the delta's positions meanwhile is overwritten by `revert`: take its delta first. `saved` and `worn` are the entries
    of the encoder's tensors without and with the delta.
    """

    def __init__(self, encoder: nn.Module, saved: Entries, worn: Entries) -> None:
        self._encoder, self._saved, self._worn, self._token = encoder, saved, worn, object()
        stack = _stacks.setdefault(encoder, [])
        self._below = tuple(stack)
        stack.append(self._token)

    def revert(self) -> None:
        """Restore the encoder.

        Raises:
            InputError: it was reverted before, or a delta applied later is still on the encoder.
        """
        stack = _stacks.get(self._encoder, [])
        if self._token not in stack:
            raise InputError("This delta was reverted already; apply it again before reverting it again.")
        if stack[-1] is not self._token:
            later = len(stack) - 1 - stack.index(self._token)
            raise InputError(f"{later} delta(s) applied later are still on the encoder: revert those first (last applied, first reverted).")
        put_back(self._encoder.state_dict(), self._saved)
        stack.pop()

    def again(self) -> None:
        """Put the reverted delta on the same encoder once more: one write of its entries, which are those of the first time.

        Raises:
            InputError: it is on the encoder now, or other deltas are than were then.
        """
        stack = _stacks.setdefault(self._encoder, [])
        if tuple(stack) != self._below:
            raise InputError("This delta can come on again only after its `revert`, over the same deltas as the first time. Apply it anew.")
        put_back(self._encoder.state_dict(), self._worn)
        stack.append(self._token)


def put_back(tensors: Mapping[str, Tensor], saved: Entries) -> None:
    """Overwrite the saved positions of each named tensor with the saved entries."""
    for name, (positions, old) in saved.items():
        tensor = tensors[name]
        write_at(tensor, positions.to(tensor.device), old.to(tensor.device))
