"""What a teacher is, by content: its encoder's weights, its config, its tokenizer and its masked-LM head.

Notable: two folders with the same encoder weights are two teachers where anything else differs that a stage
could see. Ids once hashed the encoder's weights alone; a teacher of `FORMER` keeps such an id while the rest
of it is what it was."""

import json
from hashlib import sha256
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerFast

from bistil.models.load import Teacher
from bistil.sft.delta import base_hash
from bistil.sft.flat import digest

FORMER = frozenset({"878778ddf01685af834d240b912d696faae9cc22f072c6b73e579e178571ce88"})
"""Whole contents of the project's own teachers, data/teachers/*."""
BOOKKEEPING = frozenset(
    ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")
)
"""Entries of a config that change nothing of what a model computes."""


def teacher_id(teacher: Teacher) -> str:
    """Return `sha256:<hex>`: of everything, or of the encoder's weights alone where these were a former
    teacher's id.

    The same teacher saved again, in another folder or as other files, has the same id."""
    weights = base_hash(teacher.encoder)
    parts = {
        "encoder": weights,
        "config": _config(teacher.mlm.config),
        "tokenizer": _tokenizer(teacher.tokenizer),
        "head": _head(teacher) if teacher.has_mlm_head else None,
    }
    whole = sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return f"sha256:{weights if whole in FORMER else whole}"


def _config(config: PretrainedConfig) -> dict[str, Any]:
    """What a config says other than its class does, so that an entry that a later release adds changes no
    id.
    """
    own, usual = config.to_dict(), type(config)().to_dict()
    told = {key: value for key, value in own.items() if key not in usual or usual[key] != value}
    return {"class": type(config).__name__, **{key: told[key] for key in told.keys() - BOOKKEEPING}}


def _tokenizer(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Vocabulary with its numbers, every step from text to tokens, and the special tokens; not what a call
    left set.
    """
    steps = json.loads(tokenizer.backend_tokenizer.to_str())
    return {
        "steps": _told({key: steps[key] for key in steps.keys() - {"version", "padding", "truncation"}}),
        "special": {name: tokenizer.convert_tokens_to_ids(str(token)) for name, token in _special(tokenizer)},
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
    }


def _special(tokenizer: PreTrainedTokenizerFast) -> list[tuple[str, Any]]:
    named = ((name, getattr(tokenizer, f"{name}_token")) for name in ("mask", "unk", "pad", "cls", "sep"))
    return [(name, token) for name, token in named if token is not None]


def _told(value: Any) -> Any:
    """A JSON value without what is null or false, since a later release may add such an entry."""
    if isinstance(value, dict):
        return {key: _told(item) for key, item in value.items() if item is not None and item is not False}
    return [_told(item) for item in value] if isinstance(value, list) else value


def _head(teacher: Teacher) -> str:
    """The hash of the head's own weights: those that it shares with the encoder are the encoder's."""
    shared = {tensor.data_ptr() for tensor in teacher.encoder.state_dict().values()}
    inside = f"{teacher.mlm.base_model_prefix}."
    own = {
        name: tensor
        for name, tensor in teacher.mlm.state_dict().items()
        if not name.startswith(inside) and tensor.data_ptr() not in shared
    }
    return digest(own)
