"""Predictions over a whole vocabulary, compared some rows at a time, against losses of whole logits."""

import pytest
import tiny
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from zoo import TOKENIZERS, masked_lm

from bistil.distil import predictions
from bistil.distil.objective import Distillation
from bistil.distil.predictions import Predictions, compare_predictions
from bistil.distil.teachers import AdaptedTeacher
from bistil.losses import cosine_loss, tempered_loss
from bistil.models.architectures import before_logits, mlm_logits
from bistil.systems.recipe import Term
from bistil.text.corpora import IGNORED

TERMS = {
    "follow": Term(of="prediction", by="kl", weight=5.0, temperature=2.0),
    "gold": Term(of="prediction", by="ce", weight=2.0),
    "masked": Term(of="prediction", by="kl", weight=0.5, positions="masked"),
    "sentence": Term(of="prediction", by="kl", weight=0.1, temperature=4.0, per="sentence"),
    "cosine": Term(of="prediction", by="cosine", weight=3.0),
}
MASK = torch.ones(3, 4, dtype=torch.long)


def sides(kind: torch.dtype = torch.float64) -> tuple[list[Tensor], Predictions, Tensor]:
    """What a student predicts with, as tensors with gradients; a wider teacher's predictions; labels."""
    torch.manual_seed(1)
    rows, vocabulary = MASK.numel(), 29
    own = [
        torch.randn(*shape, dtype=kind).requires_grad_()
        for shape in ((rows, 6), (vocabulary, 6), (vocabulary,))
    ]
    theirs = Predictions(torch.randn(rows, 9, dtype=kind), torch.randn(vocabulary, 9, dtype=kind), None)
    labels = torch.full((rows,), IGNORED)
    labels[::3] = torch.randint(vocabulary, (rows // 3,))
    return own, theirs, labels


def whole(term: Term, own: Tensor, theirs: Tensor, labels: Tensor) -> Tensor:
    """A term by the losses of whole logits."""
    there = (labels != IGNORED).long()
    rows = there if term.positions == "masked" else torch.ones_like(there)
    if term.by == "ce":
        return cross_entropy(own, labels, ignore_index=IGNORED)
    if term.by == "cosine":
        return cosine_loss(own[None], theirs[None], rows[None])
    found = tempered_loss(own, theirs, rows, temperature=term.temperature)
    return found * rows.sum() / len(MASK) if term.per == "sentence" else found


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("names", [*([name] for name in TERMS), list(TERMS)], ids=" ".join)
def test_terms_and_gradients_are_those_of_whole_logits(names, rows, monkeypatch) -> None:
    monkeypatch.setattr(predictions, "ROWS", rows)
    monkeypatch.setattr(predictions, "NUMBERS", 1)
    own, theirs, labels = sides()
    terms = {name: TERMS[name] for name in names}
    total, parts = compare_predictions(terms, Predictions(*own), theirs, labels, MASK)
    found = torch.autograd.grad(7 * total, own)

    logits, goal = own[0] @ own[1].T + own[2], theirs.states @ theirs.weight.T
    expected = {name: whole(term, logits, goal, labels) for name, term in terms.items()}
    wanted = sum(terms[name].weight * value for name, value in expected.items())
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(parts, {name: value.detach() for name, value in expected.items()})
    torch.testing.assert_close(found, torch.autograd.grad(7 * wanted, own))


def test_without_a_gradient_none_is_taken_and_frozen_parts_get_none() -> None:
    own, theirs, labels = sides()
    with torch.no_grad():
        quiet, _ = compare_predictions(TERMS, Predictions(*own), theirs, labels, MASK)
    assert not quiet.requires_grad
    own[1].requires_grad_(False)
    total, _ = compare_predictions(TERMS, Predictions(*own), theirs, labels, MASK)
    torch.testing.assert_close(total, quiet)
    total.backward()
    assert own[1].grad is None
    assert own[0].grad is not None


def test_no_masked_token_gives_no_loss_of_them() -> None:
    own, theirs, labels = sides()
    terms = {name: TERMS[name] for name in ("gold", "masked")}
    total, _ = compare_predictions(terms, Predictions(*own), theirs, torch.full_like(labels, IGNORED), MASK)
    total.backward()
    assert total.item() == 0
    assert own[0].grad.abs().max() == 0


@pytest.mark.parametrize("few", [1, 100])
def test_autocast_computes_products_in_its_type_and_sums_in_float32(few, monkeypatch) -> None:
    monkeypatch.setattr(predictions, "FEW", few)
    own, theirs, labels = sides(torch.float32)
    exact, _ = compare_predictions(TERMS, Predictions(*own), theirs, labels, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = compare_predictions(TERMS, Predictions(*own), theirs, labels, MASK)
    assert half.dtype == torch.float32
    assert 0 < abs(half - exact) / exact < 0.02
    pairs = zip(torch.autograd.grad(exact, own), torch.autograd.grad(half, own), strict=True)
    assert all(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999 for a, b in pairs)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_head_ends_in_its_output_embedding(kind) -> None:
    mlm = masked_lm(
        kind, TOKENIZERS[kind](["So one word more, and other words, and so on.", "No word at all!"] * 9)
    )
    hidden = torch.randn(5, mlm.config.hidden_size)
    kept = torch.tensor([3, 1, 7])
    expected = mlm_logits(mlm, hidden)
    every = slice(None)
    torch.testing.assert_close(Predictions.of(mlm, hidden).logits(every), expected)
    torch.testing.assert_close(Predictions.of(mlm, hidden, kept).logits(every), expected[:, kept])
    assert "forward" not in vars(mlm.get_output_embeddings())
    before_logits(mlm, hidden)
    torch.testing.assert_close(mlm_logits(mlm, hidden), expected)


@pytest.mark.parametrize(("positions", "rows"), [("masked", 3), ("real", 11)])
def test_where_masked_tokens_alone_are_compared_no_others_are_predicted(positions, rows, monkeypatch) -> None:
    student, teacher = (tiny.masked_lm(50, layers=layers) for layers in (1, 2))
    terms = {"follow": Term(of="prediction", by="kl", positions=positions), "gold": TERMS["gold"]}
    objective = Distillation(student, AdaptedTeacher(teacher.bert, {}, None, teacher), terms, ((1, 2),))
    ids = torch.randint(5, 50, (2, 6))
    mask = torch.ones_like(ids)
    mask[1, 5] = 0
    labels = torch.full_like(ids, IGNORED)
    labels[0, 1:4] = ids[0, 1:4]
    seen = []

    def noted(mlm, hidden, *rest):
        seen.append(len(hidden))
        return real(mlm, hidden, *rest)

    real = Predictions.of
    monkeypatch.setattr(Predictions, "of", noted)
    objective({"language": "none", "input_ids": ids, "attention_mask": mask, "labels": labels})
    assert seen == [rows, rows]
