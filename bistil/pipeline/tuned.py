"""Task SFTs, and the models they make: base, what is worn for a language, task SFT, head (BiStil section
3.2).
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.adapt.wardrobe import Wardrobe
from bistil.adapt.worn import WORN, Worn, load_worn
from bistil.distil.task import Followed, train_task_sft
from bistil.distil.width import Narrowing
from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.experiment import Cell
from bistil.models.load import TaskModel
from bistil.pipeline.bases import Base
from bistil.pipeline.inputs import Inputs, best
from bistil.pipeline.students import NARROWING, imitated
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.flat import read_at
from bistil.sft.train_sft import phases
from bistil.store.artefacts import Artefact
from bistil.systems.layers import layer_pairs
from bistil.systems.recipe import STATES
from bistil.systems.rows import Rows
from bistil.tasks import task as find_task
from bistil.tasks.deeper import task_head
from bistil.tasks.task import Task
from bistil.training.progress import WARNING, Event

FLOOR = "floor"
"""The metric of a task SFT that says what a guess scores on its validation data."""
DENSE = "dense_best"
"""That for the best validation score of the phase that chooses what may change."""
ADVICE = (
    "Give the task more steps, a lower rate where its loss stays where it began or rises (too high a one"
    " unlearns all), or a higher one where it falls slowly (`head_learning_rate` for the head's alone)"
)
LEARNT = 1.0
"""By how many points a task SFT must beat a guess, to be followed as one that has learnt something."""


def make_task_sft(
    inputs: Inputs,
    cell: Cell,
    base: Base,
    worn: Mapping[str, Artefact],
    follows: Artefact | None,
    teacher: Callable[[Cell], tuple[TaskModel, Wardrobe | None]],
    finished: Artefact | None = None,
    beside: Base | None = None,
) -> Artefact:
    """The task SFT of a cell: `delta.safetensors` with the head in it, and the labels as a metric.

    Args:
        worn: what the base wears meanwhile for a language: all the time where there is one language, for each
            batch where there are several.
        follows: the task SFT of the teacher that is followed; None for gold labels.
        teacher: makes the model of that, and what it wears for each batch.
        finished: the task SFT that is tuned further; None to begin with the bare base.
        beside: another student of the family, that reads every batch too with the same trained values.
    """
    config, system = inputs.experiment.task_config(cell), inputs.system(cell)
    source, learning = inputs.experiment.source, system.learning

    def build(folder: Path) -> Mapping[str, Any]:
        if follows is not None and inputs.experiment.at_floor == "stop":
            _check_learnt(follows, cell)
        task, examples = inputs.training(cell)
        validation = inputs.validation(cell, config.validation_examples)
        wanted = [one for own in validation.values() for one in own]
        encoder, tokenizer, kept = base.load(inputs)
        set_seed(cell.seed)
        head = task_head(task, encoder.config, learning.layers)
        model = inputs.placed(TaskModel(encoder=encoder, head=head))
        base_id = base_hash(encoder)
        clothes = {code: load_worn(one.path(WORN), base=base_id) for code, one in worn.items()}
        before = SparseDelta.load(finished.path(WORN), base=base_id) if finished else None
        if before is not None:
            before.apply(encoder)
            model.head.load_state_dict(head_of(before))
        changes = len(clothes) > 1
        wardrobe = Wardrobe(encoder, clothes, trained=changes)
        if not changes:
            wardrobe.wear(next(iter(clothes), None))

        def validate() -> Mapping[str, float]:
            found = []
            for code, own in validation.items():
                if changes:
                    wardrobe.wear(code)
                found += predict_all(model, task, own, tokenizer, max_length=config.max_length)
            if changes:
                wardrobe.wear(None)
            return {**task.score(wanted, found), "n_examples": len(wanted)}

        of = f" lrf {cell.lrf}, {cell.target}" if cell.lrf > 1 else ""
        delta, history = train_task_sft(
            model,
            task,
            examples,
            tokenizer,
            config=config,
            validate=validate,
            base=base_id,
            run=inputs.run(folder, f"{cell.task} SFT, {cell.system}{of}"),
            follows=_followed(inputs, cell, base, teacher, kept) if follows else None,
            wardrobe=wardrobe if changes else None,
            cut=0 if base.vocabulary else inputs.parameters_cut(encoder),
            before=before,
            exposed={source: (source, *inputs.exposed(cell))},
            beside=inputs.placed(beside.load(inputs)[0]) if beside else None,
        )
        known = [one for own in examples.values() for one in own]
        found = inputs.keep(folder, delta, history, task.metric)
        found[FLOOR] = task.floor(known, wanted)[task.metric]
        if len(parts := phases(history)) > 1:
            found[DENSE] = best(parts[0], task.metric)
        if told := _doubt(found, task.metric):
            of = f"{cell.task}, {cell.system}, {cell.target}, seed {cell.seed}"
            inputs.store.progress(Event(f"{WARNING}{of}: {told}", 1, 1))
        return {**found, "labels": list(task.labels)}

    made_from: dict[str, Artefact | str] = {
        "base": base.student or inputs.teacher_input,
        **inputs.training_files(cell),
        **{"source sft" if code == source else f"sft {code}": one for code, one in worn.items()},
        **({"task teacher": follows} if follows else {}),
        **({"task sft": finished} if finished else {}),
    }
    settings: dict[str, Any] = {"task": cell.task, "settings": config, "forced": follows is not None}
    if learning.rows != (Rows(),):
        settings["rows"] = learning.rows
    if learning.validated:
        settings["validated"] = learning.validated
        if any(part.most and not part.drawn for part in learning.validated):
            settings["validated_rows"] = "cut"  # of artefacts without, all rows of a file chose
    if system.then is not None:
        settings |= {"then": system.then, "further": system.further}
    if system.forced and learning.terms != STATES:
        settings["terms"] = learning.terms
    if follows is not None and learning.temperature != 1.0:
        settings["temperature"] = learning.temperature
    if learning.exposed:
        settings["exposed"] = learning.exposed
    for name, usual in (("through", "target"), ("layers", 0)):
        if (said := getattr(learning, name)) != usual:
            settings[name] = said
    if learning.through != "source":
        settings |= inputs.member(cell)
    if system.guided:
        settings["follows"] = learning.follows
    settings |= inputs.reading(cell)
    return inputs.store.run("task-sft", settings, made_from, build)


def make_task_model(
    inputs: Inputs, cell: Cell, base: Base, worn: Artefact | None, tuned: Artefact, tuned_on: Base
) -> tuple[TaskModel, Task, PreTrainedTokenizerFast]:
    """A cell's finished model: base, what it wears for a language, task SFT, head.

    Args:
        tuned_on: what the task SFT was trained on, where that is another student of the family.
    """
    encoder, tokenizer, _ = base.load(inputs)
    base_id = base_hash(encoder)
    if tuned_on == base:
        delta = load_worn(tuned.path(WORN), base=base_id)
    else:
        other = tuned_on.load(inputs)[0]
        values = inputs.system(cell).learning.carried == "values"
        delta = carried(load_worn(tuned.path(WORN), base=base_hash(other)), other, encoder, values=values)
    for one in (*([load_worn(worn.path(WORN), base=base_id)] if worn else []), delta):
        one.apply(encoder)
    task, _ = inputs.training(cell)
    head = task_head(task, encoder.config, inputs.system(cell).learning.layers)
    model = TaskModel(encoder=encoder, head=head)
    model.head.load_state_dict(head_of(delta))
    return inputs.placed(model).eval(), task, tokenizer


def head_of(worn: Worn) -> dict[str, torch.Tensor]:
    """The state of the head that was trained beside something worn."""
    return {name.removeprefix("head."): one for name, one in worn.full.items()}


def carried(delta: Worn, tuned_on: PreTrainedModel, to: PreTrainedModel, *, values: bool) -> Worn:
    """A delta, or an adapter, of one student of a family for another.

    Args:
        values: the entries get the tuned values themselves, instead of moving by the same differences.
    """
    if not isinstance(delta, SparseDelta):
        adapter: Any = delta
        moved: Worn = dataclasses.replace(adapter, base=base_hash(to))
        return moved
    tensors = dict(delta.tensors)
    if values:
        own, theirs = to.state_dict(), tuned_on.state_dict()
        for name, (places, moves) in tensors.items():
            gap = read_at(theirs[name], places).float() - read_at(own[name], places).float()
            tensors[name] = (places, moves + gap)
    return dataclasses.replace(delta, base=base_hash(to), tensors=tensors)


def worn_encoder(
    inputs: Inputs, base: Base, worn: Artefact | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """An encoder before any task, with what it wears for a language."""
    encoder, tokenizer, _ = base.load(inputs)
    if worn is not None:
        load_worn(worn.path(WORN), base=base_hash(encoder)).apply(encoder)
    return inputs.placed(encoder).eval(), tokenizer


def _check_learnt(teacher: Artefact, cell: Cell) -> None:
    """Refuse to follow a task SFT that has not learnt its task; its own score is told like any other.

    Raises:
        InputError: where its best validation score is not a point above that of a guess.
    """
    metric = find_task(cell.task).metric
    if _at_floor(teacher.metrics, f"best_{metric}"):
        floor, found = teacher.metrics[FLOOR], teacher.metrics[f"best_{metric}"]
        raise InputError(
            f"A teacher of {cell.task} that scores clearly above a guess ({floor:.1f} {metric}) on validation"
            f" data was expected for {cell.system} to follow, but its best was {found:.1f}, so the student is"
            f" not built. {ADVICE}, or go on all the same with `at_floor: continue` in the experiment's file,"
            " or --anyway."
        )


def _at_floor(metrics: Mapping[str, Any], name: str) -> bool:
    """Whether a score is no better than a guess; False where either is not known."""
    found, floor = metrics.get(name), metrics.get(FLOOR)
    return found is not None and floor is not None and found < floor + LEARNT


def _doubt(metrics: Mapping[str, Any], metric: str) -> str:
    """What is doubtful about a task SFT, as its validation scores say; "" where nothing is."""
    for name, what, so in (
        (f"best_{metric}", "its best validation score", ""),
        (DENSE, "the best of its dense phase", ", so what may change was chosen by what had learnt nothing"),
    ):
        if _at_floor(metrics, name):
            guess = f"{metrics[name]:.1f} {metric}, no better than a guess ({metrics[FLOOR]:.1f})"
            return f"{what} is {guess}{so}. {ADVICE}."
    return ""


def _followed(
    inputs: Inputs,
    cell: Cell,
    base: Base,
    made: Callable[[Cell], tuple[TaskModel, Wardrobe | None]],
    kept: torch.Tensor | None,
) -> Followed:
    """What a teacher-forced student follows; the layers that belong together are those of stage 1."""
    system = inputs.system(cell)
    assert system.student is not None
    assert base.student is not None
    narrowing = None
    if cell.drf > 1:
        saved = load_file(base.student.path(NARROWING))
        narrowing = inputs.placed(Narrowing(saved["map"], saved["heads"]))
    teacher, wardrobe = made(cell)
    whole = teacher.encoder.config.num_hidden_layers
    depth = whole // cell.lrf
    pairs = imitated(inputs, system.student, depth) or layer_pairs(system.student.layers, whole, depth)
    return Followed(
        teacher=teacher,
        kept=kept,
        terms={} if system.guided else system.learning.terms,
        pairs=pairs,
        narrowing=narrowing,
        temperature=system.learning.temperature,
        gold=system.guided,
        wardrobe=wardrobe,
    )
