"""Vocabulary reduction for WordPiece: count tokens, choose, trim tokenizer and model, report (BiStil section 5.3.2).

Notable: ids become compact and keep their order, so student id i is teacher id kept[i] and both models see the same tokens when the
teacher is fed kept[input_ids]. WordPiece always takes the longest match, and removing tokens can only make a match shorter: a word
whose original pieces are all kept finds the same longest match at every step, so its tokens do not change. (A word that was unknown to
the teacher may become spellable, because a shorter first piece can leave a rest that is known.) Other tokenizer kinds need their own
rules (byte-level BPE: closure over merges; Unigram: scores), and are refused here.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from bistil.errors import InputError

Ids = NDArray[np.int64]
CHUNK = 2048  # lines encoded at once: enough to use every core, little enough to stay small in memory


def count_tokens(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> Ids:
    """Count each token over `lines` (any iterable, read in chunks), special tokens not added. Shape: [V]."""
    counts = np.zeros(_size(tokenizer), np.int64)
    for encoded in _encoded(tokenizer, lines):
        counts += np.bincount(np.fromiter(chain.from_iterable(encoded), np.int64), minlength=len(counts))
    return counts


def sentence_share(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> NDArray[np.float64]:
    """Share of lines that contain each token: the document frequency that Eliquare's criterion uses. Shape: [V], from 0 to 1."""
    counts, seen = np.zeros(_size(tokenizer), np.int64), 0
    for encoded in _encoded(tokenizer, lines):
        counts += np.bincount(np.fromiter(chain.from_iterable(map(set, encoded)), np.int64), minlength=len(counts))
        seen += len(encoded)
    return counts / max(seen, 1)


def choose(
    tokenizer: PreTrainedTokenizerFast,
    counts: Sequence[NDArray[Any]],
    *,
    threshold: float = 1e-6,
    criterion: Literal["unigram", "sentences"] = "unigram",
) -> Ids:
    """Choose the tokens to keep, as sorted teacher ids. Shape: [V'].

    A token is kept when it reaches `threshold` in at least one of the corpora. "unigram": `counts` come from count_tokens and the
    token's share of all tokens is compared (BiStil: 1e-6). "sentences": they come from sentence_share (Eliquare: 5e-4). Special and
    added tokens are always kept, and so is what is needed to spell any kept token: each character c in it, as c and as ##c where
    the teacher has them.
    """
    if criterion not in ("unigram", "sentences"):
        raise InputError(f"The criterion should be unigram or sentences, not {criterion!r}.")
    size = _size(tokenizer)
    if not counts or any(np.shape(one) != (size,) for one in counts):
        raise InputError(
            f"Counts of shape ({size},) from this tokenizer for each corpus were expected; {[np.shape(one) for one in counts]} came."
        )
    shares = _shares(counts) if criterion == "unigram" else np.stack(list(counts))
    vocabulary = tokenizer.get_vocab()
    tokens = {i: token for token, i in vocabulary.items()}
    specials = _specials(tokenizer)
    frequent = [i for i in np.flatnonzero((shares >= threshold).any(axis=0)).tolist() if i in tokens and i not in specials]
    prefix = _wordpiece(tokenizer)["model"]["continuing_subword_prefix"]
    characters = set(chain.from_iterable(tokens[i].removeprefix(prefix) for i in frequent))
    spelling = {vocabulary[form] for c in characters for form in (c, prefix + c) if form in vocabulary}
    return np.array(sorted(specials | spelling | set(frequent)), np.int64)


def curve(counts: Sequence[NDArray[Any]], thresholds: Sequence[float]) -> list[int]:
    """Count the tokens that reach each threshold in some corpus (unigram shares), for plots; always-kept tokens are not added."""
    best = np.sort(_shares(counts).max(axis=0))
    return [int(len(best) - at) for at in np.searchsorted(best, thresholds)]


def trim_tokenizer(tokenizer: PreTrainedTokenizerFast, kept: Ids) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the same class with only the kept tokens; normaliser, pre-tokeniser and settings stay exactly the same.

    It has been through save and reload, so a saved copy gives the same output.
    """
    data = _wordpiece(tokenizer)
    old = tokenizer.get_vocab()
    lost = _specials(tokenizer) - set(kept.tolist())
    unknown = set(kept.tolist()) - set(old.values())
    if lost or unknown or not np.array_equal(kept, np.unique(kept)):
        raise InputError(
            f"Kept ids must be sorted, unique, in the tokenizer's vocabulary, and hold all special and added tokens; {len(unknown)} are "
            f"outside the vocabulary and the special ids {sorted(lost)} are missing. Use vocab.choose."
        )
    new = {int(i): position for position, i in enumerate(kept)}
    pieces = sorted(data["model"]["vocab"].items(), key=lambda item: item[1])
    data["model"]["vocab"] = {token: new[i] for token, i in pieces if i in new}
    for added in data["added_tokens"]:
        added["id"] = new[added["id"]]
    _remap_post_processor(data["post_processor"], new)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        Path(folder, "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        trimmed: Any = type(tokenizer).from_pretrained(folder)
    trimmed.name_or_path = tokenizer.name_or_path
    if _wordpiece(trimmed) != data:
        raise InputError(
            f"A {type(tokenizer).__name__} does not come back the same from its own files, so a trimmed copy would tokenise differently. "
            "Load the tokenizer as PreTrainedTokenizerFast, which keeps tokenizer.json as it is."
        )
    return trimmed


def trim_model(model: BertModel | BertForMaskedLM, kept: Ids) -> None:
    """Keep only the embedding rows of `kept`, in place, and the output rows and bias of a masked language model; ties stay tied.

    `kept` is sorted. Each config's vocab_size and token ids follow. Make optimisers after this, as the parameters are new ones.
    """
    embedding: Any = model.get_input_embeddings()
    if len(kept) == 0 or kept[0] < 0 or kept[-1] >= embedding.num_embeddings:
        raise InputError(
            f"Kept ids should lie in 0..{embedding.num_embeddings - 1}, the model's rows. Do tokenizer and model belong together?"
        )
    new = {int(i): position for position, i in enumerate(kept)}
    head: Any = model.cls.predictions if isinstance(model, BertForMaskedLM) else None
    tied = head is not None and head.decoder.weight is embedding.weight
    embedding.weight = _rows(embedding.weight, kept)
    embedding.num_embeddings = len(kept)
    embedding.padding_idx = new.get(embedding.padding_idx)
    if head is not None:
        same_bias = head.bias is head.decoder.bias
        head.decoder.weight = embedding.weight if tied else _rows(head.decoder.weight, kept)
        head.decoder.out_features = len(kept)
        head.decoder.bias = _rows(head.decoder.bias, kept)
        head.bias = head.decoder.bias if same_bias else _rows(head.bias, kept)
    configs: list[Any] = [model.config] if model.base_model.config is model.config else [model.config, model.base_model.config]
    for config in configs:
        config.vocab_size = len(kept)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id"):
            if getattr(config, name, None) is not None:
                setattr(config, name, new.get(getattr(config, name)))


def report(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, kept: Ids, corpora: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Say what the trimming does to text.

    tokens_before, tokens_after; and for each corpus: lines, share_identical (lines with exactly the same tokens), mean_tokens_before
    and _after (per line), unknown_rate_before and _after (unknown tokens per token).
    """
    found = {name: _compare(tokenizer, trimmed, kept, lines) for name, lines in corpora.items()}
    return {"tokens_before": len(tokenizer), "tokens_after": len(trimmed), "corpora": found}


def _compare(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, kept: Ids, lines: Iterable[str]
) -> dict[str, float]:
    back = kept.tolist()
    seen = same = 0
    length, unknown = [0, 0], [0, 0]
    encode_before, encode_after = _encoder(tokenizer), _encoder(trimmed)
    for chunk in _chunks(lines):
        before, after = encode_before(chunk), encode_after(chunk)
        seen += len(chunk)
        same += sum(a == [back[i] for i in b] for a, b in zip(before, after, strict=True))
        for side, (encoded, unk) in enumerate(((before, tokenizer.unk_token_id), (after, trimmed.unk_token_id))):
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


def _encoded(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> Iterator[list[list[int]]]:
    encode = _encoder(tokenizer)
    return (encode(chunk) for chunk in _chunks(lines))


def _encoder(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], list[list[int]]]:
    """A batch encoder without truncation and padding, whatever an earlier call has left switched on in the tokenizer."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return lambda chunk: [encoding.ids for encoding in backend.encode_batch_fast(chunk, add_special_tokens=False)]


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    if isinstance(lines, str):
        raise InputError("An iterable of lines was expected, not one string, which would be read character by character.")
    source = iter(lines)
    return iter(lambda: list(islice(source, CHUNK)), [])


def _shares(counts: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Unigram probabilities. Shape: [corpora, V]."""
    if not counts or not all(np.sum(one) > 0 for one in counts):
        raise InputError("Counts of at least one corpus, each with at least one token, were expected. Is a corpus file empty?")
    return np.stack([one / one.sum() for one in counts])


def _size(tokenizer: PreTrainedTokenizerFast) -> int:
    return max(tokenizer.get_vocab().values()) + 1


def _specials(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    return {int(i) for i in (*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values())}


def _wordpiece(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The content of tokenizer.json, without the truncation and padding of the last call."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    if data["model"]["type"] != "WordPiece":
        raise InputError(f"Only WordPiece vocabularies can be reduced so far; this tokenizer's model is {data['model']['type']}.")
    return {**data, "truncation": None, "padding": None}


def _remap_post_processor(processor: dict[str, Any] | None, new: Mapping[int, int]) -> None:
    """Renumber the special tokens that a post-processor adds, in place; sequences of processors are walked."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _remap_post_processor(inner, new)
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [new[i] for i in special["ids"]]
    for name in ("cls", "sep"):
        if name in processor:
            token, old = processor[name]
            processor[name] = [token, new[old]]


def _rows(parameter: nn.Parameter, kept: Ids) -> nn.Parameter:
    index = torch.as_tensor(kept, device=parameter.device)
    return nn.Parameter(parameter.detach()[index].clone(), requires_grad=parameter.requires_grad)
