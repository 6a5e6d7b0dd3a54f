"""The one objective of general distillation: a sum of terms, evaluated in one pass of each side.

Notable: BiStil's stage 1, DistilBERT's and MiniLMv2's recipes and plain masked-language modelling are values
of `systems.recipe.Student` for it. The teacher wears the batch's language; the student never does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bistil.distil.predictions import Predictions, compare_predictions
from bistil.distil.teachers import AdaptedTeacher
from bistil.distil.terms import Context, Needs, Reading, read, value
from bistil.distil.width import Narrowing
from bistil.errors import InputError
from bistil.models.architectures import named_parts
from bistil.systems.layers import Pairs, layer_pairs
from bistil.systems.recipe import Term
from bistil.text.corpora import IGNORED
from bistil.training.loop import Objective


def term_pairs(terms: Mapping[str, Term], pairs: Pairs, teacher: int, student: int) -> dict[str, Pairs]:
    """Return the layers that each term compares, its own or `pairs`; both sides by their depths."""
    return {
        name: pairs if term.layers is None else layer_pairs(term.layers, teacher, student)
        for name, term in terms.items()
    }


def compare(
    terms: Mapping[str, Term],
    own: Reading,
    theirs: Reading | None,
    pairs: Mapping[str, Pairs],
    context: Context,
    narrowing: Narrowing | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of the terms, and each of them before its weight, detached."""
    if narrowing is not None and theirs is not None and pairs:
        layers = [n for _, n in next(iter(pairs.values()))]
        mine, goal = narrowing.align(own.output, theirs.output, layers)
        own, theirs = replace(own, output=mine), replace(theirs, output=goal)
    predicted = {name: term for name, term in terms.items() if term.of == "prediction"}
    parts = {
        name: value(term, own, theirs, pairs[name], context)
        for name, term in terms.items()
        if name not in predicted
    }
    weighted = [terms[name].weight * part for name, part in parts.items()]
    if predicted:
        assert own.predictions is not None
        followed = None if theirs is None else theirs.predictions
        total, found = compare_predictions(predicted, own.predictions, followed, context.labels, context.mask)
        weighted.append(total)
        parts |= found
    total = sum(weighted[1:], weighted[0]) if weighted else own.output.last.new_zeros(())
    return total, {name: parts[name].detach() for name in terms}


class Distillation(Objective):
    """The weighted sum of some terms of a student against its adapted teacher.

    Args:
        student: an encoder, or a masked LM where a term compares predictions.
        teacher: None where no term follows one. It has a masked LM where a term compares predictions.
        pairs: the layers that belong together, for all terms that name none of their own.
        narrowing: of a narrower student, what ties its states to the teacher's.
        relation_heads: for terms of relations, the teacher's attention heads by default.

    Raises:
        InputError: where a term follows a teacher and there is none.
    """

    model: PreTrainedModel

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: AdaptedTeacher | None,
        terms: Mapping[str, Term],
        pairs: Pairs,
        *,
        narrowing: Narrowing | None = None,
        relation_heads: int | None = None,
    ) -> None:
        super().__init__(student)
        if teacher is None and any(term.by != "ce" for term in terms.values()):
            raise InputError(f"A teacher was expected for the terms {', '.join(terms)}, but there is none.")
        self._teacher, self.terms, self.narrowing = (teacher,), dict(terms), narrowing
        own = student.config.num_hidden_layers
        theirs = teacher.encoder.config.num_hidden_layers if teacher else own
        self.pairs = term_pairs(terms, pairs, theirs, own)
        self._needs = [Needs.of(terms, self.pairs, side, depth) for side, depth in enumerate((own, theirs))]
        self._compares_predictions = any(t.of == "prediction" and t.by != "ce" for t in terms.values())
        self._masked_alone = all(
            t.by == "ce" or t.positions == "masked" for t in terms.values() if t.of == "prediction"
        )
        self._predicts = any(term.of == "prediction" for term in terms.values())
        if relation_heads is None and teacher is not None:
            relation_heads = teacher.encoder.config.num_attention_heads
        self._relation_heads = relation_heads or 1

    @property
    def teacher(self) -> AdaptedTeacher | None:
        """The teacher, which is no part of what is trained and saved."""
        return self._teacher[0]

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch of one language; parts are the terms before their weights."""
        own, theirs, context = self._readings(batch)
        return compare(self.terms, own, theirs, self.pairs, context, self.narrowing)

    def shares(self, batch: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Each term's share of the `loss` on a batch, and of the norms of the terms' `gradient` at the
        student's last layer: what its weight comes to.
        """
        encoder: Any = self.model.base_model
        (last,) = named_parts(encoder, [f"layer:{encoder.config.num_hidden_layers}"])
        parameters = list(encoder.get_submodule(last).parameters())
        own, theirs, context = self._readings(batch)
        found: dict[str, dict[str, float]] = {}
        for name, term in self.terms.items():
            value, _ = compare({name: term}, own, theirs, self.pairs, context, self.narrowing)
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            norm = sum(float(one.float().square().sum()) for one in gradients if one is not None) ** 0.5
            found[name] = {"loss": float(value.detach()), "gradient": norm}
        whole = {of: sum(one[of] for one in found.values()) or 1.0 for of in ("loss", "gradient")}
        return {name: {of: own[of] / all_of for of, all_of in whole.items()} for name, own in found.items()}

    def _readings(self, batch: Mapping[str, Any]) -> tuple[Reading, Reading | None, Context]:
        """What both sides give on a batch, and what else its terms need."""
        ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch.get("labels")
        where = None
        if self._predicts:
            where = labels != IGNORED if self._masked_alone and labels is not None else mask == 1
        theirs = self._theirs(batch, where)
        encoder: Any = self.model.base_model
        own = read(encoder, ids, mask, self._needs[0])
        if where is not None:
            own = replace(own, predictions=Predictions.of(self.model, own.output.last[where]))
        at = labels[where] if labels is not None and where is not None else None
        return own, theirs, Context(mask, at, self._relation_heads)

    @torch.no_grad()
    def _theirs(self, batch: Mapping[str, Any], where: Tensor | None) -> Reading | None:
        """What the teacher gives in the batch's language; None without one."""
        teacher = self.teacher
        if teacher is None:
            return None
        teacher.wear(batch["language"])
        ids, mask = teacher.ids(batch["input_ids"]), batch["attention_mask"]
        found = read(teacher.encoder, ids, mask, self._needs[1])
        if where is None or not self._compares_predictions:
            return found
        return replace(found, predictions=teacher.predictions(found.output.last[where]))
