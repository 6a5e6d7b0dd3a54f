"""The stages before any task: vocabularies, language SFTs, and students by every recipe (BiStil section 3.1).

Notable: a student's stage is one function that reads its recipe (`systems.recipe.Student`), whichever it is.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import set_seed
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil import vocab
from bistil.distil.family import Family, share
from bistil.distil.general import GeneralConfig, distil
from bistil.distil.objective import Distillation
from bistil.distil.start import prune
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.models.architectures import head_state
from bistil.models.load import load_teacher
from bistil.pipeline.bases import MEMBERS, OWN_HEAD, Base, kept_ids, masked_lm, trimmed_tokenizer
from bistil.pipeline.inputs import Inputs
from bistil.pipeline.started import Clothes, followed_teacher, frozen_parts, go_on, started
from bistil.sft.config import SftConfig
from bistil.sft.language import train_language_sft
from bistil.sft.lottery import Selection
from bistil.store.artefacts import Artefact, file_id
from bistil.systems.layers import Pairs, Part, layer_pairs
from bistil.systems.recipe import Student
from bistil.tasks.retrieval import Side, retrieve
from bistil.training.loop import History

LANGUAGE_SEED = 1
NARROWING = "narrowing.safetensors"  # of a narrower student, for stage 2


def make_vocabulary(inputs: Inputs, codes: tuple[str, ...]) -> Artefact:
    """The tokens that a student of some languages needs: `kept.safetensors`, the trimmed `tokenizer/`, and
    the report as metrics.
    """
    experiment, config = inputs.experiment, inputs.experiment.vocabulary

    def build(folder: Path) -> Mapping[str, Any]:
        tokenizer = inputs.teacher.tokenizer
        lines = {code: inputs.lines(code) for code in codes}
        count = vocab.count_tokens if config.criterion == "unigram" else vocab.sentence_share
        counts = [count(tokenizer, text) for text in lines.values()]
        kept = vocab.choose(tokenizer, counts, **vars(config))
        trimmed = vocab.trim_tokenizer(tokenizer, kept)
        trimmed.save_pretrained(folder / "tokenizer")
        save_file({"kept": torch.from_numpy(kept)}, folder / "kept.safetensors")
        found = vocab.report(tokenizer, trimmed, kept, lines)
        return (
            {**found, "tokens_before": inputs.trimmed_teacher().metrics["tokens"][0]}
            if inputs.trims
            else found
        )

    settings = {"vocabulary": config, "lines": experiment.text.lines}
    return inputs.store.run(
        "vocabulary", settings, {"teacher": inputs.teacher_input, **inputs.texts(codes)}, build
    )


def make_language_sft(
    inputs: Inputs,
    code: str,
    student: Artefact | None,
    kept: Artefact | None,
    select: Selection | None,
    seed: int,
    part: Part | None = None,
) -> Artefact:
    """The language SFT of the teacher, or of a student: `delta.safetensors`.

    Args:
        kept: the vocabulary that the student is trimmed to; None for the teacher's, the student itself where
            that is a ready-made model.
        select: a baseline of LT-SFT, instead of the method that the experiment asks for.

    Raises:
        InputError: where the experiment has none.
    """
    asked = inputs.experiment.language_sft
    if asked is None:
        raise InputError(
            f"The experiment {inputs.experiment.name} adapts nothing to a language. Give it settings under"
            " `language_sft`."
        )
    sft = SftConfig(**vars(asked), seed=seed)
    sft = sft.by(select) if select else sft
    sft = sft.within(part=part) if part else sft
    return _language_module(inputs, code, "language-sft", sft, student, kept)


def make_language_adapter(inputs: Inputs, code: str) -> Artefact:
    """The language adapter of the teacher, in the file that holds what can be worn."""
    asked = inputs.experiment.language_adapter
    assert asked is not None, "systems that wear adapters are checked to have settings for them"
    return _language_module(inputs, code, "language-adapter", SftConfig(**vars(asked), seed=LANGUAGE_SEED))


def _language_module(
    inputs: Inputs,
    code: str,
    kind: str,
    sft: SftConfig,
    student: Artefact | None = None,
    kept: Artefact | None = None,
) -> Artefact:
    """What the teacher, or a student, wears for a language, trained on its text."""
    experiment = inputs.experiment

    def build(folder: Path) -> Mapping[str, Any]:
        made = load_teacher(student.path("model")) if student is not None and student == kept else None
        mlm, tokenizer = (made or inputs.fresh_teacher()).mlm, (made or inputs.teacher).tokenizer
        if kept is not None and made is None:
            tokenizer = trimmed_tokenizer(kept)
            vocab.trim_model(mlm, kept_ids(kept).numpy())
        if student is not None and made is None:
            mlm = masked_lm(mlm, student)
        delta, history = train_language_sft(
            inputs.placed(mlm),
            tokenizer,
            code,
            inputs.student_blocks(code, tokenizer) if kept else inputs.blocks(code),
            text=experiment.text,
            sft=sft,
            run=inputs.run(folder, f"language {'adapter' if sft.adapter else 'SFT'} {code}"),
            cut=0 if kept else inputs.parameters_cut(mlm),
        )
        return inputs.keep(folder, delta, history, "loss")

    base: dict[str, Artefact | str] = {
        "base": student or inputs.teacher_input,
        "text": file_id(inputs.data.text(code)),
        **inputs.left_out,
    }
    return inputs.store.run(kind, {"text": inputs.text_of((code,)), "sft": sft}, base, build)


def make_student(
    inputs: Inputs,
    cell: Cell,
    recipe: Student,
    kept: Artefact | None,
    worn: Clothes,
    donor: Base | None = None,
) -> Artefact:
    """The general student of a cell: `model/` (encoder and tokenizer) and `history.json`; of a family
    `members/<code>/` for each of its languages.

    Args:
        kept: the vocabulary it is trimmed to; None for the teacher's.
        worn: the language SFTs of the teacher.
        donor: another pair's student, whose weights it starts from.
    """
    codes, config = inputs.languages(cell), general_config(inputs, cell, recipe)
    metric = config.metric

    def build(folder: Path) -> Mapping[str, Any]:
        tokenizer = trimmed_tokenizer(kept) if kept else inputs.teacher.tokenizer
        teacher = followed_teacher(inputs, recipe, kept, worn)
        set_seed(config.seed)
        if recipe.family:
            members = {code: started(inputs, recipe, config, teacher, kept, codes)[0] for code in codes}
            share(members, recipe.share)
            made, narrowing = members[cell.target], None
        else:
            made, narrowing = started(inputs, recipe, config, teacher, kept, codes)
            members = {}
        if donor is not None:
            go_on(inputs, made, donor, kept)
        history: History = []
        for one in members.values() or [made]:
            own = cast(PreTrainedModel, one.base_model)
            for part in frozen_parts(own, recipe.frozen):
                part.requires_grad_(False)
            if recipe.pruned:
                prune(own, recipe.pruned)
        if recipe.terms:

            def minimised(student: PreTrainedModel) -> Distillation:
                return Distillation(
                    inputs.placed(student),
                    teacher if recipe.follows else None,
                    recipe.terms,
                    imitated(inputs, recipe, student.config.num_hidden_layers),
                    narrowing=narrowing,
                    relation_heads=inputs.experiment.minilm.relation_heads,
                )

            objective: Distillation | Family = (
                Family({code: minimised(one) for code, one in members.items()})
                if recipe.family
                else minimised(made)
            )
            corpora = {
                code: inputs.student_blocks(code, tokenizer) if kept else inputs.blocks(code)
                for code in codes
            }
            sides = {code: _side(members.get(code, made), tokenizer) for code in codes}
            history = distil(
                objective,
                tokenizer,
                corpora,
                config=config,
                run=inputs.run(folder, recipe.title),
                also=partial(_aligned, inputs, sides, inputs.spare_pairs(codes))
                if config.select == "retrieval"
                else None,
            )
        if narrowing is not None:
            save_file(dict(narrowing.state_dict()), folder / NARROWING)
        if recipe.family:
            return _keep_family(inputs, folder, members, tokenizer, history, metric)
        if recipe.has_head:
            save_file(head_state(made), folder / OWN_HEAD)
        encoder: Any = made.base_model
        return inputs.keep_student(folder, encoder, tokenizer, history, metric=metric)

    made_from = _made_from(inputs, recipe, kept, worn, codes)
    if donor is not None and donor.student is not None:
        made_from["start"] = donor.student
    if config.select == "retrieval":
        made_from |= inputs.spare_files(codes)
    return inputs.store.run("student", _settings(inputs, recipe, config, codes), made_from, build)


def _aligned(
    inputs: Inputs, sides: Mapping[str, Side], spare: Mapping[str, list[tuple[str, str]]]
) -> dict[str, float]:
    """How many translations of the source a student's last layer finds, in percent, by BERTScore: the mean
    over its other languages, among pairs that no evaluation uses.
    """
    source, length = sides[inputs.experiment.source], inputs.experiment.text.length
    depth = source.encoder.config.num_hidden_layers
    found = [
        retrieve(source, sides[code], pairs, layer=depth, by="bertscore", max_length=length)["accuracy"]
        for code, pairs in spare.items()
    ]
    return {"accuracy": sum(found) / len(found)}


def _side(student: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Side:
    """What reads a language: a student's encoder, whether a masked-LM head is on it or not."""
    encoder: Any = student.base_model
    return Side(encoder, tokenizer)


def make_cut_student(inputs: Inputs, whole: Artefact, kept: Artefact) -> Artefact:
    """A finished student without the rows of tokens that are not kept, in encoder and head; nothing is
    trained.
    """

    def build(folder: Path) -> Mapping[str, Any]:
        mlm = masked_lm(inputs.fresh_teacher().mlm, whole)
        vocab.trim_model(mlm, kept_ids(kept).numpy())
        if whole.path(OWN_HEAD).is_file():
            save_file(head_state(mlm), folder / OWN_HEAD)
        encoder: Any = mlm.base_model
        return inputs.keep_student(folder, encoder, trimmed_tokenizer(kept), [])

    return inputs.store.run("student", {"trim": "after"}, {"student": whole, "vocabulary": kept}, build)


def _keep_family(
    inputs: Inputs,
    folder: Path,
    members: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    history: History,
    metric: str,
) -> Mapping[str, Any]:
    """Write each student of a family into `members/<code>/`, with its masked-LM head where it has one;
    parameters that several have count once.
    """
    metrics: dict[str, Any] = {}
    for code, member in members.items():
        encoder: Any = member.base_model
        metrics = inputs.keep_student(folder, encoder, tokenizer, history, f"{MEMBERS}/{code}", metric)
        if member is not encoder:
            save_file(head_state(member), folder / MEMBERS / f"{code}-{OWN_HEAD}")
    distinct = {id(one): one.numel() for member in members.values() for one in member.base_model.parameters()}
    return {**metrics, "parameters": sum(distinct.values()), "members": len(members)}


def general_config(inputs: Inputs, cell: Cell, recipe: Student) -> GeneralConfig:
    """How long and how fast a cell's student learns, without settings that do not touch it."""
    experiment, general, codes = inputs.experiment, inputs.experiment.general, inputs.languages(cell)
    weights = {code: weight for code, weight in (general.weights or {}).items() if code in codes} or None
    if not recipe.follows:
        return GeneralConfig(
            lrf=cell.lrf,
            schedule=experiment.scratch.schedule,
            batch_size=experiment.scratch.batch_size,
            mask_share=experiment.text.mask_share,
            held_out_share=experiment.text.held_out_share,
            held_out_shares=experiment.text.shares_of(codes),
            weights=weights,
            seed=cell.seed,
        )
    learned = general.learn_map and cell.drf > 1
    return dataclasses.replace(
        general,
        lrf=cell.lrf,
        drf=cell.drf,
        seed=cell.seed,
        learn_map=learned,
        weights=weights,
        held_out_shares=general.shares_of(codes),
    )


def imitated(inputs: Inputs, recipe: Student, depth: int) -> Pairs:
    """The layers of a student of `depth` layers and of the teacher that belong together, in both stages."""
    whole = inputs.teacher.encoder.config.num_hidden_layers
    if recipe.relates and (layer := inputs.experiment.minilm.teacher_layer):
        return ((depth, layer),)
    return layer_pairs(recipe.layers, whole, depth) if recipe.follows else ()


def _settings(
    inputs: Inputs, recipe: Student, config: GeneralConfig, codes: tuple[str, ...]
) -> dict[str, Any]:
    """What an artefact says of how a student was made."""
    experiment, text = inputs.experiment, inputs.text_of(codes if not recipe.follows else ())
    if not recipe.terms:
        return {"recipe": recipe.settings, "lrf": config.lrf}
    shared = {"recipe": recipe.settings, "text": text}
    if not recipe.follows:
        drawn = {"weights": config.weights} if config.weights else {}
        return {**shared, "scratch": experiment.scratch, "lrf": config.lrf, "seed": config.seed, **drawn}
    more: dict[str, Any] = {"minilm": experiment.minilm} if recipe.relates else {}
    if config.select == "retrieval":
        more["pairs_from"] = inputs.pairs_used
    if recipe.has_head and recipe.adapted and experiment.language_sft is not None:
        more["decoder"] = "its own"  # of artefacts without, the teacher's moved with what it wore
    return {**shared, "general": config, **more}


def _made_from(
    inputs: Inputs, recipe: Student, kept: Artefact | None, worn: Clothes, codes: tuple[str, ...]
) -> dict[str, Artefact | str]:
    """The inputs of a student's stage.

    Texts are named where neither a vocabulary nor SFTs stand for them, and for unadapted followers in any
    case, as ids have always been made.
    """
    found: dict[str, Artefact | str] = {"teacher": inputs.teacher_input}
    if kept is not None:
        found["vocabulary"] = kept
    if recipe.terms and (kept is None or (recipe.follows and not recipe.adapted)):
        found |= inputs.texts(codes)
    return {**found, **{f"sft {code}": one for code, one in worn.items()}}
