"""What a model wears for a language and how it learns a task, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from bistil.errors import InputError
from bistil.settings.ranges import Count, Filled, Positive, Range, Settings
from bistil.systems.layers import Part
from bistil.systems.recipe import STATES, Term
from bistil.systems.rows import Rows

Side = Literal["target", "source"]
"""Which of a family's students."""
Fresh = Annotated[int, Range(least=0, most=100)]
"""Layers that a head has of its own."""


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
        for name in ("part", "select"):
            if getattr(self, name) and self.worn != "sft":
                raise InputError(f"`{name}` is for language SFTs: `worn: sft`.", at=(name,))
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
            `LotteryConfig.part`, or what the students of a family have in common ("shared"; thesis section
            8.3.2 of Ansell 2024).
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
    part: Literal["outer", "middle", "shared"] | None = field(default=None, metadata={"added_later": True})
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

        if strange := [term.of for term in self.terms.values() if term.of in ("relations", "prediction")]:
            raise InputError(
                "Terms of attention, states or scores were expected for a student that follows the task's"
                f" teacher, whose predictions it follows in any case, but got one of {strange[0]}."
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
