"""What adapters cost at the size of mBERT: a step of training one, or the generator of many; reading text
while two are worn; changing one for another; and making one of a language's features.
"""

from collections.abc import Callable, Mapping
from itertools import cycle

import torch

from bistil.bench.measure import OURS, Row, Size, alternate, comparison, in_process
from bistil.bench.models import bert, delta
from bistil.bench.training import ADAPTERS, FEATURES, GENERATORS, cost_of, generator
from bistil.sft.bottleneck import AdapterModule, Hung, Role
from bistil.sft.delta import base_hash
from bistil.sft.lottery import snapshot

FULL, LANGUAGE, TASK = "full fine-tuning", *ADAPTERS
BARE, SFT = "bare encoder", "sparse fine-tuning"
ROLES: Mapping[str, Role] = {LANGUAGE: "language", TASK: "task"}


def adapters(size: Size, *, apart: bool = True) -> list[Row]:
    """Steps of an adapter and of generators, inference, switching, generating.

    Args:
        apart: each training in a new process, without which peaks of memory mean nothing.
    """
    found = {way: in_process(cost_of, way, size, apart=apart) for way in (FULL, LANGUAGE, TASK, *GENERATORS)}
    told = "the loss is of the states: a head would cost every way the same"
    rows = [
        comparison(f"{way}: a step", told, {OURS: found[way], FULL: found[FULL]}) for way in (LANGUAGE, TASK)
    ]
    rows += [
        comparison(
            f"{way}: a step",
            f"its adapter has reduction 2 in every layer and no invertible map; {FEATURES} features",
            {OURS: found[way], LANGUAGE: found[LANGUAGE]},
        )
        for way in GENERATORS
    ]
    return [*rows, _reading(size), _switching(size), *(_generating(size, way) for way in GENERATORS)]


def _reading(size: Size) -> Row:
    torch.manual_seed(1)
    encoder = bert(size).requires_grad_(False)
    ids = torch.randint(5, size.vocabulary, (size.batch, size.length))
    worn = [Hung(encoder, AdapterModule(encoder.config, ADAPTERS[way]), role) for way, role in ROLES.items()]

    def read(on: bool) -> Callable[[], None]:
        def turn() -> None:
            for one in worn if on else ():
                one.again()
            with torch.inference_mode():
                encoder(input_ids=ids)
            for one in worn if on else ():
                one.revert()

        return turn

    for one in worn:
        one.revert()
    sides = {OURS: read(True), BARE: read(False)}
    note = "a batch read with a language's and a task's adapter, put on and taken off each time"
    return comparison("reading with two adapters", note, alternate(2 * size.turns, sides))


def _switching(size: Size) -> Row:
    torch.manual_seed(1)
    encoder = bert(size)
    settings = ADAPTERS[LANGUAGE]
    hung = [Hung(encoder, AdapterModule(encoder.config, settings), "language")]
    hung[0].revert()
    hung.append(Hung(encoder, AdapterModule(encoder.config, settings), "language"))
    base = base_hash(encoder)
    deltas = [delta(snapshot(encoder), base) for _ in range(2)]
    applied = [deltas[0].apply(encoder)]
    ours, theirs = cycle(hung), cycle(deltas[::-1])
    worn = [hung[1]]

    def adapter() -> None:
        worn[0].revert()
        worn[0] = next(ours)
        worn[0].again()

    def sft() -> None:
        applied[0].revert()
        applied[0] = next(theirs).apply(encoder)

    note = f"one language's off, another's on; {SFT}: as many values, which are added to the weights"
    return comparison("switching adapters", note, alternate(2 * size.turns, {OURS: adapter, SFT: sft}))


def _generating(size: Size, way: str) -> Row:
    torch.manual_seed(1)
    encoder = bert(size).requires_grad_(False)
    maker, features = generator(encoder.config, GENERATORS[way]), torch.ones(FEATURES)
    ids = torch.randint(5, size.vocabulary, (1, size.length))

    def make() -> None:
        maker.adapter(features.numpy())

    def read() -> None:
        with torch.inference_mode():
            encoder(input_ids=ids)

    sides = {OURS: make, "reading a sentence": read}
    note = f"an adapter for a language, of {FEATURES} features; beside it a sentence of {size.length} tokens"
    return comparison(f"{way}: making an adapter", note, alternate(2 * size.turns, sides))
