"""Sequence-to-sequence models that translate: M2M100, NLLB and Marian, from a folder or the hub.

Notable: a model of many languages reads [language] sentence [end] and is told the other language as its first
token, whatever class its tokenizer has. Weights are read from safetensors alone, never with remote code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoTokenizer, M2M100ForConditionalGeneration, MarianMTModel, PreTrainedModel

from bistil.errors import InputError
from bistil.models.config import read_config
from bistil.models.load import has_safetensors, load_weights, quiet

KINDS: Mapping[str, type[PreTrainedModel]] = {
    "m2m_100": M2M100ForConditionalGeneration,
    "marian": MarianMTModel,
}
"""Classes by `model_type`; NLLB is an M2M100."""
TOKENS = 4096
"""Tokens of a batch that is translated, padding among them."""
FILES = ("*.json", "*.safetensors", "*.model", "*.spm", "*.txt")
LANGUAGE = re.compile(r"__([a-z]{2,3})__|([a-z]{3}_[A-Z][a-z]{3})")
"""Tokens of languages: __sw__ of M2M100, swh_Latn of NLLB."""
_OTHERS = (
    "afr af|amh am|ara ar arb|aze az azj|bak ba|bel be|bul bg|ben bn|bre br|bos bs|cat ca|ces cs|"
    "cym cy|dan da|deu de|ell el|eng en|spa es|est et|fas fa pes|ful ff fuv|fin fi|fra fr|fry fy|"
    "gle ga|gla gd|glg gl|guj gu|hau ha|heb he|hin hi|hrv hr|hat ht|hun hu|hye hy|ind id|ibo ig|"
    "isl is|ita it|jpn ja|jav jv|kat ka|kaz kk|khm km|kan kn|kor ko|ltz lb|lug lg|lin ln|lao lo|"
    "lit lt|lav lv lvs|mlg mg plt|mkd mk|mal ml|mon mn khk|mar mr|msa ms zsm|mya my|nep ne npi|"
    "nld nl|nor no nob|nso ns|oci oc|ori or ory|pan pa|pol pl|pus ps pbt|por pt|ron ro|rus ru|"
    "snd sd|sin si|slk sk|slv sl|som so|sqi sq als|srp sr|ssw ss|sun su|swe sv|swa sw swh|tam ta|"
    "tha th|tgl tl|tsn tn|tur tr|ukr uk|urd ur|uzb uz uzn|vie vi|wol wo|xho xh|yid yi ydd|"
    "yor yo|zho zh|zul zu|aym ayr|kur kmr|orm gaz|que quy|din dik|kau knc"
)
OTHERS: Mapping[str, tuple[str, ...]] = {
    first: tuple(others) for first, *others in (one.split() for one in _OTHERS.split("|"))
}
"""Other codes that models have for a language by its ISO 639-3 code: of two letters, and of its largest
member where it is a group."""


def translation_folder(name: str) -> Path:
    """The folder of a translation model by name, fetched from the hub where it is none.

    Raises:
        InputError: where there is neither.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"A translation model was expected at {name!r}, a folder or a name on the hub, but there is none"
            f" within reach ({type(error).__name__}). Check the spelling, go online, or give a folder."
        ) from error


def read_tokenizer(folder: Path) -> tuple[Any, str]:
    """The tokenizer of a translation model and the model's type.

    Raises:
        InputError: for another type of model, and a tokenizer that cannot be read.
    """
    kind = read_config(folder).model_type
    if kind not in KINDS:
        raise InputError(
            f"A model of a type that translates here ({', '.join(KINDS)}) was expected in {folder}, but it is"
            f" of type {kind}. Take an M2M100, NLLB or Marian model."
        )
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # those of the tokenizers library and of SentencePiece are plain ones
        raise InputError(f"No tokenizer could be read from {folder} ({error!s:.500}).") from error
    if many := getattr(tokenizer, "supported_language_codes", None):
        raise InputError(
            f"A Marian model of one pair was expected in {folder}, but it writes {len(many)} languages."
            " Take the model of the pair."
        )
    return tokenizer, kind


def load_model(folder: Path) -> Any:
    """A translation model as float32 on the CPU, in eval mode.

    Raises:
        InputError: where its weights are no safetensors, or not whole.
    """
    if not has_safetensors(folder):
        raise InputError(
            f"Weights as safetensors were expected in {folder}, but there are none. Save the model anew with"
            " safetensors, or take another."
        )
    kind = KINDS[read_config(folder).model_type]
    model, missing, _ = load_weights(kind, str(folder))
    if missing:
        raise InputError(
            f"A whole {kind.__name__} was expected in {folder}, but {min(missing)} is missing. Get it again."
        )
    return model


def language_tokens(tokenizer: Any) -> dict[str, int]:
    """The languages that a model has a token for, by the tokenizer's own code, and the ids of these."""
    added = (str(one) for one in tokenizer.added_tokens_decoder.values() if one.special)
    tokens = (*getattr(tokenizer, "lang_code_to_token", {}).values(), *added)
    found = {token: LANGUAGE.fullmatch(token) for token in tokens}
    return {
        match[1] or match[2]: int(tokenizer.convert_tokens_to_ids(token))
        for token, match in found.items()
        if match
    }


def language_token(tokenizer: Any, code: str, codes: Mapping[str, str]) -> int:
    """The id of a language's token.

    Args:
        code: the language's ISO 639-3 code.
        codes: what the tokenizer calls languages, where that is not found.

    Raises:
        InputError: where it has none, or one for each of several scripts.
    """
    known, wanted = language_tokens(tokenizer), codes.get(code, code)
    if wanted in known:
        return known[wanted]
    names = (wanted, *OTHERS.get(wanted, ()))
    found = [one for one in known if one.partition("_")[0] in names]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise InputError(
            f"The model has several tokens for {code}: {', '.join(found)}. Say which under `codes`, as"
            f" {{{code}: {found[0]}}}."
        )
    raise InputError(
        f"The model has no token for {wanted!r}; it knows {', '.join(sorted(known)) or 'no languages'}. Say"
        f" under `codes` what it calls {code}, or teach it the language from parallel text: `bistil"
        " translator` with `start` adapts a model."
    )


def sentence_ids(
    tokenizer: Any, sentences: Sequence[str], language: int | None, most: int
) -> list[list[int]]:
    """Tokens of sentences as a model reads them, `most` at most: [language] sentence [end]; no language for a
    model of one pair.
    """
    if not sentences:
        return []
    before = [] if language is None else [language]
    rows = tokenizer(list(sentences), add_special_tokens=False, verbose=False)["input_ids"]
    room = most - len(before) - 1
    return [[*before, *row[:room], int(tokenizer.eos_token_id)] for row in rows]


def by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of rows in batches of at most `TOKENS` tokens, the longest first, so that little is padding."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """Rows of different lengths as one tensor. Shape: [B, L]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])


@torch.inference_mode()
def generate(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    language: int | None,
    *,
    beams: int | None = None,
    max_length: int | None = None,
) -> list[str]:
    """Translations of sentences that `sentence_ids` has read, each on one line; nothing is drawn at random.

    Args:
        language: the token of the language that is written; None for a model of one pair.
        beams: hypotheses that are followed; None for what the model's generation settings say.
        max_length: most tokens of a translation; None as for `beams`.
    """
    ids = padded(rows, int(tokenizer.pad_token_id)).to(model.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    asked = {"num_beams": beams, "max_length": max_length, "forced_bos_token_id": language}
    written = model.generate(
        input_ids=ids,
        attention_mask=(torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long(),
        do_sample=False,
        **{name: value for name, value in asked.items() if value is not None},
    )
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]
