"""The model card of an exported student: what it scores, what it was made from, under which licences, its
limits, and how to use it.

Notable: every number comes from a manifest or from the export itself; what nobody wrote down, a licence for
example, the card says is unknown."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from bistil.deploy.card_code import beyond, code, sentence_code
from bistil.deploy.read import pools
from bistil.evaluation.results import METRICS
from bistil.experiment import Cell
from bistil.models.architectures import longest_sequence
from bistil.models.config import read_config
from bistil.models.packaged import teacher_folder
from bistil.pipeline import Pipeline
from bistil.sources.table import DataSet, data_set
from bistil.store.artefacts import Artefact, NotBuilt, Store
from bistil.systems.table import FLOOR, TEACHER
from bistil.tasks import RETRIEVAL, title

TAGS = {
    "ner": "token-classification",
    "pos": "token-classification",
    "nli": "text-classification",
    "classification": "text-classification",
    "choice": "multiple-choice",
    "qa": "question-answering",
    RETRIEVAL: "sentence-similarity",
}
FORMS = {
    "folder": "PyTorch",
    "sentence-transformers": "PyTorch",
    "onnx": "ONNX, float32",
    "onnx-int8": "ONNX, int8",
}


@dataclass(frozen=True)
class Measured:
    """What an export found: scores in percent, the largest difference of outputs, median milliseconds of one
    example, size.
    """

    form: str
    metric: str
    score: float
    exported_score: float
    apart: float
    torch_ms: float
    exported_ms: float
    megabytes: float


def card(pipeline: Pipeline, cell: Cell, evaluation: Artefact, measured: Measured, folder: Path) -> str:
    """The text of README.md for the exported `folder`."""
    experiment, config = pipeline.experiment, read_config(folder)
    student = pipeline.system(cell).student
    alone = student is not None and student.languages in ("target", "each")
    merged = student is not None and student.merges
    codes = (
        pipeline.languages(cell) if merged else (cell.target,) if alone else experiment.languages(cell.target)
    )
    languages = {code: pipeline.data.language(code).name for code in codes}
    learnt_from = [pipeline.data.language(code).name for code in _learnt_from(pipeline, cell)]
    names = " and ".join(languages.values())
    sets = {
        words: [data_set(name) for name in experiment.data_sets.get(part, ())]
        for part, words in (("text", "text"), (cell.task, "task data"))
        if part != RETRIEVAL
    }
    teachers = _teachers(pipeline, cell)
    told = f"teacher{'s' * (len(teachers) > 1)} " + " and ".join(f"`{name}`" for name in teachers)
    parts = [
        _front(
            cell,
            list(languages),
            [*chain(*sets.values())],
            [name for name, local in teachers.items() if not local],
        ),
        f"# {title(cell.task)} in {names}: {experiment.named(cell)}",
        (
            f"{experiment.system(cell.system).told} Made with bistil from the {told}; task data was in"
            f" {' and '.join(learnt_from)} only."
        ),
        "## Scores",
        _scores(pipeline, cell, evaluation, measured),
        "## Size and speed",
        _costs(evaluation, measured, config),
        "## Use",
        sentence_code(folder, experiment.retrieval.prefix)
        if cell.task == RETRIEVAL
        else code(
            cell.task,
            folder,
            segments=getattr(config, "type_vocab_size", 0) > 1,
            bare=pools(config),
            longest=longest_sequence(config),
        ),
        "## Made from",
        _origin(pipeline, cell, evaluation, told),
        "## Licences",
        _licences(experiment.data, sets, told),
        "## Limits",
        _limits(pipeline, cell, evaluation, names, config, lines=not beyond(cell.task, folder)),
    ]
    return "\n\n".join(parts) + "\n"


def _learnt_from(pipeline: Pipeline, cell: Cell) -> tuple[str, ...]:
    """The languages of all examples that a cell's task was learnt from, its finished model's before."""
    if pipeline.system(cell).then is None:
        return pipeline.learnt_from(cell)
    return tuple(dict.fromkeys((*pipeline.learnt_from(cell.without_regime), *pipeline.learnt_from(cell))))


def _teachers(pipeline: Pipeline, cell: Cell) -> dict[str, bool]:
    """The teachers that a model was made from, by name, and whether each was a folder or made here."""
    experiment, system = pipeline.experiment, pipeline.system(cell)
    if system.model:
        names = [system.model]
    elif system.own_teacher:
        names = list(pipeline.merging(cell).taught_by[cell.target][:1])
    elif system.merges:
        names = list(dict.fromkeys(name for own in pipeline.merging(cell).teaches.values() for name in own))
    else:
        names = []
    places = {name: experiment.teachers[name].model for name in names}
    found = {}
    for name, place in (places or {experiment.teacher: experiment.teacher}).items():
        local = place is None or Path(teacher_folder(place)).is_dir()
        found[Path(name).name if local else str(place)] = local
    return found


def _front(cell: Cell, codes: Sequence[str], sets: Sequence[DataSet], teachers: Sequence[str]) -> str:
    """The hub's metadata."""
    told = {
        "language": list(codes),
        "library_name": "sentence-transformers" if cell.task == RETRIEVAL else "transformers",
        "tags": ["bistil", "distillation", "cross-lingual"],
        "pipeline_tag": TAGS.get(cell.task),
        "base_model": teachers[0] if len(teachers) == 1 else teachers,
        "datasets": [one.hub for one in sets if one.hub],
    }
    known = {name: value for name, value in told.items() if value}
    text = yaml.safe_dump(known, default_flow_style=None, allow_unicode=True, sort_keys=False, width=10**6)
    return f"---\n{text}---"


def _scores(pipeline: Pipeline, cell: Cell, evaluation: Artefact, measured: Measured) -> str:
    """The student's scores next to its teacher's and a trivial guess's, as far as these are in the store."""
    reader = Pipeline(pipeline.experiment, pipeline.data, Store(pipeline.store.root, read_only=True))
    found = {f"{pipeline.experiment.named(cell)} (this)": evaluation}
    for name in (TEACHER, FLOOR):
        if name != cell.system and name in pipeline.experiment.systems:
            with suppress(NotBuilt):
                found[name] = reader.evaluation(cell._replace(system=name, lrf=1, drf=1))
    metrics = [name for name in METRICS if name in evaluation.metrics]
    head = " | ".join(f"{METRICS[name]} (%)" for name in metrics)
    lines = [f"| | {head} | evaluation |", "| --- |" + " ---: |" * len(metrics) + " --- |"]
    for name, one in found.items():
        lines.append(
            f"| {name} | {' | '.join(f'{one.metrics[metric]:.1f}' for metric in metrics)} | `{one.id}` |"
        )
    lost = measured.score - measured.exported_score
    less = f"{abs(lost):.2f} points {'less' if lost > 0 else 'more'} than the evaluation"
    exported = (
        f"This folder, as exported ({FORMS[measured.form]}), scores {measured.exported_score:.2f}"
        f" {METRICS[measured.metric]} on the same examples,"
        f" {less if round(abs(lost), 2) else 'as the evaluation does'}; its outputs are up to"
        f" {measured.apart:.2g} from those of PyTorch."
    )
    zero_shot, code = cell.target not in _learnt_from(pipeline, cell), pipeline.tested_in(cell)
    read = f", translated into {code}, which is what it reads" if code != cell.target else ""
    about = (
        f"{'Zero-shot on' if zero_shot else 'On'} the {evaluation.metrics['n_examples']} examples of the test"
        f" file of {cell.target}{read}, seed {cell.seed}."
    )
    return "\n".join([about, "", *lines, "", exported])


def _costs(evaluation: Artefact, measured: Measured, config: Any) -> str:
    metrics = evaluation.metrics
    # costs of a model with the vocabulary of a teacher that was cut are told as the uncut one's
    gone = metrics["vocabulary"] - config.vocab_size
    width = getattr(config, "embedding_size", None) or config.hidden_size
    return (
        f"{metrics['parameters'] - gone * width:,} parameters, {config.vocab_size:,} tokens in the"
        f" vocabulary, {measured.megabytes:.1f} MB in this folder"
        + (f", {flops / 1e9:.3g} GFLOPs an example" if (flops := metrics.get("flops_per_example")) else "")
        + f". One example, decoding included, took {measured.exported_ms:.2f} ms as exported and"
        f" {measured.torch_ms:.2f} ms in PyTorch, both in turns on the CPU that exported it."
    )


def _origin(pipeline: Pipeline, cell: Cell, evaluation: Artefact, teachers: str) -> str:
    """Experiment, ids and versions."""
    manifest, system = evaluation.manifest, pipeline.system(cell)
    others = system.model or system.own_teacher or system.merges
    versions = ", ".join(
        f"{name} {number}" for name, number in manifest["versions"].items() if name != "platform"
    )
    lines = [
        f"* {teachers}" + ("" if others else f", {pipeline.teacher_id}"),
        (
            f"* experiment `{pipeline.experiment.name}`, system `{pipeline.experiment.named(cell)}`, seed"
            f" {cell.seed}"
        ),
        *(
            f"* {name} `{number}`"
            for name, number in {"evaluation": evaluation.id, **manifest["inputs"]}.items()
        ),
        *_task_training(pipeline, cell),
        f"* {versions}"
        + (f", commit `{manifest['git']['commit'][:10]}`" if manifest["git"]["commit"] else ""),
    ]
    return "\n".join(lines)


def _task_training(pipeline: Pipeline, cell: Cell) -> list[str]:
    """How the task was learnt, where it was."""
    if cell.task == RETRIEVAL:
        return []
    config = pipeline.experiment.task_config(cell)
    return [f"* task training: batches of {config.batch_size}, sequences of up to {config.max_length} tokens"]


def _licences(data: str, sets: Mapping[str, Sequence[DataSet]], teachers: str) -> str:
    """The licences that are written down, and that others are not."""
    own = "the licence of each" if teachers.startswith("teachers") else "its own licence"
    lines = [f"* {one.name} ({one.task}): {one.licence}; {one.homepage}" for one in chain(*sets.values())]
    if data != "folder":
        lines.append(f"* text and task data: {data}, invented languages generated by bistil (Apache-2.0)")
    elif unknown := [words for words, named in sets.items() if not named]:
        lines.append(
            f"* {' and '.join(unknown)}: from a folder whose licences the experiment does not name; look them"
            " up before you share this"
        )
    return "\n".join([*lines, f"* the {teachers}: {own} goes on applying to what was made from it"])


def _limits(
    pipeline: Pipeline, cell: Cell, evaluation: Artefact, names: str, config: Any, *, lines: bool
) -> str:
    """What not to expect of it. lines: whether the card has code for it."""
    unseen = f"It never saw task data of {pipeline.data.language(cell.target).name}; the"
    subject = "The" if cell.target in _learnt_from(pipeline, cell) else unseen
    told = [
        f"* {subject} scores above are of one seed and one test file.",
        (
            f"* It takes up to {longest_sequence(config)} tokens; it was tested on up to"
            f" {evaluation.manifest['config']['max_length']}."
        ),
    ]
    student = pipeline.system(cell).student
    trimmed = student is not None and student.vocabulary == "trimmed"
    if not trimmed and evaluation.metrics["vocabulary"] > config.vocab_size:
        told.append(
            "* Its vocabulary was cut to the languages of its experiment: text of others falls into small or"
            " unknown pieces."
        )
    if trimmed:
        told.append(
            f"* Its vocabulary was cut to {names}: text of other languages falls into small or unknown"
            " pieces."
        )
    if cell.task in ("ner", "pos", "parsing"):
        told.append("* Words are what the training data calls words: split punctuation off before you ask.")
    if cell.task == "parsing" and lines:
        told.append(
            "* The parser's head is no class of transformers. The lines above take each word's best head: no"
            " tree, at times."
        )
    if pipeline.experiment.data != "folder":
        told.append("* Its languages are invented: it is of no use for real text.")
    return "\n".join(told)
