"""How a general student is made, as a plain value: what it minimises, where it starts, on which languages.

Notable: nothing in `systems` runs anything and nothing needs torch. One interpreter reads the values
(`distil`, `pipeline`), so a new method is a new value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bistil.errors import InputError
from bistil.settings.ranges import Positive, Settings, Share
from bistil.systems.layers import PARTS, LayerMap

Of = Literal["embedding", "hidden", "states", "attention", "scores", "relations", "prediction", "sentence"]
By = Literal["mse", "cosine", "kl", "ce", "stored"]
COMPARED: Mapping[str, tuple[str, ...]] = {
    "embedding": ("mse", "cosine"),
    "hidden": ("mse", "cosine"),
    "states": ("mse", "cosine"),
    "attention": ("mse",),
    "scores": ("mse",),
    "relations": ("kl",),
    "prediction": ("kl", "cosine", "ce", "stored"),
    "sentence": ("cosine",),
}
"""By what each part of a model can be compared."""
MERGED = frozenset((("prediction", "stored"), ("prediction", "ce")))
"""What a student of several teachers minimises."""


@dataclass(frozen=True, kw_only=True)
class Term(Settings):
    """One summand of what a student minimises.

    Attributes:
        of: what is compared. `embedding` is the embedding layer's output, `hidden` the states of the paired
            layers, `states` both of them in one mean, `attention` the distributions of the paired layers,
            `scores` what they are the softmax of, `relations` the self-attention relations of their queries,
            keys and values, `prediction` the masked-LM head's output, `sentence` the mean of the last states
            over a sentence's tokens.
        by: the squared difference (`mse`), 1 - cosine (`cosine`), the divergence from the teacher (`kl`) or
            the cross-entropy of the masked tokens themselves (`ce`), which follows no teacher. `stored` is
            the divergence from labels that several teachers wrote down before.
        weight: the factor of the term in the sum.
        over: whether the paired layers are averaged or summed.
        per: whether `relations` are averaged over all tokens of a batch, as MiniLMv2 is written, or over
            sentences, as its published code does; a `prediction` by `kl` per "sentence" is summed over tokens
            and divided by sentences, as Bui's published code does.
        layers: the pairs that this term compares, where they are not those of the student.
        temperature: what logits are divided by before the softmax of a `prediction` by `kl`.
        positions: at which tokens a `prediction` follows the teacher: all that are "real", or the "masked"
            ones.
    """

    of: Of
    by: By
    weight: Positive = 1.0
    over: Literal["mean", "sum"] = "mean"
    per: Literal["token", "sentence"] = field(default="token", metadata={"added_later": True})
    layers: LayerMap | None = None
    temperature: Positive = 1.0
    positions: Literal["real", "masked"] = field(default="real", metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in COMPARED.get(self.of, ()):
            told = "; ".join(f"{of} by {', '.join(by)}" for of, by in COMPARED.items())
            raise InputError(f"A term of {told} was expected, but got {self.of} by {self.by}.")


STATES: Mapping[str, Term] = {
    "attention": Term(of="attention", by="mse"),
    "hidden": Term(of="states", by="mse"),
}
"""BiStil's losses of both stages on attention and hidden states (eqs. 5.1 and 5.2)."""


@dataclass(frozen=True, kw_only=True)
class Student(Settings):
    """How a general student is made, before any task.

    Attributes:
        terms: what it minimises, by the names in its history; without any it stays the copy it starts as.
        languages: what it is distilled on: "pair" (source and target), "target" (that alone), "seen" (all
            that the teacher saw), or "each": a family, one student for each language of the pair.
        vocabulary: "trimmed" to those languages, the "teacher"'s own, or the "union" of several teachers',
            whose student learns from their stored labels, as `merge` of the experiment says.
        start: the teacher's layers that it starts from, as a layer map, or "random".
        layers: the teacher's layers that it imitates, as a layer map; also in task distillation.
        adapted: whether the teacher wears the SFT of the batch's language meanwhile.
        share: which tensors the students of a family have in common: `embeddings`, the masked-LM `head`,
            `layer:1` and so on (Bui's g_share). A head is tied to the embeddings where both or neither are
            shared.
        trim: whether teacher and student are trimmed "before" they are distilled, or the finished student
            "after", which trains nothing.
        frozen: what of the student stays as it starts: its `positions`, or all of its `embeddings`.
        start_from: the target whose student, by this very recipe, it goes on from instead of the teacher's
            layers (progressive transfer); rows of tokens that student has not are the teacher's. "" for none.
        pruned: the share of each linear layer's weights, the smallest ones, that it starts with as 0
            (magnitude pruning), before it learns anything.
        title: what its learning curve is called.
        named: how its artefacts name the recipe; "" where they hold all of it, as those of variants do.
    """

    terms: Mapping[str, Term]
    languages: Literal["pair", "target", "seen", "each"] = "pair"
    vocabulary: Literal["trimmed", "teacher", "union"] = "trimmed"
    start: LayerMap = "uniform"
    layers: LayerMap = "uniform"
    adapted: bool = False
    share: tuple[str, ...] = field(default=("embeddings", "head"), metadata={"added_later": True})
    trim: Literal["before", "after"] = field(default="before", metadata={"added_later": True})
    frozen: tuple[Literal["positions", "embeddings"], ...] = field(default=(), metadata={"added_later": True})
    start_from: str = field(default="", metadata={"added_later": True})
    pruned: Share = field(default=0.0, metadata={"added_later": True})
    title: str = ""
    named: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.terms and self.start == "random":
            raise InputError("A student that starts at random needs at least one term to minimise.")
        for one in self.share:
            if not re.fullmatch(PARTS, one):
                raise InputError(
                    "Students of a family can share `embeddings`, `head` and `layer:1`, `layer:2` and so on,"
                    f" but got {one!r}."
                )
        usual = type(self).__dataclass_fields__["share"].default
        if self.share != usual and not self.family:
            raise InputError("`share` is of students of a family: give `languages: each` with it.")
        if self.merges != any(term.by == "stored" for term in self.terms.values()):
            raise InputError(
                "A term by `stored` and `vocabulary: union` go together: a student of several teachers"
                " learns from what they wrote down."
            )
        if self.merges and {(one.of, one.by) for one in self.terms.values()} - MERGED:
            raise InputError("A student of several teachers has terms of `prediction` by `stored` and `ce`.")
        if self.trim == "after" and (self.vocabulary != "trimmed" or self.family):
            raise InputError(
                "What is trimmed after distillation is one student: give `vocabulary: trimmed`, and no"
                " `languages: each`."
            )
        if not self.terms and self.family:
            raise InputError("Students of a family that learn nothing are one truncated teacher: give terms.")
        alone = self.languages in ("pair", "target") and self.vocabulary != "union"
        if self.start_from and not (self.terms and alone and self.trim == "before"):
            raise InputError(
                "`start_from` is for a student of a pair or a target that learns something and is trimmed"
                " before it does, if at all."
            )
        if self.pruned and (self.start == "random" or self.start_from):
            raise InputError(
                "`pruned` is for a student that starts from the teacher's layers, but got"
                f" `start: {self.start_told}`."
            )
        if (self.vocabulary, self.languages) == ("trimmed", "seen"):
            raise InputError(
                "A vocabulary is trimmed to a pair or a target; students of all seen languages keep the"
                " teacher's."
            )

    @property
    def family(self) -> bool:
        """Whether it is one student for each language."""
        return self.languages == "each"

    @property
    def merges(self) -> bool:
        """Whether it learns from the stored labels of several teachers."""
        return self.vocabulary == "union"

    @property
    def follows(self) -> bool:
        """Whether any term compares it with the teacher."""
        return any(term.by != "ce" for term in self.terms.values())

    @property
    def has_head(self) -> bool:
        """Whether it trains a masked-LM head of its own."""
        return any(term.of == "prediction" for term in self.terms.values())

    @property
    def masks(self) -> bool:
        """Whether it needs masked tokens to predict."""
        return any(term.by == "ce" or term.positions == "masked" for term in self.terms.values())

    @property
    def imitates_predictions(self) -> bool:
        """Whether it needs the masked-LM head of the teacher, to follow or to start from."""
        starts = self.has_head and self.start != "random"
        return starts or any(
            one.of == "prediction" and one.by not in ("ce", "stored") for one in self.terms.values()
        )

    @property
    def relates(self) -> bool:
        """Whether it compares self-attention relations."""
        return any(term.of == "relations" for term in self.terms.values())

    @property
    def narrows(self) -> bool:
        """Whether it can have a smaller hidden size: what it compares can be mapped, and it is made for a
        pair.
        """
        compared = {term.of for term in self.terms.values()}
        made = self.languages, self.start, self.start_from, self.pruned, self.trim
        return (
            bool(compared)
            and compared <= {"attention", "states"}
            and self.layers == "uniform"
            and not any(term.layers for term in self.terms.values())
            and made == ("pair", "uniform", "", 0.0, "before")
        )

    @property
    def start_told(self) -> str:
        """What it starts from, as in result rows: uniform, random, uniform from swa, uniform pruned 0.5."""
        donor = f"from {self.start_from}" if self.start_from else ""
        return " ".join(filter(None, (self.start, donor, f"pruned {self.pruned:g}" if self.pruned else "")))

    @property
    def settings(self) -> Any:
        """What an artefact says of the recipe: its name, or everything that makes it."""
        if self.named:
            return self.named
        return {
            one.name: value
            for one in fields(self)
            if one.name not in ("title", "named")
            and ((value := getattr(self, one.name)) != one.default or not one.metadata.get("added_later"))
        }
