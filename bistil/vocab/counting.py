"""How often each token occurs in text, in chunks that fill every core and little memory.

Notable: special tokens are not added, and whatever truncation or padding an earlier call has left in the
tokenizer is switched off. The tokenizer uses every core by itself; adding up does not, so on a machine with
many, several processes count a large corpus faster."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError

Ids = NDArray[np.int64]
CHUNK = 2048  # lines encoded at once: enough to use every core, little enough to stay small in memory


def count_tokens(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str], *, processes: int = 1) -> Ids:
    """Count each token over `lines` (any iterable, read in chunks), special tokens not added. Shape: [V].

    More than one of `processes` pay off from some hundred thousand lines on: each takes seconds to start.
    """
    counts = np.zeros(size(tokenizer), np.int64)
    encode = encoder(tokenizer)
    found = (
        (_count(encode(chunk)) for chunk in chunks(lines))
        if processes == 1
        else _in_processes(tokenizer, lines, processes)
    )
    for part in found:
        counts[: len(part)] += part
    return counts


def sentence_share(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> NDArray[np.float64]:
    """Share of lines that contain each token: the document frequency that Eliquare's criterion uses. Shape:
    [V], from 0 to 1.
    """
    counts, seen, encode = np.zeros(size(tokenizer), np.int64), 0, encoder(tokenizer)
    for encoded in map(encode, chunks(lines)):
        counts += np.bincount(
            np.fromiter(chain.from_iterable(map(set, encoded)), np.int64), minlength=len(counts)
        )
        seen += len(encoded)
    return counts / max(seen, 1)


def size(tokenizer: PreTrainedTokenizerFast) -> int:
    """One more than the highest token id."""
    return max(tokenizer.get_vocab().values()) + 1


def encoder(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], list[list[int]]]:
    """A batch encoder without truncation and padding, whatever an earlier call has left switched on in the
    tokenizer.
    """
    return _encoder(tokenizer.backend_tokenizer.to_str())


def chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """`lines` in lists of at most CHUNK."""
    if isinstance(lines, str):
        raise InputError(
            "An iterable of lines was expected, not one string, which would be read character by character."
        )
    source = iter(lines)
    return iter(lambda: list(islice(source, CHUNK)), [])


def plain(data: str) -> Tokenizer:
    """A tokenizer of its own from what `to_str` wrote, without truncation and padding."""
    backend = Tokenizer.from_str(data)
    backend.no_truncation()
    backend.no_padding()
    return backend


def _encoder(data: str) -> Callable[[list[str]], list[list[int]]]:
    backend = plain(data)
    return lambda chunk: [
        encoding.ids for encoding in backend.encode_batch_fast(chunk, add_special_tokens=False)
    ]


def _count(encoded: list[list[int]]) -> Ids:
    """Shape: [highest id that occurs + 1]."""
    return np.bincount(np.fromiter(chain.from_iterable(encoded), np.int64))


def _in_processes(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str], processes: int) -> Iterator[Ids]:
    """Counts of each chunk; no more chunks are read ahead than keep every process busy."""
    waiting: deque[Future[Ids]] = deque()
    data = tokenizer.backend_tokenizer.to_str()
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=(data,)) as pool:
        for chunk in chunks(lines):
            waiting.append(pool.submit(_count_here, chunk))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        yield from (one.result() for one in waiting)


def _start(data: str) -> None:
    """Give a process its tokenizer, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _process["encode"] = _encoder(data)


def _count_here(chunk: list[str]) -> Ids:
    return _count(_process["encode"](chunk))


_process: dict[str, Callable[[list[str]], list[list[int]]]] = {}
"""What a process of `_in_processes` has: its encoder."""
