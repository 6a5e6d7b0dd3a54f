"""Rows, means and orderings: closed forms on constructed rows, partial grids, one seed or many."""

from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistil.errors import InputError
from bistil.evaluation.results import (
    COLUMNS,
    Setting,
    Variant,
    average,
    common_targets,
    distinct_seeds,
    front,
    is_student,
    ratio_to,
    read_results,
    rows_of,
    select,
    variants,
    with_axes,
    write_results,
)
from bistil.report.orderings import Claim, interval_of, orderings
from bistil.systems.claims import Chain

GOOD = {
    ("teacher-ltsft", None): 60.0,
    ("teacher-no-adaptation", None): 50.0,
    ("bistil-tf", 2): 59.0,
    ("bistil-tf", 3): 55.0,
    ("bistil-st", 2): 57.0,
    ("multilingual-distil", 2): 52.0,
    ("scratch", 2): 30.0,
}


def row(
    system: str, lrf: int | None, value: float, *, target: str = "aaa", seed: int | None = 0, **other: Any
) -> dict[str, Any]:
    base = {
        "experiment": "e",
        "teacher": "t",
        "task": "parsing",
        "source": "src",
        "density": 0.08,
        "metric": "las",
        "n_examples": 9,
    }
    return {**base, "system": system, "lrf": lrf, "value": value, "target": target, "seed": seed, **other}


def grid(scores: dict[tuple[str, int | None], float], seeds: int = 3) -> list[dict[str, Any]]:
    cells = [("aaa", 5.0), ("bbb", -5.0)]
    return [
        row(system, lrf, value + shift + 0.1 * seed, target=target, seed=seed)
        for (system, lrf), value in scores.items()
        for target, shift in cells
        for seed in range(seeds)
    ]


def verdicts(claims: list[Claim]) -> dict[str, str]:
    return {claim.text: claim.verdict for claim in claims}


@pytest.mark.parametrize("seeds", [1, 3])
def test_orderings_that_hold(seeds: int) -> None:
    claims = orderings(grid(GOOD, seeds))
    assert len(claims) == 8
    assert verdicts(claims) == {
        claim.text: "not run"
        if "bistil-st lrf 3" in claim.text
        else ("leans towards it" if seeds == 1 else "holds here" if "keeps" in claim.text else "holds")
        for claim in claims
    }
    # two targets that differ in how much is kept: their interval reaches over the line
    first, share = claims[0], claims[-1]
    assert (first.text, first.targets, first.wins, first.seeds) == (
        "teacher-ltsft ≥ bistil-tf lrf 2",
        ("aaa", "bbb"),
        2,
        seeds,
    )
    assert first.difference == pytest.approx(1.0)
    assert share.left == pytest.approx(100 * (59 + 0.05 * (seeds - 1)) / (60 + 0.05 * (seeds - 1)))
    assert (first.spread is None) == (seeds == 1)


def test_orderings_that_do_not_hold() -> None:
    found = verdicts(orderings(grid({**GOOD, ("bistil-tf", 2): 54.0, ("scratch", 2): 52.0})))
    assert found["bistil-tf lrf 2 ≥ bistil-tf lrf 3"] == "does not hold"
    assert found["bistil-tf lrf 2 ≥ bistil-st lrf 2"] == "does not hold"
    assert found["multilingual-distil lrf 2 > scratch lrf 2"] == "open"  # equal
    assert found["bistil-tf lrf 2 keeps at least 97 % of teacher-ltsft's score"] == "does not hold"
    assert found["teacher-ltsft ≥ bistil-tf lrf 2"] == "holds"


def test_an_equal_score_is_enough_for_at_least_and_not_for_more_than() -> None:
    found = verdicts(
        orderings(
            grid(
                {("teacher-ltsft", None): 50.0, ("bistil-tf", 2): 50.0, ("teacher-no-adaptation", None): 50.0}
            )
        )
    )
    assert found["teacher-ltsft ≥ bistil-tf lrf 2"] == "open"  # no difference at all is no evidence
    assert found["teacher-ltsft > teacher-no-adaptation"] == "open"


def test_orderings_of_sparse_tunings_are_told_where_both_sides_were_run() -> None:
    tuned = {
        "teacher-rand-sft": 55.0,
        "teacher-bitfit": 51.0,
        "teacher-spiel-ag": 56.5,
        "teacher-spiel-ma": 57.0,
    }
    scores: dict[tuple[str, int | None], float] = {(name, None): value for name, value in tuned.items()}
    found = verdicts(orderings(grid({**GOOD, **scores, ("teacher-lora", None): 57.4})))
    assert found["teacher-ltsft > teacher-rand-sft"] == found["teacher-rand-sft > teacher-bitfit"] == "holds"
    assert found["teacher-spiel-ag ≥ teacher-spiel-ma"] == "does not hold"
    assert found["teacher-spiel-ag ≥ teacher-lora less 1 point, as level"] == "holds"
    [short] = [
        claim for claim in orderings(grid({**scores, ("teacher-lora", None): 57.6})) if "level" in claim.text
    ]
    assert (short.verdict, short.wins) == ("does not hold", 0)
    assert short.difference == pytest.approx(-1.1)
    assert not any("level" in claim.text or "spiel" in claim.text for claim in orderings(grid(GOOD)))


def test_adaptation_is_compared_between_unseen_and_seen_targets() -> None:
    gains = {"aaa": (1.0, 1.0, 1.0), "bbb": (4.0, 6.0, 5.0), "ccc": (2.0, 2.0, 2.0)}  # aaa is seen
    rows = [
        row("teacher-no-adaptation", None, 50.0, target=code, seed=seed)
        for code in gains
        for seed in range(3)
    ]
    rows += [
        row("teacher-ltsft", None, 50.0 + gain, target=code, seed=s)
        for code, found in gains.items()
        for s, gain in enumerate(found)
    ]
    text = "language SFTs lift unseen targets more than seen ones"
    [claim] = [claim for claim in orderings(rows, seen=["aaa"]) if claim.text == text]
    assert (claim.left, claim.right, claim.verdict, claim.targets, claim.wins) == (
        3.5,
        1.0,
        "holds here",  # two targets against one: nothing tells what another would change
        ("bbb", "ccc"),
        2,
    )
    assert claim.spread == pytest.approx(stdev([2.0, 3.0, 2.5]))
    [reverse] = [claim for claim in orderings(rows, seen=["bbb"]) if claim.text == text]
    assert reverse.verdict == "does not hold here"
    for seen in (None, [], list(gains)):  # nothing to compare with
        assert text not in verdicts(orderings(rows, seen=seen))


def test_systems_are_compared_on_common_targets_only() -> None:
    rows = [row("bistil-tf", 2, 50.0), row("bistil-tf", 2, 10.0, target="bbb"), row("bistil-st", 2, 45.0)]
    [claim] = [claim for claim in orderings(rows) if "bistil-st lrf 2" in claim.text]
    assert (claim.left, claim.right, claim.targets, claim.verdict) == (
        50.0,
        45.0,
        ("aaa",),
        "leans towards it",
    )


def test_a_difference_smaller_than_its_spread_is_open() -> None:
    rows = [row("bistil-tf", 2, value, seed=seed) for seed, value in enumerate((50.0, 53.0, 47.5))]
    rows += [row("bistil-st", 2, 50.0, seed=seed) for seed in range(3)]
    [claim] = [claim for claim in orderings(rows) if "bistil-st lrf 2" in claim.text]
    assert claim.verdict == "open"
    assert claim.spread == pytest.approx(stdev([0.0, 3.0, -2.5]))
    assert claim.interval is None  # of one target


def test_an_interval_reaches_as_far_as_seeds_and_as_targets_ask() -> None:
    t2, t1 = 4.302652729911275, 12.706204736432095  # of two degrees of freedom, and of one
    found = interval_of([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    assert found is not None
    assert found[0] == pytest.approx(4.0 - t1 * 4 / sqrt(2) / sqrt(2))  # over targets 2 and 6
    assert found[1] == pytest.approx(4.0 + t1 * 4 / sqrt(2) / sqrt(2))
    same = interval_of([[2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    assert same == pytest.approx((3.0 - t2 / sqrt(3), 3.0 + t2 / sqrt(3)))
    assert interval_of([[1.0, 2.0, 3.0]]) is None
    assert interval_of([[1.0], [2.0]]) is None


def test_a_win_on_one_of_two_targets_is_open_however_large() -> None:
    ours, theirs = {"aaa": 90.0, "bbb": 40.0}, {"aaa": 50.0, "bbb": 41.0}
    rows = [
        row(system, 2, score + 0.1 * seed, target=target, seed=seed)
        for system, scores in (("bistil-tf", ours), ("bistil-st", theirs))
        for target, score in scores.items()
        for seed in range(3)
    ]
    [claim] = [claim for claim in orderings(rows) if "bistil-st lrf 2" in claim.text]
    assert (claim.verdict, claim.wins) == ("open", 1)
    assert claim.interval is not None
    assert claim.interval[0] < 0 < claim.interval[1]


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([[2.0, 9.0], [2.2, 9.1], [1.8, 8.9]], "holds here"),  # two targets say little of a third
        ([[-2.0, -9.0], [-2.2, -9.1], [-1.8, -8.9]], "does not hold here"),
        ([[-0.1, 9.0], [-0.2, 9.1], [-0.1, 8.9]], "open"),  # not on each of these
        ([[2.0, 9.0], [0.1, 3.0], [4.0, 6.0]], "leans towards it"),  # seeds differ
        ([[2.0, 9.0]], "leans towards it"),
    ],
)
def test_what_speaks_of_these_targets_alone_holds_here(gains: list[list[float]], verdict: str) -> None:
    rows = []
    for seed, found in enumerate(gains):
        for target, gain in zip(("aaa", "bbb"), found, strict=True):
            rows += [row("left", None, 50 + gain, target=target, seed=seed)]
            rows += [row("right", None, 50.0, target=target, seed=seed)]
    [claim] = orderings(rows, chains=(Chain(order="left > right"),))
    assert claim.verdict == verdict
    assert (claim.over_seeds is None) == (len(gains) == 1)
    if claim.interval and claim.over_seeds:
        assert claim.interval[0] <= claim.over_seeds[0] < claim.over_seeds[1] <= claim.interval[1]


def test_an_experiments_own_claims_are_told_with_their_source_and_without_those_of_others() -> None:
    scores = {("monoshot", 2): 50.0, ("hinton", 2): 47.0, ("teacher-ltsft@fs", None): 46.8}
    chains = (
        Chain(order="monoshot:2 > hinton:2", source="table 1"),
        Chain(order="hinton:2 ≈ teacher-ltsft@fs", within=0.5),
        Chain(order="monoshot:2 ≈ hinton:2", within=0.5),
        Chain(order="monoshot:2 > hinton:2", tasks=("ner",)),
        Chain(order="hinton:2 > monoshot:2", targets=("bbb",)),
        Chain(order="monoshot:2 > monoalignment:2x2"),
    )
    claims = orderings(grid(scores), chains=chains)
    assert verdicts(claims) == {
        "monoshot lrf 2 > hinton lrf 2": "holds",
        "hinton lrf 2 ≈ teacher-ltsft@fs within 0.5 point": "holds",
        "monoshot lrf 2 ≈ hinton lrf 2 within 0.5 point": "does not hold",
        "hinton lrf 2 > monoshot lrf 2 on bbb": "does not hold here",  # one target
        "monoshot lrf 2 > monoalignment lrf 2 drf 2": "not run",
    }
    assert [claim.source for claim in claims] == ["table 1", "", "", "", ""]
    again = Chain(order="teacher-ltsft > teacher-rand-sft", source="table 2")
    scores = {("teacher-ltsft", None): 60.0, ("teacher-rand-sft", None): 58.0, ("teacher-bitfit", None): 50.0}
    told = [(claim.text, claim.source) for claim in orderings(grid(scores), chains=(again,))]
    assert told == [
        ("teacher-ltsft > teacher-rand-sft", "table 2"),
        ("teacher-rand-sft > teacher-bitfit", ""),
    ]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.2, 0.3), "leans towards it"),  # one seed
        ((0.2, 2.0), "open"),
        ((2.0, 3.0), "leans against it"),
        ((0.2, 0.3, 0.2, 0.3), "holds"),
        ((0.5, 0.6, 1.8, 1.9), "open"),
        ((3.0, 3.1, 3.0, 3.1), "does not hold"),
        ((-3.0, -3.1, -3.0, -3.1), "does not hold"),
    ],
)
def test_systems_are_level_where_the_interval_lies_within(values: tuple[float, ...], verdict: str) -> None:
    rows = []
    for number, value in enumerate(values):
        where: dict[str, Any] = {"target": ("aaa", "bbb")[number % 2], "seed": number // 2}
        rows += [row("left", None, 50 + value, **where), row("right", None, 50.0, **where)]
    [claim] = orderings(rows, chains=(Chain(order="left ≈ right", within=1.0),))
    assert claim.verdict == verdict


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("monoshot:2", "Two systems or more"),
        ("monoshot:2 >", "Two systems or more"),
        ("monoshot:2 < hinton:2", "Two systems or more"),
        ("monoshot:2 > hinton:2 minilm:2", "Two systems or more"),
        ("monoshot:2 ≈ hinton:2", "needs `within`"),
    ],
)
def test_chains_that_say_nothing_are_refused(said: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Chain(order=said)


def test_source_scores_do_not_count_as_zero_shot() -> None:
    rows = [row("bistil-tf", 2, 50.0), row("bistil-tf", 2, 90.0, target="src")]
    assert [item["value"] for item in rows_of(rows, Setting("parsing", "t", "src"))] == [50.0]


def test_no_rows_no_claims() -> None:
    assert orderings([]) == []


def test_variants_tell_densities_apart_only_where_there_are_several() -> None:
    rows = [
        row("bistil-tf", 2, 1.0),
        row("bistil-tf", 2, 1.0, density=0.04),
        row("bistil-st", 2, 1.0),
        row("teacher-ltsft", 1, 1.0),
    ]
    assert [variant.label for variant in variants(rows)] == [
        "teacher-ltsft",
        "bistil-tf lrf 2 density 0.04",
        "bistil-tf lrf 2 density 0.08",
        "bistil-st lrf 2",
    ]
    assert len(select(rows, Variant("bistil-tf", 2))) == 2
    assert len(select(rows, Variant("bistil-tf", 2, 0.04))) == 1


def test_a_reduction_of_one_is_told_apart_from_others() -> None:
    rows = [row("bistil-tf", lrf, value) for lrf, value in ((None, 80.0), (2, 60.0), (3, 40.0))]
    assert [one.label for one in variants(rows)] == ["bistil-tf", "bistil-tf lrf 2", "bistil-tf lrf 3"]
    for lrf, value in ((None, 80.0), (1, 80.0), (2, 60.0), (3, 40.0)):
        assert [one["value"] for one in select(rows, Variant("bistil-tf", lrf))] == [value]
    assert select(rows, Variant("bistil-tf", 6)) == []
    assert len(select(rows[1:], Variant("bistil-tf"))) == 2
    assert select(rows[1:], Variant("bistil-tf", 1)) == []
    unstated = [row("scratch", None, 9.0)]
    assert select(unstated, Variant("scratch", 2)) == unstated


def test_densities_that_came_of_targets_and_seeds_are_one_system() -> None:
    rows = [
        row("monoshot", 2, 1.0, density=density, target=target, seed=seed)
        for target, seed, density in (("aaa", 1, 0.98), ("bbb", 1, 0.97), ("bbb", 2, 0.971))
    ]
    assert variants(rows) == [Variant("monoshot", 2)]
    again = row("monoshot", 2, 1.0, density=0.5, target="bbb", seed=2)
    assert [one.density for one in variants([*rows, again])] == [0.5, 0.97, 0.971, 0.98]


def test_densities_that_came_of_two_tasks_are_one_system() -> None:
    rows = [
        row("teacher-full", None, 1.0, density=0.823),
        row("teacher-full", None, 1.0, density=0.82, task="ner", metric="f1"),
    ]
    assert variants(rows) == [Variant("teacher-full")]
    again = row("teacher-full", None, 1.0, density=0.5, task="ner", metric="f1")
    assert [variant.density for variant in variants([*rows, again])] == [0.5, 0.82, 0.823]


@given(st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_mean_of_a_full_grid_is_the_plain_mean_and_its_spread_is_over_seeds(
    values: list[list[float]],
) -> None:
    rows = [
        row("x", 2, value, target=str(place), seed=seed)
        for place, line in enumerate(values)
        for seed, value in enumerate(line)
    ]
    mean = average(rows)
    assert mean is not None
    assert mean.mean == pytest.approx(fmean(value for line in values for value in line))
    assert mean.std == pytest.approx(
        stdev(fmean(line[seed] for line in values) for seed in range(3)), abs=1e-9
    )
    assert (mean.seeds, mean.targets) == (3, len(values))


def test_a_mean_over_an_uneven_grid_weighs_targets_equally() -> None:
    rows = [row("x", 2, 10.0, seed=0), row("x", 2, 30.0, seed=1), row("x", 2, 40.0, target="bbb", seed=0)]
    mean = average(rows)
    assert mean is not None
    assert (mean.mean, mean.std, mean.seeds, mean.targets) == (30.0, None, 1, 2)


def test_csv_round_trip_is_exact_and_does_not_depend_on_row_order(tmp_path: Path) -> None:
    rows = [
        *grid({("bistil-tf", 2): 0.1 + 0.2, ("teacher-ltsft", None): 1 / 3}),
        row("floor", None, 1.0, seed=None, teacher=None),
    ]
    rows[0].update(parameters=2**40, flops_per_example=1.5e9, artefact="00ff", disk_bytes=7)
    write_results(tmp_path / "a.csv", rows)
    write_results(tmp_path / "b.csv", [*reversed(rows), rows[0]])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    back = read_results(tmp_path / "a.csv")
    key = ("system", "target", "seed")
    expected = {tuple(item[name] for name in key): with_axes(item) for item in rows}
    assert {tuple(item[name] for name in key): item for item in back} == expected
    write_results(tmp_path / "c.csv", back)
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


@pytest.mark.parametrize(
    ("bad", "message"), [({"colour": 1}, "colour"), ({"value": None}, "value"), ({"system": ""}, "system")]
)
def test_rows_that_are_not_tidy_are_refused(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        write_results(tmp_path / "a.csv", [{**row("x", 2, 1.0), **bad}])


def test_two_values_for_one_score_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1\.0 and 2\.0"):
        write_results(tmp_path / "a.csv", [row("x", 2, 1.0), row("x", 2, 2.0)])


def test_files_that_are_not_tidy_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_results(path, [row("x", 2, 1.0)])
    head, line = path.read_text().splitlines()
    for name, cell in (("system", "x"), ("target", "aaa"), ("metric", "las"), ("value", "1.0")):
        path.write_text("\n".join([head, line.replace(f",{cell},", ",,", 1)]))
        with pytest.raises(InputError, match=rf"a\.csv: .* but \['{name}'\] is missing"):
            read_results(path)
    path.write_text("\n".join([head, line, line]))
    assert len(read_results(path)) == 1
    path.write_text("\n".join([head, line, line.replace(",1.0,", ",2.0,")]))
    with pytest.raises(InputError, match=r"a\.csv: One score .* 1\.0 and 2\.0"):
        read_results(path)


def test_seeds_are_told_in_their_order_and_what_is_alike_once() -> None:
    rows = [row("x", None, value, seed=seed) for seed, value in ((10, 1.0), (2, 2.0), (9, 3.0))]
    assert distinct_seeds(rows) == [2, 9, 10]
    alike = [row("x", None, 1.0, seed=seed, artefact="one") for seed in (10, 2)]
    assert distinct_seeds(alike) == [2]


def test_a_ratio_is_over_the_targets_of_which_both_have_the_number() -> None:
    whole = [row("x", None, 50.0, target=code, latency_ms=10.0) for code in ("aaa", "bbb")]
    student = [
        row("y", 2, 40.0, latency_ms=5.0),
        row("y", 2, 10.0, target="bbb", latency_ms=None),
        row("y", 2, 90.0, target="ccc", latency_ms=1.0),
    ]
    assert ratio_to(whole, student) == 0.5
    assert ratio_to(whole, student, "latency_ms") == 0.5
    assert ratio_to(whole, student[2:]) is None
    assert ratio_to([row("x", None, 0.0)], student) is None


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("system,value\nx,1\n")
    with pytest.raises(InputError, match="columns"):
        read_results(tmp_path / "a.csv")
    write_results(tmp_path / "b.csv", [row("x", 2, 1.0)])
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace("1.0", "one"))
    with pytest.raises(InputError, match="line 2"):
        read_results(tmp_path / "b.csv")
    write_results(tmp_path / "c.csv", [row("x", 17, 1.0)])
    (tmp_path / "c.csv").write_text((tmp_path / "c.csv").read_text().replace(",17,", ",1.7,"))
    with pytest.raises(InputError, match="line 2"):
        read_results(tmp_path / "c.csv")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=9))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    def beaten(cost: int, score: int) -> bool:
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)

    found = front(points)
    assert sorted(found) == [i for i, point in enumerate(points) if not beaten(*point)]
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


def test_sides_are_compared_by_the_seeds_that_both_have() -> None:
    """A seed that one side lacks moves neither its mean nor the verdict."""
    rows = [
        row(system, None, value + shift, target=target, seed=seed)
        for target, shift in (("aaa", 0.0), ("bbb", 0.1))
        for system, values in (("left", (80.0, 80.5, 40.0)), ("right", (75.0, 75.2)))
        for seed, value in enumerate(values)
    ]
    [claim] = orderings(rows, chains=(Chain(order="left > right"),))
    assert (claim.left, claim.right) == (pytest.approx(80.3), pytest.approx(75.15))
    assert (claim.verdict, claim.seeds) == ("holds", 2)
    alone = [one for one in rows if (one["system"], one["seed"]) in {("left", 2), ("right", 0)}]
    [claim] = orderings(alone, chains=(Chain(order="left > right"),))  # no seed in common: all there is
    assert (claim.left, claim.right) == (pytest.approx(40.05), pytest.approx(75.05))


def test_one_model_under_several_seeds_is_one_score() -> None:
    """As an untuned encoder's, beside students of three seeds: no spread, no interval, and nothing holds."""
    same = [
        row(system, None, value + shift, target=target, seed=seed, artefact=f"{system} {target}")
        for system, value in (("teacher-ltsft", 60.0), ("teacher-no-adaptation", 50.0))
        for target, shift in (("aaa", 5.0), ("bbb", -5.0))
        for seed in range(3)
    ]
    mean = average(select(same, Variant("teacher-ltsft")))
    assert mean is not None
    assert (mean.mean, mean.std, mean.seeds, mean.fixed) == (60.0, None, 1, True)
    told = {claim.text: claim for claim in orderings(same)}
    claim = told["teacher-ltsft > teacher-no-adaptation"]
    assert (claim.verdict, claim.seeds, claim.interval, claim.spread) == ("leans towards it", 1, None, None)
    students = [
        row("bistil-tf", 2, 70.0 + seed, target=target, seed=seed, artefact=f"student {target} {seed}")
        for target in ("aaa", "bbb")
        for seed in range(3)
    ]
    claims = orderings([*same, *students], chains=[Chain(order="bistil-tf:2 > teacher-ltsft")])
    assert (claims[0].seeds, claims[0].left) == (3, 71.0)  # the students differ
    fewer = average([one for one in students if (one["target"], one["seed"]) != ("aaa", 2)])
    assert fewer is not None
    assert (fewer.seeds, fewer.fixed) == (2, False)


def test_a_truncated_teacher_is_a_student_of_its_size() -> None:
    rows = [row("truncated-top", lrf, value, recipe="", start="top") for lrf, value in ((2, 50.0), (3, 40.0))]
    assert [one.label for one in variants(rows)] == ["truncated-top lrf 2", "truncated-top lrf 3"]
    assert all(map(is_student, rows))
    assert not is_student(row("teacher-full", None, 50.0, recipe="", start=None))
    assert [one["value"] for one in select(rows, Variant("truncated-top", 3))] == [40.0]


def test_a_guess_has_no_density() -> None:
    assert with_axes(row("floor", None, 9.0))["density"] is None


def test_common_targets_are_of_the_sides_that_were_scored() -> None:
    one, both = (
        [row("bistil-tf", 2, 50.0)],
        [row("bistil-st", 2, 45.0), row("bistil-st", 2, 40.0, target="bbb")],
    )
    other = [row("minilm", 2, 10.0, target="ccc")]
    assert common_targets(one, both) == ["aaa"]
    assert common_targets(both, []) == ["aaa", "bbb"]
    assert common_targets(one, other) == common_targets([]) == []
