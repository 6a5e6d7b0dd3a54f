"""What trimming does to text: the numbers that decide whether a smaller vocabulary is good enough."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from bistil.vocab.counting import Ids, chunks, encoder


def report(
    tokenizer: PreTrainedTokenizerFast,
    trimmed: PreTrainedTokenizerFast,
    kept: Ids,
    corpora: Mapping[str, Iterable[str]],
) -> dict[str, Any]:
    """Say what the trimming does to text.

    tokens_before, tokens_after; and for each corpus: lines, share_identical (lines with exactly the same
    tokens), mean_tokens_before and _after (per line), unknown_rate_before and _after (unknown tokens per
    token)."""
    found = {name: _compare(tokenizer, trimmed, kept, lines) for name, lines in corpora.items()}
    return {"tokens_before": len(tokenizer), "tokens_after": len(trimmed), "corpora": found}


def _compare(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, kept: Ids, lines: Iterable[str]
) -> dict[str, float]:
    back = kept.tolist()
    seen = same = 0
    length, unknown = [0, 0], [0, 0]
    encode_before, encode_after = encoder(tokenizer), encoder(trimmed)
    for chunk in chunks(lines):
        before, after = encode_before(chunk), encode_after(chunk)
        seen += len(chunk)
        same += sum(a == [back[i] for i in b] for a, b in zip(before, after, strict=True))
        for side, (encoded, unk) in enumerate(
            ((before, tokenizer.unk_token_id), (after, trimmed.unk_token_id))
        ):
            length[side] += sum(map(len, encoded))
            unknown[side] += sum(ids.count(unk) for ids in encoded)
    return {
        "lines": seen,
        "share_identical": same / max(seen, 1),
        "mean_tokens_before": length[0] / max(seen, 1),
        "mean_tokens_after": length[1] / max(seen, 1),
        "unknown_rate_before": unknown[0] / max(length[0], 1),
        "unknown_rate_after": unknown[1] / max(length[1], 1),
    }
