"""A model's config.json, looked at before transformers makes anything of it.

Notable: each fault has its own words, and sizes are checked first, since a number gone wrong would be waited
for."""

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from bistil.errors import InputError
from bistil.settings.files import MARK, read_json

MOST = {
    "num_hidden_layers": 1_000,
    "hidden_size": 100_000,
    "n_layers": 1_000,  # DistilBERT's names
    "dim": 100_000,
    "hidden_dim": 1_000_000,
    "n_heads": 10_000,
    "intermediate_size": 1_000_000,
    "num_attention_heads": 10_000,
    "vocab_size": 10_000_000,
    "max_position_embeddings": 10_000_000,
    "type_vocab_size": 1_000,
    "num_labels": 100_000,
}
"""Sizes that a config.json may ask for; what is larger is damage, and would be waited for."""


def read_config(source: str | Path) -> Any:
    """The configuration of a model, by hub name or folder.

    Raises:
        InputError: where there is none, or it is damaged, says of no model what it is, or sizes beyond all
            reason; each in its own words.
    """
    folder = Path(source).is_dir()
    if folder:
        _check_config(Path(source) / "config.json")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        told = f"{type(error).__name__}: {str(error)[:500]}"
        raise InputError(
            f"The configuration {source}/config.json cannot be used ({told}). Get the model anew."
            if folder
            else f"No model configuration could be read from {str(source)!r}: it is neither a folder nor a"
            f" model name that the hub (or its local cache, when offline) knows ({told}). Check the spelling,"
            " go online, or give a folder."
        ) from error


def _check_config(path: Path) -> None:
    """Refuse a config.json before transformers makes anything of it."""
    if not path.is_file():
        raise InputError(f"A model folder was expected at {path.parent}, but it has no config.json.")
    config = read_json(path, dict)
    if path.read_bytes().startswith(MARK):
        raise InputError(
            f"{path} begins with a byte order mark, which transformers cannot read. Save it without."
        )
    if not isinstance(config.get("model_type"), str):
        raise InputError(
            f"{path} does not say what model it is of, as the first BERT's did not: add a line such as"
            ' "model_type": "bert".'
        )
    for name, most in MOST.items():
        value, least = config.get(name), int(name != "type_vocab_size")  # DeBERTa has no segments
        # null is what GPT-Neo has for a size that follows from another
        if value is not None and not (type(value) is int and least <= value <= most):
            raise InputError(
                f"A whole number from {least} to {most:,} was expected under {name!r} of {path}, but it is"
                f" {str(value)[:100]}. Get the model anew."
            )
