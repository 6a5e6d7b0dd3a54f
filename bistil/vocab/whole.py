"""Cut a whole model, tokenizer and weights together, to the languages of some text: encoders with any head,
decoders and sequence-to-sequence models.

    from bistil.vocab.whole import trim
    trimmed = trim("e5-small", {"eng": english_lines, "swa": swahili_lines}, "e5-small-eng-swa")
    print(trimmed.tokens, trimmed.megabytes)

Notable: the written folder is read again and compared with the model as it was, states and logits at the kept
tokens, before it gets its name; nothing stays of a copy that differs.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.errors import InputError
from bistil.models.architectures import ARCHITECTURES, longest_sequence
from bistil.models.config import read_config
from bistil.models.load import load_weights, model_class, quiet, read_fast_tokenizer
from bistil.models.packaged import teacher_folder
from bistil.models.seq2seq import padded
from bistil.text.written import new_folder
from bistil.vocab.beside import files_beside
from bistil.vocab.counting import Ids, chunks, count_tokens, plain
from bistil.vocab.embeddings import configs_of, named_tokens, trim_model
from bistil.vocab.reporting import report
from bistil.vocab.selection import Characters, choose, signs
from bistil.vocab.tokenizer import trim_tokenizer

COMPARED, LENGTH = 16, 64
"""Lines that both models read, and most tokens of each."""
REPORTED = 5_000
"""Lines of each language that are tokenised both ways."""
EXACT = 1e-4
"""Largest difference allowed, as a share of the largest value: products of other shapes round otherwise."""
CARD = """---
{front}---

# {name}, cut to {languages}

`{model}` with {after:,} of its {before:,} tokens: those that text of these languages uses, special ones, and
what the tokenizer needs so that such text falls into the same tokens as before. Nothing was trained.

| language | lines | same tokens as before (%) | unknown tokens before (%) | after (%) |
| --- | ---: | ---: | ---: | ---: |
{rows}

{parameters_before:,} → {parameters_after:,} parameters, {mb_before:.1f} → {mb_after:.1f} MB of weights.
Before this folder was written, its states and logits on some lines were compared with the uncut model's:
at most {apart:.2g} of the largest value apart. Line i of `kept.txt`, counted from 0, is the number that token
i had.{left}

```python
from transformers import AutoTokenizer, {kind}

tokenizer, model = AutoTokenizer.from_pretrained("."), {kind}.from_pretrained(".")
```

Text of other languages falls into small or unknown pieces. The licence of `{model}` goes on applying.
"""


@dataclass(frozen=True)
class Trimmed:
    """What trimming changed: tokens, parameters and megabytes of weights, each (before, after), `corpora` as
    in `report`, and `apart`, the largest difference of states and logits as a share of the largest value.
    `left` names what of the model the copy is without: tensors that its class has no place for, and files of
    sentence-transformers that are not copied.
    """

    folder: Path
    tokens: tuple[int, int]
    parameters: tuple[int, int]
    megabytes: tuple[float, float]
    corpora: Mapping[str, Mapping[str, float]]
    apart: float
    left: tuple[str, ...]


def trim(
    model: str | Path,
    corpora: Mapping[str, Sequence[str]],
    to: str | Path,
    *,
    threshold: float = 1e-6,
    characters: Characters = "scripts",
) -> Trimmed:
    """Write a model with only the tokens of these corpora, lines by language, into the new folder `to`.

    `threshold` and `characters` are those of `choose`. Whatever token a configuration names is kept, and with
    the characters of scripts those letters that belong to none, such as º. What sentence-transformers keeps
    beside the model comes along.

    Raises:
        InputError: where the model or its fast tokenizer cannot be read or trimmed exactly, no line keeps its
            tokens, or the copy differs.
    """
    source = teacher_folder(str(model))
    tokenizer, full, unplaced = _read(source)
    beside, left = files_beside(source)
    return cut(
        str(model),
        tokenizer,
        full,
        corpora,
        to,
        threshold=threshold,
        characters=characters,
        also=signs(tokenizer) if characters == "scripts" else (),
        beside=beside,
        left=[*sorted(unplaced), *left],
    )


def cut(
    model: str,
    tokenizer: PreTrainedTokenizerFast,
    full: PreTrainedModel,
    corpora: Mapping[str, Sequence[str]],
    to: str | Path,
    *,
    threshold: float,
    characters: Characters,
    further: Sequence[Ids] = (),
    also: Collection[int] = (),
    beside: Mapping[str, Path] = MappingProxyType({}),
    left: Sequence[str] = (),
) -> Trimmed:
    """`trim` for a model that is loaded, and used up; `model` is what its card calls it.

    Args:
        further: counts of text that is read otherwise than by the line. Shape: [V] each.
        also: ids of tokens that stay whatever the text is.
        beside: files to copy, by their names in the new folder.
        left: what of the model is not in the copy.
    """
    known = tokenizer.get_vocab().values()
    named = {i for config in configs_of(full) for i in named_tokens(config)}.intersection(known)
    counts = [*(count_tokens(tokenizer, lines) for lines in corpora.values()), *further]
    chosen = choose(tokenizer, counts, threshold=threshold, characters=characters, also=named.union(also))
    trimmed = trim_tokenizer(tokenizer, chosen)
    size = (len(tokenizer), full.num_parameters(), full.get_memory_footprint() / 1e6)
    padding = tokenizer.pad_token_id if full.config.pad_token_id is not None else None
    batches = _batches(_rows(tokenizer, corpora, chosen, min(LENGTH, _positions(full.config))), padding)
    before = _outputs(full, batches, chosen)
    trim_model(full, chosen)
    with new_folder(Path(to)) as folder:
        with quiet():
            full.save_pretrained(folder)
            trimmed.save_pretrained(folder)
        for name, path in beside.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
        del full
        _, small, _ = _read(str(folder))
        new = {int(old): i for i, old in enumerate(chosen)}
        for batch in batches:
            batch["input_ids"].apply_(new.__getitem__)
        apart = _apart(before, _outputs(small, batches, None))
        (folder / "kept.txt").write_text("\n".join(map(str, chosen)) + "\n", encoding="utf-8")
        found = Trimmed(
            Path(to),
            (size[0], len(chosen)),
            (size[1], small.num_parameters()),
            (size[2], small.get_memory_footprint() / 1e6),
            report(tokenizer, trimmed, chosen, {name: lines[:REPORTED] for name, lines in corpora.items()})[
                "corpora"
            ],
            apart,
            tuple(left),
        )
        (folder / "README.md").write_text(_card(model, type(small).__name__, found), encoding="utf-8")
    return found


def _read(source: str) -> tuple[PreTrainedTokenizerFast, PreTrainedModel, set[str]]:
    """A tokenizer, a model of the class that it was saved as, in the type of its weights, and the names of
    those weights that the class has no place for.
    """
    config = read_config(source)
    tokenizer, own = read_fast_tokenizer(source, marked=False), ARCHITECTURES.get(config.model_type)
    named = (config.architectures or [own.mlm.__name__ if own else ""])[0]
    kind = model_class(named)
    if kind is None:
        raise InputError(
            f"A class of transformers was expected under `architectures` of {source}/config.json, but got"
            f" {named!r}. Name the model's there, such as BertForMaskedLM."
        )
    settings: dict[str, Any] = {"dtype": "auto", "key_mapping": dict(own.renamed) or None if own else None}
    model, missing, unplaced = load_weights(kind, source, **settings)
    if missing and own and not config.architectures:  # an encoder that says no more of itself
        kind, settings = own.encoder, {"dtype": "auto", **own.settings}
        model, missing, unplaced = load_weights(kind, source, **settings)
    if any(name.startswith("pooler.") for name in missing):
        model, missing, unplaced = load_weights(kind, source, add_pooling_layer=False, **settings)
    if missing:
        raise InputError(f"A whole {kind.__name__} was expected, but {source} lacks {min(missing)}.")
    return tokenizer, model, unplaced


def _positions(config: Any) -> int:
    """How many tokens a model reads at most, as far as its configuration says."""
    if config.model_type in ARCHITECTURES:
        return longest_sequence(config)
    return int(getattr(config, "max_position_embeddings", None) or LENGTH)


def _rows(
    tokenizer: PreTrainedTokenizerFast, corpora: Mapping[str, Sequence[str]], kept: Ids, longest: int
) -> list[list[int]]:
    """Some lines of each language whose tokens are all kept, with special tokens, at most `longest` each."""
    backend, known, rows = plain(tokenizer.backend_tokenizer.to_str()), set(kept.tolist()), list[list[int]]()
    backend.enable_truncation(longest)
    for lines in corpora.values():
        some = chain.from_iterable(map(backend.encode_batch_fast, chunks(lines)))
        good = (row.ids for row in some if known.issuperset(row.ids) and not all(row.special_tokens_mask))
        rows += islice(good, max(1, COMPARED // len(corpora)))
    if not rows:
        raise InputError(
            "No line keeps all its tokens, so the copy could not be checked. Lower the threshold."
        )
    return rows


def _batches(rows: Sequence[Sequence[int]], padding: int | None) -> list[dict[str, Tensor]]:
    """The rows as one batch, or as one each where there is nothing to pad with. Shape: [B, L] each."""
    together = [rows] if padding is not None else [[row] for row in rows]
    return [
        {
            "input_ids": padded(some, padding or 0),
            "attention_mask": padded([[1] * len(row) for row in some], 0),
        }
        for some in together
    ]


@torch.inference_mode()
def _outputs(
    model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]], kept: Ids | None
) -> list[Tensor]:
    """All states and logits, the logits of tokens at `kept` (None: all), in float32.

    Raises:
        InputError: where the model does not read plain lines.
    """
    rows, found = model.get_input_embeddings().num_embeddings, list[Tensor]()
    for batch in batches:
        try:
            out = model(**_inputs(model, batch), output_hidden_states=True)
        except MemoryError:
            raise
        except Exception as error:  # whatever a head makes of lines that it was not made for
            raise InputError(
                f"A model that reads lines of text was expected, to compare its copy with, but a"
                f" {type(model).__name__} does not ({error!s:.300}). It cannot be trimmed here."
            ) from error
        said = [value for name, value in out.items() if name.endswith("logits")]
        if kept is not None:
            index = torch.as_tensor(kept)
            said = [one[..., index] if one.ndim > 2 and one.shape[-1] >= rows else one for one in said]
        states = [state for name, value in out.items() if name.endswith("hidden_states") for state in value]
        found += [tensor.float() for tensor in (*states, *said)]
    return found


def _inputs(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a model takes of a batch: with a decoder the same tokens again, and a choice by itself."""
    if type(model).__name__.endswith("ForMultipleChoice"):
        return {name: values[:, None] for name, values in batch.items()}
    decodes = model.config.is_encoder_decoder and "decoder_input_ids" in signature(model.forward).parameters
    return {**batch, **({"decoder_input_ids": batch["input_ids"]} if decodes else {})}


def _apart(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The largest difference as a share of the largest value.

    Raises:
        InputError: where that is more than rounding.
    """
    shares = [
        (a - b).abs().max() / a.abs().max().clamp_min(1e-12) for a, b in zip(before, after, strict=True)
    ]
    apart = float(torch.stack(shares).max())  # of a value that is no number, that
    if not apart <= EXACT:
        raise InputError(
            f"The trimmed model should have the same states and logits, but they are {apart:.2g} of the"
            " largest value apart: this model cannot be trimmed here."
        )
    return apart


def _card(model: str, kind: str, found: Trimmed) -> str:
    """The text of README.md."""
    name = Path(model).name if Path(model).is_dir() else model
    rows = [
        f"| {code.replace('|', '&#124;')} | {one['lines']:,} | {100 * one['share_identical']:.2f} |"
        f" {100 * one['unknown_rate_before']:.3f} | {100 * one['unknown_rate_after']:.3f} |"
        for code, one in found.corpora.items()
    ]
    front = {
        "language": list(found.corpora),
        "library_name": "transformers",
        "tags": ["bistil", "vocabulary-trimming"],
    }
    return CARD.format(
        front=yaml.safe_dump(
            front, default_flow_style=None, allow_unicode=True, sort_keys=False, width=10**6
        ),
        languages=", ".join(found.corpora),
        model=name,
        name=Path(name).name,
        before=found.tokens[0],
        after=found.tokens[1],
        rows="\n".join(rows),
        parameters_before=found.parameters[0],
        parameters_after=found.parameters[1],
        mb_before=found.megabytes[0],
        mb_after=found.megabytes[1],
        apart=found.apart,
        left=f" Not taken over from `{name}`: {', '.join(map('`{}`'.format, found.left))}."
        if found.left
        else "",
        kind=kind,
    )
