"""How often each token occurs in text, in chunks that fill every core and little memory.

Notable: special tokens are not added, and whatever truncation or padding an earlier call has left in the
tokenizer is switched off. The tokenizer uses every core by itself."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError

Ids = NDArray[np.int64]
CHUNK = 2048  # lines encoded at once: enough to use every core, little enough to stay small in memory


def count_tokens(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> Ids:
    """Count each token over `lines` (any iterable, read in chunks), special tokens not added. Shape: [V]."""
    counts = np.zeros(size(tokenizer), np.int64)
    encode = encoder(tokenizer)
    for chunk in chunks(lines):
        part = _count(encode(chunk))
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
