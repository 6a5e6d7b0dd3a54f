"""Models: states equal transformers' own, shared encoder, refusals in words."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, BertTokenizer

from bistil.errors import InputError
from bistil.models import load as models
from bistil.models.device import choose_device

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##a", "##b", "##c", "ab", "##bc"]


def small_config(layers: int = 3) -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=24,
    )


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, do_lower_case=False)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: BertTokenizer) -> Path:
    torch.manual_seed(1)
    BertForMaskedLM(small_config()).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def example_batch() -> dict[str, Tensor]:
    ids = torch.tensor([[2, 5, 8, 11, 3], [2, 6, 3, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class Tagger(nn.Module):
    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(hidden, labels)

    def forward(self, hidden: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"labels": self.classifier(self.dropout(hidden))}


def test_teacher_shares_one_encoder_and_head_gives_the_checkpoints_logits(folder: Path) -> None:
    state = torch.random.get_rng_state()
    teacher = models.load_teacher(folder)
    assert torch.equal(state, torch.random.get_rng_state())
    assert teacher.mlm.bert is teacher.encoder
    assert teacher.has_mlm_head
    assert teacher.encoder.pooler is None
    assert not teacher.encoder.training
    reference = BertForMaskedLM.from_pretrained(folder)
    assert torch.equal(teacher.mlm(**example_batch()).logits, reference(**example_batch()).logits)


def test_encoder_only_folder_gets_the_same_fresh_tied_head_each_time(
    tmp_path: Path, tokenizer: BertTokenizer
) -> None:
    BertModel(small_config()).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    first, second = models.load_teacher(tmp_path), models.load_teacher(tmp_path)
    assert not first.has_mlm_head
    assert first.mlm.cls.predictions.decoder.weight is first.encoder.embeddings.word_embeddings.weight
    assert torch.equal(first.mlm(**example_batch()).logits, second.mlm(**example_batch()).logits)


def test_states_equal_a_walk_through_the_layers(folder: Path) -> None:
    encoder = models.load_encoder(folder)
    batch = example_batch()
    out = models.encode(encoder, batch["input_ids"], batch["attention_mask"], states=True)
    assert [tuple(h.shape) for h in out.hidden] == [(2, 5, 32)] * 4
    assert [tuple(a.shape) for a in out.attention] == [(2, 4, 5, 5)] * 3
    assert torch.equal(out.hidden[0], encoder.embeddings(batch["input_ids"]))
    assert torch.equal(out.hidden[-1], out.last)
    for attention in out.attention:
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 4, 5))
        assert attention[1, :, :, 3:].abs().max() == 0


def test_sdpa_without_states_agrees_with_eager(folder: Path) -> None:
    encoder = models.load_encoder(folder)
    batch = example_batch()
    full = models.encode(encoder, batch["input_ids"], batch["attention_mask"], states=True)
    assert encoder.config._attn_implementation == "eager"
    plain = models.encode(encoder, batch["input_ids"], batch["attention_mask"], states=False)
    assert encoder.config._attn_implementation == "sdpa"
    assert plain.hidden == ()
    assert plain.attention == ()
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(plain.last[real], full.last[real], atol=1e-6, rtol=0)


def test_task_model_passes_segments_on(folder: Path) -> None:
    model = models.TaskModel(encoder=models.load_encoder(folder), head=Tagger(32, 3)).eval()
    batch = example_batch()
    segments = {**batch, "token_type_ids": torch.ones_like(batch["input_ids"])}
    assert model(batch).logits["labels"].shape == (2, 5, 3)
    assert not torch.equal(model(batch).last, model(segments).last)


def test_student_folder_loads_with_auto_classes(
    tmp_path: Path, folder: Path, tokenizer: BertTokenizer
) -> None:
    encoder = models.load_encoder(folder)
    models.save_student(tmp_path / "s", encoder, tokenizer)
    assert [path.name for path in (tmp_path / "s").glob("*.safetensors")] == ["model.safetensors"]
    loaded = AutoModel.from_pretrained(tmp_path / "s", add_pooling_layer=False)
    assert torch.equal(
        loaded(**example_batch()).last_hidden_state, encoder(**example_batch()).last_hidden_state
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "s")("abc ab").input_ids == tokenizer("abc ab").input_ids


def test_missing_sources_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no folder"):
        models.load_teacher(tmp_path / "nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hub"):
        models.load_teacher("nobody/no-such-model")


def test_other_architectures_are_refused_before_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(InputError, match="gpt2 models cannot be teachers; supported architectures: bert"):
        models.load_teacher(tmp_path)


def test_a_folder_without_tokenizer_or_with_lost_tensors_is_refused(
    folder: Path, tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer"):
        models.load_teacher(folder)
    tokenizer.save_pretrained(folder)
    deeper = small_config(layers=4)
    deeper.save_pretrained(folder)
    with pytest.raises(InputError, match="missing"):
        models.load_teacher(folder)
    with pytest.raises(InputError, match="missing"):
        models.load_encoder(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="could not be read"):
        models.load_encoder(folder)


def test_one_value_that_is_no_number_is_refused_by_its_name(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    tensors[name][3, 4] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for load in (models.load_teacher, models.load_encoder):
        with pytest.raises(
            InputError, match=r"1 of the .* values of .*layer\.1\.output\.dense\.weight are infinite"
        ):
            load(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(folder: Path) -> None:
    words = {word: i for i, word in enumerate([*WORDS, "extra"])}
    BertTokenizer(vocab=words, do_lower_case=False).save_pretrained(folder)
    with pytest.raises(InputError, match="embedding rows"):
        models.load_teacher(folder)


def test_a_tokenizer_without_mask_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["mask_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="mask"):
        models.load_teacher(folder)


def test_the_device_comes_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    device, reason = choose_device(None)
    assert (device.type, reason) == ("cpu", "no CUDA device is present")
    assert "asked" in choose_device("cpu")[1]
    for wrong in ("cuda", "toaster", "meta"):
        with pytest.raises(InputError):
            choose_device(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device(None) == (torch.device("cuda"), "a CUDA device is present")
