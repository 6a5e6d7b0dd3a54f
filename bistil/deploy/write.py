"""A finished student taken away: `bistil export RUN --to folder|sentence-transformers|onnx|onnx-int8|hub`.

Notable: what is written is read back and scored on the target's test file before it is handed over, next to
the score in the store; nothing is trained here, so a student that has not been evaluated yet is refused."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bistil.adapt.worn import WORN, load_worn
from bistil.deploy import graph, sentences
from bistil.deploy.card import Measured, card
from bistil.deploy.graph import GRAPHS
from bistil.deploy.measure import COMPARED, TIMED, latencies, megabytes
from bistil.deploy.read import Deployed, load_deployed, of_real_tokens
from bistil.errors import InputError
from bistil.evaluation.results import read_results
from bistil.evaluation.score import predict_all
from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.store.artefacts import Artefact, NotBuilt, Store
from bistil.tasks import RETRIEVAL
from bistil.text.written import aside, open_to_others

FORMS = ("folder", sentences.FORM, *GRAPHS)
EXACT = 1e-4
"""How far logits of a float32 graph may be from PyTorch's."""
NEAR = 0.5
"""Points that an int8 graph may score less before that is called a loss."""


@dataclass(frozen=True)
class Asked:
    """One score of an experiment, by the options of the command line; None is whatever the experiment has."""

    system: str | None = None
    task: str | None = None
    target: str | None = None
    seed: int | None = None


def choose(experiment: Experiment, asked: Asked, form: str = "folder") -> Cell:
    """The first cell of an experiment that is what was asked for and can be had in a form; a student, where
    the system is left open, and an encoder of sentences only where the form or the task asks for one.

    Raises:
        InputError: where there is none, with what there is.
    """
    wanted = {name: value for name, value in vars(asked).items() if value is not None}
    pooled = form == sentences.FORM or asked.task == RETRIEVAL
    scored = [cell for cell in experiment.cells() if (cell.task == RETRIEVAL) == pooled]
    cells = [cell for cell in scored if not experiment.system(cell.system).guesses]
    found = [
        cell
        for cell in cells
        if all(_named(experiment, cell)[name] == value for name, value in wanted.items())
    ]
    if not found:
        known = "; ".join(
            f"{name} {', '.join(sorted({str(_named(experiment, cell)[name]) for cell in cells}))}"
            for name in vars(asked)
        )
        raise InputError(f"The experiment {experiment.name} has no score with {wanted}. It has: {known}.")
    ours = [cell for cell in found if experiment.system(cell.system).ours]
    students = [cell for cell in found if experiment.system(cell.system).student]
    return [*ours, *students, *found][0]


def _named(experiment: Experiment, cell: Cell) -> dict[str, Any]:
    return {
        "system": experiment.named(cell),
        "task": cell.task,
        "target": cell.target,
        "seed": cell.seed,
    }


def of_evaluation(name: str, reports: Iterable[Path], experiments: Path) -> tuple[Path, Asked]:
    """The experiment file and the cell of an evaluation, by its id in the first results.csv that has it.

    Raises:
        InputError: where none has it, or the folder of experiments has no file of that name.
    """
    row = next((row for path in reports for row in read_results(path) if row["artefact"] == name), None)
    file = experiments / f"{row['experiment']}.yaml" if row else None
    if row is None or file is None or not file.is_file():
        lacking = (
            f"{file} is not there: give the experiment file and --system, --task, --target"
            if file
            else f"none names {name!r}"
        )
        raise InputError(
            "An experiment file, or the id of an evaluation in a results.csv under reports/, was expected,"
            f" but {lacking}."
        )
    cell = Cell(row["system"], row["task"], row["target"], row["lrf"] or 1, row["seed"], row["drf"] or 1)
    named = Experiment.read(file).named(cell)
    return file, Asked(named, row["task"], row["target"], row["seed"])


def export(pipeline: Pipeline, cell: Cell, form: str, to: Path, *, say: Callable[[str], None]) -> Measured:
    """Write a cell's student into the new folder `to` in one of FORMS, with its model card; say and return
    what was measured.

    Raises:
        InputError: where `to` exists, the extra is missing, the cell has not been evaluated, or a float32
            graph differs from PyTorch.
    """
    if form not in FORMS:
        raise InputError(f"A form, one of {', '.join(FORMS)}, was expected, but got {form!r}.")
    _check_new(to)
    if form in GRAPHS and graph.missing():
        raise InputError(f"{graph.missing()}.")
    evaluation = _evaluated(pipeline, cell)
    with aside(to) as growing:
        fill = sentences.fill if cell.task == RETRIEVAL else _fill
        measured = fill(pipeline, cell, evaluation, form, growing)
        if form != "onnx-int8" and not measured.apart <= EXACT:  # what is no number is not
            raise InputError(
                f"The same outputs to {EXACT:g} were expected of the {form}, but they are up to"
                f" {measured.apart:.2g} apart: do not use it."
            )
        text = card(pipeline, cell, evaluation, measured, growing)
        (growing / "README.md").write_text(text, encoding="utf-8")
        open_to_others(growing)
        growing.rename(to)
    for line in told(measured):
        say(line)
    return measured


def write_adapter(pipeline: Pipeline, cell: Cell, code: str, to: Path) -> Path:
    """Write the adapter that a cell's system wears for a language, trained or generated, as
    `adapter.safetensors` into the new folder `to`; return its path. What it lacks is built first.

    Raises:
        InputError: where `to` exists, or the system wears no adapters.
    """
    _check_new(to)
    worn = pipeline.worn(cell, code) if pipeline.system(cell).adaptation.hangs else None
    if worn is None:
        raise InputError(
            f"A system that wears adapters for languages was expected, but {cell.system} wears none. Name one"
            " with --system."
        )
    path = to / "adapter.safetensors"
    load_worn(worn.path(WORN)).save(path)
    return path


def _check_new(to: Path) -> None:
    if to.exists():
        raise InputError(
            f"A new folder was expected at {to}, but it is there already. Move it away, or name another with"
            " --out."
        )


def _fill(pipeline: Pipeline, cell: Cell, evaluation: Artefact, form: str, folder: Path) -> Measured:
    """Write the student into a folder of its own, and measure what was written."""
    source = pipeline.deployed(cell).path("model")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    model, _, tokenizer = load_deployed(source)
    task, _ = pipeline.training(cell)
    examples = task.read(pipeline.test_path(cell))
    settings = pipeline.experiment.task[cell.task]
    rows, pad_id = (
        task.encode(examples, tokenizer, max_length=settings.max_length),
        int(tokenizer.pad_token_id),
    )
    if form in GRAPHS:
        graph.in_place(folder, form, model.encoder, model.inputs(task.collate(rows[:2], pad_id)))
    written, _, _ = load_deployed(folder)
    batch = task.collate(rows[:COMPARED], pad_id)
    scores = task.score(
        examples, predict_all(written, task, examples, tokenizer, max_length=settings.max_length)
    )
    ways = [partial(task.predict, one) for one in (model, written)]
    times = latencies(ways, [task.collate([row], pad_id) for row in rows[:TIMED]])
    return Measured(
        form=form,
        metric=task.metric,
        score=float(evaluation.metrics[task.metric]),
        exported_score=scores[task.metric],
        apart=largest_difference(model, written, batch),
        torch_ms=times[0],
        exported_ms=times[1],
        megabytes=megabytes(folder),
    )


def told(measured: Measured) -> list[str]:
    """What was measured, in sentences."""
    lost = measured.score - measured.exported_score
    verdict = (
        "" if lost <= NEAR else f": {lost:.1f} points lost, more than {NEAR:g}; measure before you use it"
    )
    return [
        f"outputs: up to {measured.apart:.2g} from PyTorch's",
        (
            f"{measured.metric}: {measured.exported_score:.2f} as exported, {measured.score:.2f} in the"
            f" store{verdict}"
        ),
        (
            f"one example, decoding included: {measured.exported_ms:.2f} ms as exported,"
            f" {measured.torch_ms:.2f} ms in PyTorch, here"
        ),
        f"{measured.megabytes:.1f} MB",
    ]


def _evaluated(pipeline: Pipeline, cell: Cell) -> Artefact:
    """The cell's evaluation, which has to be there."""
    reader = Pipeline(pipeline.experiment, pipeline.data, Store(pipeline.store.root, read_only=True))
    try:
        return reader.evaluation(cell)
    except NotBuilt as error:
        raise InputError(
            f"A finished score was expected for {cell} of {pipeline.experiment.name}, but the store has none."
            " Run `bistil batch` with the experiment file first, or name the store with --store."
        ) from error


@torch.inference_mode()
def largest_difference(one: Deployed, other: Deployed, batch: Mapping[str, Tensor]) -> float:
    """The largest difference of the outputs of two models on the real tokens of a batch."""
    outputs = (of_real_tokens(model.outputs(batch), batch) for model in (one, other))
    most = [(a - b).abs().max() for a, b in zip(*outputs, strict=True)]
    return float(torch.stack(most).max())


def check_hub(repository: str | None, *, public: bool = False) -> Any:
    """A client of the hub that may write to the repository; asked before any work.

    Args:
        public: whether others may read it already.

    Raises:
        InputError: without a name OWNER/NAME, without a token, where the hub does not answer, or where
            anybody can read the repository and `public` does not say so.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if repository is None or repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"The hub's repository was expected as --repo OWNER/NAME, but got {repository!r}.")
    token = huggingface_hub.get_token()
    if not token:
        raise InputError(
            "A token of the hub was expected, to upload with, but there is none. `hf auth login` asks for one"
            " and keeps it."
        )
    hub = huggingface_hub.HfApi(token=token)
    try:
        private = hub.repo_info(repository).private
    except RepositoryNotFoundError:
        private = True  # it will be made so
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"The hub was asked about {repository}, but gave no answer ({error!s:.300}). Check the name and"
            " the token, or go online."
        ) from error
    if not private and not public:
        raise InputError(
            f"A private repository was expected, or none yet, but anybody can read {repository}. Give"
            " --public to publish the student there, or name another with --repo."
        )
    return hub


def upload(folder: Path, repository: str, *, public: bool = False) -> str:
    """Put an exported folder into a repository of the hub, which is made private where it is missing; return
    its address.

    Raises:
        InputError: as `check_hub` does.
    """
    hub = check_hub(repository, public=public)
    address = str(hub.create_repo(repository, private=True, exist_ok=True))
    hub.upload_folder(
        repo_id=repository, folder_path=str(folder), commit_message="A student made with bistil"
    )
    return address
