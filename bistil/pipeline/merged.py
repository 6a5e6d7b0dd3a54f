"""Several teachers' stages: each teacher, the union of their vocabularies, their stored labels, and the
student that learns from these (MergeDistill, Khanuja et al. 2021).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, ElectraConfig, ElectraForMaskedLM, PreTrainedModel

from bistil.distil.labels import Labels, LabelSettings, write_labels
from bistil.distil.merge import MergeConfig, Shape, merge
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.models.architectures import blocks as layers_of
from bistil.models.architectures import head_state, longest_sequence
from bistil.models.load import Teacher, load_teacher, quiet
from bistil.models.packaged import teacher_folder
from bistil.pipeline.bases import OWN_HEAD, trimmed_tokenizer
from bistil.pipeline.inputs import Inputs
from bistil.pipeline.students import general_config
from bistil.pretrain import pretrain, read_text, weights_folder
from bistil.pretrain.start import off_the_plateau
from bistil.store.artefacts import Artefact, file_id
from bistil.store.provenance import by_name
from bistil.systems.recipe import Student
from bistil.tasks.retrieval import all_parallel_files, sentences_in
from bistil.text.written import open_to_others
from bistil.training import checkpoints
from bistil.training.progress import Event
from bistil.vocab.union import unite

MAPS = "maps.safetensors"
STORE = "labels"
UNITED = "union-vocabulary"
RESUMED = "to-go-on-from"
"""The checkpoints of a student whose training ended before its schedule."""


def make_teacher(inputs: Inputs, name: str) -> Artefact:
    """One of several teachers in `model/`, with its tokenizer in `tokenizer/` too: made by its pretraining
    file, or a copy of the model that is named.
    """
    source, data = inputs.experiment.teachers[name], inputs.data
    if source.pretrain:
        config = inputs.pretraining(source.pretrain)
        corpora = {code: data.text(code) for code in config.languages}
        parallel = data.root / "parallel" if config.reads_pairs else None
        files = sorted(parallel.rglob("*.t*")) if parallel else []
        made_from = {f"text {code}": file_id(path) for code, path in corpora.items()}
        made_from |= by_name("parallel", files, data.root)
        left_out = all_parallel_files(data, config.languages) if config.without_pairs else []
        made_from |= by_name("without", left_out, data.root)
        if config.start:
            made_from["start"] = file_id(weights_folder(config.start))

        def train(folder: Path) -> Mapping[str, Any]:
            run = inputs.run(folder / "checkpoint-pretrain", f"teacher {name}")
            text = read_text(config, corpora, parallel, without=sentences_in(left_out))
            mlm, tokenizer, history = pretrain(
                config, text, run.folder, progress=run.progress, stop=run.stop, device=inputs.device
            )
            (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
            return {**_kept(folder, mlm, tokenizer), "steps": max(int(one["step"]) for one in history)}

        return inputs.store.run("teacher", {"pretrain": config}, made_from, train)
    place = Path(teacher_folder(str(source.model)))

    def copy(folder: Path) -> Mapping[str, Any]:
        teacher = load_teacher(str(place))
        return _kept(folder, teacher.mlm if teacher.has_mlm_head else teacher.encoder, teacher.tokenizer)

    there = file_id(place) if place.is_dir() else f"hub:{source.model}"
    return inputs.store.run("teacher", {}, {"model": there}, copy)


def _kept(folder: Path, mlm: PreTrainedModel, tokenizer: Any) -> dict[str, Any]:
    with quiet():
        mlm.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "tokenizer")
    open_to_others(folder / "model")
    encoder: Any = mlm.base_model
    return {"parameters": encoder.num_parameters(), "vocabulary": len(tokenizer)}


def make_union(inputs: Inputs, teachers: Mapping[str, Artefact], normaliser: str | None) -> Artefact:
    """The union of teachers' vocabularies: `tokenizer/`, a `tokenizer-<teacher>/` that cuts as each does,
    `maps.safetensors`, and the counts as metrics.
    """

    def build(folder: Path) -> Mapping[str, Any]:
        loaded = {name: load_teacher(one.path("model")) for name, one in teachers.items()}
        rows = {name: one.mlm.config.vocab_size for name, one in loaded.items()}
        found = unite({name: one.tokenizer for name, one in loaded.items()}, rows, normaliser)
        for name, tokenizer in {"": found.tokenizer, **found.read_by}.items():
            tokenizer.save_pretrained(folder / _tokenizer(name))
        save_file(dict(found.maps), folder / MAPS)
        return {"tokens": len(found.tokenizer), "own": dict(found.own), "shared": found.shared}

    return inputs.store.run(UNITED, {"normaliser": normaliser, "order": list(teachers)}, teachers, build)


def _tokenizer(teacher: str) -> str:
    return f"tokenizer-{teacher}" if teacher else "tokenizer"


def tokenizer_folder(inputs: Inputs, cell: Cell, code: str) -> str:
    """The folder of the tokenizer that text of a task in a language is read with."""
    how = inputs.merging(cell)
    own = how.teaches.get(code, ())
    return _tokenizer(own[0] if how.read_with == "teacher" and own else "")


def make_labels(
    inputs: Inputs, cell: Cell, code: str, name: str, teacher: Artefact, union: Artefact
) -> Artefact:
    """A teacher's labels of a language's text, in `labels/`."""
    how, text = inputs.merging(cell), inputs.experiment.text
    settings = LabelSettings(k=how.k, masks=how.masks, share=text.mask_share)

    def build(folder: Path) -> Mapping[str, Any]:
        loaded = load_teacher(teacher.path("model"))
        if not loaded.has_mlm_head:
            raise InputError(
                f"A teacher with a masked-LM head was expected, whose predictions can be stored, but"
                f" {name} has none. Give it one with `bistil pretrain` and `train: head`."
            )
        if text.length > (most := longest_sequence(loaded.mlm.config)):
            raise InputError(
                f"A length of at most the {most} positions of the teacher {name} was expected under `text`,"
                f" but it is {text.length}."
            )
        cut = inputs.student_blocks(code, loaded.tokenizer)
        stage = f"labels of {code} by {name}"

        def say(told: str, done: int, of: int) -> None:
            inputs.progress(Event(f"{stage}, {told}", done, of))

        places = load_file(union.path(MAPS))[name]
        mlm = inputs.placed(loaded.mlm)
        told = write_labels(folder / STORE, mlm, loaded.tokenizer, cut, places, settings, say=say)
        files = (folder / STORE).rglob("*.npy")
        sizes = {"rows": told["blocks"] * told["masks"], "masked": sum(m for _, m in told["shards"])}
        return {**sizes, "bytes": sum(file.stat().st_size for file in files), **inputs.where}

    made_from = {"teacher": teacher, "union": union, **inputs.texts((code,))}
    return inputs.store.run(
        "teacher-labels", {"labels": settings, "text": inputs.text_of(())}, made_from, build
    )


def make_merged(
    inputs: Inputs,
    cell: Cell,
    recipe: Student,
    union: Artefact,
    teachers: Mapping[str, Artefact],
    labels: Mapping[tuple[str, str], Artefact],
) -> Artefact:
    """The student of several teachers: `model/`, its masked-LM head and `history.json`.

    Args:
        teachers: those that it can start from.
        labels: by language and teacher.
    """
    how, config = inputs.merging(cell), general_config(inputs, cell, recipe)

    def build(folder: Path) -> Mapping[str, Any]:
        tokenizer = trimmed_tokenizer(union)
        set_seed(config.seed)
        dropout = getattr(inputs.uncut_teacher().encoder.config, "hidden_dropout_prob", 0.0)
        student = _student(how.student, len(tokenizer), tokenizer.pad_token_id, positions, dropout)
        mlm = off_the_plateau(student)
        if how.start != "random":
            maps = load_file(union.path(MAPS))
            start_from(
                cast(BertForMaskedLM, mlm),
                {name: load_teacher(one.path("model")) for name, one in teachers.items()},
                maps,
                how,
            )
        stores: dict[str, list[Labels]] = {}
        for (code, _), one in labels.items():
            one.check()
            stores.setdefault(code, []).append(Labels(one.path(STORE)))
        run = inputs.run(folder, recipe.title)
        history = merge(
            inputs.placed(mlm), stores, recipe.terms, how=how, config=config, run=run, earlier=earlier()
        )
        if how.until < 1:
            checkpoints.hand_on(folder, folder / RESUMED)
        save_file(head_state(mlm), folder / OWN_HEAD)
        return inputs.keep_student(folder, cast(PreTrainedModel, mlm.base_model), tokenizer, history)

    settings = {"recipe": recipe.settings, "text": inputs.text_of(()), "general": config}
    usual = max(inputs.experiment.text.length, 128)
    positions = max(usual, _longest(inputs))
    if positions > usual:
        settings["positions"] = positions
    learnt = dataclasses.replace(how, read_with="union", taught_by=how.teaches)
    made_from = {"union": union, **{f"labels {code} {name}": one for (code, name), one in labels.items()}}

    def earlier() -> dict[float, Path]:
        """The checkpoints of students of this experiment that ended before this one and are the same else."""
        ends = {inputs.merging(one).until for one in inputs.experiment.cells() if inputs.system(one).merges}
        found = {}
        for until in (one for one in ends if one < how.until):
            named = {**settings, "merge": dataclasses.replace(learnt, until=until)}
            found[until] = inputs.store.find("student", named, made_from)
        places = {until: one.path(RESUMED) for until, one in found.items() if one is not None}
        return {until: place for until, place in places.items() if place.is_dir()}

    return inputs.store.run("student", {**settings, "merge": learnt}, made_from, build)


def _student(
    shape: Shape, tokens: int, padding: int | None, positions: int, dropout: float
) -> PreTrainedModel:
    """A masked LM with random weights: a BERT, or an ELECTRA where embeddings have a width of their own. It
    is tuned on tasks with the dropout of the experiment's teacher, which it is compared with.
    """
    sizes: dict[str, Any] = {
        "vocab_size": tokens,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": 4 * shape.hidden,
        "max_position_embeddings": positions,
        "pad_token_id": padding,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    if shape.embedding is None:
        return BertForMaskedLM(BertConfig(**sizes))
    return ElectraForMaskedLM(ElectraConfig(**sizes, embedding_size=shape.embedding))


def _longest(inputs: Inputs) -> int:
    return max((one.max_length for one in inputs.experiment.task.values()), default=0)


@torch.no_grad()
def start_from(
    mlm: BertForMaskedLM, teachers: Mapping[str, Teacher], maps: Mapping[str, torch.Tensor], how: MergeConfig
) -> None:
    """Give a student the layers, positions and head of one teacher, its output bias aside, and each token the
    mean of its embeddings in the teachers of the student's width that have it.

    Raises:
        InputError: where that teacher has another size.
    """
    first: Any = teachers[how.start].mlm
    own, size = first.config, (how.student.layers, how.student.hidden, how.student.heads)
    there = (own.num_hidden_layers, own.hidden_size, own.num_attention_heads)
    if own.model_type != "bert" or size != there or own.intermediate_size != mlm.config.intermediate_size:
        raise InputError(
            f"A student of the size of {how.start}, which it starts from, was expected: a BERT of {there[0]}"
            f" layers, {there[1]} hidden and {there[2]} heads, but `student` under `merge` says {size}."
        )
    for mine, theirs in zip(layers_of(mlm.bert), layers_of(first.bert), strict=True):
        for part in vars(mine):
            getattr(mine, part).load_state_dict(getattr(theirs, part).state_dict())
    embeddings, others = mlm.bert.embeddings, first.bert.embeddings
    count = min(len(embeddings.position_embeddings.weight), len(others.position_embeddings.weight))
    embeddings.position_embeddings.weight[:count] = others.position_embeddings.weight[:count]
    embeddings.token_type_embeddings.load_state_dict(others.token_type_embeddings.state_dict())
    embeddings.LayerNorm.load_state_dict(others.LayerNorm.state_dict())
    mlm.cls.predictions.transform.load_state_dict(first.cls.predictions.transform.state_dict())
    rows = embeddings.word_embeddings.weight
    total, times = torch.zeros_like(rows), torch.zeros(len(rows), 1)
    for name, places in maps.items():
        words: Any = teachers[name].encoder.get_input_embeddings()
        if words.weight.shape[1] == rows.shape[1]:
            known = (places >= 0).nonzero().ravel()
            total.index_add_(0, places[known].long(), words.weight[known])
            times.index_add_(0, places[known].long(), torch.ones(len(known), 1))
    rows.copy_(torch.where(times > 0, total / times.clamp(min=1), rows))
