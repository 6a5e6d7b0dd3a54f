"""The report of an experiment finds what its scores come from; the README's tables are those of the kept
results.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bistil.evaluation.results import read_results, write_results
from bistil.experiment import Experiment
from bistil.report import experiment as experiment_report
from bistil.report import readme
from bistil.report.asked import keep_asked
from bistil.store.artefacts import Artefact, Store

ROOT = Path(__file__).parents[2]
TEACHER = "sha256:" + "0" * 64
SCORES = (("teacher-ltsft", None, 60.0), ("bistil-tf", 2, 58.0), ("floor", None, 9.0))


def row(system: str, lrf: int | None, value: float, artefact: str) -> dict[str, Any]:
    return {
        "experiment": "demo",
        "system": system,
        "teacher": "t",
        "task": "parsing",
        "source": "qaa",
        "target": "qab",
        "lrf": lrf,
        "seed": 1,
        "metric": "las",
        "value": value,
        "parameters": 2_000_000,
        "artefact": artefact,
    }


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment.read(ROOT / "data" / "experiments" / "demo.yaml")


def history(*losses: float) -> list[dict[str, float]]:
    return [
        {"step": step, "eval_loss": loss, "eval_loss_qab": loss} for step, loss in enumerate(losses, start=1)
    ]


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, list[dict[str, Any]]]:
    store = Store(tmp_path / "store")

    def made(
        kind: str,
        config: dict[str, Any],
        inputs: dict[str, Artefact | str],
        metrics: dict[str, Any] | None = None,
    ) -> Artefact:
        def build(folder: Path) -> dict[str, Any]:
            (folder / "history.json").write_text(
                json.dumps(history(3.0, 2.0) + history(2.5, 1.5)), encoding="utf-8"
            )
            return metrics or {}

        return store.run(kind, config, inputs, build)

    text = {"lines": 5, "share_identical": 1.0, "mean_tokens_before": 9.0, "mean_tokens_after": 9.0}
    corpora = {"qaa": text, "qab": text}
    vocabulary = made(
        "vocabulary",
        {},
        {"teacher": TEACHER},
        {"tokens_before": 5000, "tokens_after": 900, "corpora": corpora},
    )
    sft = made("language-sft", {"sft": {"seed": 1}}, {"base": TEACHER})
    student = made(
        "student",
        {"recipe": "bistil", "general": {"lrf": 2, "seed": 1}},
        {"vocabulary": vocabulary, "sft qab": sft},
    )
    made(
        "student",
        {"recipe": "bistil", "general": {"lrf": 2, "seed": 9}},
        {"vocabulary": vocabulary, "sft qab": sft},
    )
    tuned = made("task-sft", {}, {"base": student})
    rows = [
        row(system, lrf, value, made("evaluation", {"of": system}, {"task sft": tuned}).id)
        for system, lrf, value in SCORES
    ]
    return store, rows


def test_the_page_tells_unseen_targets_from_seen_ones(experiment: Experiment, tmp_path: Path) -> None:
    gains = {("teacher-ltsft", "qab"): 61.0, ("teacher-ltsft", "qac"): 64.0}
    rows = [{**row(system, None, value, "made"), "target": code} for (system, code), value in gains.items()]
    rows += [{**row("teacher-no-adaptation", None, 60.0, "made"), "target": code} for code in ("qab", "qac")]
    store, claim = Store(tmp_path / "store"), "language SFTs lift unseen targets more than seen ones"
    told = experiment_report.write_experiment_report(
        tmp_path / "one", experiment, rows, store, failures=[], seen=["qab"]
    )
    untold = experiment_report.write_experiment_report(tmp_path / "two", experiment, rows, store, failures=[])
    assert claim in told.read_text(encoding="utf-8")
    assert claim not in untold.read_text(encoding="utf-8")


def test_the_page_says_where_nothing_is_adapted_to_a_language(experiment: Experiment, tmp_path: Path) -> None:
    rows, store = [row("teacher-ltsft", None, 61.0, "made")], Store(tmp_path / "store")
    for adapted in (True, False):
        one = experiment if adapted else replace(experiment, language_sft=None)
        page = experiment_report.write_experiment_report(
            tmp_path / str(adapted), one, rows, store, failures=[]
        )
        assert ("nothing is adapted" in page.read_text(encoding="utf-8")) != adapted


def test_a_seed_under_which_nothing_of_its_own_was_made_is_not_run(
    tmp_path: Path, experiment: Experiment, filled: tuple[Store, list[dict[str, Any]]]
) -> None:
    """A guess is the same under every seed, and is there for all of them once it is there for one."""
    store, rows = filled
    more = [{**rows[-1], "seed": seed} for seed in (2, 3)]
    asked = replace(experiment, seeds=(1, 2, 3))
    page = experiment_report.write_experiment_report(
        tmp_path / "demo", asked, [*rows, *more], store, failures=[]
    )
    text = page.read_text(encoding="utf-8")
    assert "seed 1 (not run yet: 2, 3)." in text
    assert "over 3 seeds" not in text
    assert [one["seed"] for one in read_results(tmp_path / "demo" / "results.csv")] == [1, 1, 1]
    alone = experiment_report.write_experiment_report(
        tmp_path / "alone", asked, [rows[-1], *more], store, failures=[]
    )
    assert "seeds 1, 2, 3." in alone.read_text(encoding="utf-8")


def test_only_what_the_scores_come_from_is_behind_them(filled: tuple[Store, list[dict[str, Any]]]) -> None:
    store, rows = filled
    kinds = [artefact.kind for artefact in experiment_report.behind(rows, store)]
    assert kinds == ["evaluation"] * 3 + ["task-sft", "student", "language-sft", "vocabulary"]


def test_the_report_shows_curves_vocabulary_and_failures(
    tmp_path: Path, experiment: Experiment, filled: tuple[Store, list[dict[str, Any]]]
) -> None:
    store, rows = filled
    folder = tmp_path / "reports" / "demo"
    (folder / "notebooks").mkdir(parents=True)
    notebook = {"cells": [{"cell_type": "markdown", "source": ["# Data\n", "text"]}]}
    (folder / "notebooks" / "01_data.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    page = experiment_report.write_experiment_report(
        folder, experiment, rows, store, failures=["student qab: ValueError: no"]
    )
    text = page.read_text(encoding="utf-8")
    assert "5,000 → 900" in text
    assert "student qab: ValueError: no" in text
    assert '<a href="notebooks/01_data.ipynb">Data</a>' in text
    assert len(list((folder / "manifests").glob("*.json"))) == 7
    assert {"student-bistil-lrf-2.svg", "language-sfts-teacher.png"} <= {
        path.name for path in (folder / "figures").iterdir()
    }
    assert (folder / "results.csv").read_text(encoding="utf-8").count("\n") == 4


def test_a_table_stands_between_its_markers_and_is_refreshed(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "<!-- headline:demo gone -->\n<!-- end -->\nA\n<!-- results:demo -->\n<!-- end -->\n"
        "C\n<!-- results:demo -->\nold\n<!-- end -->\n"
        "B\n<!-- results:other -->\nkept\n<!-- end -->\n",
        encoding="utf-8",
    )
    folder = tmp_path / "reports" / "demo"
    write_results(
        folder / "results.csv", [row(system, lrf, value, "a" * 16) for system, lrf, value in SCORES]
    )
    assert readme.refresh(folder, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.count("| bistil-tf lrf 2 | **58.0** | 96.7 | 2.00 M |") == text.count("results:demo") == 2
    assert "old" not in text
    assert "| 1 | 60.0 | 58.0 |" in text
    assert "\nkept\n" in text
    assert not readme.refresh(folder, tmp_path)
    assert not readme.refresh(tmp_path / "elsewhere" / "demo", tmp_path)


def test_a_headline_is_over_targets_that_teacher_and_student_share(tmp_path: Path) -> None:
    scores = {
        ("teacher-ltsft", None): {"qab": 60.0, "qac": 40.0, "qad": 20.0},
        ("bistil-tf", 2): {"qab": 50.0, "qac": 30.0},
    }
    scores[("bistil-tf", 3)] = {"qab": 49.0}
    rows = [
        {**row(*system, value, "a" * 16), "target": target}
        for system, of in scores.items()
        for target, value in of.items()
    ]
    write_results(tmp_path / "results.csv", rows)
    told = readme.headline([tmp_path / "results.csv"])
    assert "qaa → qab, qac | 1 | 50.0 | 40.0 | – |" in told


def test_means_are_by_regime_or_by_group_of_targets(tmp_path: Path) -> None:
    scores = {
        "teacher-ltsft": {"qab": 60.0, "qac": 40.0, "qad": 20.0},
        "teacher-ltsft@fs": {"qab": 70.0, "qac": 50.0},
        "teacher-adapter": {"qab": 50.0, "qac": 30.0},
    }
    rows = [
        {**row(system, None, value, "a" * 16), "target": target}
        for system, of in scores.items()
        for target, value in of.items()
    ]
    results = tmp_path / "results.csv"
    assert readme.means(results) == "*Not run yet.*"
    write_results(results, rows)
    keep_asked(tmp_path, {"regimes": {"fs": {}, "tt": {}}})
    told = readme.means(results)
    assert "|  | source alone | fs | tt |" in told
    assert "teacher-ltsft | 50.0 | 60.0 | – |" in told, "over the targets that it has under both"
    assert "teacher-adapter" not in told, "it learns under one regime alone"
    keep_asked(tmp_path, {"target_groups": {"near": ["qab", "qac"], "far": ["qad"]}})
    told = readme.means(results)
    assert "| teacher-ltsft | teacher-adapter |" in told
    assert "| near | 50.0 | 40.0 |" in told
    assert "| far | 20.0 | – |" in told
    keep_asked(tmp_path, {"target_groups": {"all": ["qab", "qac", "qad", "not run"]}})
    assert "| all | 40.0 | – |" in readme.means(results), "it lacks a target of the group"


def test_claims_are_told_by_report_with_what_was_not_run(tmp_path: Path) -> None:
    def write(name: str, ours: float, claims: list[dict[str, str]]) -> Path:
        results = tmp_path / name / "results.csv"
        scores = {("teacher-ltsft", None): 60.0, ("monoshot", 2): ours}
        write_results(results, [row(*system, value, "a" * 16) for system, value in scores.items()])
        keep_asked(results.parent, {"data": "miniworld", "claims": claims})
        return results

    better = {"order": "teacher-ltsft > monoshot:2", "source": "table 1"}
    found = [
        write("one", 50.0, [better, {"order": "monoshot:2 > hinton:2"}]),
        write("two", 70.0, [better]),
    ]
    counted, _, *lines = readme.claims_table(found).splitlines()
    assert counted == "2 orderings: leans towards it 1, leans against it 1; not run 1."
    sides = "| teacher-ltsft > monoshot lrf 2"
    assert lines[2:] == [
        f"{sides} | leans towards it | +10.0 | 1 of 1, 1 seed | one, parsing: LAS | table 1 |",
        f"{sides} | leans against it | −10.0 | 0 of 1, 1 seed | two, parsing: LAS | table 1 |",
    ]
    text = "<!-- claims:one two none -->\n<!-- end -->"
    assert counted in readme.refreshed(text, tmp_path)
    assert readme.refreshed(text, tmp_path, only="three") == text
    assert readme.claims_table([]) == "*Not run yet.*"
    results = write("three", 50.0, [{**better, "metric": "uas"}])
    rows = [{**one, "metric": metric} for one in read_results(results) for metric in ("las", "uas")]
    write_results(results, rows)
    told = "1 of 1, 1 seed | three, parsing: UAS | table 1 |"
    assert told in readme.claims_table([results])


def test_the_tables_of_the_readme_are_those_of_the_kept_results() -> None:
    for name, mark in zip(readme.PAGES, (readme.HEADLINE, readme.BLOCK, readme.CLAIMS), strict=True):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert readme.refreshed(text, ROOT / "reports") == text
        assert mark.search(text)


@pytest.mark.parametrize(
    ("name", "system", "title"),
    [
        ("miniworld-claims", "bistil-tf", "from a multilingual teacher to bilingual students"),
        ("miniworld-eliquare", "eliquare-pre", "from a multilingual teacher to monolingual students"),
        ("miniworld-merge", "merged", "from several teachers to smaller students"),
    ],
)
def test_the_title_says_what_becomes_of_what(name: str, system: str, title: str) -> None:
    shipped = Experiment.read(ROOT / "data" / "experiments" / f"{name}.yaml")
    student = {**row(system, 2, 50.0, "x"), "recipe": "some", "start": "uniform"}
    assert experiment_report._page_title(shipped, [student]) == f"{name}: {title}"
    assert experiment_report._page_title(shipped, [row("floor", None, 9.0, "y")]) == name


def test_language_sfts_that_differ_in_anything_are_drawn_apart() -> None:
    def made(number: int, kind: str, inputs: dict[str, str], config: dict[str, Any]) -> Artefact:
        manifest = {"id": f"{number}", "kind": kind, "inputs": inputs, "config": config, "metrics": {}}
        return Artefact(Path("/nowhere"), manifest)

    def sft(number: int, base: str, **lottery: Any) -> Artefact:
        inputs = {"base": base, "text qaa": "t"}
        return made(number, "language-sft", inputs, {"sft": {"lottery": {"density": 0.1, **lottery}}})

    students = [
        made(
            10 + lrf,
            "student",
            {"text qaa": "t", "text qab": "u"},
            {"recipe": "bistil", "general": {"lrf": lrf}},
        )
        for lrf in (2, 3)
    ]
    sfts = [sft(1, "t"), sft(2, "t", part="outer"), sft(3, "t", part="middle"), sft(4, "t", select="random")]
    sfts += [sft(5, "12"), sft(6, "13")]
    found = experiment_report._language_sfts(sfts, [*students, *sfts])
    assert {owner: {code: one.id for code, one in own.items()} for owner, own in found.items()} == {
        "teacher": {"qaa": "1"},
        "teacher (outer)": {"qaa": "2"},
        "teacher (middle)": {"qaa": "3"},
        "teacher (random)": {"qaa": "4"},
        "bistil student lrf 2": {"qaa in qaa + qab": "5"},
        "bistil student lrf 3": {"qaa in qaa + qab": "6"},
    }
