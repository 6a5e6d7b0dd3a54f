"""Every figure of the workbench, as functions from plain data to a matplotlib `Figure`.

Notable: every label names its unit, rows may be a partial grid, and nothing here opens a window or keeps a
figure (see bistil.plots.style)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from bistil.evaluation.results import (
    Row,
    Variant,
    average,
    in_groups,
    metric_label,
    over_all,
    primary_metric,
    ratio_to,
    rows_of,
    select,
    settings,
    variants,
)
from bistil.plots.labels import Spot, label_points
from bistil.plots.languages import coverage, typology
from bistil.plots.live import series
from bistil.plots.merging import united
from bistil.plots.regimes import examples_and_scores, examples_by_language
from bistil.plots.sft import (
    Tuning,
    by_seed,
    costs_of_tuning,
    delta_map,
    entries_over_time,
    loss_by_interval,
    loss_by_scale,
    overlap,
    parameter_ages,
    score_by_densities,
    score_by_values,
    shared_entries,
    support_over_time,
)
from bistil.plots.style import HALF, INK, PALETTE, PAPER, colours, figure, legend, style_colour_bar
from bistil.plots.tradeoffs import length_curves, pareto, scores_by_task
from bistil.systems.table import TEACHER
from bistil.tasks import title

HATCHES = ("", "///", "xxx", "...")
"""Of the bars of a system's sizes, the smallest reduction first."""

__all__ = [
    "Tuning",
    "attention_map",
    "by_seed",
    "costs_of_tuning",
    "coverage",
    "delta_map",
    "entries_over_time",
    "examples_and_scores",
    "examples_by_language",
    "learning_curve",
    "length_curves",
    "loss_by_interval",
    "loss_by_scale",
    "loss_curves",
    "overlap",
    "parameter_ages",
    "pareto",
    "score_by_densities",
    "score_by_values",
    "scores_by_language",
    "scores_by_task",
    "shared_entries",
    "support_over_time",
    "trade_off",
    "typology",
    "united",
    "vocabulary_curve",
]


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw training loss (thin) and held-out loss (dots) over steps; one colour for each label.

    A history is a list of log entries with `step` and `loss` or `eval_loss`, as `transformers.Trainer` keeps
    it."""
    made, [ax] = figure(*HALF)
    for number, (label, history) in enumerate(histories.items()):
        shade = PALETTE[number % len(PALETTE)]
        train, held_out = (series(history, key) for key in ("loss", "eval_loss"))
        ax.plot(*train, color=shade, linewidth=1, alpha=0.55, label=None if len(held_out[0]) else label)
        if len(held_out[0]):
            ax.plot(
                *held_out, color=shade, linewidth=2, marker="o", markersize=4, label=f"{label} (held out)"
            )
    ax.set(xlabel="optimiser step", ylabel="loss (nats; thin: training)")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    legend(ax, above=True)
    return made


def learning_curve(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, metric: str, label: str | None = None
) -> Figure:
    """Draw one metric over steps, one line for each language; entries without the metric are passed over."""
    made, [ax] = figure(*HALF)
    for number, (language, history) in enumerate(histories.items()):
        ax.plot(
            *series(history, metric),
            color=PALETTE[number % len(PALETTE)],
            linewidth=2,
            marker="o",
            markersize=4,
            label=language,
        )
    ax.set(xlabel="optimiser step", ylabel=label or metric_label(metric.removeprefix("eval_")))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    legend(ax, above=True)
    return made


def vocabulary_curve(thresholds: Sequence[float], sizes: Sequence[int], chosen: float) -> Figure:
    """Draw how many tokens reach each unigram probability threshold (`vocab.curve`), with the chosen one
    marked.
    """
    made, [ax] = figure(7.0, 4.0)
    ax.plot(thresholds, sizes, color=PALETTE[0], linewidth=2, marker="o", markersize=4)
    ax.axvline(chosen, color=PALETTE[3], linewidth=1.5, linestyle="--")
    ax.annotate(
        f"chosen: {chosen:g}",
        (chosen, 0.06),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        color=PALETTE[3],
        va="top",
        fontsize=9.5,
    )
    ax.set(xscale="log", xlabel="unigram probability threshold", ylim=(0, None))
    ax.set_ylabel("tokens that reach the threshold")
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    return made


def trade_off(rows: Sequence[Row]) -> Figure:
    """Draw score against cost as in BiStil's Figure 1: one panel for each task (and teacher) with FLOPs.

    x: FLOPs an example relative to the language-adapted teacher, over the targets that both have. y: primary
    metric, mean over targets and seeds. Area of the circles: parameters, relative to the teacher. Systems
    without FLOPs (a floor), or without a target in common with the teacher, are a dotted line. What scores so
    little that a third of the panel would be empty is told in words instead.
    """
    panels = [
        setting for setting in settings(rows) if average(rows_of(rows, setting), "flops_per_example")
    ] or settings(rows)
    made, axes = figure(max(7.0, min(5.6, 14 / max(len(panels), 1)) * len(panels)), 4.8, max(len(panels), 1))
    spots, shades = [], colours(variant.system for variant in variants(rows))
    for ax, setting in zip(axes, panels, strict=False):
        chosen = rows_of(rows, setting)
        spots.append(_trade_off(ax, chosen, shades))
        relative = average(select(chosen, Variant(TEACHER)), "flops_per_example")
        metric = metric_label(primary_metric(rows, setting.task))
        ax.set(
            title=_title(setting, panels),
            xlabel="FLOPs an example, relative to the teacher" if relative else "FLOPs an example",
            ylabel=f"{metric}, mean over targets",
        )
    for ax, own in zip(axes, spots, strict=False):
        label_points(ax, own)
    return made


def _trade_off(ax: Axes, chosen: Sequence[Row], shades: Mapping[str, str]) -> list[Spot]:
    """Draw one panel; return the points that are to be labelled."""
    teacher = select(chosen, Variant(TEACHER))
    relative = average(teacher, "flops_per_example") is not None
    targets = len({row["target"] for row in chosen})
    found = [(one, select(chosen, one)) for one in variants(chosen)]
    scores = {one: mean for one, own in found if (mean := average(own))}
    least = _least([mean.mean for mean in scores.values()])
    spots, below = [], []
    for variant, own in found:
        score, cost = average(own), average(own, "flops_per_example")
        x = cost.mean if cost else None
        if relative:
            x = ratio_to(teacher, own, "flops_per_example")
        if score is None:
            continue
        part = f" ({score.targets} of {targets} targets)" if score.targets < targets else ""
        shade = shades[variant.system]
        if score.mean < least:
            below.append(f"{variant.label}{part}: {score.mean:.1f}")
        elif x is None:
            ax.axhline(score.mean, color=shade, linestyle=":", linewidth=1.5)
            spots.append(Spot(ax.get_xlim()[1], score.mean, variant.label + part, 0))
        else:
            area = 300 * (ratio_to(teacher, own, "parameters") or 0.3)
            face, first = to_rgba(shade, 0.3), 3 + 1 / area  # the largest lies lowest
            ax.scatter(x, score.mean, s=area, facecolor=face, edgecolor=shade, linewidth=1.5, zorder=first)
            ax.plot(x, score.mean, color=shade, marker=".", markersize=5, linestyle="", zorder=4)
            spots.append(Spot(x, score.mean, variant.label + part, area**0.5 / 2))
    ax.margins(0.18, 0.16)
    right = ax.get_xlim()[1]
    if below:
        low, high = ax.get_ylim()
        ax.set_ylim(low - 0.05 * (len(below) + 1) * (high - low), high)
        told = "further down: " + ", ".join(below) if len(below) < 2 else "further down:\n" + "\n".join(below)
        ax.text(0.02, 0.02, told, transform=ax.transAxes, fontsize=9, color=INK, va="bottom")
    return [spot if spot.radius else spot._replace(x=right) for spot in spots]


def _least(scores: Sequence[float]) -> float:
    """The least score that is drawn in its place: more than a third of the range is empty below it, or it is
    the least of all.
    """
    ordered = sorted(scores)
    wide = [
        (high - low, high)
        for low, high in pairwise(ordered)
        if high - low > (ordered[-1] - ordered[0]) / 3 and high < ordered[-1]
    ]
    return max(wide)[1] if wide else min(ordered, default=0.0)


def scores_by_language(rows: Sequence[Row], groups: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """Draw grouped bars: one group for each target and the mean, one bar for each system, error bars of one
    std over seeds where there are several.

    The rows are of one task; of rows of several settings the first is drawn. A system that misses a target
    has no bar for the mean.

    Args:
        groups: targets by the name of their group, whose means are drawn in the place of each target's.
    """
    setting = settings(rows)[0]
    chosen = rows_of(rows, setting)
    targets, systems = sorted({row["target"] for row in chosen}), variants(chosen)
    named = in_groups(targets, groups)
    drawn = len(named) + (len(targets) > 1)
    least = HALF[0] if drawn * len(systems) < 8 else 10.0
    made, [ax] = figure(max(least, 2.5 + 0.13 * (len(named) + 1) * (len(systems) + 2)), 4.2)
    places = np.append(np.arange(len(named)), len(named) + 0.35)
    shades = colours(variant.system for variant in systems)
    sizes = {one.system: [other for other in systems if other.system == one.system] for one in systems}
    width = 0.84 / max(len(systems), 3)  # one or two systems have no wider bars than three
    spread = False
    for number, variant in enumerate(systems):
        own = select(chosen, variant)
        means = [over_all(own, its) for its in named.values()]
        means += [over_all(own, targets) if len(targets) > 1 else None]
        shown = [(place, mean) for place, mean in zip(places, means, strict=True) if mean]
        errors = [mean.std for _, mean in shown]
        spread |= any(errors)
        ax.bar(
            [place + (number - (len(systems) - 1) / 2) * width for place, _ in shown],
            [mean.mean for _, mean in shown],
            width * 0.92,
            yerr=[error or 0.0 for error in errors] if any(errors) else None,
            color=shades[variant.system],
            label=variant.label,
            hatch=HATCHES[sizes[variant.system].index(variant) % len(HATCHES)],
            edgecolor=PAPER,
            linewidth=0,
            error_kw={"elinewidth": 1, "ecolor": "#6b7785"},
        )
        for place, mean in shown:
            if mean.mean < 1:  # no bar to be seen
                x = place + (number - (len(systems) - 1) / 2) * width
                ax.annotate(
                    f"{mean.mean:.1f}", (x, mean.mean), ha="center", va="bottom", fontsize=7, color=INK
                )
    names = [*named, *(["mean"] if len(targets) > 1 else [])]
    ax.set_xticks(places[: len(names)], names)
    ax.set(
        ylabel=metric_label(primary_metric(rows, setting.task)),
        xlabel=("group of target languages" if groups else "target language")
        + (" (error bars: one std over seeds)" if spread else ""),
    )
    ax.grid(False, axis="x")
    legend(ax, above=True)
    return made


def attention_map(student: Any, teacher: Any, tokens: Sequence[str] = ()) -> Figure:
    """Draw a student's and a teacher's attention probabilities side by side. Shapes: [L, L], rows are
    queries; tokens: L names or none.
    """
    made, axes = figure(9.0, 4.4, 2)
    pair = [np.asarray(item, dtype=float) for item in (student, teacher)]
    top = max(float(item.max()) for item in pair)
    for ax, item, side in zip(axes, pair, ("student", "teacher"), strict=True):
        image = ax.imshow(item, cmap="cividis", vmin=0, vmax=top)
        ax.set(title=side, xlabel="attended to", ylabel="attending")
        ax.grid(False)
        if tokens:
            ax.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
            ax.set_yticks(range(len(tokens)), tokens, fontsize=8)
    style_colour_bar(made.colorbar(image, ax=axes, shrink=0.85), "attention probability")
    return made


def _title(setting: Any, panels: Sequence[Any]) -> str:
    several = len({(other.teacher, other.source) for other in panels}) > 1
    return f"{setting.task} ({setting.teacher}, {setting.source})" if several else title(setting.task)
