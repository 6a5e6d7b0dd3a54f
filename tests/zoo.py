"""One tiny tokenizer of each family and one tiny random teacher of each architecture, trained or drawn in the
tests.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    DebertaV2Config,
    DebertaV2Tokenizer,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from bistil.models.architectures import ARCHITECTURES
from bistil.pretrain.wordpiece import train_wordpiece

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train_unigram(lines: Iterable[str], size: int, specials: list[str]) -> list[tuple[str, float]]:
    """Pieces and scores of a SentencePiece-like Unigram model; the special tokens come first."""
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(
        lines,
        trainers.UnigramTrainer(
            vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False
        ),
    )
    return [(piece, score) for piece, score in _model(learner)["vocab"]]


def train_bpe(
    lines: Iterable[str], size: int, specials: list[str], pre_tokenizer: Any, alphabet: list[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges; the special tokens come first."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(lines, trainer)
    model = _model(learner)
    return model["vocab"], [(first, second) for first, second in model["merges"]]


def xlm_roberta_tokenizer(lines: Iterable[str], size: int = 300) -> XLMRobertaTokenizer:
    """Unigram with XLM-R's special tokens, the mask last."""
    return XLMRobertaTokenizer(vocab=[*train_unigram(lines, size, ROBERTA), ("<mask>", 0.0)])


def deberta_tokenizer(lines: Iterable[str], size: int = 300) -> DebertaV2Tokenizer:
    """Unigram with mDeBERTa's special tokens; the mask is an added token."""
    pieces = train_unigram(lines, size, ["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    return DebertaV2Tokenizer(vocab=pieces, unk_id=3)


def roberta_tokenizer(lines: Iterable[str], size: int = 500) -> RobertaTokenizer:
    """Byte-level BPE with RoBERTa's special tokens, the mask last."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary, merges = train_bpe(lines, size, ROBERTA, byte_level, pre_tokenizers.ByteLevel.alphabet())
    return RobertaTokenizer(vocab={**vocabulary, "<mask>": len(vocabulary)}, merges=merges)


def modernbert_tokenizer(lines: Iterable[str], size: int = 500) -> PreTrainedTokenizerFast:
    """Byte-level BPE as ModernBERT ships it: special tokens are added tokens behind the vocabulary."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary, merges = train_bpe(lines, size, [], byte_level, pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = byte_level
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken("  ", normalized=True)])
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    backend.add_special_tokens(names)
    return _wrapped(backend, names)


def gemma_tokenizer(lines: Iterable[str], size: int = 600) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE with byte fallback, as mmBERT ships it: spaces become ▁, unknown characters their
    bytes.
    """
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    spaced = [line.replace(" ", "▁") for line in lines]
    split = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    vocabulary, merges = train_bpe(spaced, size, [*names, *BYTES], split, [])
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(names)
    return _wrapped(backend, ["<unk>", "<bos>", "<eos>", "<pad>", "<mask>"])


def _wrapped(backend: Tokenizer, names: list[str]) -> PreTrainedTokenizerFast:
    """A fast tokenizer with these special tokens: unknown, first, last, padding, mask."""
    unknown, first, last, padding, mask = names
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(name, backend.token_to_id(name)) for name in (first, last)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        pad_token=padding,
        mask_token=mask,
        model_input_names=["input_ids", "attention_mask"],
    )


def _model(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())["model"]


SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 68,
    "initializer_range": 0.2,
}
GLOBAL, LOCAL = "full_attention", "sliding_attention"
PATTERN = [GLOBAL, LOCAL, LOCAL, GLOBAL, LOCAL, GLOBAL]


def config(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Any:
    """A small configuration of an architecture, with a few more rows than the tokenizer has tokens."""
    shared = {**SMALL, "vocab_size": len(tokenizer) + 3, "pad_token_id": tokenizer.pad_token_id}
    roberta = {
        **shared,
        "type_vocab_size": 1,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    ids = {
        f"{one}_token_id": tokenizer.convert_tokens_to_ids(getattr(tokenizer, f"{two}_token"))
        for one, two in (("cls", "cls"), ("sep", "sep"), ("bos", "cls"), ("eos", "sep"))
    }
    relative = {
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    }
    makers: dict[str, Any] = {
        "bert": lambda: BertConfig(**{**shared, **changes}),
        "xlm-roberta": lambda: XLMRobertaConfig(**{**roberta, **changes}),
        "roberta": lambda: RobertaConfig(**{**roberta, **changes}),
        "deberta-v2": lambda: DebertaV2Config(
            **{
                **shared,
                **relative,
                "pos_att_type": ["p2c", "c2p"],
                "position_biased_input": False,
                **changes,
            }
        ),
        "distilbert": lambda: DistilBertConfig(
            **{**shared, "hidden_dim": shared["intermediate_size"], **changes}
        ),
        "electra": lambda: ElectraConfig(
            **{**shared, "embedding_size": shared["hidden_size"] // 2, **changes}
        ),
        "modernbert": lambda: ModernBertConfig(
            **{**shared, **ids, "layer_types": PATTERN, "local_attention": 8, **changes}
        ),
    }
    return makers[name]()


TOKENIZERS = {
    "bert": lambda lines: train_wordpiece(lines, 300, lowercase=False),
    "xlm-roberta": xlm_roberta_tokenizer,
    "roberta": roberta_tokenizer,
    "deberta-v2": deberta_tokenizer,
    "distilbert": lambda lines: train_wordpiece(lines, 300, lowercase=False),
    "electra": lambda lines: train_wordpiece(lines, 300, lowercase=False),
    "modernbert": gemma_tokenizer,
}


def masked_lm(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PreTrainedModel:
    """A random masked language model, norms and biases included, so that no tensor is a mere 0 or 1."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name].mlm(config(name, tokenizer, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def write_teacher(folder: Path, name: str, lines: list[str]) -> Path:
    """A teacher of an architecture in a folder, its tokenizer trained on `lines`."""
    tokenizer = TOKENIZERS[name](lines)
    masked_lm(name, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


TRANSLATOR: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
    "init_std": 0.5,
}


def save_translator(folder: Path, kind: Any, config: Any, tokenizer: Any, size: int) -> Path:
    """A translation model of random weights, saved with its tokenizer."""
    torch.manual_seed(3)
    named = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = tokenizer.eos_token_id if config.model_type == "m2m_100" else tokenizer.pad_token_id
    model = kind(config(**TRANSLATOR, **named, vocab_size=size, decoder_start_token_id=start))
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
