"""What is measured of finished models: zero-shot scores, retrieval, joint timing, result rows."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from bistil.evaluation import cost
from bistil.evaluation.results import METRICS
from bistil.evaluation.score import predict_all
from bistil.evaluation.significance import KEPT, keep_outcomes
from bistil.experiment import Cell
from bistil.models.load import TaskModel
from bistil.pipeline.bases import Base
from bistil.pipeline.examples import TRANSLATION
from bistil.pipeline.inputs import Inputs
from bistil.pipeline.tuned import worn_encoder
from bistil.settings.files import csv_text
from bistil.store.artefacts import Artefact, file_id
from bistil.tasks import RETRIEVAL, column
from bistil.tasks import task as find_task
from bistil.tasks.gold import count, known_of, lacking
from bistil.tasks.retrieval import LAYERS, Side, parallel, parallel_files, retrieve_by_layers
from bistil.tasks.task import Task

Made = tuple[TaskModel, Task, PreTrainedTokenizerFast]
TIMES = tuple(field.name for field in dataclasses.fields(cost.Times))
UNLEARNT = "unlearnt"
"""The metric that tells labels of a test file which training lacks."""
TURNS, REST = 15, 0.05
"""Of each model in the joint timing, and seconds of rest before each."""


def make_evaluation(
    inputs: Inputs,
    cell: Cell,
    scored: Artefact | Path,
    tuned: Artefact | None,
    worn: Artefact | None,
    model: Callable[[], Made],
) -> Artefact:
    """The score of a cell on a test file, with what the model costs, as metrics.

    What each example adds to the scores is kept beside them (`significance.read_outcomes`), where the task
    can tell.

    Args:
        scored: the test file, or a translation that is one.
        tuned: the task SFT; None for a system that guesses.
        worn: what the model wears for the language of the test.
    """
    settings = inputs.experiment.task[cell.task]

    def build(folder: Path) -> Mapping[str, Any]:
        test = scored.path(TRANSLATION) if isinstance(scored, Artefact) else scored
        examples = find_task(cell.task).read(test)
        if tuned is None:
            task, training = inputs.training(cell)
            known = [one for own in training.values() for one in own]
            return {**task.floor(known, examples), "n_examples": len(examples), **unlearnt(task, examples)}
        made, task, tokenizer = model()
        length = settings.max_length
        found = predict_all(made, task, examples, tokenizer, max_length=length, progress=inputs.progress)
        keep_outcomes(folder / KEPT, task, examples, found, test=file_id(test))
        costs = _costs(made, task, examples, tokenizer, inputs, cell, repeats=3)
        scores = task.score(examples, found)
        told = unlearnt(task, examples)
        return {**scores, "n_examples": len(examples), **told, **vars(costs), **inputs.where}

    tested = scored if isinstance(scored, Artefact) else file_id(scored)
    made_from: dict[str, Artefact | str] = {"test": tested, **({"target sft": worn} if worn else {})}
    source = inputs.experiment.source
    made_from["task sft"] = tuned or file_id(inputs.data.file(column(cell.task), source, "train"))
    config = {"task": cell.task, "max_length": settings.max_length, **moved(inputs, cell)}
    if tuned is None and settings.examples is not None:
        config["examples"] = settings.examples  # of which a guess is made
    return inputs.store.run("evaluation", config, made_from, build)


def unlearnt(task: Task, examples: Sequence[Any]) -> dict[str, dict[str, int]]:
    """The labels of a test file that a task has not learnt, with their numbers; nothing where there are
    none.
    """
    found = lacking(known_of(task), count(task.name, examples))
    return {UNLEARNT: found} if found else {}


def moved(inputs: Inputs, cell: Cell) -> dict[str, str]:
    """What a stage says of a task that was learnt by one student of a family and is used by another, and of
    how its text is cut.
    """
    learning = inputs.system(cell).learning
    told: dict[str, str] = {"used": learning.used, "carried": learning.carried} if learning.moves else {}
    if learning.moves and learning.used == "target":
        told |= inputs.member(cell)
    return told | inputs.reading(cell)


def make_retrieval(
    inputs: Inputs, cell: Cell, bases: tuple[Base, Base] | None, worn: Mapping[str, Artefact | None]
) -> Artefact:
    """How often a cell's encoder, before any task, finds a sentence's translation; a guess is chance.

    Args:
        bases: what reads the source and what reads the target, which differ in a family only; None for a
            system that guesses.
        worn: what the encoder wears, for the source and the target.
    """
    experiment = inputs.experiment
    config, languages = experiment.retrieval, (experiment.source, cell.target)

    def build(folder: Path) -> Mapping[str, Any]:
        pairs = parallel(inputs.data, *languages)[: config.pairs]
        if bases is None:
            return {"accuracy": 100 / len(pairs), "n_examples": len(pairs)}
        source, target = (
            Side(*worn_encoder(inputs, base, worn[code])) for base, code in zip(bases, languages, strict=True)
        )
        layers = config.numbers(source.encoder.config.num_hidden_layers)
        found, each = retrieve_by_layers(
            source,
            target,
            pairs,
            layers=layers,
            by=config.by,
            prefix=config.prefix,
            max_length=experiment.text.length,
        )
        looked_at: dict[str, Any] = {"layer": layers[0]}
        if config.layers is not None:
            table: list[list[Any]] = [["layer", *found], *([n, *one.values()] for n, one in each.items())]
            (folder / LAYERS).write_text(csv_text(table), encoding="utf-8")
            looked_at = {"layers": list(layers)}
        cut, vocabulary = inputs.cut_from(cell, source.encoder)
        size = {"parameters": source.encoder.num_parameters() + cut, "vocabulary": vocabulary}
        return {**found, **looked_at, "n_examples": len(pairs), **size, **inputs.where}

    files = parallel_files(inputs.data, *languages)
    made_from: dict[str, Artefact | str] = {
        f"pairs {number}": file_id(path) for number, path in enumerate(files) if path
    }
    if bases is not None:
        made_from["base"] = bases[1].student or inputs.teacher_input
        made_from |= {f"sft {code}": one for code, one in worn.items() if one}
    settings = {"task": RETRIEVAL, "settings": config, "max_length": experiment.text.length}
    settings |= inputs.reading(cell)
    return inputs.store.run("evaluation", settings, made_from, build)


def make_timing(
    inputs: Inputs,
    task: str,
    cells: Sequence[Cell],
    tuned: Mapping[str, Artefact],
    model: Callable[[Cell], Made],
) -> Artefact:
    """Latency and throughput of some cells' models in one process: each takes turns with the first, so that
    two are in memory at once.
    """
    size = inputs.experiment.task[task].batch_size

    def side(cell: Cell) -> Callable[[], cost.Turn]:
        made, kind, tokenizer = model(cell)
        examples = kind.read(inputs.data.file(kind.column, cell.target, "test"))
        rows = kind.encode(examples, tokenizer, max_length=inputs.experiment.task[task].max_length)
        pad_id = int(tokenizer.pad_token_id)
        batches = cost.typical(kind, rows, inputs.device, batch_size=size, pad_id=pad_id)
        return partial(cost.take_turn, made.eval(), kind, *batches)

    def build(folder: Path) -> Mapping[str, Any]:
        if not cells:  # guesses alone take no time
            return {"systems": {}, **inputs.where}
        first, *others = cells
        reference, found = side(first), defaultdict[str, list[cost.Turn]](list)
        for cell in others or cells:
            pair = {first.timed_as: reference, cell.timed_as: side(cell) if others else reference}
            for name, turns in cost.in_turns(TURNS, pair, rest=REST).items():
                found[name] += turns
        systems = {name: vars(cost.times(turns, size, inputs.device)) for name, turns in found.items()}
        return {"systems": systems, **inputs.where}

    return inputs.store.run("timing", {"task": task}, tuned, build)


def make_rows(
    inputs: Inputs,
    cell: Cell,
    found: Artefact,
    times: Mapping[str, Any],
    tuned: Artefact | None,
    of: str = "",
) -> list[dict[str, Any]]:
    """The tidy result rows of a cell, one a metric.

    Args:
        of: what comes before a metric's name, where it is not the zero-shot score.
        times: of the joint timing, where that has been run.
        tuned: the task SFT; None where nothing is tuned.
    """
    experiment, system = inputs.experiment, inputs.system(cell)
    measured = {**found.metrics, **times}
    shared = {
        "experiment": experiment.name,
        "system": cell.system,
        "teacher": Path(experiment.teacher).name,
        "task": cell.task,
        "source": experiment.source,
        "target": cell.target,
        "lrf": cell.lrf if cell.lrf > 1 else None,
        "drf": cell.drf if cell.drf > 1 else None,
        **system.axes,
        "regime": _regime(inputs, cell),
        "density": _density(inputs, cell, measured, tuned),
        "seed": cell.seed,
        "artefact": found.id,
    }
    names = ("n_examples", "parameters", "vocabulary", "flops_per_example", *TIMES, "disk_bytes")
    costs = {name: measured.get(name) for name in names}
    scores = [name for name in METRICS if name in measured]
    return [{**shared, **costs, "metric": of + name, "value": measured[name]} for name in scores]


def _regime(inputs: Inputs, cell: Cell) -> str:
    """Which examples a cell's task was learnt from, and how many shots there were where they are fewer than
    asked for.
    """
    told = inputs.system(cell).axes["regime"]
    for part in inputs.examples(cell) if cell.task != RETRIEVAL else ():
        if part.drawn and part.most:
            shots = inputs.shots(cell.task, part.language, part.most, cell.seed, part.overlap)
            if (number := len(shots.metrics["rows"])) < part.most:
                told += f", {number} there of {part.language}"
    return told


def _density(inputs: Inputs, cell: Cell, measured: Mapping[str, Any], tuned: Artefact | None) -> float | None:
    """The density of a cell's task SFT: the one asked for, or what came of a choice that has its own; None
    where nothing is tuned for the task.
    """
    if cell.task == RETRIEVAL or inputs.system(cell).guesses:
        return None
    learning = inputs.system(cell).learning
    if tuned is None or not learning.one_phase or learning.select == "random":
        return inputs.experiment.task[cell.task].sft.density
    share = tuned.metrics["values"] / measured["encoder_parameters"]
    return float(f"{share:.3g}")  # seeds differ by single values


def _costs(
    model: TaskModel,
    task: Task,
    examples: Sequence[Any],
    tokenizer: PreTrainedTokenizerFast,
    inputs: Inputs,
    cell: Cell,
    *,
    repeats: int,
) -> cost.Cost:
    """What a model costs; a size is that of the uncut model, which nobody has to cut to use it."""
    settings = inputs.experiment.task[cell.task]
    rows = task.encode(examples, tokenizer, max_length=settings.max_length)
    pad_id = int(tokenizer.pad_token_id)
    found = cost.measure(model, task, rows, batch_size=settings.batch_size, repeats=repeats, pad_id=pad_id)
    cut, vocabulary = inputs.cut_from(cell, model.encoder)
    return dataclasses.replace(
        found,
        parameters=found.parameters + cut,
        encoder_parameters=found.encoder_parameters + cut,
        vocabulary=vocabulary,
        disk_bytes=found.disk_bytes + cut * torch.float32.itemsize,
    )
