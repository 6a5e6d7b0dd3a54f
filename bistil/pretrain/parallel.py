"""What a translator learns from: its configuration, and pairs of sentences by direction.

Notable: sentences that are held out, on either side, are in no pair that is trained on.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from bistil.errors import InputError
from bistil.settings.ranges import Count, Dropout, Filled, Layers, Length, Seed, Settings, Share
from bistil.tasks.retrieval import read_parallel
from bistil.training.loop import Schedule

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig(Settings):
    """What a translator is trained on and for how long.

    Attributes:
        pairs: Languages with a hyphen between them, as eng-swa: the names of tables in the folder `parallel`.
            A code has no hyphen of its own.
        schedule: How long and how fast to train.
        directions: Whether the first language of a pair is translated into the second (`forward`), the other
            way round (`back`), or `both`.
        start: A folder or hub name of a model to be adapted: NLLB, or another M2M100 with a fast tokenizer;
            None to make one from nothing.
        codes: What the tokenizer calls languages, by the codes of `pairs`, where that is not found; of a
            language that is new to NLLB it is needed, as {bzd: bzd_Latn}.
        start_from: The language at whose token's row a new language starts, by its code; by default the mean.
        layers: The layers of encoder and of decoder where there is no start.
        hidden: The hidden size where there is no start.
        heads: The attention heads where there is no start; they divide `hidden`.
        dropout: The dropout where there is no start.
        vocabulary: The size of the vocabulary learned from the pairs where there is no start.
        lines: The largest number of lines of a pair, None for all.
        length: The most tokens of a sentence, special ones among them.
        batch_size: Pairs of sentences in a batch, all of one direction.
        alpha: Directions are drawn in proportion to pairs ** alpha; 0 draws all alike.
        held_out: Lines of each pair that are scored and not trained on; a tenth of them at most.
        seed: The seed of weights, batches and what is held out.
    """

    pairs: Annotated[tuple[str, ...], Filled()]
    schedule: Schedule
    directions: Literal["forward", "back", "both"] = "forward"
    start: str | None = None
    codes: dict[str, str] = field(default_factory=dict)
    start_from: dict[str, str] = field(default_factory=dict)
    layers: Layers = 3
    hidden: Count = 256
    heads: Count = 4
    dropout: Dropout = 0.1
    vocabulary: Count = 12_000
    lines: Count | None = None
    length: Length = 128
    batch_size: Count = 32
    alpha: Share = 0.5
    held_out: Count = 200
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for number, pair in enumerate(self.pairs):
            if pair.count("-") != 1 or not all(pair.split("-")):
                raise InputError(
                    f"Two codes with one hyphen, between them, were expected, but got {pair!r}.",
                    at=("pairs", number),
                )
            if (other := _reversed(pair)) in self.pairs[:number]:
                raise InputError(
                    f"Each pair was expected once, but {pair} is {other} the other way round. Put both files"
                    " in one.",
                    at=("pairs", number),
                )
        if self.hidden % self.heads:
            told = f"`heads` should divide the hidden size of {self.hidden}, but are {self.heads}."
            raise InputError(told, at=("heads",))
        if self.start_from and not self.start:
            raise InputError("`start_from` is for new languages of a `start`: name one.", at=("start_from",))

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages, each once."""
        return tuple(dict.fromkeys(code for pair in self.pairs for code in pair.split("-", 1)))


@dataclass
class Parallel:
    """Pairs of sentences by direction, such as eng-swa: those that are trained on, and those held out."""

    training: dict[str, list[Pair]]
    held_out: dict[str, list[Pair]]


def read_pairs(config: TranslatorConfig, folder: Path) -> Parallel:
    """Read the tables that a configuration names.

    Raises:
        InputError: as `read_parallel`; where nothing is left to train on.
    """
    training, held_out = dict[str, list[Pair]](), dict[str, list[Pair]]()
    for name in config.pairs:
        found = list(dict.fromkeys(read_parallel(folder / f"{name}.tsv")[: config.lines]))
        random.Random(f"{config.seed} {name}").shuffle(found)
        most = min(config.held_out, max(1, len(found) // 10))
        training[name], held_out[name] = found[most:], found[:most]
    unseen = {text for pairs in held_out.values() for pair in pairs for text in pair}
    for name, pairs in training.items():
        training[name] = [pair for pair in pairs if unseen.isdisjoint(pair)]
        if not training[name]:
            raise InputError(
                f"Pairs to train on were expected in {folder / f'{name}.tsv'}, but none is left beside those"
                " held out. Give more lines."
            )
    return Parallel(_directed(config, training), _directed(config, held_out))


def _directed(config: TranslatorConfig, found: Mapping[str, list[Pair]]) -> dict[str, list[Pair]]:
    """Pairs by direction, (read, written) each."""
    directed = dict(found) if config.directions != "back" else {}
    for name, pairs in found.items():
        if config.directions != "forward":
            directed[_reversed(name)] = [(two, one) for one, two in pairs]
    return directed


def _reversed(pair: str) -> str:
    """The other direction of a pair."""
    return "-".join(reversed(pair.split("-", 1)))
