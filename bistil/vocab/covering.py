"""How well a vocabulary covers a language, before anything is trained: into how many tokens words fall, and
how many it cannot spell.

Notable: words are what spaces part, the same in every language and for every tokenizer; text that is written
without spaces has long ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.vocab.counting import plain


class Coverage(NamedTuple):
    """tokens_per_word: mean over a text. unknown: share of its words that hold an unknown token, 0 to 1, by
    occurrence.
    """

    tokens_per_word: float
    unknown: float


def coverage(tokenizer: PreTrainedTokenizerFast, lines: Sequence[str]) -> Coverage:
    """Cover some lines of a language with a vocabulary; special tokens are not added, and count for nothing.

    Raises:
        InputError: without a single word.
    """
    words = sum(len(line.split()) for line in lines)
    if not words:
        raise InputError(
            f"Lines with at least one word were expected, but {len(lines)} came without any. Is the corpus"
            " empty?"
        )
    tokens = unknown = 0
    encoded = plain(tokenizer.backend_tokenizer.to_str()).encode_batch(list(lines), add_special_tokens=False)
    for line, encoding in zip(lines, encoded, strict=True):
        tokens += len(encoding)
        ends = (
            end
            for (_, end), i in zip(encoding.offsets, encoding.ids, strict=True)
            if i == tokenizer.unk_token_id
        )
        unknown += len({len(line[:end].split()) for end in ends})  # the number of the word that ends there
    return Coverage(tokens / words, unknown / words)
