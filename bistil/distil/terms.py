"""The terms of a student's objective, each a short function of what both sides were read to give.

Notable: `Needs` says what of an encoder the terms of an objective use, so that nothing else is computed: no
attention without a term of attention, no inner states where the last ones do, logits at masked tokens alone
where no term compares whole predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from bistil.distil.predictions import Predictions
from bistil.losses import (
    attention_loss,
    cosine_loss,
    hidden_loss,
    relation_loss,
    scores_loss,
    sentence_loss,
)
from bistil.models.architectures import blocks
from bistil.models.attention import watched
from bistil.models.load import Output, encode
from bistil.systems.layers import Pairs
from bistil.systems.recipe import Term


@dataclass(frozen=True)
class Needs:
    """What of one side the terms use.

    Attributes:
        states: whether the states of inner layers are used, rather than the last ones alone.
        attention: whether attention distributions, or the scores before them, are used.
        vectors: the layers, from 1, whose queries, keys and values are used.
    """

    states: bool = False
    attention: bool = False
    vectors: tuple[int, ...] = ()

    @classmethod
    def of(cls, terms: Mapping[str, Term], pairs: Mapping[str, Pairs], side: int, depth: int) -> "Needs":
        """Return the needs of one side, 0 for the student and 1 for the teacher, with `depth` layers."""
        layers = {name: {pair[side] for pair in pairs[name]} for name in terms}
        inner = {name for name, term in terms.items() if term.of == "hidden" and layers[name] != {depth}}
        inner |= {name for name, term in terms.items() if term.of in ("states", "embedding")}
        related = [sorted(layers[name]) for name, term in terms.items() if term.of == "relations"]
        return cls(
            states=bool(inner),
            attention=any(term.of in ("attention", "scores") for term in terms.values()),
            vectors=tuple(sorted({layer for some in related for layer in some})),
        )


@dataclass(frozen=True)
class Reading:
    """What one side gave for a batch.

    Attributes:
        output: states and attention, as far as they were asked for.
        vectors: queries, keys and values by layer. Shape of each: [B, L, H].
        predictions: of the masked-LM head; None without a term of predictions.
    """

    output: Output
    vectors: Mapping[int, Sequence[Tensor]] = field(default_factory=dict)
    predictions: Predictions | None = None

    def state(self, layer: int) -> Tensor:
        """The hidden states of a layer, 0 for the embedding layer. Shape: [B, L, H]."""
        return self.output.hidden[layer] if self.output.hidden else self.output.last


@dataclass(frozen=True)
class Context:
    """What a term needs to know beside both readings.

    Attributes:
        mask: 1 = real token. Shape: [B, L].
        labels: the masked tokens at the predicted positions, -100 elsewhere. Shape: [P].
        relation_heads: into how many heads vectors are cut for their relations.
    """

    mask: Tensor
    labels: Tensor | None = None
    relation_heads: int = 1


def read(encoder: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, needs: Needs) -> Reading:
    """Run an encoder once for all that is needed of it. Shape: [B, L] each."""
    parts = blocks(encoder)
    layers = [parts[layer - 1] for layer in needs.vectors]
    with watched([one for part in layers for one in (part.query, part.key, part.value)]) as seen:
        output = encode(
            encoder,
            input_ids,
            attention_mask,
            states=needs.states or needs.attention,
            maps=False,
            attention=needs.attention,
        )
    kept = {layer: [seen[3 * at + kind][1] for kind in range(3)] for at, layer in enumerate(needs.vectors)}
    return Reading(output, kept)


def value(term: Term, own: Reading, theirs: Reading | None, pairs: Pairs, context: Context) -> Tensor:
    """Return a term before its weight, for the paired layers of the student (`own`) and the teacher; those of
    predictions are compared together (`compare_predictions`).
    """
    mask = context.mask
    assert theirs is not None
    match term.of:
        case "sentence":
            return sentence_loss(own.output.last, theirs.output.last, mask)
        case "attention" | "scores":
            loss = attention_loss if term.of == "attention" else scores_loss
            maps, goals = own.output.attention, theirs.output.attention
            found = loss([maps[m - 1] for m, _ in pairs], [goals[n - 1] for _, n in pairs], mask)
        case "relations":
            each = [
                relation_loss(
                    own.vectors[m], theirs.vectors[n], mask, heads=context.relation_heads, per=term.per
                )
                for m, n in pairs
            ]
            found = sum(each[1:], each[0]) / len(each)
        case "embedding" | "hidden" | "states":
            chosen = {"embedding": ((0, 0),), "hidden": pairs, "states": ((0, 0), *pairs)}[term.of]
            mine, goal = [own.state(m) for m, _ in chosen], [theirs.state(n) for _, n in chosen]
            if term.by == "mse":
                found = hidden_loss(mine, goal, mask)
            else:
                each = [cosine_loss(one, other, mask) for one, other in zip(mine, goal, strict=True)]
                found = sum(each[1:], each[0]) / len(each)
            pairs = chosen
    return found * len(pairs) if term.over == "sum" else found
