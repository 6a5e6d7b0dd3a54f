"""Which typological features a generator of adapters leans on (MAD-G): how far each moves what is generated,
and what a language loses where one is told wrongly (suggested and not run in thesis section 3.5.4).

Notable: a flip sets one feature to its opposite alone. In a table each value is a feature (order=SVO,
order=SOV), so a language then has no order, or two. What a seed finds of a target is an artefact of its own,
so an interrupted study goes on with the next one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from bistil import batch
from bistil.batch import Job
from bistil.batch.account import SCORED
from bistil.errors import InputError
from bistil.evaluation.results import metric_label
from bistil.evaluation.score import predict_all
from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.pipeline.bases import Base
from bistil.pipeline.generated import GENERATOR
from bistil.pipeline.tuned import make_task_model
from bistil.plots.features import feature_map, leaning
from bistil.settings.ranges import Count, Filled, Seed, Settings
from bistil.sft.bottleneck import Adapter
from bistil.sft.generator import Generator, Kind
from bistil.store.artefacts import Artefact, NotBuilt, Store, file_id
from bistil.studies.alignment import TOGETHER, Row
from bistil.studies.kept import Build, Found, Jobs, Verdict, built
from bistil.systems.table import MADG
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.text.corpora import held_out
from bistil.training.mlm import evaluate_mlm

TEACHER = Base(None, None)


@dataclass(frozen=True, kw_only=True)
class Features(Settings):
    """Features of some targets, flipped one at a time.

    Attributes:
        targets: Languages with features and text.
        task: A task whose zero-shot score is measured beside the loss, once a flip; "" for none.
        kind: The generator, `base` or `ls`; null for the experiment's own.
        lines: At most so many held-out sequences of a target's text are read.
        most: At most so many features of a target are flipped, those with the largest norms; null for all
            that it shares with the nearest other language of the generator.
        seeds: The seeds of the masks in that text, and of the task's adapters.
    """

    targets: Annotated[tuple[str, ...], Filled()]
    task: str = ""
    kind: Kind | None = None
    lines: Count = 64
    most: Count | None = None
    seeds: Annotated[tuple[Seed, ...], Filled()] = (1,)

    def check(self, base: Experiment) -> None:
        """Refuse what the experiment cannot answer.

        Raises:
            InputError: where it has no generator, or does not train the task.
        """
        if base.generator is None or base.typology is None:
            told = f"`generator` and `typology` of {base.name} were expected for `features`; add them there."
            raise InputError(told, at=("experiment",))
        if self.task and self.task not in base.task:
            raise InputError(
                f"A task of {base.name} was expected as `task` under `features`, one of"
                f" {', '.join(base.task)}, but {self.task!r} came.",
                at=("features", "task"),
            )

    def over(self, base: Experiment) -> Experiment:
        """The base experiment with the generator that is asked for; where there is a task, with MAD-G
        alone.
        """
        assert base.generator is not None
        kind = self.kind or base.generator.kind
        found = base.narrowed(generator=dataclasses.replace(base.generator, kind=kind))
        if not self.task:
            return found
        targets = {self.task: self.targets}
        return dataclasses.replace(found, systems=(MADG,), targets=targets, seeds=self.seeds, on_source=False)


@torch.no_grad()
def norms(generator: Generator) -> np.ndarray:
    """The norm of each feature's column of W V, by layer: how far it moves the weights that are generated
    there. Shape: [layers, F].

    Where layers share W, they move alike; what of W reads a layer's embedding is left out.
    """
    languages = generator.languages.double().cpu()
    weights = (one[:, : len(languages)].double().cpu() for one in generator.weights)
    squares = torch.stack([((one.T @ one @ languages) * languages).sum(0) for one in weights])
    return squares.clamp(min=0).sqrt().expand(generator.depth, -1).numpy()


def flipped(features: np.ndarray, place: int) -> np.ndarray:
    """A language's features with one set to its opposite, and nothing else changed. Shape: [F]."""
    found = features.copy()
    found[place] = 1 - found[place]
    return found


def study_features(
    base: Experiment, asked: Features, build: Build, store: Store, *, say: Callable[[str], None]
) -> Found:
    """Build the generator and measure every target; what could not be built is left out."""
    found, rows, experiment = Found(), list[Row](), asked.over(base)
    jobs: Jobs = {Job("generator", (None,)): ()}
    reader = build(experiment, {})
    reader.typology.check((*asked.targets, *reader.generator_languages))
    for code in asked.targets:
        reader.lines(code)  # fails now, before any long work
    if asked.task:
        reader.check()
        jobs = {job: after for job, after in batch.plan(experiment).items() if job.stage not in SCORED}
    reader = build(experiment, jobs)
    there = built(reader, jobs)
    made = next((one for job, one in there.items() if job.stage == "generator"), None)
    if made is None:
        return found
    found.artefacts |= {one.id: one for one in there.values()}
    generator = Generator.load(made.path(GENERATOR))
    for cell in (Cell(MADG, asked.task, code, 1, seed) for code in asked.targets for seed in asked.seeds):
        say(f"features: {cell.target}, seed {cell.seed}")
        with suppress(NotBuilt):
            one = _measured(reader, store, asked, made, generator, cell)
            found.artefacts[one.id] = one
            about = {"target": cell.target, "nearest": one.metrics["nearest"], "seed": cell.seed}
            rows += ({**about, **row, "artefact": one.id} for row in one.metrics["rows"])
    _tell(found, rows, generator, asked.task)
    return found


def _tell(found: Found, rows: list[Row], generator: Generator, task: str) -> None:
    """Add tables, verdicts and figures to what is found."""
    by_layer = norms(generator)
    together = np.linalg.norm(by_layer, axis=0)
    found.tables["features"] = rows
    found.tables["norms"] = [
        {"feature": name, "layer": layer, "norm": round(float(norm), 6)}
        for layer, own in ((TOGETHER, together), *enumerate(by_layer, start=1))
        for name, norm in zip(generator.features, own, strict=True)
    ]
    found.verdicts += verdict(rows, "loss_change", "loss, 0.001 nats a token", 1000)
    labels = {"loss_change": "change of held-out loss (nats a token)"}
    if task:
        found.verdicts += verdict(rows, "score_change", "score, points", -1)
        labels["score_change"] = f"change of {metric_label(find_task(task).metric)}".replace("%", "points")
    norm = dict(zip(generator.features, together.tolist(), strict=True))
    changes = {label: [(row["feature"], row[name]) for row in rows] for name, label in labels.items()}
    caption = (
        "How far a feature moves what is generated, and what changes where it alone is flipped (dots: targets"
        " and seeds; bars: means)."
    )
    found.figures["features"] = leaning(norm, changes if rows else {}), caption
    vectors = dict(zip(generator.features, generator.languages.double().numpy().T, strict=True))
    if min(generator.languages.shape) > 1:
        caption = "Features by their columns of V: the closer two are, the more alike is what they change."
        found.figures["map"] = feature_map(vectors, norm), caption


def _measured(
    reader: Pipeline, store: Store, asked: Features, made: Artefact, generator: Generator, cell: Cell
) -> Artefact:
    """A target's loss, and its score where there is a task, before any flip and how each changes them."""
    code = cell.target
    near = reader.typology.nearest(code, [one for one in reader.generator_languages if one != code])[0]
    own, other = (reader.typology.vector(one) for one in (code, near))
    sft = reader.task_sft(cell) if asked.task else None
    test = reader.data.file(column(asked.task), code, "test") if asked.task else None

    def build(folder: Path) -> Mapping[str, Any]:
        weight = np.linalg.norm(norms(generator), axis=0).tolist()
        shared = np.flatnonzero(own == other).tolist()
        places = sorted(shared, key=lambda place: -weight[place])[: asked.most]
        told = [own, *(flipped(own, place) for place in places)]
        found = {"loss": _losses(reader, cell, asked.lines, map(generator.adapter, told))}
        if sft and test:
            found["score"] = _scores(reader, cell, sft, test, map(generator.adapter, told))
        before = {name: values[0] for name, values in found.items()}
        rows = [
            {"feature": generator.features[place], "had": int(own[place]), "norm": round(weight[place], 6)}
            | before
            | {f"{name}_change": round(found[name][number] - before[name], 6) for name in found}
            for number, place in enumerate(places, start=1)
        ]
        return {"nearest": near, "rows": rows, **reader.where}

    config = {"text": reader.text_of((code,)), "lines": asked.lines, "most": asked.most, "seed": cell.seed}
    made_from: dict[str, Artefact | str] = {
        "base": reader.teacher_input,
        "generator": made,
        "typology": reader.typology.digest([code, near]),
        **reader.texts((code,)),
        **({"task sft": sft, "test": file_id(test)} if sft and test else {}),
    }
    return store.run("feature-flips", {**config, "task": asked.task}, made_from, build)


def _losses(reader: Pipeline, cell: Cell, lines: int, adapters: Iterable[Adapter]) -> list[float]:
    """The loss of a target's held-out text with each adapter."""
    teacher, code = reader.fresh_teacher(), cell.target
    mlm, text = reader.placed(teacher.mlm).eval(), reader.text_of((code,))
    _, kept = reader.blocks(code).split(text.held_out(code))
    share, seed = text.mask_share, cell.seed
    batches = held_out(
        {code: kept}, teacher.tokenizer, batch_size=16, mask_share=share, most=lines, seed=seed
    )
    return _with_each(adapters, teacher.encoder, lambda: evaluate_mlm(mlm, batches)["loss"])


def _scores(
    reader: Pipeline, cell: Cell, sft: Artefact, test: Path, adapters: Iterable[Adapter]
) -> list[float]:
    """The score of a cell's model on a test file with each adapter below the task's."""
    model, task, tokenizer = make_task_model(reader, cell, TEACHER, None, sft, TEACHER)
    examples, length = task.read(test), reader.experiment.task[cell.task].max_length

    def score() -> float:
        found = predict_all(model, task, examples, tokenizer, max_length=length)
        return task.score(examples, found)[task.metric]

    return _with_each(adapters, model.encoder, score)


def _with_each(
    adapters: Iterable[Adapter], encoder: PreTrainedModel, measure: Callable[[], float]
) -> list[float]:
    found = []
    for adapter in adapters:
        hung = adapter.apply(encoder)
        found.append(round(measure(), 6))
        hung.revert()
    return found


def verdict(rows: Sequence[Row], column: str, unit: str, harm: float) -> list[Verdict]:
    """Whether flips of the half of a target's features with the larger norms harm more than those of the
    other half; none where there is one flip only.

    Args:
        unit: the measure and its unit, in words.
        harm: what a change is multiplied by to be harm in that unit.
    """
    sides: tuple[list[float], list[float]] = ([], [])
    for one in dict.fromkeys(row["artefact"] for row in rows):
        own = [harm * row[column] for row in rows if row["artefact"] == one]  # the largest norm comes first
        half = len(own) // 2
        sides[0].extend(own[:half])
        sides[1].extend(own[len(own) - half :])
    claim = f"flips of features that the generator leans on most harm more than the others ({unit})"
    return [Verdict(claim, *map(fmean, sides))] if sides[0] else []
