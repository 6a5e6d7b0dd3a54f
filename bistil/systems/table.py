"""The systems that can be compared, each written as a value with its source.

Notable: planner, pipeline, results, reports and workbench read this one table and compare no name with a
string; a new system is one entry here, or one under `variants` of an experiment file.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from bistil.systems.learning import Adaptation, Learning
from bistil.systems.recipe import STATES, Student, Term
from bistil.systems.rows import Rows
from bistil.systems.system import System

BISTIL = Student(
    terms=STATES,
    adapted=True,
    title="Stage 1, general distillation",
    named="bistil",
)
MULTILINGUAL = Student(
    terms=STATES,
    languages="seen",
    vocabulary="teacher",
    title="Distillation on all seen languages",
    named="multilingual",
)
DISTILBERT = Student(
    terms={
        "soft": Term(of="prediction", by="kl", weight=5.0, temperature=2.0),
        "cosine": Term(of="hidden", by="cosine"),
        "masked": Term(of="prediction", by="ce", weight=2.0),
    },
    languages="seen",
    vocabulary="teacher",
    layers="last",
    title="DistilBERT's recipe",
    named="distilmbert",
)
DISTILBERT_PAIR = Student(
    terms=DISTILBERT.terms, layers="last", title="DistilBERT's recipe", named="distilmbert"
)
MINILM = Student(
    terms={"relations": Term(of="relations", by="kl")},
    languages="seen",
    vocabulary="teacher",
    layers="last",
    title="MiniLMv2 on all seen languages",
    named="minilm",
)
SCRATCH = Student(
    terms={"masked": Term(of="prediction", by="ce")},
    start="random",
    title="Masked-language modelling from random weights",
    named="scratch",
)
SENTENCE = Student(
    terms={**STATES, "sentence": Term(of="sentence", by="cosine", weight=10.0)},
    title="Stage 1 with sentence vectors",
    named="bistil-sentence",
)
MERGE = Student(
    terms={"stored": Term(of="prediction", by="stored"), "masked": Term(of="prediction", by="ce")},
    languages="seen",
    vocabulary="union",
    start="random",
    title="Several teachers' stored labels",
)
LANGUAGE_SFT = Adaptation(worn="sft")
LANGUAGE_ADAPTER = Adaptation(worn="adapter")
GENERATED = Adaptation(worn="generated")
TASK_ADAPTER = Learning(adapter=True)
ALL_WEIGHTS = Learning(select="all")
IN_LANGUAGE = Learning(select="all", rows=(Rows(language="target"),))

HINTON = {
    "gold": Term(of="prediction", by="ce", weight=0.5),
    "prediction": Term(of="prediction", by="kl", weight=0.5, temperature=4.0, per="sentence"),
}
TINYBERT = {
    "embedding": Term(of="embedding", by="mse", weight=1 / 3),
    "hidden": Term(of="hidden", by="mse", weight=1 / 3, over="sum"),
    "scores": Term(of="scores", by="mse", weight=1 / 3, over="sum"),
}
MONOSHOT = {
    **{name: replace(term, weight=0.0005) for name, term in HINTON.items()},
    **{name: replace(term, weight=0.333) for name, term in TINYBERT.items()},
}
"""Bui sums hidden states and scores over layers, where BiStil takes means. The weights and the temperature
are those of the published configuration: the thesis names none.
"""


def _of_pair(
    told: str, source: str, colour: str, terms: Mapping[str, Term], layers: str = "uniform"
) -> System:
    """One of Bui's students with all of it shared by the pair, tuned on the source in all its weights."""
    student = Student(terms=terms, layers=layers, title=told.rstrip("."))
    return System(told=told, source=source, student=student, learning=ALL_WEIGHTS, colour=colour)


def _family(
    told: str,
    source: str,
    colour: str,
    terms: Mapping[str, Term],
    layers: str = "uniform",
    learning: Learning = ALL_WEIGHTS,
) -> System:
    """Bui's students, one for each language, the target's tuned on the source in all its weights."""
    student = Student(terms=terms, layers=layers, languages="each", title=told.rstrip("."))
    return System(told=told, source=source, student=student, learning=learning, colour=colour)


def _truncated(start: str, which: str, source: str, colour: str) -> System:
    """A student that is not distilled at all."""
    return System(
        told=f"{which} of the teacher's layers as they are, not distilled, tuned on the task in all weights.",
        source=source,
        student=Student(terms={}, start=start),
        learning=ALL_WEIGHTS,
        colour=colour,
    )


def _eliquare(
    told: str,
    source: str,
    colour: str,
    vocabulary: Literal["trimmed", "teacher"],
    trim: Literal["before", "after"] = "before",
) -> System:
    """A student of the target language alone by DistilBERT's recipe, tuned on examples in that language."""
    return System(
        told=told,
        source=source,
        student=Student(
            terms=DISTILBERT.terms,
            languages="target",
            vocabulary=vocabulary,
            trim=trim,
            start="odd",
            layers="last",
            title="Eliquare's recipe on the target alone",
        ),
        learning=IN_LANGUAGE,
        colour=colour,
    )


SYSTEMS: Mapping[str, System] = {
    "teacher-ltsft": System(
        told=(
            "The multilingual teacher with a language SFT and a task SFT (LT-SFT): the mark the students are"
            " measured against."
        ),
        source="LT-SFT section 3, Algorithm 1",
        adaptation=LANGUAGE_SFT,
        colour="#1f2933",
    ),
    "teacher-no-adaptation": System(
        told="The same teacher with a task SFT only; it learnt nothing more of the target language.",
        source="LT-SFT section 5.2",
        colour="#999999",
    ),
    "teacher-full": System(
        told="The teacher fine-tuned on the task in all its parameters, without language SFTs.",
        source="LT-SFT section 5.2",
        learning=Learning(select="all"),
        colour="#5a6b7b",
    ),
    "teacher-head": System(
        told="The teacher as it is, only the task's head being trained.",
        source="a control of ours",
        learning=Learning(select="none"),
        colour="#c3cad1",
    ),
    "teacher-bitfit": System(
        told="The teacher with language and task SFTs of its biases only (BitFit).",
        source="LT-SFT section 4.1; Ben Zaken et al. 2022",
        adaptation=Adaptation(worn="sft", select="biases"),
        learning=Learning(select="biases"),
        colour="#8aa0b4",
    ),
    "teacher-rand-sft": System(
        told=(
            "The teacher with language and task SFTs of the same density as LT-SFT's, of parameters chosen at"
            " random (rand-SFT)."
        ),
        source="LT-SFT section 4.1",
        adaptation=Adaptation(worn="sft", select="random"),
        learning=Learning(select="random"),
        colour="#6b4c9a",
    ),
    "teacher-lora": System(
        told=(
            "The teacher tuned on the task by LoRA with as many trainable values as a task SFT has, without"
            " language SFTs."
        ),
        source="Hu et al. 2022; thesis section 7.4",
        learning=Learning(peft="lora"),
        colour="#a6761d",
    ),
    "teacher-ia3": System(
        told=(
            "The teacher tuned on the task by (IA)³, which has far fewer trainable values, without language"
            " SFTs."
        ),
        source="Liu et al. 2022; thesis section 7.4",
        learning=Learning(peft="ia3"),
        colour="#e39ac0",
    ),
    "teacher-spiel-ag": System(
        told=(
            "The teacher tuned on the task by SpIEL-AG, whose changing entries are grown by averaged"
            " gradients, without language SFTs."
        ),
        source="thesis section 7.3.2",
        learning=Learning(spiel="ag"),
        colour="#117733",
    ),
    "teacher-spiel-ma": System(
        told=(
            "The teacher tuned on the task by SpIEL-MA, whose changing entries are grown by SM3's"
            " accumulators, without language SFTs."
        ),
        source="thesis section 7.3.3",
        learning=Learning(spiel="ma"),
        colour="#7cae00",
    ),
    "teacher-madx": System(
        told=(
            "The teacher with an adapter for each language, an invertible one at the embeddings beside it"
            " where the settings ask for that, and a task adapter above the source's that is used above the"
            " target's (MAD-X)."
        ),
        source="Pfeiffer et al. 2020; thesis sections 2.3 and 3.2",
        adaptation=LANGUAGE_ADAPTER,
        learning=TASK_ADAPTER,
        colour="#cc7722",
    ),
    "teacher-madx-task": System(
        told="The same task adapter, used without a language's.",
        source="thesis table 4.2",
        adaptation=replace(LANGUAGE_ADAPTER, in_use=False),
        learning=TASK_ADAPTER,
        colour="#ddaa77",
    ),
    "teacher-adapter": System(
        told="The teacher with a task adapter only, without language adapters in training or use.",
        source="thesis sections 3.2 and 6.3",
        learning=TASK_ADAPTER,
        colour="#e8cdb0",
    ),
    "teacher-madx-nearest": System(
        told=(
            "MAD-X for languages without an adapter of their own: worn is that of the typologically nearest"
            " language that has one."
        ),
        source="thesis section 3.4",
        adaptation=replace(LANGUAGE_ADAPTER, of="nearest"),
        learning=TASK_ADAPTER,
        colour="#8c510a",
    ),
    "teacher-madg": System(
        told=(
            "The teacher with an adapter for each language that is generated from its typological features"
            " alone, and a task adapter above it (MAD-G)."
        ),
        source="Ansell et al. 2021; thesis section 3.2",
        adaptation=GENERATED,
        learning=TASK_ADAPTER,
        colour="#1b7837",
    ),
    "teacher-madg-ls": System(
        told="MAD-G with a generator whose weights all layers share (MAD-G-LS).",
        source="thesis section 3.2, eq. 3.2",
        adaptation=replace(GENERATED, generator="ls"),
        learning=TASK_ADAPTER,
        colour="#5aae61",
    ),
    "teacher-madg-source": System(
        told="MAD-G whose adapter of the source stays on for the target (MAD-G-en).",
        source="thesis section 3.4",
        adaptation=replace(GENERATED, of="source"),
        learning=TASK_ADAPTER,
        colour="#a6dba0",
    ),
    "teacher-madg-ft": System(
        told=(
            "MAD-G whose adapter of the target is trained further on a little text of the target, as an"
            " ordinary language adapter."
        ),
        source="thesis section 3.2.3 and tables A.5 and A.6",
        adaptation=replace(GENERATED, start="generated", words=10_000),
        learning=TASK_ADAPTER,
        colour="#00441b",
    ),
    "teacher-rand-ft": System(
        told="The same training on the target's text from a random adapter.",
        source="thesis section 3.2.3 and tables A.5 and A.6",
        adaptation=replace(GENERATED, start="random", words=10_000),
        learning=TASK_ADAPTER,
        colour="#d9f0d3",
    ),
    "teacher-ltsft-task": System(
        told="The task SFT of LT-SFT, learnt over the source's language SFT, used without the target's.",
        source="thesis table 4.2",
        adaptation=replace(LANGUAGE_SFT, in_use=False),
        colour="#778899",
    ),
    "bistil-tf": System(
        told=(
            "BiStil, teacher-forced: a bilingual student that follows the language-adapted teacher in both"
            " stages."
        ),
        source="BiStil section 3",
        student=BISTIL,
        learning=Learning(follows="teacher"),
        colour="#0072b2",
        ours=True,
    ),
    "bistil-st": System(
        told=(
            "BiStil, self-taught: the same student after stage 1, its task SFT trained on gold labels without"
            " a teacher."
        ),
        source="BiStil section 4.3",
        student=BISTIL,
        colour="#56b4e9",
        ours=True,
    ),
    "bistil-sentence": System(
        told=(
            "A bilingual student of a sentence encoder: stage 1 on the teacher as it is, with the cosine of"
            " sentence vectors as a third loss."
        ),
        source="a recipe of ours, on BiStil section 3.1",
        student=SENTENCE,
        colour="#004b75",
    ),
    "multilingual-distil": System(
        told=(
            "A student of the same depth distilled on all seen languages, full vocabulary, by the losses of"
            " stage 1."
        ),
        source="BiStil section 4.3",
        student=MULTILINGUAL,
        adaptation=LANGUAGE_SFT,
        colour="#e69f00",
    ),
    "distilmbert": System(
        told=(
            "A student of the same depth distilled on all seen languages, full vocabulary, by DistilBERT's"
            " recipe; own language SFTs."
        ),
        source="Sanh et al. 2019",
        student=DISTILBERT,
        adaptation=LANGUAGE_SFT,
        colour="#b8a900",
    ),
    "distilmbert-pair": System(
        told="A bilingual student distilled from the teacher as it is by DistilBERT's recipe.",
        source="Sanh et al. 2019",
        student=DISTILBERT_PAIR,
        colour="#7d7300",
    ),
    "minilm": System(
        told=(
            "A student of the same depth distilled on all seen languages, full vocabulary, by MiniLMv2's"
            " self-attention relations."
        ),
        source="Wang et al. 2021, section 3",
        student=MINILM,
        colour="#009e73",
    ),
    "scratch": System(
        told=(
            "A bilingual student of the same size, trained by masked language modelling from random weights."
        ),
        source="BiStil section 4.3",
        student=SCRATCH,
        colour="#d55e00",
    ),
    "monoshot": _family(
        "Two monolingual students with common embeddings, by predictions, embeddings, states and attention"
        " scores of uniformly paired layers; the target's is tuned on the source.",
        "Bui 2022, sections 3.2.2 and 3.3.1",
        "#661144",
        MONOSHOT,
    ),
    "monoshot-td": _family(
        "MonoShot's students, the target's tuned on the source by gold labels and by the logits of the"
        " teacher that is tuned in all its weights, half of each.",
        "Bui 2022, section 3.3.6",
        "#aa77aa",
        MONOSHOT,
        learning=Learning(select="all", follows="logits"),
    ),
    "monoalignment": _family(
        "Two monolingual students by MonoShot's losses, with states and attention scores of the last layer"
        " alone.",
        "Bui 2022, section 3.2.2",
        "#aa3355",
        MONOSHOT,
        "last",
    ),
    "tinybert": _family(
        "Two monolingual students that imitate embeddings, states and attention scores, no predictions.",
        "Bui 2022, section 3.2.2; Jiao et al. 2020",
        "#993388",
        TINYBERT,
    ),
    "hinton": _family(
        "Two monolingual students that imitate the teacher's predictions alone, beside the masked tokens.",
        "Bui 2022, eq. 2.9 and section 3.2.2",
        "#cc99bb",
        HINTON,
    ),
    "bilingual-monoshot": _of_pair(
        "A bilingual student by MonoShot's losses: predictions, embeddings, states and attention scores of"
        " uniformly paired layers.",
        "Bui 2022, section 3.4 and table 4.9",
        "#882255",
        MONOSHOT,
    ),
    "bilingual-monoalignment": _of_pair(
        "A bilingual student by MonoAlignment's losses: MonoShot's, with states and attention scores of the"
        " last layer alone.",
        "Bui 2022, section 3.4 and table 4.9",
        "#cc6677",
        MONOSHOT,
        "last",
    ),
    "bilingual-tinybert": _of_pair(
        "A bilingual student that imitates embeddings, states and attention scores, no predictions"
        " (TinyBERT's general stage).",
        "Bui 2022, section 3.2.2",
        "#aa4499",
        TINYBERT,
    ),
    "bilingual-hinton": _of_pair(
        "A bilingual student that imitates the teacher's predictions alone, beside the masked tokens.",
        "Bui 2022, eq. 2.9 and section 3.2.2",
        "#ddaacc",
        HINTON,
    ),
    "truncated-uniform": _truncated("uniform", "The last of each group", "Bui 2022, table 4.4", "#44aa99"),
    "truncated-odd": _truncated("odd", "The first of each group", "a control of ours", "#88ccbb"),
    "truncated-top": _truncated("top", "The top", "Bui 2022, table 4.4", "#227766"),
    "truncated-bottom": _truncated("bottom", "The bottom", "Bui 2022, table 4.4", "#bbddcc"),
    "eliquare": _eliquare(
        "A student of the target language alone with the teacher's vocabulary, by DistilBERT's recipe, tuned"
        " on examples in that language.",
        "Singh et al. 2023, table 4",
        "#332288",
        "teacher",
    ),
    "eliquare-pre": _eliquare(
        "The same student of the target language, teacher and student cut to its vocabulary before they are"
        " distilled.",
        "Singh et al. 2023, table 5",
        "#7766bb",
        "trimmed",
    ),
    "eliquare-post": _eliquare(
        "The finished student of the target language with the teacher's vocabulary, cut to that language"
        " before it is tuned; the cut trains nothing.",
        "Singh et al. 2023, table 5",
        "#bbaadd",
        "trimmed",
        "after",
    ),
    "merged": System(
        told=(
            "One student of several teachers over the union of their vocabularies, by their stored"
            " predictions of masked tokens and, more and more, the tokens themselves; tuned on the source in"
            " all weights."
        ),
        source="Khanuja et al. 2021, section 3",
        student=MERGE,
        learning=ALL_WEIGHTS,
        colour="#bb5566",
    ),
    "teacher-of-language": System(
        told="The teacher of the target language, tuned on examples in that language in all its weights.",
        source="Khanuja et al. 2021, table 2",
        learning=IN_LANGUAGE,
        own_teacher=True,
        colour="#886677",
    ),
    "floor": System(
        told=(
            "What a trivial guess scores: the majority label, every word attached to its neighbour, or the"
            " first words of a text."
        ),
        guesses=True,
        colour="#b5b5b5",
    ),
}
TEACHER, UNADAPTED, FLOOR = "teacher-ltsft", "teacher-no-adaptation", "floor"
FULL_TEACHER = "teacher-full"
RANDOM_SFT, MADX, MADG = "teacher-rand-sft", "teacher-madx", "teacher-madg"
FORCED, SELF_TAUGHT = "bistil-tf", "bistil-st"
OF_ALL = "multilingual-distil"


def rank(name: str) -> int:
    """The place in the table of a system in result rows, under whichever regime; variants come after all
    systems, a guess after these.
    """
    plain = name.partition("@")[0]
    if plain not in SYSTEMS:
        return len(SYSTEMS)
    return len(SYSTEMS) + 1 if SYSTEMS[plain].guesses else list(SYSTEMS).index(plain)
