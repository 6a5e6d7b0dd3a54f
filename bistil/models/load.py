"""Teachers, encoders and task models: loading, running with all states, saving for plain transformers.

Notable: the teacher's encoder and its masked-language-model head share one encoder; attention maps exist only
under the eager implementation, so `encode` switches to it where maps are wanted and otherwise runs sdpa,
which can note what maps are made of; weights are read as float32 on the CPU, from safetensors where the file
exists, and never with remote code. What differs between architectures is in `architectures`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging

from bistil.errors import InputError
from bistil.models.architectures import Architecture, architecture
from bistil.models.attention import NOTING, Attention, can_note
from bistil.models.config import read_config
from bistil.models.finite import not_finite
from bistil.models.word_marks import glues_words, mark_first_word, spell_words
from bistil.text.written import open_to_others

CASED = 0.01
"""The share of a vocabulary with capital letters from which on it is that of a cased model."""


@dataclass(frozen=True)
class Teacher:
    """A massively multilingual Transformer.

    Attributes:
        encoder: the very object `mlm.base_model`.
        mlm: the encoder under its masked-language-model head.
        tokenizer: the fast tokenizer that it was trained with.
        has_mlm_head: False when the checkpoint holds an encoder only. The head's transform is then freshly
            initialised (always the same numbers), its decoder is tied to the embeddings, and its predictions
            mean nothing until it is trained.
    """

    encoder: PreTrainedModel
    mlm: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    has_mlm_head: bool


@dataclass(frozen=True)
class Output:
    """What a forward pass gives. A module in train mode has its dropout in all of it but in attention that is
    left unevaluated.

    Attributes:
        last: the final hidden states. Shape: [B, L, H].
        logits: those of the task head, by name.
        hidden: H_0 (embedding layer) .. H_n, () unless states were asked for. Shape: [B, L, H] each.
        attention: A_1 .. A_n after the softmax, or an `Attention` each that is not evaluated; () unless
            states were asked for. Shape: [B, heads, L, L] each.
    """

    last: Tensor
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    hidden: tuple[Tensor, ...] = ()
    attention: tuple[Tensor | Attention, ...] = ()


def encode(
    encoder: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    states: bool,
    maps: bool = True,
    attention: bool = True,
    token_type_ids: Tensor | None = None,
) -> Output:
    """Run the encoder; with `states` also return all hidden states and attention distributions (BiStil eqs.
    5.1, 5.2).

    Without `maps` the distributions come unevaluated, for losses to compare, and every layer runs the fast
    attention. An architecture that cannot do that (DeBERTa) gives maps all the same. Without `attention` the
    states come alone. Shape: input_ids, attention_mask (1 = real token) and token_type_ids are [B, L]; an
    encoder that knows one segment only is not given the latter. The logits of the result are empty.

    Raises:
        InputError: where states are wanted and the encoder does not give the attention distributions of every
            layer.
    """
    attended = states and attention
    noted: list[Attention] | None = [] if attended and not maps and can_note(type(encoder)) else None
    wanted = NOTING if noted is not None else "eager" if attended else _fastest(type(encoder))
    if encoder.config._attn_implementation != wanted:
        encoder.set_attn_implementation(wanted)
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    if getattr(encoder.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = token_type_ids
    if noted is None:
        out = encoder(**inputs, output_hidden_states=states, output_attentions=attended)
    else:
        out = encoder(**inputs, output_hidden_states=True, noted=noted)
    hidden, maps_of = tuple(out.hidden_states or ()), tuple(noted or out.attentions or ())
    depth = encoder.config.num_hidden_layers
    if states and (len(maps_of), len(hidden)) != (depth if attention else 0, depth + 1):
        raise InputError(
            f"Attention distributions of the {depth} layers and one hidden state more were expected, but"
            f" {type(encoder).__name__} gave {len(maps_of)} and {len(hidden)}: it cannot be a teacher or a"
            " student."
        )
    return Output(last=out.last_hidden_state, hidden=hidden, attention=maps_of)


def _fastest(kind: type[PreTrainedModel]) -> str:
    """The quickest attention that the class has everywhere."""
    return "sdpa" if kind._supports_sdpa else "eager"


class TaskModel(nn.Module):
    """An encoder with a task head; the head is called as head(hidden [B, L, H], batch) and returns named
    logits.
    """

    def __init__(self, *, encoder: PreTrainedModel, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, batch: Mapping[str, Tensor], *, states: bool = False, maps: bool = True) -> Output:
        """Encode `batch` (input_ids and attention_mask, token_type_ids where the task has two segments) and
        apply the head.
        """
        ids, mask = batch["input_ids"], batch["attention_mask"]
        out = encode(
            self.encoder, ids, mask, states=states, maps=maps, token_type_ids=batch.get("token_type_ids")
        )
        return Output(
            last=out.last, logits=self.head(out.last, batch), hidden=out.hidden, attention=out.attention
        )


def load_teacher(name_or_folder: str | Path) -> Teacher:
    """Load a teacher by hub name or folder, with its fast tokenizer; InputError says in words what is missing
    or unsupported.
    """
    source, kind, model_type = _checked_source(name_or_folder)
    tokenizer = load_tokenizer(source)
    mlm, missing, _ = load_weights(kind.mlm, source, key_mapping=dict(kind.renamed) or None)
    lost = sorted(key for key in missing if key.startswith(f"{mlm.base_model_prefix}."))
    if lost:
        raise InputError(
            f"{source} should hold a whole {model_type} encoder, but {len(lost)} tensors are missing, the"
            f" first is {lost[0]}."
        )
    check_rows(source, tokenizer, mlm.config)
    has_head = not any(key.endswith("weight") for key in missing)
    return Teacher(encoder=mlm.base_model, mlm=mlm, tokenizer=tokenizer, has_mlm_head=has_head)


def load_encoder(folder: str | Path) -> PreTrainedModel:
    """Load an encoder without pooler, as float32 on the CPU in eval mode."""
    source, kind, model_type = _checked_source(folder)
    encoder, missing, _ = load_weights(kind.encoder, source, **kind.settings)
    if missing:
        raise InputError(
            f"{source} should hold a whole {model_type} encoder, but {len(missing)} tensors are missing:"
            f" {min(missing)} ..."
        )
    return encoder


def check_rows(source: str | Path, tokenizer: PreTrainedTokenizerFast, config: Any) -> None:
    """Refuse a tokenizer that has tokens for which the model has no row."""
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"The tokenizer of {source} has {len(tokenizer)} tokens but the model has only"
            f" {config.vocab_size} embedding rows. Use the tokenizer that the model was trained with."
        )


def save_student(folder: str | Path, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Save encoder (safetensors) and tokenizer so that plain AutoModel and AutoTokenizer load them."""
    with quiet():
        encoder.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    open_to_others(Path(folder))


def _checked_source(name_or_folder: str | Path) -> tuple[str, Architecture, str]:
    """Return (source, architecture, model_type), or raise before any weights are read."""
    source = os.path.expanduser(str(name_or_folder))
    looks_like_folder = (
        isinstance(name_or_folder, Path) or source.startswith((".", "/", "~")) or source.count("/") > 1
    )
    if looks_like_folder and not Path(source).is_dir():
        raise InputError(
            f"Expected a model folder or hub name, but there is no folder {source}. Check the path."
        )
    config = read_config(source)
    return source, architecture(config), config.model_type


class Loaded(NamedTuple):
    """A model, the names of the tensors that its checkpoint lacked, and of those that it has no place for."""

    model: Any
    missing: set[str]
    unplaced: set[str]


def model_class(name: str) -> type[PreTrainedModel] | None:
    """The model of transformers that is called so; None where there is none."""
    kind = getattr(transformers, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, PreTrainedModel) else None


def has_safetensors(source: str | Path) -> bool:
    """Whether a folder has a model's weights as safetensors; other files of that kind are not the model."""
    return any((Path(source) / name).is_file() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))


def load_weights(kind: type[PreTrainedModel], source: str, **settings: Any) -> Loaded:
    """Load a model in eval mode, in float32 unless settings name another `dtype`.

    Raises:
        InputError: where the weights cannot be read, or one of them is no finite number.
    """
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            # a fresh head is the same at every load, and the caller's random stream is left alone
            torch.manual_seed(0)
            loaded: Any = kind.from_pretrained(
                source,
                trust_remote_code=False,
                output_loading_info=True,
                **{"dtype": torch.float32, "attn_implementation": _fastest(kind), **settings},
                use_safetensors=True if has_safetensors(source) else None,
            )
    except MemoryError:
        raise
    except Exception as error:  # a file's damage shows in safetensors, torch or the class itself
        told = " ".join(str(error).split())
        if "mismatched_sizes" in told:
            told = _mismatch(kind, source)
        elif type(error).__name__ in ("UnpicklingError", "EOFError"):  # torch advises to read it unsafely
            told = "a file of weights is cut short, or holds something else than tensors"
        raise InputError(
            f"The weights of {source} could not be read ({told:.500}). Fetch or copy the model again."
        ) from error
    model, info = loaded
    if broken := not_finite(model):
        raise InputError(
            f"Finite weights were expected in {source}, but {broken}: the file was damaged, or the end of a"
            " training that diverged was saved. Fetch or copy the model again, or take an earlier one."
        )
    return Loaded(model.eval(), set(info["missing_keys"]), set(info["unexpected_keys"]))


def _mismatch(kind: type[PreTrainedModel], source: str) -> str:
    """The first tensor whose stored size is not that of the configuration; transformers' own error does not
    name it.
    """
    with quiet():
        loaded: Any = kind.from_pretrained(
            source,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            tie_word_embeddings=False,
        )
    name, stored, wanted = min(loaded[1]["mismatched_keys"])
    return f"{name} is stored with the size {tuple(stored)}, but by config.json it has {tuple(wanted)}"


def load_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """Load the tokenizer as `read_fast_tokenizer` does, and check that it has the special tokens that masking
    and batching need.
    """
    tokenizer = read_fast_tokenizer(source)
    lacking = [
        name
        for name in ("mask", "unk", "pad", "cls", "sep")
        if getattr(tokenizer, f"{name}_token_id") is None
    ]
    if lacking:
        raise InputError(
            f"The tokenizer of {source} lacks the special tokens {', '.join(lacking)}; name them in"
            " tokenizer_config.json."
        )
    return tokenizer


def read_fast_tokenizer(source: str, *, marked: bool = True) -> PreTrainedTokenizerFast:
    """Load a tokenizer and check that it is fast and whole.

    Args:
        marked: whether one that leaves a text's first word without the mark of other words is told to mark
            it, see `word_marks`.
    """
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            if _lowers_by_default(source, tokenizer):
                tokenizer = AutoTokenizer.from_pretrained(
                    source, trust_remote_code=False, do_lower_case=False
                )
            if marked and tokenizer.is_fast and glues_words(tokenizer.backend_tokenizer):
                tokenizer = AutoTokenizer.from_pretrained(
                    source, trust_remote_code=False, add_prefix_space=True
                )
                mark_first_word(tokenizer.backend_tokenizer)
            if marked and tokenizer.is_fast:
                spell_words(tokenizer.backend_tokenizer)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # those of the tokenizers library are plain ones
        raise InputError(
            f"No tokenizer could be read from {source!r}: a tokenizer.json or vocab.txt was expected"
            f" ({error!s:.500})."
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            f"A fast tokenizer (tokenizers library) was expected, but {source} has a"
            f" {type(tokenizer).__name__}."
        )
    # what transformers makes of a folder without tokenizer files
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(
            f"The tokenizer of {source} has no tokens but special ones. Is tokenizer.json or vocab.txt"
            " missing?"
        )
    return tokenizer


def _lowers_by_default(source: str, tokenizer: Any) -> bool:
    """Whether text is put in lower case although no file says so and the vocabulary has cased tokens: then
    transformers has taken its default for the files of a cased model that are not all there.
    """
    if not (tokenizer.is_fast and getattr(tokenizer.backend_tokenizer.normalizer, "lowercase", False)):
        return False
    stated = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    cased = [token for token in tokenizer.get_vocab() if token != token.lower() and token[0] != "["]
    return (
        not stated
        and "do_lower_case" not in get_tokenizer_config(source)
        and len(cased) > CASED * len(tokenizer)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load reports and bars off the screen: what matters in them comes back as values or
    errors.
    """
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
