"""What general distillation costs by recipe: steps beside one of BiStil's own, a vocabulary that is cut
before, and what some recipes add: scores of attention, predictions over a whole vocabulary, families.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import BertForMaskedLM, PreTrainedModel

from bistil.bench.measure import OURS, Found, Row, Size, alternate, comparison, in_process, resident
from bistil.bench.models import config
from bistil.bench.step import Loss, whole_step
from bistil.bench.training import held
from bistil.bench.vocabulary import LARGEST
from bistil.distil import family
from bistil.distil.objective import Distillation
from bistil.distil.predictions import Predictions, compare_predictions
from bistil.distil.teachers import AdaptedTeacher
from bistil.losses import attention_loss, scores_loss, tempered_loss
from bistil.models.attention import Attention
from bistil.store.provenance import peak_memory_bytes
from bistil.systems.layers import layer_pairs
from bistil.systems.recipe import STATES, Student, Term
from bistil.systems.table import DISTILBERT_PAIR, MINILM, MONOSHOT
from bistil.text.corpora import IGNORED

BISTIL = "BiStil's recipe"
RECIPES: Mapping[str, Student] = {
    BISTIL: Student(terms=STATES),
    "DistilBERT's recipe": DISTILBERT_PAIR,
    "MiniLMv2's recipe": MINILM,
    "MonoShot's recipe": Student(terms=MONOSHOT),
    "MonoShot's, predictions of masked tokens alone": Student(
        terms={
            name: replace(term, positions="masked") if (term.of, term.by) == ("prediction", "kl") else term
            for name, term in MONOSHOT.items()
        }
    ),
}
WHOLE = "the whole vocabulary"
MASK_SHARE = 0.15
TEMPERATURE, FOLLOWED, MASKED = 2.0, 5.0, 2.0
"""Of DistilBERT's recipe: its temperature, and the weights of what it predicts."""
AT_ONCE, PRODUCTS = "all logits at once", "the products alone"
SCORES, MAPS = "scores", "attention"
PEAK = "peak beyond what is given and its gradients, bytes"
BYTES = "weights, gradients and optimiser, bytes"


def recipes(size: Size, *, apart: bool = True) -> list[Row]:
    """Steps by recipe and by vocabulary, and the three parts.

    Args:
        apart: each part in a new process, without which peaks of memory mean nothing.
    """
    lengths = (size.length // 2, 2 * size.length, 8 * size.length)
    return [
        *_by_recipe(size),
        _cut(size),
        *(_attention(size, length, apart) for length in lengths),
        _predictions(size, apart),
        _family(size, apart),
    ]


def _by_recipe(size: Size) -> list[Row]:
    """A step of each recipe with a cut vocabulary beside BiStil's."""
    torch.manual_seed(1)
    teacher, student = _models(size, size.kept)
    objectives = {name: _loss(size, teacher, student, recipe, size.kept) for name, recipe in RECIPES.items()}
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, fused=True)
    sides = {name: partial(whole_step, loss, optimizer) for name, loss in objectives.items()}
    found = alternate(size.turns, sides)
    note = "both sides' passes, the losses, the student's backward pass and AdamW"
    return [
        comparison(
            f"{name}: a step, {size.kept} tokens, batch {size.batch} x {size.length}",
            note,
            {OURS: found[name], BISTIL: found[BISTIL]},
        )
        for name in RECIPES
        if name != BISTIL
    ]


def _cut(size: Size) -> Row:
    """A step of Eliquare's student with the teacher's vocabulary, and with both cut before."""
    sides = {}
    for name, vocabulary in ((OURS, size.kept), (WHOLE, size.vocabulary)):
        torch.manual_seed(1)
        teacher, student = _models(size, vocabulary)
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6, fused=True)
        loss = _loss(size, teacher, student, DISTILBERT_PAIR, vocabulary)
        sides[name] = partial(whole_step, loss, optimizer)
    note = f"ours: teacher and student cut before, to {size.kept} of {size.vocabulary} tokens"
    return comparison(
        f"DistilBERT's recipe, vocabulary cut before: a step, batch {size.batch} x {size.length}",
        note,
        alternate(size.turns, sides),
    )


def _attention(size: Size, length: int, apart: bool) -> Row:
    found = {kind: in_process(_attention_cost, kind, size, length, apart=apart) for kind in (SCORES, MAPS)}
    note = "the loss of one layer and its gradient; ours: the scores before the softmax"
    return comparison(
        f"scores of one sequence of {length} tokens", note, {OURS: found[SCORES], MAPS: found[MAPS]}
    )


def _attention_cost(kind: str, size: Size, length: int) -> Found:
    torch.manual_seed(1)
    heads = max(1, size.hidden // 64)
    drawn = [torch.randn(1, heads, length, 64) for _ in range(4)]
    own, goal = (Attention(query, key, 64**-0.5) for query, key in (drawn[:2], drawn[2:]))
    mask = torch.ones(1, length, dtype=torch.long)
    loss = scores_loss if kind == SCORES else attention_loss
    return _cost(lambda: loss([own], [goal], mask), drawn[:2], size.turns)


def _predictions(size: Size, apart: bool) -> Row:
    ways = (OURS, AT_ONCE, PRODUCTS)
    found = {way: in_process(_predicting_cost, way, size, apart=apart) for way in ways}
    tokens, vocabulary = _predicted(size)
    note = (
        f"the teacher followed at every token, and the masked tokens themselves; {AT_ONCE}: by the losses of"
        f" whole logits; {PRODUCTS}: two of states with embeddings, two of a gradient"
    )
    return comparison(
        f"predictions of {tokens} tokens, vocabulary {vocabulary}, width {size.hidden}", note, found
    )


def _predicted(size: Size) -> tuple[int, int]:
    """So many tokens, and XLM-R's vocabulary where the teacher's is a large one."""
    return max(1, size.batch * size.length // 4), LARGEST if size.vocabulary > 100000 else size.vocabulary


def _predicting_cost(way: str, size: Size) -> Found:
    torch.manual_seed(1)
    tokens, vocabulary = _predicted(size)
    own, theirs = (
        Predictions(torch.randn(tokens, size.hidden), torch.randn(vocabulary, size.hidden) / 50, None)
        for _ in range(2)
    )
    labels = torch.where(
        torch.rand(tokens) < MASK_SHARE, torch.randint(vocabulary, (tokens,)), torch.tensor(IGNORED)
    )
    labels[0] = 0
    mask = torch.ones(1, tokens, dtype=torch.long)
    terms = {
        "followed": Term(of="prediction", by="kl", weight=FOLLOWED, temperature=TEMPERATURE),
        "masked": Term(of="prediction", by="ce", weight=MASKED),
    }

    def ours() -> Tensor:
        return compare_predictions(terms, own, theirs, labels, mask)[0]

    def at_once() -> Tensor:
        logits, goal = (linear(one.states, one.weight) for one in (own, theirs))
        followed = tempered_loss(logits, goal, mask[0], temperature=TEMPERATURE)
        return FOLLOWED * followed + MASKED * cross_entropy(logits, labels, ignore_index=IGNORED)

    def products() -> Tensor:
        with torch.no_grad():
            linear(theirs.states, theirs.weight)
        return linear(own.states, own.weight).sum()

    loss = {OURS: ours, AT_ONCE: at_once, PRODUCTS: products}[way]
    return _cost(loss, [own.states, own.weight], size.turns)


def _family(size: Size, apart: bool) -> Row:
    """Two students of a pair, with common embeddings and with none."""
    sides = {OURS: ("embeddings", "head"), "nothing shared": ()}
    found = {name: in_process(_family_cost, size, parts, apart=apart) for name, parts in sides.items()}
    counted = {BYTES: found[OURS].pop("counted, bytes")}
    found["nothing shared"].pop("counted, bytes")
    note = "counted: four numbers for each parameter, those that both students share once"
    return comparison("a family of two with common embeddings", note, {**found, "counted": counted})


def _family_cost(size: Size, parts: tuple[str, ...]) -> Found:
    torch.manual_seed(1)
    before = held()
    students = {code: _student(size, size.kept) for code in ("aaa", "bbb")}
    family.share(students, parts)
    distinct = list({id(one): one for student in students.values() for one in student.parameters()}.values())
    optimizer = torch.optim.AdamW(distinct, lr=1e-6)
    ids = torch.randint(5, size.kept, (1, 8))
    for student in students.values():
        student(input_ids=ids).logits.square().mean().backward()
        optimizer.step()
    return {BYTES: held() - before, "counted, bytes": 4 * 4 * sum(one.numel() for one in distinct)}


def _models(size: Size, vocabulary: int) -> tuple[PreTrainedModel, PreTrainedModel]:
    teacher = BertForMaskedLM(config(size, vocabulary=vocabulary)).eval().requires_grad_(False)
    return teacher, _student(size, vocabulary)


def _student(size: Size, vocabulary: int) -> PreTrainedModel:
    return BertForMaskedLM(config(size, layers=size.layers // size.lrf, vocabulary=vocabulary)).eval()


def _loss(size: Size, teacher: Any, student: Any, recipe: Student, vocabulary: int) -> Loss:
    """A recipe's loss of one full batch, masked where the recipe masks."""
    ids = torch.randint(5, vocabulary, (size.batch, size.length))
    labels = ids.where(torch.rand(ids.shape) < MASK_SHARE, IGNORED)
    labels[0, 0] = ids[0, 0]
    pairs = layer_pairs(recipe.layers, size.layers, size.layers // size.lrf)
    adapted = AdaptedTeacher(teacher.bert, {}, None, teacher)
    made = Distillation(student if recipe.has_head else student.bert, adapted, recipe.terms, pairs)
    batch = {"language": "none", "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return lambda: made(batch)[0]


def _cost(loss: Callable[[], Tensor], given: Iterable[Tensor], turns: int) -> Found:
    """Seconds of a loss and its gradients, and the peak of memory beyond what is given and those."""
    leaves = [one.requires_grad_() for one in given]
    gradients = sum(one.untyped_storage().nbytes() for one in leaves)
    had = resident()

    def turn() -> None:
        for one in leaves:
            one.grad = None
        loss().backward()

    found = alternate(turns, {OURS: turn})[OURS]
    return {**found, PEAK: max(0, (peak_memory_bytes() or had) - had - gradients)}
