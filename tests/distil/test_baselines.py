"""MiniLMv2 and DistilBERT's recipe: what they compare, where their gradients go, and that a student learns by
them.
"""

from pathlib import Path

import pytest
import torch
from test_general import CODES, CONFIG, batch_of, bits, corpora, same  # noqa: F401 - corpora is a fixture
from tiny import masked_lm, objective_of
from torch.nn.functional import cross_entropy, kl_div
from transformers import BertConfig

from bistil.distil.general import distil
from bistil.distil.minilm import MiniLMConfig
from bistil.distil.start import initialise, initialise_with_head
from bistil.distil.terms import Needs, read
from bistil.errors import InputError
from bistil.losses import relation_loss
from bistil.systems.table import DISTILBERT, MINILM, SYSTEMS
from bistil.training.loop import Run


def attention_vectors(encoder, layer: int, ids, mask):
    return read(encoder, ids, mask, Needs(vectors=(layer,))).vectors[layer]


def masked_batch(corpora):  # noqa: F811
    batch = batch_of(corpora)
    labels = torch.full_like(batch["input_ids"], -100)
    labels[0, 3:6] = batch["input_ids"][0, 3:6]
    return {**batch, "labels": labels}


def test_attention_vectors_are_those_of_the_layer(corpora, wordpiece) -> None:  # noqa: F811
    encoder, batch = masked_lm(len(wordpiece)).bert, batch_of(corpora)
    states = encoder(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
    attention = encoder.encoder.layer[2].attention.self
    found = attention_vectors(encoder, 3, batch["input_ids"], batch["attention_mask"])
    for vectors, part in zip(found, (attention.query, attention.key, attention.value), strict=True):
        torch.testing.assert_close(vectors, part(states[2]), atol=1e-5, rtol=1e-4)
        assert not part._forward_hooks


def test_minilm_compares_the_last_layer_of_the_student_with_the_chosen_one(corpora, wordpiece) -> None:  # noqa: F811
    teacher, batch = masked_lm(len(wordpiece)).bert, batch_of(corpora)
    student = initialise(teacher, 2).eval()
    for layer, heads in ((None, None), (5, 4)):
        pairs = ((3, layer or 6),)
        objective = objective_of(student, teacher, MINILM, pairs=pairs, relation_heads=heads)
        inputs = batch["input_ids"], batch["attention_mask"]
        own, theirs = (
            attention_vectors(model, number, *inputs)
            for model, number in ((student, 3), (teacher, layer or 6))
        )
        expected = relation_loss(own, theirs, batch["attention_mask"], heads=heads or 2)
        assert objective(batch)[0].item() == pytest.approx(expected.item(), rel=1e-6)
    whole = objective_of(initialise(teacher, 1).eval(), teacher, MINILM)
    assert whole(batch)[0].item() == pytest.approx(0.0, abs=1e-7)


def test_minilm_leaves_what_comes_after_the_values_of_the_last_layer(corpora, wordpiece) -> None:  # noqa: F811
    teacher = masked_lm(len(wordpiece)).bert
    student = initialise(teacher, 2)
    objective_of(student, teacher, MINILM)(batch_of(corpora))[0].backward()
    still = {name for name, parameter in student.named_parameters() if parameter.grad is None}
    last = "encoder.layer.2."
    assert still == {
        name
        for name, _ in student.named_parameters()
        if name.startswith(last) and ".attention.self." not in name
    }
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("settings", [{"teacher_layer": 7}, {"relation_heads": 5}])
def test_minilm_refuses_layers_and_heads_that_are_not_there(settings: dict[str, int]) -> None:
    MiniLMConfig(teacher_layer=6, relation_heads=16).check(BertConfig(num_hidden_layers=6, hidden_size=32))
    with pytest.raises(InputError, match="one of the teacher's 6 layers"):
        MiniLMConfig(**settings).check(BertConfig(num_hidden_layers=6, hidden_size=32))


def test_distilberts_loss_is_the_published_sum(corpora, wordpiece) -> None:  # noqa: F811
    teacher = masked_lm(len(wordpiece))
    student, batch = initialise_with_head(teacher, 2).eval(), masked_batch(corpora)
    loss, parts = objective_of(student, teacher, DISTILBERT)(batch)
    real = batch["attention_mask"] == 1
    asked = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    own, theirs = (model(**asked, output_hidden_states=True) for model in (student, teacher))
    ours, wanted = ((out.logits[real] / 2).log_softmax(-1) for out in (own, theirs))
    soft = kl_div(ours, wanted, log_target=True, reduction="batchmean") * 4
    cosine = 1 - torch.cosine_similarity(own.hidden_states[-1][real], theirs.hidden_states[-1][real]).mean()
    masked = cross_entropy(own.logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(loss, 5 * soft + cosine + 2 * masked, atol=1e-4, rtol=1e-4)
    assert set(parts) == {"soft", "cosine", "masked"}
    nothing = objective_of(student, teacher, DISTILBERT)(
        {**batch, "labels": torch.full_like(batch["labels"], -100)}
    )[1]
    assert nothing["masked"] == 0


def test_a_student_with_head_starts_as_the_teacher_and_owns_its_tensors(wordpiece) -> None:
    teacher = masked_lm(len(wordpiece))
    student = initialise_with_head(teacher, 1)
    assert student.cls.predictions.decoder.weight is student.bert.embeddings.word_embeddings.weight
    ids = torch.arange(5, 15)[None]
    torch.testing.assert_close(student.eval()(ids).logits, teacher(ids).logits)
    before = bits(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert same(bits(teacher), before)


@pytest.mark.parametrize("recipe", ["minilm", "distilbert"])
def test_a_student_learns_and_its_teacher_stays(recipe: str, corpora, wordpiece, tmp_path: Path) -> None:  # noqa: F811
    teacher = masked_lm(len(wordpiece))
    before = bits(teacher)
    if recipe == "minilm":
        objective = objective_of(initialise(teacher.bert, 2), teacher.bert, MINILM, relation_heads=4)
    else:
        objective = objective_of(initialise_with_head(teacher, 2), teacher, DISTILBERT)
    history = distil(objective, wordpiece, corpora, config=CONFIG, run=Run(tmp_path, "a recipe"))
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert all(
        {f"eval_loss_{code}" for code in CODES} <= set(entry) for entry in history if "eval_loss" in entry
    )
    assert same(bits(teacher), before)


def test_monoshots_loss_is_the_published_sum(corpora, wordpiece) -> None:  # noqa: F811
    teacher = masked_lm(len(wordpiece))
    student, batch = initialise_with_head(teacher, 2).eval(), masked_batch(corpora)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    real = mask == 1
    own, theirs = (model(ids, attention_mask=mask, output_hidden_states=True) for model in (student, teacher))
    ours, wanted = ((out.logits[real] / 4).log_softmax(-1) for out in (own, theirs))
    soft = kl_div(ours, wanted, log_target=True, reduction="sum") * 16 / len(ids)  # torch's batchmean
    gold = cross_entropy(own.logits.flatten(0, 1), batch["labels"].flatten())
    states = [(own.hidden_states[m], theirs.hidden_states[n]) for m, n in ((0, 0), (1, 2), (2, 4), (3, 6))]
    first, *hidden = [(one[real] - other[real]).square().mean() for one, other in states]
    scores = []
    for m, n in ((1, 2), (2, 4), (3, 6)):
        mine, goal = (
            scores_of(model.bert, layer, ids, mask) for model, layer in ((student, m), (teacher, n))
        )
        pairs = (real[:, None, :, None] & real[:, None, None, :]).expand_as(mine)
        scores.append((mine - goal)[pairs].square().mean())
    expected = 0.0005 * (gold + soft) + 0.333 * (first + sum(hidden) + sum(scores))
    loss, parts = objective_of(student, teacher, SYSTEMS["bilingual-monoshot"].student)(batch)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts["prediction"], soft, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts["scores"], sum(scores), atol=1e-4, rtol=1e-4)
    last = objective_of(student, teacher, SYSTEMS["bilingual-monoalignment"].student)(batch)[1]
    torch.testing.assert_close(last["scores"], scores[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last["hidden"], hidden[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last["embedding"], first, atol=1e-4, rtol=1e-4)


def scores_of(encoder, layer: int, ids, mask):
    query, key, _ = attention_vectors(encoder, layer, ids, mask)
    query, key = (one.unflatten(-1, (2, 16)).transpose(1, 2) for one in (query, key))
    return query @ key.mT / 4
