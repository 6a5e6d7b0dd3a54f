"""What more trained values are worth: LT-SFT, random supports and adapters at equal numbers of them, scored
zero-shot (thesis Figure 4.2).

Notable: a number is named by a reduction of the task's adapter, and an SFT may change exactly as many entries
as that adapter has values: 2 · H · (H / reduction) in each of its layers, as in the thesis (section 4.4.3),
and the biases, which the thesis leaves out. What is worn for languages, and all rates, are the base
experiment's. Where that cuts its teacher, a random support is of what is left, as everywhere.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from transformers import PreTrainedModel

from bistil import batch, plots
from bistil.errors import InputError
from bistil.evaluation.results import average, common_targets, metric_label, over_all, primary_metric
from bistil.experiment import Experiment
from bistil.settings.ranges import Factor, Filled, Seed, Settings
from bistil.sft.bottleneck import AdapterModule
from bistil.studies.kept import SCORE, Build, Found, Verdict, built
from bistil.systems.table import MADX, RANDOM_SFT, TEACHER

SIZED = ("", "random", "adapter", "spiel-ag", "spiel-ma")
"""How a task is learnt with as many values as one likes, in the words of `Learning.by`."""


@dataclass(frozen=True, kw_only=True)
class Budgets(Settings):
    """Systems at equal numbers of values trained for one task, scored on some targets.

    Attributes:
        task: The task that is tuned.
        targets: Languages to be scored.
        reductions: Of the task's adapter, falling, so that numbers of values rise.
        systems: Whole teachers that learn the task by an SFT or an adapter.
        seeds: The seeds of the task SFTs and adapters.
    """

    task: str
    targets: Annotated[tuple[str, ...], Filled()]
    reductions: Annotated[tuple[Factor, ...], Filled()]
    systems: Annotated[tuple[str, ...], Filled()] = (TEACHER, RANDOM_SFT, MADX)
    seeds: Annotated[tuple[Seed, ...], Filled()] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.reductions) != sorted(set(self.reductions), reverse=True):
            told = f"Falling numbers were expected as `budgets.reductions`, but got {self.reductions}."
            raise InputError(told, at=("reductions",))

    def check(self, base: Experiment) -> None:
        """Refuse what the experiment cannot answer.

        Raises:
            InputError: where it has no modules of languages or no adapter of the task, and for systems of
                which no number of values can be asked.
        """
        adapter = base.task[self.task].adapter if self.task in base.task else None
        needed = {
            "language_sft": base.language_sft,
            "language_adapter": base.language_adapter,
            f"task.{self.task}.adapter": adapter,
        }
        if lacking := [name for name, one in needed.items() if one is None]:
            told = f"`{lacking[0]}` of {base.name} was expected for `budgets`, but is not there; add it."
            raise InputError(told, at=("experiment",))
        for number, name in enumerate(self.systems):
            at = ("budgets", "systems", number)
            system = base.system(base.parse_system(name, at=at)[0])
            other = system.student or system.guesses or system.model or system.own_teacher
            if other or system.learning.by not in SIZED:
                told = f"A teacher that learns tasks by an SFT or an adapter was expected, but got {name!r}."
                raise InputError(told, at=at)


def at_reduction(
    base: Experiment, asked: Budgets, number: int, encoder: PreTrainedModel
) -> tuple[Experiment, int]:
    """The base experiment with as many values trained for the task as an adapter of the reduction of that
    number has on the encoder, and how many these are.

    Raises:
        InputError: where the encoder has fewer parameters, or states of fewer values.
    """
    settings, reduction = base.task[asked.task], asked.reductions[number]
    assert settings.adapter is not None
    assert settings.adapter.adapter is not None
    form = dataclasses.replace(settings.adapter.adapter, reduction=reduction)
    with torch.device("meta"):
        values = sum(one.numel() for one in AdapterModule(encoder.config, form).parameters())
    if values > (whole := encoder.num_parameters()):
        raise InputError(
            f"An adapter of `budgets.reductions[{number}]`, {reduction}, has {values:,} values, but an SFT"
            f" changes at most the {whole:,} parameters of the teacher's encoder. Leave that reduction out.",
            at=("budgets", "reductions", number),
        )
    adapter = dataclasses.replace(settings.adapter, adapter=form)
    tuned = dataclasses.replace(settings, adapter=adapter, sft=settings.sft.at_density(values / whole))
    experiment = base.narrowed(
        systems=asked.systems,
        targets={asked.task: asked.targets},
        task={asked.task: tuned},
        seeds=asked.seeds,
    )
    return experiment, values


def study_budgets(base: Experiment, asked: Budgets, build: Build, *, say: Callable[[str], None]) -> Found:
    """Build and score every system with every number of values, the fewest first; what could not be scored is
    left out.
    """
    found, rows = Found(), list[dict[str, Any]]()
    encoder = build(base, {}).uncut_teacher().encoder
    points = [at_reduction(base, asked, number, encoder) for number in range(len(asked.reductions))]
    build(points[0][0], {}).check()
    for reduction, (experiment, values) in zip(asked.reductions, points, strict=True):
        say(f"budgets: {values:,} values, those of an adapter of reduction {reduction}")
        jobs = {job: after for job, after in batch.plan(experiment).items() if job.stage != "timing"}
        reader = build(experiment, jobs)
        for row in batch.rows(reader):
            about = {"system": row["system"], "reduction": reduction, "values": values}
            rows.append({**about, **{name: row[name] for name in SCORE}})
        found.artefacts |= {artefact.id: artefact for artefact in built(reader, jobs).values()}
    found.tables["budgets"] = rows
    metric = primary_metric(rows, asked.task)
    chosen = [row for row in rows if row["metric"] == metric]
    for system in dict.fromkeys(row["system"] for row in chosen):
        own = [row for row in chosen if row["system"] == system]
        found.verdicts += verdict(system, own, gains=not base.system(system).learning.adapter)
    if drawn := curves(chosen):
        label = f"{metric_label(metric)} on {', '.join(asked.targets)}"
        caption = (
            "Zero-shot score over the number of values trained for the task, mean over targets and seeds"
        )
        caption += "; bands: one std over seeds." if len(asked.seeds) > 1 else "."
        found.figures["budgets"] = plots.score_by_values(drawn, label=label), caption
    return found


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float, float]]]:
    """For each system the numbers of values, with its mean score over targets and seeds and its std over
    seeds; those at which it lacks a target are left out.
    """
    found: dict[str, list[tuple[int, float, float]]] = {}
    targets = {row["target"] for row in rows}
    for system, values in dict.fromkeys((row["system"], row["values"]) for row in rows):
        own = [row for row in rows if (row["system"], row["values"]) == (system, values)]
        if mean := over_all(own, targets):
            found.setdefault(system, []).append((values, mean.mean, mean.std or 0.0))
    return found


def verdict(system: str, rows: Sequence[dict[str, Any]], *, gains: bool) -> list[Verdict]:
    """Whether a system scores more with the most values than with the fewest or, where the thesis sees no
    gain (section 4.5), less; none of one number of values.
    """
    sizes = sorted({row["values"] for row in rows})
    few, many = ([row for row in rows if row["values"] == size] for size in (sizes[0], sizes[-1]))
    means = [average(side, targets=common_targets(few, many)) for side in (few, many)]
    if len(sizes) < 2 or not all(means):
        return []
    fewest, most = (mean.mean for mean in means if mean)
    if gains:
        claim = f"{system} scores more with {sizes[-1]:,} trained values than with {sizes[0]:,}"
        return [Verdict(claim, most, fewest)]
    claim = f"{system} does not gain: it scores more with {sizes[0]:,} trained values than with {sizes[-1]:,}"
    return [Verdict(claim, fewest, most)]
