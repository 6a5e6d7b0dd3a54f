"""What a pretraining file says, and the text it names."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from bistil.errors import InputError
from bistil.settings import files
from bistil.settings.ranges import Count, Dropout, Filled, Layers, Length, Part, Seed, Settings, Share, Weight
from bistil.tasks.retrieval import read_parallel
from bistil.text.corpora import composed, read_lines
from bistil.training.loop import Schedule


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Settings):
    """What to train on and for how long.

    Attributes:
        languages: Codes of languages. The first is the one whose pieces others are aligned to.
        schedule: How long and how fast to train.
        start: A folder or package of weights, BERT's where the vocabulary is extended; None for random ones.
        layers: The number of layers where there is no start.
        hidden: The hidden size where there is no start.
        heads: The attention heads where there is no start; they divide `hidden`.
        vocabulary: The size of the WordPiece vocabulary that is learned from the text; None keeps the
            tokenizer of the start, whatever its kind, and every architecture may then be started from.
        train: What learns where the tokenizer is kept: the masked-LM `head` alone, `layers` and head, or
            `all`, embeddings too.
        lowercase: Whether the tokenizer lowers upper case.
        lines: The largest number of lines of a language, None for all.
        without_pairs: Whether sentences of the files that the language table names for retrieval are left
            out, of text as of translations.
        dropout: The dropout where there is no start.
        packed: Whether sequences are full blocks of running text; otherwise each is a line, and languages are
            mixed within a batch.
        length: Sub-words of a sequence.
        batch_size: Sequences in a batch.
        mask_share: The share of tokens that are predicted.
        alpha: Languages are drawn in proportion to size ** alpha; 0 draws all alike.
        parallel_share: The share of the steps on translation pairs in one sequence.
        translation_share: The share of the steps that draw translations to the start encoder's states.
        translation_weight: The factor of the loss of those steps.
        start_rate: The factor on the learning rate of the start's layers (of all of the start where the
            tokenizer is kept), beside that of what is new.
        seed: The seed of weights, batches and masks.
    """

    languages: Annotated[tuple[str, ...], Filled()]
    schedule: Schedule
    start: str | None = None
    layers: Layers = 6
    hidden: Count = 192
    heads: Count = 6
    vocabulary: Count | None = 6000
    train: Literal["head", "layers", "all"] = field(default="all", metadata={"added_later": True})
    lowercase: bool = False
    lines: Count | None = None
    without_pairs: bool = field(default=False, metadata={"added_later": True})
    dropout: Dropout = 0.1
    packed: bool = True
    length: Length = 128
    batch_size: Count = 16
    mask_share: Part = 0.15
    alpha: Share = 0.5
    parallel_share: Share = 0.0
    translation_share: Share = 0.0
    translation_weight: Weight = 1.0
    start_rate: Weight = 1.0
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.translation_share and not self.start:
            told = (
                "`translation_share` needs the states of a `start` encoder as targets; none is named. Name"
                " one, or drop it."
            )
            raise InputError(told, at=("translation_share",))
        if self.vocabulary is None:
            self._check_kept()
        elif self.train != "all":
            told = (
                f"`train: {self.train}` is for a start whose tokenizer is kept: set `vocabulary: null`, or"
                " drop it."
            )
            raise InputError(told, at=("train",))
        if not self.start and self.hidden % self.heads:
            told = f"`heads` should divide the hidden size of {self.hidden}, but are {self.heads}."
            raise InputError(told, at=("heads",))

    @property
    def reads_pairs(self) -> bool:
        """Whether translation pairs are asked for."""
        return self.parallel_share > 0 or self.translation_share > 0

    def _check_kept(self) -> None:
        if not self.start:
            raise InputError("`vocabulary: null` keeps the tokenizer of a `start`: name one.", at=("start",))
        if self.translation_share:
            told = "`translation_share` belongs to an extended vocabulary; with `vocabulary: null` drop it."
            raise InputError(told, at=("translation_share",))


MOST_PAIRS = 10_000
"""Pairs that are read of one table."""


@dataclass
class Text:
    """Lines by language, and translation pairs (first language's sentence, other sentence) by the other
    language.
    """

    lines: dict[str, list[str]]
    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def read_text(
    config: PretrainConfig,
    corpora: Mapping[str, Path],
    parallel: Path | None,
    *,
    without: Collection[str] = (),
) -> Text:
    """Read what the config names: corpora by language and the translations in `parallel`, those of `ntrex/`
    and the first MOST_PAIRS of each `<first>-<other>.tsv`; without the lines, and the pairs of a sentence,
    that are, as `composed`, in `without`.

    Raises:
        InputError: for a file that cannot be read; where `parallel` has no translations of the first language
            into any other.
    """
    lines = {code: read_lines(corpora[code], config.lines, without=without) for code in config.languages}
    first, pairs, gone, empty = config.languages[0], {}, frozenset(without), True
    for code in config.languages[1:]:
        if parallel is None:
            break
        found = list(_aligned_files(parallel / "ntrex" / f"{first}.txt", parallel / "ntrex" / f"{code}.txt"))
        tsv = parallel / f"{first}-{code}.tsv"
        if tsv.is_file():
            found += read_parallel(tsv)[:MOST_PAIRS]
        empty = empty and not found
        if kept := [pair for pair in found if gone.isdisjoint(map(composed, pair))]:
            pairs[code] = kept
    if parallel is not None and empty:
        raise InputError(
            f"Translations of {first} were expected in {parallel}, in a table such as"
            f" {first}-{config.languages[-1]}.tsv, but there are none. Give some, or drop `parallel_share`"
            " and `translation_share`."
        )
    return Text(lines, pairs)


def _aligned_files(first: Path, other: Path) -> list[tuple[str, str]]:
    if not (first.is_file() and other.is_file()):
        return []
    a, b = ([line.strip() for _, line in files.lines(path)] for path in (first, other))
    if len(a) != len(b):
        raise InputError(
            f"As many lines as in {first} ({len(a)}) were expected in {other}, but it has {len(b)}. Line n"
            " of both files should be the same sentence."
        )
    return [(x, y) for x, y in zip(a, b, strict=True) if x and y]
