"""Changing the language that the teacher wears: one language's SFT off, another's on."""

from collections.abc import Callable
from copy import deepcopy
from itertools import cycle

import torch
from torch import Tensor

from bistil.bench.measure import LEAST, OURS, PUBLISHED, Row, Size, alternate, comparison
from bistil.bench.models import DENSITY, bert, delta
from bistil.bench.published import add_sparse
from bistil.distil.teachers import AdaptedTeacher
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.lottery import snapshot

CODES = ("aaa", "bbb")


def switch(size: Size) -> list[Row]:
    """One switch; what is kept for each language; and how far the base is from what it was after all
    switches.

    The least writes every entry that either language touches once, in the order of memory, and knows
    beforehand what to write.
    """
    torch.manual_seed(1)
    encoder = bert(size)
    other, theta, base = deepcopy(encoder), snapshot(encoder), base_hash(encoder)
    deltas = {code: delta(theta, base) for code in CODES}
    sparse = {code: _sparse(one, theta) for code, one in deltas.items()}
    teacher = AdaptedTeacher(encoder, deltas, None)
    ours, theirs = cycle(CODES), cycle(CODES)
    worn = ""

    def published() -> None:
        nonlocal worn
        if worn:
            add_sparse(other, sparse[worn], -1.0)
        worn = next(theirs)
        add_sparse(other, sparse[worn], 1.0)

    turns = {
        PUBLISHED: published,
        OURS: lambda: teacher.wear(next(ours)),
        LEAST: _touching(deepcopy(encoder), list(deltas.values())),
    }
    for _ in CODES:  # each language once: what is read the first time is kept
        turns[OURS]()
    seconds = alternate(2 * size.turns, turns)
    teacher.wear(None)
    add_sparse(other, sparse[worn], -1.0)
    kept = {
        PUBLISHED: sum(one._indices().nbytes + one._values().nbytes for one in sparse[CODES[0]].values()),
        OURS: sum(
            positions.nbytes + 3 * values.nbytes for positions, values in deltas[CODES[0]].tensors.values()
        ),
    }
    left = {
        name: max(
            float((after.detach() - theta[tensor]).abs().max()) for tensor, after in model.named_parameters()
        )
        for name, model in ((PUBLISHED, other), (OURS, encoder))
    }
    columns = {
        name: {
            **found,
            **(
                {"kept for a language, bytes": kept[name], "largest change of the base": left[name]}
                if name in kept
                else {}
            ),
        }
        for name, found in seconds.items()
    }
    note = (
        "published: torch's sparse tensors, subtracted from and added to whole parameters (as composable-sft"
        " does); least: each touched entry of both languages is written once"
    )
    return [
        comparison(
            f"language switch, {size.layers} x {size.hidden}, {size.vocabulary} tokens, density {DENSITY}",
            note,
            columns,
        )
    ]


def _sparse(one: SparseDelta, theta: dict[str, Tensor]) -> dict[str, Tensor]:
    """The delta as torch's sparse tensors."""
    found = {}
    for name, (positions, values) in one.tensors.items():
        places = torch.stack(torch.unravel_index(positions, theta[name].shape))
        found[name] = torch.sparse_coo_tensor(
            places, values, theta[name].shape, check_invariants=False
        ).coalesce()
    return found


def _touching(encoder: torch.nn.Module, deltas: list[SparseDelta]) -> Callable[[], None]:
    """A turn that writes every touched entry once."""
    places = {
        name: torch.cat([one.tensors[name][0] for one in deltas]).unique() for name in deltas[0].tensors
    }
    flat = {
        name: parameter.detach().view(-1) for name, parameter in encoder.named_parameters() if name in places
    }
    entries = {name: tensor[places[name]] for name, tensor in flat.items()}

    def turn() -> None:
        for name, tensor in flat.items():
            tensor.index_copy_(0, places[name], entries[name])

    return turn
