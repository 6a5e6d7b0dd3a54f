"""Every architecture: loading, states, students, trimming, masked-LM heads, task classes; what makes no sense
is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import state_losses
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, FNetConfig, PreTrainedTokenizerFast
from zoo import GLOBAL, LOCAL, PATTERN, TOKENIZERS, masked_lm, write_teacher

from bistil import vocab
from bistil.distil.general import set_dropout
from bistil.distil.minilm import MiniLMConfig
from bistil.distil.start import initialise
from bistil.distil.terms import Needs, read
from bistil.errors import InputError
from bistil.models.architectures import (
    ARCHITECTURES,
    blocks,
    longest_sequence,
    mlm_logits,
    student_config,
    with_encoder,
)
from bistil.models.attention import Attention
from bistil.models.load import TaskModel, Teacher, encode, load_encoder, load_teacher, save_student
from bistil.pipeline.finished import export, exportable
from bistil.sft.config import PeftSft
from bistil.sft.lottery import decouple_output_embedding, select_biases, set_trainable
from bistil.sft.peers import peft_settings
from bistil.systems.layers import start_layers
from bistil.tasks.labelling import ClsClassifier
from bistil.tasks.qa import SpanHead
from bistil.tasks.tagging import TokenClassifier
from bistil.training.mlm import masked_lm_loss

LINES = [
    "the cat sat on the mat",
    "a dog ran after the cats",
    "where is the dog now ?",
    "é è ñandú corrió rápido",
    "der Hund läuft",
] * 8
NAMES = tuple(ARCHITECTURES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("zoo")
    return lambda name: root / name if (root / name).is_dir() else write_teacher(root / name, name, LINES)


@pytest.fixture
def teacher(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> Teacher:
    return load_teacher(folders(request.param))


def every(names: tuple[str, ...] = NAMES) -> Any:
    return pytest.mark.parametrize("teacher", names, indirect=True, ids=names)


def batch(tokenizer: PreTrainedTokenizerFast, lines: list[str] = LINES[:5]) -> dict[str, torch.Tensor]:
    encoding = tokenizer(lines, padding=True, return_tensors="pt")
    return {name: encoding[name] for name in ("input_ids", "attention_mask")}


@every()
def test_a_teacher_shares_its_encoder_and_gives_the_checkpoints_logits(teacher: Teacher) -> None:
    inputs = batch(teacher.tokenizer)
    assert teacher.mlm.base_model is teacher.encoder
    assert teacher.has_mlm_head
    assert getattr(teacher.encoder, "pooler", None) is None
    reference = AutoModelForMaskedLM.from_pretrained(teacher.mlm.name_or_path)
    with torch.no_grad():
        expected = reference(**inputs).logits
        assert torch.equal(teacher.mlm(**inputs).logits, expected)
        assert torch.equal(mlm_logits(teacher.mlm, teacher.encoder(**inputs).last_hidden_state), expected)


@every()
@torch.no_grad()
def test_states_are_those_of_every_layer_and_agree_with_the_fast_attention(teacher: Teacher) -> None:
    inputs = batch(teacher.tokenizer)
    segments = torch.ones_like(inputs["input_ids"])
    full = encode(teacher.encoder, **inputs, states=True, token_type_ids=segments)
    plain = encode(teacher.encoder, **inputs, states=False, token_type_ids=segments)
    size, length = inputs["input_ids"].shape
    real = inputs["attention_mask"].bool()
    assert [tuple(one.shape) for one in full.attention] == [(size, 2, length, length)] * 6
    assert [tuple(one.shape) for one in full.hidden] == [(size, length, 32)] * 7
    assert torch.equal(full.hidden[-1], full.last)
    torch.testing.assert_close(plain.last[real], full.last[real], atol=1e-5, rtol=1e-5)
    assert all(
        bool(one.isfinite().all()) for one in (plain.last, *full.hidden, *full.attention)
    )  # in padding too: losses multiply by 0
    for attention in full.attention:
        torch.testing.assert_close(attention.sum(-1).transpose(1, 2)[real], torch.ones(int(real.sum()), 2))
        padded = real[:, :, None] & ~real[:, None, :]  # [example, query, key]
        assert attention.sum(1)[padded].abs().sum() == 0


@every()
def test_states_compared_without_maps_give_the_loss_and_gradient_of_maps(teacher: Teacher) -> None:
    inputs, layers = batch(teacher.tokenizer), start_layers("uniform", 6, 2)
    student = initialise(teacher.encoder, 2)
    with torch.no_grad():  # away from the teacher
        for parameter in student.parameters():
            parameter.mul_(1.1)
    found = []
    for maps in (True, False):
        own = encode(student, **inputs, states=True, maps=maps)
        with torch.inference_mode():
            theirs = encode(teacher.encoder, **inputs, states=True, maps=maps)
        lazy = not maps and teacher.encoder.config.model_type != "deberta-v2"
        assert all(isinstance(one, Attention) == lazy for one in (*own.attention, *theirs.attention))
        loss, parts = state_losses(own, theirs, layers, inputs["attention_mask"])
        assert float(parts["attention"]) > 1e-4
        gradients = torch.autograd.grad(loss, list(student.parameters()))
        found.append((parts["attention"], parts["hidden"], *gradients))
    for with_maps, without in zip(*found, strict=True):
        assert float((with_maps - without).norm()) <= 1e-5 * float(with_maps.norm()) + 1e-7


@every()
@torch.no_grad()
def test_a_plain_forward_works_after_states_were_compared_without_maps(teacher: Teacher) -> None:
    inputs, encoder = batch(teacher.tokenizer), teacher.encoder
    expected = encoder(**inputs).last_hidden_state
    for maps in (False, True, False):
        encode(encoder, **inputs, states=True, maps=maps)
        torch.testing.assert_close(encoder(**inputs).last_hidden_state, expected, atol=1e-5, rtol=1e-4)
        assert encoder(**inputs, output_hidden_states=True).hidden_states


@every()
def test_every_block_has_its_parts(teacher: Teacher) -> None:
    config, found = teacher.encoder.config, blocks(teacher.encoder)
    assert len(found) == config.num_hidden_layers
    gated = config.model_type == "modernbert"
    for block in found:
        assert (block.query is block.key) == (block.key is block.value) == gated
        assert block.key.weight.shape == ((1 + 2 * gated) * config.hidden_size, config.hidden_size)
        assert block.attention.weight.shape == (config.hidden_size, config.hidden_size)
        assert block.inner.weight.shape == ((1 + gated) * config.intermediate_size, config.hidden_size)
        assert block.outer.weight.shape == (config.hidden_size, config.intermediate_size)
        assert block.attention_norm is not block.outer_norm
    assert len({id(block.outer) for block in found}) == len(found)


@every()
def test_ia3_scales_keys_values_and_feed_forward_units(teacher: Teacher) -> None:
    pytest.importorskip("peft")
    settings = PeftSft(density=0.1, method="ia3")
    if teacher.encoder.config.model_type == "modernbert":
        with pytest.raises(InputError, match="one map gives them and the queries"):
            peft_settings(teacher.encoder, settings)
        return
    asked = peft_settings(teacher.encoder, settings)
    kept = {teacher.encoder.get_submodule(name) for name in asked.target_modules}
    parts = [(block.key, block.value, block.outer) for block in blocks(teacher.encoder)]
    assert kept == {part for three in parts for part in three}
    assert {teacher.encoder.get_submodule(name) for name in asked.feedforward_modules} == {
        outer for _, _, outer in parts
    }


@every()
@torch.no_grad()
def test_attention_vectors_are_maps_of_the_states_alone(teacher: Teacher) -> None:
    inputs, encoder = batch(teacher.tokenizer), teacher.encoder
    if encoder.config.model_type == "modernbert":
        with pytest.raises(InputError, match="one map gives all three"):
            MiniLMConfig().check(encoder.config)
        return
    MiniLMConfig().check(encoder.config)
    states, block = encode(encoder, **inputs, states=True).hidden[2], blocks(encoder)[2]
    found = read(encoder, inputs["input_ids"], inputs["attention_mask"], Needs(vectors=(3,))).vectors[3]
    for vectors, part in zip(found, (block.query, block.key, block.value), strict=True):
        torch.testing.assert_close(vectors, part(states), atol=1e-5, rtol=1e-4)


@every()
@pytest.mark.parametrize("lrf", [1, 2, 3])
@torch.no_grad()
def test_a_student_has_copies_of_the_teachers_layers(teacher: Teacher, lrf: int) -> None:
    student = initialise(teacher.encoder, lrf)
    kind, layers = ARCHITECTURES[teacher.encoder.config.model_type], start_layers("uniform", 6, lrf)
    source, folded = teacher.encoder.state_dict(), "layers.0.attn.Wqkv.weight"
    for name, tensor in student.state_dict().items():
        number = name.removeprefix(kind.layers).partition(".")[0] if name.startswith(kind.layers) else ""
        origin = (
            name.replace(f"{kind.layers}{number}.", f"{kind.layers}{layers[int(number)] - 1}.", 1)
            if number
            else name
        )
        assert torch.equal(tensor, source[origin]) or (name == folded and lrf > 1), name
        assert tensor.data_ptr() != source[origin].data_ptr()
    inputs = batch(teacher.tokenizer)
    mine, theirs = (encode(one, **inputs, states=True) for one in (student, teacher.encoder))
    assert len(mine.attention) == student.config.num_hidden_layers == 6 // lrf
    assert torch.equal(mine.hidden[0], theirs.hidden[0])
    if lrf == 1:
        assert torch.equal(mine.last, theirs.last)


@every()
@torch.no_grad()
def test_a_trimmed_model_sees_what_the_teacher_sees_wherever_its_padding_stands(
    teacher: Teacher, tmp_path: Path
) -> None:
    kept = vocab.choose(teacher.tokenizer, [vocab.count_tokens(teacher.tokenizer, LINES[:3])])
    trimmed, ids = vocab.trim_tokenizer(teacher.tokenizer, kept), torch.as_tensor(kept)
    inputs = batch(trimmed)
    full = {**inputs, "input_ids": ids[inputs["input_ids"]]}
    before, logits = encode(teacher.encoder, **full, states=True), teacher.mlm(**full).logits[..., ids]
    student = initialise(teacher.encoder, 1)
    vocab.trim_model(student, kept)
    vocab.trim_model(teacher.mlm, kept)
    for mine in (student, teacher.encoder):
        for own, reference in zip(encode(mine, **inputs, states=True).hidden, before.hidden, strict=True):
            torch.testing.assert_close(own, reference, atol=1e-6, rtol=0)
    torch.testing.assert_close(teacher.mlm(**inputs).logits, logits, atol=1e-5, rtol=0)
    assert teacher.mlm.get_output_embeddings().weight is teacher.mlm.get_input_embeddings().weight
    assert student.config.vocab_size == len(kept)
    assert kept[student.config.pad_token_id] == teacher.tokenizer.pad_token_id
    save_student(tmp_path / "student", student, trimmed)
    teacher.mlm.save_pretrained(tmp_path / "mlm")
    plain, tokenizer = (
        AutoModel.from_pretrained(tmp_path / "student").eval(),
        AutoTokenizer.from_pretrained(tmp_path / "student"),
    )
    assert torch.equal(
        plain(**batch(tokenizer)).last_hidden_state, encode(student, **inputs, states=False).last
    )
    assert torch.equal(
        encode(load_encoder(tmp_path / "student"), **inputs, states=False).last,
        encode(student, **inputs, states=False).last,
    )
    encode(teacher.encoder, **inputs, states=False)  # back to the attention that a loaded model has
    assert torch.equal(
        AutoModelForMaskedLM.from_pretrained(tmp_path / "mlm")(**inputs).logits, teacher.mlm(**inputs).logits
    )


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta"])
@torch.no_grad()
def test_positions_follow_a_padding_id_that_gets_smaller(name: str) -> None:
    model = masked_lm(name, TOKENIZERS[name](LINES), pad_token_id=7)
    kept = np.array([0, 2, 3, 5, 7, *range(9, 30)])
    assert longest_sequence(model.config) == 60
    ids = torch.tensor([[0, 9, 11, 12, 2], [0, 13, 2, 7, 7]])
    mask = (ids != 7).long()
    before = model(input_ids=ids, attention_mask=mask).logits[..., torch.as_tensor(kept)]
    vocab.trim_model(model, kept)
    after = model(input_ids=torch.as_tensor(np.searchsorted(kept, ids.numpy())), attention_mask=mask).logits
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert model.config.pad_token_id == 4
    assert longest_sequence(model.config) == 60
    longest = torch.full((1, 60), 9)
    assert model(input_ids=longest, attention_mask=torch.ones_like(longest)).logits.shape[1] == 60
    with pytest.raises(InputError, match="padding id 4 must be kept"):
        vocab.trim_model(model, np.arange(4))


@every()
def test_only_the_encoder_learns_a_language_and_norms_can_be_frozen(teacher: Teacher, tmp_path: Path) -> None:
    inputs = batch(teacher.tokenizer)
    labels = torch.where(
        torch.rand(inputs["input_ids"].shape, generator=torch.Generator().manual_seed(1)) < 0.4,
        inputs["input_ids"],
        -100,
    )
    expected = teacher.mlm(**inputs).logits.detach()
    decouple_output_embedding(teacher.mlm)
    assert torch.equal(teacher.mlm(**inputs).logits, expected)
    names = set_trainable(teacher.encoder, freeze_layer_norms=True)
    assert not any("norm" in name.lower() for name in names)
    assert len(names) > 20
    loss = masked_lm_loss(teacher.mlm, {**inputs, "labels": labels})
    torch.testing.assert_close(loss, teacher.mlm(**inputs, labels=labels).loss)
    loss.backward()
    prefix = f"{teacher.mlm.base_model_prefix}."
    moving = {name for name, parameter in teacher.mlm.named_parameters() if parameter.grad is not None}
    assert moving == {prefix + name for name in names}
    teacher.mlm.save_pretrained(tmp_path)
    read = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(read(**inputs).logits, expected)


@every()
@torch.no_grad()
def test_the_head_goes_over_another_encoder(teacher: Teacher) -> None:
    inputs = batch(teacher.tokenizer)
    student = initialise(teacher.encoder, 2)
    expected = mlm_logits(teacher.mlm, student(**inputs).last_hidden_state)
    joined = with_encoder(teacher.mlm, student)
    assert joined.base_model is student
    assert torch.equal(joined(**inputs).logits, expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_without_head_is_a_teacher_with_a_fresh_one(
    name: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = load_teacher(folders(name))
    whole.encoder.save_pretrained(tmp_path)
    whole.tokenizer.save_pretrained(tmp_path)
    first, second = load_teacher(tmp_path), load_teacher(tmp_path)
    assert not first.has_mlm_head
    assert torch.equal(
        first.mlm(**batch(first.tokenizer)).logits, second.mlm(**batch(first.tokenizer)).logits
    )


def test_the_published_head_of_deberta_is_read(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """microsoft's checkpoints have the head at lm_predictions.lm_head and no decoder."""
    teacher = load_teacher(folders("deberta-v2"))
    teacher.mlm.config.save_pretrained(tmp_path)
    teacher.tokenizer.save_pretrained(tmp_path)
    tensors = load_file(folders("deberta-v2") / "model.safetensors")
    renamed = {
        name.replace("cls.predictions.transform.", "lm_predictions.lm_head."): tensor
        for name, tensor in tensors.items()
    }
    renamed = {
        name.replace("cls.predictions.", "lm_predictions.lm_head."): tensor
        for name, tensor in renamed.items()
    }
    assert any(name.startswith("lm_predictions.lm_head.dense") for name in renamed)
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    published = load_teacher(tmp_path)
    assert published.has_mlm_head
    inputs = batch(teacher.tokenizer)
    assert torch.equal(published.mlm(**inputs).logits, teacher.mlm(**inputs).logits)


@every()
@pytest.mark.parametrize("head", [TokenClassifier, ClsClassifier, SpanHead])
@torch.no_grad()
def test_exports_give_the_same_logits_or_are_refused(teacher: Teacher, head: Any, tmp_path: Path) -> None:
    student = initialise(teacher.encoder, 2)
    kept = vocab.choose(teacher.tokenizer, [vocab.count_tokens(teacher.tokenizer, LINES[:3])])
    vocab.trim_model(student, kept)
    trimmed = vocab.trim_tokenizer(teacher.tokenizer, kept)
    labels = ("start", "end") if head is SpanHead else ("x", "y", "z")
    torch.manual_seed(3)
    made = head(hidden_size=32) if head is SpanHead else head(hidden_size=32, labels=3, dropout=0.1)
    model, inputs = TaskModel(encoder=student, head=made).eval(), batch(trimmed)
    kind = student.config.model_type
    if kind == "modernbert" or (kind in ("distilbert", "electra") and head is ClsClassifier):
        assert not exportable(model)
        with pytest.raises(InputError, match=f"on a {type(student).__name__}"):
            export(tmp_path, model, labels, trimmed)
        return
    export(tmp_path, model, labels, trimmed)
    form = ARCHITECTURES[student.config.model_type].forms[
        {TokenClassifier: "words", ClsClassifier: "sentence", SpanHead: "span"}[head]
    ]
    plain = getattr(transformers, form.kind).from_pretrained(tmp_path).eval()
    found = plain(**batch(AutoTokenizer.from_pretrained(tmp_path)))
    if head is SpanHead:
        everywhere = {
            **inputs,
            "starts": torch.zeros_like(inputs["input_ids"]),
            "ends": torch.ones_like(inputs["input_ids"]),
        }
        expected = model(everywhere).logits
        torch.testing.assert_close(found.start_logits, expected["start"])
        torch.testing.assert_close(found.end_logits, expected["end"])
    else:
        torch.testing.assert_close(found.logits, model(inputs).logits["labels"])


def test_modernberts_students_keep_the_type_of_attention(folders: Callable[[str], Path]) -> None:
    encoder = load_teacher(folders("modernbert")).encoder
    assert initialise(encoder, 2).config.layer_types == [PATTERN[1], PATTERN[3], PATTERN[5]]
    assert [layer.attention_type for layer in initialise(encoder, 3).layers] == [LOCAL, GLOBAL]
    assert initialise(encoder, 1).config.layer_types == PATTERN
    shipped = masked_lm(
        "modernbert", TOKENIZERS["modernbert"](LINES), layer_types=[GLOBAL, LOCAL, LOCAL] * 2
    ).base_model
    with pytest.raises(
        InputError, match=r"layers \(3, 6\) .* local attention only: the teacher's layers are GllGll"
    ):
        initialise(shipped, 3)
    biased = masked_lm("modernbert", TOKENIZERS["modernbert"](LINES), norm_bias=True).base_model
    with pytest.raises(InputError, match="norm_bias"):
        initialise(biased, 2)


@torch.no_grad()
def test_modernberts_first_student_layer_is_the_nearest_to_the_teachers(
    folders: Callable[[str], Path],
) -> None:
    """On the teacher's embeddings, the projection with the norm's scale is nearer to norm and projection than
    without.
    """
    teacher = load_teacher(folders("modernbert"))
    embedded = teacher.mlm.base_model.embeddings(batch(teacher.tokenizer)["input_ids"])
    own: Any = teacher.encoder
    layer = own.layers[1]
    wanted = layer.attn.Wqkv(layer.attn_norm(embedded))
    student: Any = initialise(teacher.encoder, 2)
    folded = student.layers[0].attn.Wqkv(embedded)
    assert (folded - wanted).norm() < 0.2 * wanted.norm()
    assert (folded - wanted).norm() < 0.7 * (layer.attn.Wqkv(embedded) - wanted).norm()


def test_a_deberta_with_a_convolution_is_refused_where_layers_go() -> None:
    encoder = masked_lm("deberta-v2", TOKENIZERS["deberta-v2"](LINES), conv_kernel_size=3).base_model
    initialise(encoder, 1)
    with pytest.raises(InputError, match="convolution"):
        initialise(encoder, 2)


@pytest.mark.parametrize("name", NAMES)
def test_no_dropout_is_left(name: str) -> None:
    dropout = (
        {"attention_dropout": 0.3, "mlp_dropout": 0.3, "embedding_dropout": 0.3}
        if name == "modernbert"
        else {}
    )
    tokenizer = TOKENIZERS[name](LINES)
    encoder = masked_lm(name, tokenizer, **dropout).base_model.train()
    inputs = batch(tokenizer)
    assert not torch.equal(encoder(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state)
    set_dropout(encoder, 0.0)
    for states in (True, False):
        assert torch.equal(
            encode(encoder, **inputs, states=states).last, encode(encoder, **inputs, states=states).last
        )


def test_longest_sequences() -> None:
    limits = {name: longest_sequence(masked_lm(name, TOKENIZERS[name](LINES)).config) for name in NAMES}
    assert limits == {name: 66 if "roberta" in name else 68 for name in NAMES}


def test_what_gives_no_attention_is_refused(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FNetConfig().save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"fnet models cannot be teachers; .*must give attention distributions"
    ):
        load_teacher(tmp_path)
    teacher = load_teacher(folders("bert"))
    for layer in teacher.encoder.encoder.layer:
        inner = layer.attention.self.forward
        monkeypatch.setattr(
            layer.attention.self,
            "forward",
            lambda *args, inner=inner, **kwargs: (inner(*args, **kwargs)[0], None),
        )
    with pytest.raises(InputError, match=r"Attention distributions of the 6 layers .* gave 0 and 7"):
        encode(teacher.encoder, **batch(teacher.tokenizer), states=True)


def test_bitfit_needs_biases(folders: Callable[[str], Path]) -> None:
    assert select_biases(load_teacher(folders("deberta-v2")).encoder)
    with pytest.raises(InputError, match="ModernBertModel has none"):
        select_biases(load_teacher(folders("modernbert")).encoder)


def test_an_unsupported_configuration_has_no_student() -> None:
    with pytest.raises(InputError, match="fnet models"):
        student_config(FNetConfig(), (2, 4))
