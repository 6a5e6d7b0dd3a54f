"""What a method is made of, as plain values: a student, what is worn for a language, how a task is learnt.

Notable: nothing here runs anything and nothing needs torch. One interpreter reads the values (`distil`,
`pipeline`), so a new method is a new value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from bistil.errors import InputError
from bistil.settings.ranges import Count, Filled, Positive, Range, Settings, Share
from bistil.systems.layers import LayerMap, Part
from bistil.systems.rows import Rows, Then

Of = Literal["embedding", "hidden", "states", "attention", "scores", "relations", "prediction", "sentence"]
By = Literal["mse", "cosine", "kl", "ce", "stored"]
Side = Literal["target", "source"]
"""Which of a family's students."""
Fresh = Annotated[int, Range(least=0, most=100)]
"""Layers that a head has of its own."""
SHARED = r"embeddings|head|layer:[1-9]\d*"
"""What the students of a family can share."""
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
            if not re.fullmatch(SHARED, one):
                raise InputError(
                    "Students of a family can share `embeddings`, `head` and `layer:1`, `layer:2` and so on,"
                    f" but got {one!r}."
                )
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
        return (
            bool(compared)
            and compared <= {"attention", "states"}
            and (self.languages, self.start, self.start_from, self.pruned) == ("pair", "uniform", "", 0.0)
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


@dataclass(frozen=True, kw_only=True)
class Adaptation(Settings):
    """What a model wears for a language.

    Attributes:
        worn: a language SFT ("sft"), by the method that the experiment's settings say, a language "adapter"
            (MAD-X), one "generated" from typology (MAD-G), or "nothing".
        select: what may change in that SFT instead of the entries that LT-SFT chooses.
        part: the part of the encoder in which that SFT may change entries, "outer" or "middle", as
            `LotteryConfig.part`.
        generator: the kind of generator, instead of that of the experiment's settings.
        of: whose adapter is worn: the language's "own", in use the "source"'s for every language, or that of
            the typologically "nearest" language that has one.
        start: what a target's own adapter is trained further from, by ordinary masked-language modelling:
            the "generated" one, or a "random" one of the same form; None where the generated one is worn as
            it is.
        words: how many words of the target's text it is trained on, the first ones.
        in_training: whether the source's is worn while the task is learnt.
        in_use: whether the target's is worn when the model is used.
    """

    worn: Literal["nothing", "sft", "adapter", "generated"] = "nothing"
    select: Literal["random", "biases"] | None = None
    part: Part | None = field(default=None, metadata={"added_later": True})
    generator: Literal["base", "ls"] | None = field(default=None, metadata={"added_later": True})
    of: Literal["own", "source", "nearest"] = field(default="own", metadata={"added_later": True})
    start: Literal["generated", "random"] | None = field(default=None, metadata={"added_later": True})
    words: Count | None = field(default=None, metadata={"added_later": True})
    in_training: bool = True
    in_use: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generator and self.worn != "generated":
            raise InputError("`generator` is for what is generated: `worn: generated`.")
        if self.part and self.worn != "sft":
            raise InputError("`part` is for language SFTs: `worn: sft`.")
        if self.of != "own" and not (self.worn == "adapter" or (self.hangs and self.of == "source")):
            raise InputError(
                "`of: nearest` is for `worn: adapter`, `of: source` for that and `worn: generated`, but got"
                f" `of: {self.of}` with `worn: {self.worn}`."
            )

        if bool(self.start) != bool(self.words) or (
            self.start and (self.worn, self.of) != ("generated", "own")
        ):
            raise InputError(
                "`start` and `words` go together, with `worn: generated` of the language's own, but got"
                f" `start: {self.start}`, `words: {self.words}`, `worn: {self.worn}` and `of: {self.of}`."
            )

    @property
    def hangs(self) -> bool:
        """Whether it is an adapter, trained or generated, which is exchanged from batch to batch."""
        return self.worn in ("adapter", "generated")

    @property
    def needs_features(self) -> bool:
        """Whether what is worn depends on typology."""
        return self.worn == "generated" or self.of == "nearest"

    def __str__(self) -> str:
        """What is worn in a word, as in result rows; "" for nothing."""
        if self.worn == "nothing":
            return ""
        when = (
            "" if self.in_training and self.in_use else " training only" if self.in_training else " use only"
        )
        of = self.of if self.of != "own" else ""
        further = f"from {self.start} by {self.words} words" if self.start else ""
        told = (self.worn, self.select, self.part, self.generator, of, further)
        return " ".join(filter(None, told)) + when


@dataclass(frozen=True, kw_only=True)
class Learning(Settings):
    """How a task is learnt.

    Attributes:
        select: what may change, as `LotteryConfig.select`; None for what the experiment's settings say.
        part: the part of the encoder in which entries may change for the task, "outer" or "middle", as
            `LotteryConfig.part`.
        peft: the task is tuned by this method of the `peft` library, at the settings' density.
        spiel: the task is tuned by this variant of SpIEL, at that density.
        interval: the steps between two updates of SpIEL's support, instead of the settings'.
        falls: how the share that an update replaces falls, instead of as the settings say.
        doubtful: how long an update waits for surer gradients, as `SpielSettings.doubtful`.
        adapter: the task is tuned by a bottleneck adapter, as `adapter` of its settings says.
        follows: the task's "gold" labels, the language-adapted "teacher" that is tuned for it
            (teacher-forced), or half the labels, half the squared distance from the "logits" of the teacher
            that is tuned for it in all its weights (Bui section 3.3.6).
        terms: what a student that follows the teacher imitates of its states, beside its predictions.
        temperature: what logits of both sides are divided by in the loss on predictions; BiStil's eq. 5.3 has
            none, the code that was released with it 2.
        rows: the examples it is learnt from.
        validated: the examples that choose the checkpoint; none for the dev file of the source, or of the
            first language that the task is learnt from where the source is none of them.
        exposed: whose language module a batch of the source wears besides its own, one of them at random: the
            "target"'s, or that of each of the task's "targets".
        through: which student of a family reads the examples and is tuned, the "target"'s or the "source"'s;
            through "both" each batch is read twice, with the same trained values, which begin as the
            source's, and the loss is the mean of the two.
        used: which student of a family reads the target's text, with what was tuned. Where it is not the one
            that was tuned, it is changed by the same differences (Bui section 3.3.5).
        carried: whether `differences` are carried from the tuned student to the used one, or the tuned
            `values` themselves.
        embeddings: whether the embedding layer is tuned along ("trained") or left as it is ("frozen").
        layers: how many fresh Transformer layers are trained between the encoder and the task's head.
    """

    select: Literal["random", "biases", "all-biases", "all", "none"] | None = None
    part: Part | None = field(default=None, metadata={"added_later": True})
    peft: Literal["lora", "ia3"] | None = None
    spiel: Literal["ag", "ma"] | None = None
    interval: Count | None = field(default=None, metadata={"added_later": True})
    falls: Literal["linear", "cosine"] | None = field(default=None, metadata={"added_later": True})
    doubtful: Positive | None = field(default=None, metadata={"added_later": True})
    adapter: bool = field(default=False, metadata={"added_later": True})
    follows: Literal["gold", "teacher", "logits"] = "gold"
    terms: Mapping[str, Term] = field(default_factory=lambda: STATES)
    temperature: Positive = field(default=1.0, metadata={"added_later": True})
    rows: Annotated[tuple[Rows, ...], Filled()] = (Rows(),)
    validated: tuple[Rows, ...] = field(default=(), metadata={"added_later": True})
    exposed: Literal["target", "targets"] | None = field(default=None, metadata={"added_later": True})
    through: Literal["target", "source", "both"] = field(default="target", metadata={"added_later": True})
    used: Side = field(default="target", metadata={"added_later": True})
    carried: Literal["differences", "values"] = field(default="differences", metadata={"added_later": True})
    embeddings: Literal["trained", "frozen"] = field(default="trained", metadata={"added_later": True})
    layers: Fresh = field(default=0, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(bool(one) for one in (self.select, self.peft, self.spiel, self.adapter)) > 1:
            raise InputError(
                f"At most one of `select`, `peft`, `spiel` and `adapter` was expected, but got {self}."
            )
        if (self.interval or self.falls or self.doubtful) and not self.spiel:
            raise InputError(
                "`interval`, `falls` and `doubtful` are how SpIEL's support moves: `spiel: ag` or `ma`."
            )
        restricted = self.embeddings == "frozen" or self.part
        if restricted and (self.peft or self.spiel or self.adapter):
            raise InputError(
                "`embeddings: frozen` and `part` are for tuning by `select` or LT-SFT; take them out."
            )

        if self.layers and self.follows == "teacher":
            raise InputError(
                "A head with `layers` of its own cannot begin as the teacher's, as `follows: teacher` has it:"
                " take `follows: gold` or `logits`."
            )
        alike = self.adapter or (self.select in ("biases", "all-biases") and self.carried == "values")
        if self.through == "both" and not alike:
            raise InputError(
                "What is trained through `both` students is the same in both: an adapter (`adapter: true`)"
                " or the biases (`select: biases, carried: values`)."
            )

    @property
    def tuned(self) -> Side:
        """Which student of a family what was tuned belongs to."""
        return "source" if self.through == "both" else self.through

    @property
    def one_phase(self) -> bool:
        """Whether task tuning is one phase, whatever the experiment's method."""
        return bool(self.by)

    @property
    def by(self) -> str:
        """By what the task is tuned, in a word; "" for the method of the experiment's settings."""
        spiel, adapter = f"spiel-{self.spiel}" if self.spiel else "", "adapter" if self.adapter else ""
        return self.select or self.peft or spiel or adapter

    @property
    def told(self) -> str:
        """By what the task is tuned and through which of a family's students, as in result rows."""
        sides = "" if self.through == self.used == "target" else f" {self.through} to {self.used}"
        every = f"every {self.interval}" if self.interval else ""
        sure = f"doubtful {self.doubtful:g}" if self.doubtful else ""
        how = " ".join(filter(None, (self.by or "settings", every, self.falls, sure, self.part)))
        return how + (f"+{self.layers}" if self.layers else "") + sides

    @property
    def moves(self) -> bool:
        """Whether what was tuned on one student of a family is used on another."""
        return self.through != self.used

    @property
    def regime(self) -> str:
        """Which examples, as in result rows: source, source+target:20, …"""
        return "+".join(map(str, self.rows)) + (f" in {self.exposed}" if self.exposed else "")


@dataclass(frozen=True, kw_only=True)
class System:
    """How a system that is compared with others comes about.

    Attributes:
        told: what it is, a sentence for reports.
        source: where it is described.
        student: how its general student is made; None for the teacher itself.
        adaptation: what it wears for a language.
        learning: how it learns the task.
        colour: its colour in every figure; "" for one made from its name.
        guesses: whether it is no model at all but a trivial guess.
        model: the name, under `teachers` of the experiment's file, of a ready-made model that stands in the
            teacher's place; "" for the teacher itself.
        own_teacher: whether it is, instead of the experiment's teacher, the first that `merge` names for the
            target.
        merge: what differs from the experiment's `merge`, by its keys.
        ours: whether it is the method that the others are compared with.
        then: how the finished model is tuned further; None where it is not.
        further: the examples of that.
        translated_test: the translator that puts the test file into the source language, which the model then
            reads; "" where it reads the file as it is.
    """

    told: str
    source: str = ""
    student: Student | None = None
    adaptation: Adaptation = field(default_factory=Adaptation)
    learning: Learning = field(default_factory=Learning)
    colour: str = ""
    guesses: bool = False
    model: str = ""
    own_teacher: bool = False
    merge: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False
    then: Then | None = None
    further: tuple[Rows, ...] = ()
    translated_test: str = ""

    def __post_init__(self) -> None:
        if self.merges and (self.adaptation.worn != "nothing" or self.learning.follows != "gold"):
            raise InputError("A student of several teachers wears nothing and follows gold labels in tasks.")
        if self.merge and not (self.merges or self.own_teacher):
            raise InputError("`merge` is of a system that merges teachers, which this one does not.")
        if self.model and (self.student or self.guesses or self.own_teacher or self.adaptation.hangs):
            raise InputError(
                "`model` is for a whole model by itself, with language SFTs or without; students and language"
                " adapters are the experiment's teacher's."
            )
        family = self.student is not None and self.student.family
        if family and self.adaptation.worn != "nothing":
            raise InputError("The students of a family are each of one language and wear nothing for it.")
        if self.adaptation.hangs and (self.student is not None or not self.learning.adapter):
            raise InputError(
                "Language adapters are worn by the whole teacher, with an adapter for the task: `learning:"
                " {adapter: true}`."
            )
        if self.adaptation.worn == "sft" and self.learning.adapter:
            raise InputError("A task's adapter goes with language adapters or none: `adaptation: {worn: …}`.")
        sides = self.learning.through, self.learning.used
        if not family and sides != ("target", "target"):
            raise InputError(
                "`through` and `used` choose between the students of a family (`languages: each`), which this"
                " system has not."
            )
        if self.forced and family and self.learning.through != "target":
            raise InputError("A student that follows the task's teacher is the target's: `through: target`.")

    @property
    def merges(self) -> bool:
        """Whether it is a student of several teachers."""
        return self.student is not None and self.student.merges

    @property
    def reduced(self) -> bool:
        """Whether it is a student whose size is that of its teacher by reduction factors."""
        return self.student is not None and not self.merges

    @property
    def forced(self) -> bool:
        """Whether it is a student that follows the task's teacher instead of gold labels."""
        return self.student is not None and self.learning.follows == "teacher"

    @property
    def guided(self) -> bool:
        """Whether it is a student that learns from the task's teacher beside gold labels."""
        return self.student is not None and self.learning.follows == "logits"

    @property
    def regime(self) -> str:
        """Which examples, as in result rows, and by whom the test file is translated."""
        then = [f"then {rows}" for rows in self.further]
        test = [f"test by {self.translated_test}"] if self.translated_test else []
        return ", ".join([self.learning.regime, *then, *test])

    @property
    def axes(self) -> dict[str, str]:
        """What it is, a word for each axis, as columns of result rows; empty where one does not apply."""
        student = self.student
        return {
            "recipe": "+".join(sorted(student.terms)) if student else "",
            "start": student.start_told if student else "",
            "layers": student.layers if student and student.follows else "",
            "languages": student.languages if student else "",
            "adaptation": str(self.adaptation),
            "learning": "" if self.guesses else self.learning.told,
            "follows": "" if self.guesses else self.learning.follows,
            "regime": "" if self.guesses else self.regime,
        }
