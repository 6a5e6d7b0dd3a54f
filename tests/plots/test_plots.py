"""Figures: they show what they were given, name their units, and leave no global state behind."""

import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bistil import plots
from bistil.plots import features, style
from bistil.systems import table

HISTORY = [
    {"step": 1, "loss": 3.0},
    {"step": 2, "loss": 2.0},
    {"step": 2, "eval_loss": 2.5, "eval_las": 40.0},
    {"step": 3, "grad_norm": 1.0},
]


SYSTEMS = [
    ("teacher-ltsft", None, 60, 100, 10.0),
    ("bistil-tf", 2, 58, 50, 5.0),
    ("floor", None, 9, None, None),
]


def rows(*, cost: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "system": system,
            "teacher": "t",
            "task": "parsing",
            "source": "src",
            "target": target,
            "lrf": lrf,
            "density": 0.08,
            "seed": seed,
            "metric": "las",
            "value": value + seed,
            "parameters": size,
            "flops_per_example": flops if cost else None,
        }
        for system, lrf, value, size, flops in SYSTEMS
        for target in ("aaa", "bbb")
        for seed in (0, 1)
    ]


def texts(figure: Figure) -> str:
    return " | ".join(
        item.get_text()
        for ax in figure.axes
        for item in [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title]
    )


@pytest.mark.parametrize("many", [1, 4, 5, 9])
@pytest.mark.parametrize("name", ["eng + {}", "a long name of a system, {}"])
def test_a_legend_above_leaves_its_axes_their_room(many: int, name: str) -> None:
    made = plots.loss_curves({name.format(number): HISTORY for number in range(many)})
    made.draw_without_rendering()
    [ax] = made.axes
    assert ax.get_position().width > 0.6
    assert ax.get_position().height > 0.3
    told = ax.get_legend().get_window_extent()
    assert told.x1 <= made.bbox.x1


def test_loss_curves_show_training_and_held_out_loss() -> None:
    [ax] = plots.loss_curves({"kela": HISTORY}).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 3], [2, 2]], [[2, 2.5]]]
    assert "nats" in ax.get_ylabel()


def test_learning_curve_passes_over_entries_without_the_metric() -> None:
    [ax] = plots.learning_curve({"kela": HISTORY, "mutu": []}, metric="eval_las").axes
    assert ax.lines[0].get_xydata().tolist() == [[2, 40]]
    assert ax.get_ylabel() == "LAS (%)"


def test_overlap_writes_percent_and_chance() -> None:
    matrix = np.array([[1.0, 0.25], [0.25, 1.0]])
    found = texts(plots.overlap(matrix, ["aaa", "bbb"], chance=0.08))
    assert "25.0" in found
    assert "by chance: 8 %" in found
    assert matrix[0, 0] == 1.0


def test_the_delta_map_shows_the_densities_it_is_given() -> None:
    layers, modules, densities = (
        ["-", "0"],
        ["embedding", "query"],
        np.array([[0.5, np.nan], [np.nan, 0.025]]),
    )
    ax = plots.delta_map(layers, modules, densities).axes[0]
    [image] = ax.images
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), 100 * densities)
    assert [text.get_text() for text in ax.texts] == ["50.0", "2.5"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == modules
    assert [tick.get_text() for tick in ax.get_yticklabels()] == layers


def test_equal_densities_have_nearly_one_colour() -> None:
    [image] = plots.delta_map(["0"], ["query", "key"], np.array([[0.10295, 0.10296]])).axes[0].images
    colours = np.asarray(image.cmap(image.norm(image.get_array())))
    assert np.abs(colours[0, 0] - colours[0, 1]).max() < 0.02


def test_parameter_ages_are_shares_over_the_run_with_the_null_as_a_line() -> None:
    chance = ([0, 20, 40], [0.0, 0.75, 0.25])
    [ax] = plots.parameter_ages({"AG": [40, 20, 20, 40, 40]}, steps=60, chance=chance).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[20, 40], [40, 60]], [[20, 75], [40, 25]]]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert ax.get_xlim() == (0, 60)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["AG", "random drops (expected)"]
    assert len(plots.parameter_ages({"MA": [20]}, steps=60).axes[0].lines) == 1
    [ax] = plots.parameter_ages({"AG": {40: 3, 20: 2}}, steps=60, chance=([0, 20], [0.1, 0.9])).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[20, 40], [40, 60]], [[0, 10], [20, 90]]]


def test_the_diagonal_of_the_overlap_is_the_control_and_families_are_parted() -> None:
    matrix = np.full((3, 3), 0.2)
    matrix[0, 1] = matrix[1, 0] = 0.12
    made = plots.overlap(
        matrix, ["qaa", "qab", "qba"], chance=0.08, control=[0.6, 0.5, np.nan], families=["A", "A", "B"]
    )
    ax = made.axes[0]
    assert [text.get_text() for text in ax.texts] == [
        "60.0",
        "12.0",
        "20.0",
        "12.0",
        "50.0",
        "20.0",
        "20.0",
        "20.0",
    ]
    assert len(ax.patches) == 2  # a frame for each control that there is
    assert np.asarray(ax.lines[0].get_ydata()).tolist() == [1.5, 1.5]
    assert len(ax.lines) == 2
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["A  qaa", "A  qab", "B  qba"]
    assert "two seeds" in ax.get_title()
    assert ax.images[0].get_clim() == (8, 20)  # from chance to the most that two languages share
    assert matrix[0, 0] == 0.2


def test_the_bands_of_a_support_are_shares_that_sum_to_the_whole() -> None:
    births = [np.array([20, 20, 20, 20]), np.array([20, 40, 20, 40]), np.array([20, 60, 60, 60])]
    ax = plots.support_over_time(births, [20, 40, 60]).axes[0]
    heights = [np.asarray(band.get_paths()[0].vertices)[:, 1] for band in ax.collections]
    assert [float(found.max()) for found in heights] == [100, 100, 100]
    assert 25.0 in heights[0]  # a quarter is left of the first update at the end


def test_entries_come_and_go_in_the_order_of_their_coming() -> None:
    ax = plots.entries_over_time([[1, 9], [4, 9], [4, 7]], [10, 20, 30]).axes[0]
    [mesh] = ax.collections
    inside = np.asarray(mesh.get_array()).reshape(4, 3).tolist()
    assert inside == [[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert "4 of 4 entries" in ax.get_ylabel()
    few = plots.entries_over_time([np.arange(200)], [10], most=60).axes[0]
    assert "60 of 200" in few.get_ylabel()


def test_loss_by_scale_marks_the_delta_as_trained() -> None:
    ax = plots.loss_by_scale([0.0, 1.0, 2.0], {"qac": [3.0, 2.0, 2.5]}).axes[0]
    assert np.asarray(ax.lines[0].get_xydata()).tolist() == [[0, 3], [1, 2], [2, 2.5]]
    assert np.asarray(ax.lines[1].get_xdata()).tolist() == [1, 1]
    assert "nats" in ax.get_ylabel()


def test_scores_by_densities_mark_what_was_measured_and_the_best() -> None:
    made = plots.score_by_densities(
        [0.05, 0.3, 1.0], [0.1, 0.5], [[1.0, 2.0], [np.nan, 9.0], [3.0, 4.0]], label="LAS (%)"
    )
    ax = made.axes[0]
    dots, star = (np.asarray(line.get_xydata()) for line in ax.lines)
    assert sorted(dots.round().tolist()) == [[5, 10], [5, 50], [30, 50], [100, 10], [100, 50]]
    assert star.tolist() == [[30, 50]]
    assert "9.0" in ax.get_title()
    made.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["5", "30", "100"]


def test_costs_of_tuning_stand_at_time_and_memory_in_mebibytes() -> None:
    tunings = [plots.Tuning("teacher-full", 60.0, 0.5, 2**20), plots.Tuning("teacher-lora", 60.0, 0.4, 2**21)]
    left, right = plots.costs_of_tuning(tunings, label="LAS (%)").axes
    places = [[np.asarray(item.get_offsets()).tolist()[0] for item in ax.collections] for ax in (left, right)]
    assert places == [[[0.5, 60.0], [0.4, 60.0]], [[1.0, 60.0], [2.0, 60.0]]]
    assert {text.get_text() for text in left.texts} == {"teacher-full", "teacher-lora"}


def test_trade_off_is_relative_to_the_teacher() -> None:
    [ax] = plots.trade_off(rows()).axes
    collections: list[Any] = list(ax.collections)
    assert [item.get_offsets().tolist() for item in collections] == [[[1.0, 60.5]], [[0.5, 58.5]]]
    areas = [item.get_sizes()[0] for item in collections]
    assert areas[0] == pytest.approx(2 * areas[1])
    assert "bistil-tf lrf 2" in texts(plots.trade_off(rows()))
    assert "relative to the teacher" in ax.get_xlabel()
    assert "bistil-tf lrf 2 (1 of 2 targets)" in texts(
        plots.trade_off([row for row in rows() if row["target"] == "aaa" or row["lrf"] is None])
    )


def test_a_trade_off_is_over_the_targets_that_teacher_and_system_share() -> None:
    longer = {"aaa": 1, "bbb": 3}  # sentences
    found = [
        {
            **row,
            "flops_per_example": row["flops_per_example"]
            and row["flops_per_example"] * longer[row["target"]],
        }
        for row in rows()
        if row["lrf"] is None or row["target"] == "aaa"
    ]
    points: list[Any] = list(plots.trade_off(found).axes[0].collections)
    assert [item.get_offsets()[0, 0] for item in points] == [1.0, 0.5]
    apart = [row for row in found if row["lrf"] or row["target"] == "bbb"]
    [ax] = plots.trade_off(apart).axes
    assert len(ax.collections) == 1
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [58.5]


@pytest.mark.parametrize("found", [[], rows(cost=False), rows()[-1:], rows()[:1]])
def test_a_partial_grid_can_be_drawn(found: list[dict[str, Any]]) -> None:
    plots.trade_off(found).canvas.draw()
    if found:
        plots.scores_by_language(found).canvas.draw()


def crowded() -> list[dict[str, Any]]:
    """Ten systems of one cost whose scores are all but equal, and two far below."""
    names = [f"a-system-of-the-{number}th-kind" for number in range(10)]
    found = [{**rows()[0], "system": name, "value": 60 + number / 20} for number, name in enumerate(names)]
    far = [{**rows()[-1], "system": "floor", "value": 5.0}, {**rows()[0], "system": "scratch", "value": 20.0}]
    return [*rows()[:4], *found, *far]


def boxes(made: Figure) -> list[Any]:
    canvas: Any = made.canvas
    canvas.draw()
    renderer = canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in made.axes[0].texts]


@pytest.mark.parametrize(
    "made",
    [
        lambda: plots.trade_off(crowded()),
        lambda: plots.pareto(
            {f"option {i}": (100 + i / 9, 10 + i / 9, 50 + i / 9) for i in range(9)}, metric="las"
        ),
        lambda: plots.costs_of_tuning(
            [plots.Tuning(f"system {i}", 60 + i / 99, 0.5, 2**20) for i in range(9)], label="LAS (%)"
        ),
    ],
)
def test_labels_touch_neither_each_other_nor_the_edge(made: Any) -> None:
    drawn = made()
    found = boxes(drawn)
    assert len(found) >= 9
    assert not [(a, b) for a in range(len(found)) for b in range(a) if found[a].overlaps(found[b])]
    frame = drawn.axes[0].bbox
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 + 1 for box in found)


def test_points_lie_open_and_what_is_far_below_is_told_in_words() -> None:
    [ax] = plots.trade_off(crowded()).axes
    assert ax.get_ylim()[0] > 50  # no empty third
    part = "(1 of 2 targets)"
    assert f"further down:\nscratch {part}: 20.0\nfloor {part}: 5.0" in texts(ax.figure)
    points: list[Any] = list(ax.collections)
    areas = {float(item.get_sizes()[0]): item.get_zorder() for item in points}
    assert all(item.get_facecolor()[0][3] < 0.5 for item in points)
    assert areas[min(areas)] >= areas[max(areas)]


def test_an_axis_speaks_of_error_bars_only_where_there_are_some() -> None:
    assert "error bars" in texts(plots.scores_by_language(rows()))
    assert "error bars" not in texts(plots.scores_by_language([row for row in rows() if row["seed"] == 0]))


def test_a_bar_of_nothing_has_its_number() -> None:
    nothing = [{**row, "value": 0.2} if row["system"] == "floor" else row for row in rows()]
    [ax] = plots.scores_by_language(nothing).axes
    assert [text.get_text() for text in ax.texts] == ["0.2", "0.2", "0.2"]


def test_colours_use_their_range() -> None:
    one = plots.delta_map(["0"], ["query", "key"], np.array([[0.103, 0.103]])).axes[0].images[0]
    assert one.norm(10.3) == pytest.approx(0.5)
    two = plots.overlap(np.array([[1, 0.28], [0.28, 1]]), ["a", "b"], chance=0.08, control=[0.39, 0.38])
    assert 0.5 < two.axes[0].images[0].norm(28.0) < 0.8  # neither chance nor what seeds share


def test_scores_by_language_has_a_bar_for_each_system_target_and_mean() -> None:
    [ax] = plots.scores_by_language(rows()).axes
    assert len(ax.patches) == 9
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["aaa", "bbb", "mean"]
    [ax] = plots.scores_by_language(
        [row for row in rows() if (row["system"], row["target"]) != ("floor", "bbb")]
    ).axes
    assert len(ax.patches) == 7


def test_scores_by_group_have_a_bar_for_each_whole_group() -> None:
    groups = {"near": ["aaa"], "both": ["aaa", "bbb"], "far": ["zzz"]}
    [ax] = plots.scores_by_language(rows(), groups).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["near", "both", "mean"]
    assert len(ax.patches) == 9
    heights = [[bar.get_height() for bar in one] for one in ax.containers if isinstance(one, BarContainer)]
    assert all(both == pytest.approx(mean) for _, both, mean in heights)
    partly = [row for row in rows() if (row["system"], row["target"]) != ("floor", "bbb")]
    assert len(plots.scores_by_language(partly, groups).axes[0].patches) == 7
    assert "group of target languages" in ax.get_xlabel()


def test_sizes_of_a_system_are_told_apart_by_hatches() -> None:
    found = [row for row in rows() if row["system"] == "bistil-tf"]
    sizes = [{**row, "lrf": lrf, "drf": drf} for row in found for lrf, drf in ((2, None), (12, None), (2, 2))]
    [ax] = plots.scores_by_language(sizes).axes
    drawn = [one for one in ax.containers if isinstance(one, BarContainer)]
    bars = {one.get_label(): one.patches[0].get_hatch() for one in drawn}
    assert bars == {"bistil-tf lrf 2": "", "bistil-tf lrf 12": "///", "bistil-tf lrf 2 drf 2": "xxx"}
    [ax] = plots.scores_by_language([{**row, "lrf": 3} for row in found]).axes
    assert [bar.get_hatch() for bar in ax.patches] == [""] * 3


def test_the_other_figures_are_drawn_with_labels() -> None:
    curve = texts(plots.vocabulary_curve([1e-7, 1e-6], [900, 500], 1e-6))
    assert "chosen: 1e-06" in curve
    assert "tokens that reach the threshold" in curve
    assert "student" in texts(plots.attention_map(np.eye(2), np.eye(2), ["a", "b"]))
    assert "SOV" in texts(plots.typology({"aaa": {"order": "SVO"}, "bbb": {"order": "SOV", "case": "yes"}}))


def test_svg_is_the_same_each_time_and_themed_svg_stands_alone() -> None:
    first, again = (style.svg(plots.loss_curves({"kela": HISTORY}), "loss") for _ in range(2))
    assert first == again
    drawn = plots.loss_curves({"kela": HISTORY})
    themed = style.themed(style.svg(drawn, "loss"), drawn, "loss")
    assert "http" not in themed
    assert "var(--ink)" in themed
    assert style.INK not in themed
    assert 'id="loss-' in themed


def test_no_figure_is_kept_by_pyplot() -> None:
    plots.loss_curves({"kela": HISTORY})
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_length_curves_show_their_points_and_ring_the_chosen_ones() -> None:
    [ax] = plots.length_curves({"one": [(200, 9.0), (100, 12.0)], "two": [(50, 20.0)]}, chosen=0).axes
    lines = [line.get_xydata().tolist() for line in ax.lines]
    assert lines == [[[100, 12], [200, 9]], [[200, 9]], [[50, 20]], [[50, 20]]]
    assert "tokens a line" in ax.get_ylabel()


def test_the_pareto_front_of_each_cost_is_joined_and_the_rest_is_hollow() -> None:
    figure = plots.pareto(
        {"big": (100, 10, 50.0), "odd": (90, 20, 40.0), "small": (50, 5, 45.0)}, metric="las"
    )
    sizes, flops = figure.axes
    assert sizes.lines[0].get_xydata().tolist() == [[50, 45], [100, 50]]
    assert flops.lines[0].get_xydata().tolist() == [[5, 45], [10, 50]]
    pale = [points for points in sizes.collections if min(points.get_facecolor()[0]) > 0.9]
    assert [np.asarray(points.get_offsets()).tolist() for points in pale] == [[[90, 40]]]
    assert all(name in texts(figure) for name in ("big", "odd", "small", "LAS (%)", "FLOPs"))


def test_coverage_has_a_row_for_each_language_the_best_covered_first() -> None:
    left, right = plots.coverage(
        {"aaa": (2.5, 0.2), "bbb": (1.5, 0.0), "ccc": (1.2, 0.0)}, seen=["bbb", "ccc"], marked=["aaa"]
    ).axes
    assert [name.get_text() for name in left.get_yticklabels()] == ["ccc", "bbb", "aaa"]
    assert [name.get_fontweight() for name in left.get_yticklabels()] == ["normal", "normal", "bold"]
    points = [[line.get_xydata().tolist() for line in ax.lines] for ax in (left, right)]
    assert points == [[[[1.2, 0], [1.5, 1]], [[2.5, 2]]], [[[0.0, 0], [0.0, 1]], [[20.0, 2]]]]
    assert [line.get_label() for line in left.lines] == ["seen by the teacher", "unseen"]
    assert left.get_legend()
    alone = plots.coverage({"aaa": (1.0, 0.0)})
    alone.canvas.draw()
    assert alone.axes[0].get_position().width > 0.3
    assert alone.axes[1].get_xlim()[1] > 1  # an axis of a hundredth of a percent would show noise


def test_bars_of_one_system_are_as_wide_as_those_of_three() -> None:
    for draw in (plots.scores_by_language, plots.scores_by_task):
        figures = (draw(found) for found in (rows(), [row for row in rows() if row["system"] == "floor"]))
        three, one = ([bar for bar in made.axes[0].patches if isinstance(bar, Rectangle)] for made in figures)
        assert len({round(bar.get_width(), 6) for bar in (*three, *one)}) == 1
        assert one[0].get_x() + one[0].get_width() / 2 == pytest.approx(0.0)


def test_scores_by_task_has_a_group_for_each_task_with_its_metric() -> None:
    second = [{**row, "task": "ner", "metric": "f1"} for row in rows() if row["system"] != "floor"]
    [ax] = plots.scores_by_task([*rows(), *second]).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "Dependency parsing\nLAS (%)",
        "Named entities\nF1 (%)",
    ]
    assert sorted(round(bar.get_height(), 1) for bar in ax.patches if isinstance(bar, Rectangle)) == [
        9.5,
        58.5,
        58.5,
        60.5,
        60.5,
    ]
    assert sorted(text.get_text() for text in ax.texts) == ["10", "58", "58", "60", "60"]


def test_scores_by_task_have_no_bar_for_a_system_that_misses_a_target() -> None:
    whole = rows()
    first = min(row["target"] for row in whole)
    partial = [row for row in whole if row["system"] != "floor" or row["target"] != first]
    heights = [
        {round(bar.get_height(), 1) for bar in made.axes[0].patches if isinstance(bar, Rectangle)}
        for made in (plots.scores_by_task(whole), plots.scores_by_task(partial))
    ]
    assert heights == [{9.5, 58.5, 60.5}, {58.5, 60.5}]


def test_numbers_by_seed_are_dots_around_their_mean_in_its_order() -> None:
    [ax] = plots.by_seed({"one": [3.0, 5.0], "two": [1.0]}, label="nats").axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["two", "one"]
    shown = [line.get_xydata().tolist() for line in ax.lines]
    assert shown == [[[1, 0]], [[1, -0.25], [1, 0.25]], [[3, 1], [5, 1]], [[4, 0.75], [4, 1.25]]]
    assert ax.get_xlabel() == "nats"


def test_text_is_never_mathematics_but_for_the_numbers_of_a_logarithmic_axis() -> None:
    made, [ax] = style.figure()
    ax.plot([1, 1000], [1, 2], label="$\\frac$ in the legend")
    ax.set(xscale="log", xlabel="$\\frac$ at the axis", title="one $ or $\\two$")
    ax.set_yticks([1, 2], ["$\\frac$", "b"])
    style.legend(ax)
    assert "<svg" in style.svg(made, "x")
    powers = [label for label in ax.get_xticklabels() if label.get_text()]
    assert powers
    assert all(label.get_parse_math() for label in powers)


def test_vocabularies_that_become_one_are_bars_of_their_counts() -> None:
    [ax] = plots.united({"north": 30, "south": 50}, 20).axes
    bars = [(bar.get_x(), bar.get_width()) for bar in ax.patches if isinstance(bar, Rectangle)]
    assert bars == [(0, 30), (30, 20), (50, 50)]
    legend = ax.get_legend()
    assert legend is not None
    told = [text.get_text() for text in legend.get_texts()]
    assert told == ["only north: 30", "shared: 20", "only south: 50"]
    assert ax.get_xlabel() == "tokens of the union"


def test_loss_by_interval_shows_what_never_moves() -> None:
    ax = plots.loss_by_interval([5, 10], {"linear": [3.0, 2.0], "cosine": [2.5, 2.0]}, still=4.0).axes[0]
    assert [np.asarray(line.get_ydata()).tolist() for line in ax.lines] == [[3, 2], [2.5, 2], [4, 4]]
    assert ax.get_xticks().tolist() == [5, 10]
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "support that never moves"


def test_no_two_systems_of_a_figure_have_one_colour_while_there_are_others() -> None:
    names = ["teacher-ltsft", "bistil-tf", "floor", *(f"variant-{i}" for i in range(9))]
    found = style.colours(names)
    assert len(set(found.values())) == len(names) == len(found)
    assert (
        style.colours(["bistil-tf"])["bistil-tf"] == found["bistil-tf"] == table.SYSTEMS["bistil-tf"].colour
    )
    assert style.colours(names) == found
    many = style.colours(f"variant-{i}" for i in range(50))
    assert set(many.values()) == set(style.FURTHER)


def test_a_score_over_trained_values_has_a_line_a_system_and_a_tick_a_number() -> None:
    curves = {"teacher-ltsft": [(810, 40.0, 1.0), (363264, 50.0, 0.0)], "teacher-madx": [(810, 45.0, 2.0)]}
    made = plots.score_by_values(curves, label="LAS (%)")
    made.draw_without_rendering()
    [ax] = made.axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[810, 40], [363264, 50]], [[810, 45]]]
    assert [line.get_color() for line in ax.lines] == list(style.colours(curves).values())
    assert [text.get_text() for text in ax.get_xticklabels()] == ["810", "363k"]
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == 50
    assert ax.get_xscale() == "log"


def test_features_have_bars_in_the_order_of_their_norms_and_dots_for_what_was_measured() -> None:
    made = features.leaning(
        {"a": 1.0, "b": 3.0, "c": 2.0}, {"loss (nats)": [("a", 0.5), ("b", 1.0), ("b", 2.0)]}
    )
    norms, losses = made.axes
    bars: list[Any] = [*norms.patches, *losses.patches]
    assert [text.get_text() for text in norms.get_yticklabels()] == ["b", "c", "a"]
    assert [bar.get_width() for bar in bars[:3]] == [3, 2, 1]
    assert [(bar.get_y() + 0.35, bar.get_width()) for bar in bars[3:]] == [(0, 1.5), (2, 0.5)]
    assert [dots.get_offsets().tolist() for dots in losses.collections] == [[[1, 0], [2, 0]], [[0.5, 2]]]
    assert losses.get_xlabel() == "loss (nats)"
    many = {f"f{number}": float(number) for number in range(100)}
    assert len(features.leaning(many, {}).axes[0].patches) == features.MOST


def test_a_map_of_features_keeps_distances_in_a_plane_and_names_each() -> None:
    corners = {"a": (0.0, 0.0), "b": (4.0, 0.0), "c": (0.0, 1.0), "d": (4.0, 1.0)}
    vectors = {name: np.array([x, 0.0, y]) for name, (x, y) in corners.items()}
    made = features.feature_map(vectors, dict.fromkeys(vectors, 1.0) | {"a": 2.0})
    points = made.axes[0].collections[0].get_offsets()
    assert float(np.linalg.norm(points[0] - points[1])) == pytest.approx(4)
    assert float(np.linalg.norm(points[0] - points[2])) == pytest.approx(1)
    assert {text.get_text() for text in made.axes[0].texts} == set(vectors)
    assert made.axes[0].get_xlabel() == "first component (94 %)"
