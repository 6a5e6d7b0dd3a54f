"""Cross-lingual sentence retrieval: how well two encoders put translations side by side. It trains nothing,
so it is no `Task`.

Notable:
* two scores are those of Bui's thesis on monolingual students: the cosine of mean vectors, and greedy
  matching of tokens as in BERTScore (F1, without idf weights). Both leave out special tokens. The third is
  how sentence encoders are used: the cosine of means over all tokens, special ones too;
* several layers are read in one pass; together they are the cosine of means over tokens and layers (Bui's
  thesis, section 4.5.1), or the mean of the layers' BERTScores, which the thesis leaves open;
* each language has its own encoder, which may be one and the same: a bilingual student, or a teacher with two
    language SFTs;
* a translation counts as found where the text of the best sentence is the right one, so that equal lines are
not held against a model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.models.architectures import longest_sequence
from bistil.models.load import encode
from bistil.settings import files
from bistil.settings.ranges import Count, Settings, Share, Tally
from bistil.tasks.sentences import pad, pad_inputs
from bistil.text.corpora import composed
from bistil.text.languages import DataFolder

PARALLEL = "parallel"
"""The column of the language table that names sentences and their translations."""
HELD = 2**30
"""Bytes of token states that are held at a time."""
LAYERS = "layers.csv"
"""Beside an evaluation of several layers, what each finds by itself."""


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(Settings):
    """How an experiment compares sentences.

    Attributes:
        by: `cosine` of mean vectors, `bertscore`, or `sentence`, the cosine of means over special tokens as
            well.
        depth: The layer to look at, the one nearest to this share of the encoder's layers.
        layers: Instead of that one layer, some together, and each by itself in `layers.csv`: numbers from 0,
            the embedding layer; an empty list stands for all but that one.
        prefix: What stands before every sentence, as "query: " for multilingual-e5.
        pairs: So many pairs, the first ones; null for all.
    """

    by: Literal["cosine", "bertscore", "sentence"] = "cosine"
    depth: Share = 2 / 3
    prefix: str = field(default="", metadata={"added_later": True})
    pairs: Count | None = field(default=None, metadata={"added_later": True})
    layers: tuple[Tally, ...] | None = field(default=None, metadata={"added_later": True})

    def numbers(self, layers: int) -> tuple[int, ...]:
        """The layers to look at in an encoder of so many."""
        if self.layers is None:
            return (round(self.depth * layers),)
        return self.layers or tuple(range(1, layers + 1))


@dataclass(frozen=True)
class Side:
    """What reads one of the two languages."""

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def read_parallel(path: Path, source: Path | None = None) -> list[tuple[str, str]]:
    """Pairs of source and target sentence: of a table with two columns and a tab between them, or of two
    files, line by line.

    Args:
        path: the table, or, with `source`, the target's lines.

    Raises:
        InputError: where a line has not two columns or a sentence is blank (with its number), or the files
            differ in length.
    """
    lines = [line for _, line in files.lines(path)]
    if source is None:
        columns = [line.split("\t") for line in lines]
    else:
        others = [line for _, line in files.lines(source)]
        if len(others) != len(lines):
            raise InputError(
                f"As many lines as in {source} ({len(others)}) were expected in {path}, but it has"
                f" {len(lines)}. Line n of both files should be the same sentence."
            )
        columns = [list(pair) for pair in zip(others, lines, strict=True)]
    for number, found in enumerate(columns, start=1):
        if len(found) != 2 or not all(text.strip() for text in found):
            raise InputError(
                f"{path}, line {number}: expected two sentences, neither blank, but got {found}. Correct the"
                " line, or drop it" + (" from both files." if source else ".")
            )
    if not columns:
        raise InputError(
            f"At least one pair of sentences was expected in {path}, but the file is empty. Give a file with"
            " data in it."
        )
    return [(left, right) for left, right in columns]


def parallel(data: DataFolder, source: str, target: str) -> list[tuple[str, str]]:
    """The pairs of two languages of a data folder: from the target's table (`.tsv`), or else line by line
    from both languages' files.

    Raises:
        InputError: where the language table names no such files, or they are malformed.
    """
    return read_parallel(*parallel_files(data, source, target))


def parallel_files(data: DataFolder, source: str, target: str) -> tuple[Path, Path | None]:
    """The files that `parallel` reads: the target's, and the source's where that is not a table."""
    path = data.file(PARALLEL, target, "test")
    return path, None if path.suffix == ".tsv" else data.file(PARALLEL, source, "test")


def all_parallel_files(data: DataFolder, codes: Iterable[str]) -> list[Path]:
    """Every file of sentences that the table names for some languages."""
    return [data.file(PARALLEL, code, "test") for code in codes if data.has(PARALLEL, code, "test")]


def sentences_in(paths: Iterable[Path]) -> frozenset[str]:
    """Every sentence of tables with a tab between two, and of files with one a line, as `composed`."""
    cells = (cell for path in paths for _, line in files.lines(path) for cell in line.split("\t"))
    return frozenset(map(composed, cells))


def retrieve(
    source: Side,
    target: Side,
    pairs: Sequence[tuple[str, str]],
    *,
    layer: int,
    by: str = "cosine",
    prefix: str = "",
    batch_size: int = 64,
    max_length: int = 128,
) -> dict[str, float]:
    """Percentage of sentences whose nearest neighbour is their translation: `forward` (to the target),
    `backward`, and their mean, by one layer. The arguments are those of `retrieve_by_layers`.
    """
    return retrieve_by_layers(
        source,
        target,
        pairs,
        layers=(layer,),
        by=by,
        prefix=prefix,
        batch_size=batch_size,
        max_length=max_length,
    )[1][layer]


def retrieve_by_layers(
    source: Side,
    target: Side,
    pairs: Sequence[tuple[str, str]],
    *,
    layers: Sequence[int],
    by: str = "cosine",
    prefix: str = "",
    batch_size: int = 64,
    max_length: int = 128,
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """What `retrieve` returns, of some layers together and of each.

    Args:
        layers: 0 is the embedding layer, 1 the first layer.
        by: `cosine`, `bertscore` or `sentence`.
        prefix: what stands before every sentence. The whole is cut to `max_length` tokens, or to what the
            encoder has positions for.

    Raises:
        InputError: without pairs or layers, for another score, or for a layer that an encoder has not.
    """
    most = min(side.encoder.config.num_hidden_layers for side in (source, target))
    if not pairs or by not in SIMILARITIES or not layers or not all(0 <= one <= most for one in layers):
        raise InputError(
            f"Pairs of sentences, layers from 0 to {most} and a score among {', '.join(SIMILARITIES)} were"
            f" expected, but got {len(pairs)} pairs, layers {list(layers)} and {by!r}."
        )
    texts = [[prefix + one for one in lines] for lines in zip(*pairs, strict=True)]
    sides, means = list(zip((source, target), texts, strict=True)), by != "bertscore"
    similarity = SIMILARITIES[by]
    each: dict[int, dict[str, float]] = {}
    if means:
        found = [
            token_states(
                side,
                lines,
                layers=layers,
                special=by == "sentence",
                means=True,
                batch_size=batch_size,
                max_length=max_length,
            )
            for side, lines in sides
        ]
        each = {
            layer: accuracies(similarity(*both), pairs) for layer, *both in zip(layers, *found, strict=True)
        }
        over_layers = [[torch.stack(own).mean(0) for own in zip(*side, strict=True)] for side in found]
        return accuracies(similarity(*over_layers), pairs), each
    together: Tensor | float = 0.0
    for group in _groups(layers, sides, max_length):
        held = [
            token_states(side, lines, layers=group, batch_size=batch_size, max_length=max_length)
            for side, lines in sides
        ]
        for layer, *both in zip(group, *held, strict=True):
            found_here = similarity(*both)
            each[layer] = accuracies(found_here, pairs)
            together = found_here / len(layers) + together
    assert isinstance(together, Tensor)
    return accuracies(together, pairs), each


def _groups(
    layers: Sequence[int], sides: Sequence[tuple[Side, Sequence[str]]], max_length: int
) -> Iterator[Sequence[int]]:
    """The layers in groups whose states of all tokens take at most `HELD` bytes; what is left is encoded
    again.
    """
    size = sum(
        4
        * side.encoder.config.hidden_size
        * sum(len(row["input_ids"]) for row in _rows(side, lines, max_length))
        for side, lines in sides
    )
    step = max(1, HELD // size)
    for start in range(0, len(layers), step):
        yield layers[start : start + step]


def accuracies(similarity: Tensor, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """What `retrieve` returns, of the similarity of every source to every target sentence. Shape: [N, N]."""
    forward = _accuracy(similarity, [right for _, right in pairs])
    backward = _accuracy(similarity.T, [left for left, _ in pairs])
    return {"forward": forward, "backward": backward, "accuracy": (forward + backward) / 2}


def token_states(
    side: Side,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    special: bool = False,
    means: bool = False,
    batch_size: int,
    max_length: int,
) -> list[list[Tensor]]:
    """States of each text's tokens at some layers, special tokens left out unless `special`; their mean with
    `means`.

    Shape: for each layer one [n, H] a text, n at least 1; [1, H] with `means`.
    """
    rows = _rows(side, texts, max_length)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]), reverse=True)
    device, training = next(side.encoder.parameters()).device, side.encoder.training
    found: list[dict[int, Tensor]] = [{} for _ in layers]
    side.encoder.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                numbers = order[start : start + batch_size]
                chosen = [rows[i] for i in numbers]
                batch = {
                    name: tensor.to(device)
                    for name, tensor in pad_inputs(chosen, int(side.tokenizer.pad_token_id)).items()
                }
                ids, mask = batch["input_ids"], batch["attention_mask"]
                hidden = encode(side.encoder, ids, mask, states=True, attention=False).hidden
                real = (pad(chosen, "special", 1).to(device) == 0) | special
                # a text without any token keeps its special ones
                real = (real | ~real.any(1, keepdim=True)) & (batch["attention_mask"] == 1)
                for own, layer in zip(found, layers, strict=True):
                    states = hidden[layer].float()
                    kept = [states[row, real[row]] for row in range(len(numbers))]
                    own |= zip(
                        numbers, [one.mean(0, keepdim=True) for one in kept] if means else kept, strict=True
                    )
    finally:
        side.encoder.train(training)
    return [[own[i] for i in range(len(rows))] for own in found]


def _rows(side: Side, texts: Sequence[str], max_length: int) -> list[dict[str, list[int]]]:
    """The texts as ids, and which of these are special."""
    most = min(max_length, longest_sequence(side.encoder.config))
    encoding = side.tokenizer(list(texts), truncation=True, max_length=most, return_special_tokens_mask=True)
    # or a later save would write this max_length into tokenizer.json
    side.tokenizer.backend_tokenizer.no_truncation()
    return [
        {"input_ids": i, "special": s}
        for i, s in zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True)
    ]


def cosine(source: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Cosine of the mean token vectors of every two sentences. Shape: N of [n, H], M of [m, H] -> [N, M]."""
    left, right = (
        normalize(torch.stack([states.mean(0) for states in side]), dim=1) for side in (source, target)
    )
    return left @ right.T


def bertscore(source: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """F1 of greedy token matching of every two sentences: each token counts the cosine of its most similar
    token on the other side, a mean over the tokens of either side; a negative mean counts as 0. Shape: N of
    [n, H], M of [m, H] -> [N, M]."""
    lengths = torch.tensor([len(states) for states in target], device=target[0].device)
    padded = pad_sequence([normalize(states, dim=1) for states in target], batch_first=True)
    real = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    rows = []
    for states in source:
        cosines = padded @ normalize(states, dim=1).T  # [M, m, n]
        there = cosines.masked_fill(~real[:, :, None], -torch.inf).amax(1).mean(1)
        back = (cosines.amax(2) * real).sum(1) / lengths
        there, back = there.clamp(min=0), back.clamp(min=0)
        rows.append(2 * there * back / (there + back).clamp(min=1e-9))
    return torch.stack(rows)


SIMILARITIES: Mapping[str, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "cosine": cosine,
    "bertscore": bertscore,
    "sentence": cosine,
}


def _accuracy(similarity: Tensor, candidates: Sequence[str]) -> float:
    """Percentage of rows whose best column holds the same text as the column of the row's own number."""
    best = similarity.argmax(1).tolist()
    return 100 * sum(candidates[guess] == candidates[own] for own, guess in enumerate(best)) / len(best)
