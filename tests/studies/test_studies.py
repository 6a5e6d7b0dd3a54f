"""Studies on the tiny world: tables against plain counts, verdicts, what is refused, and one run from the
command line.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bistil import batch, plots
from bistil.cli import main
from bistil.errors import InputError
from bistil.experiment import Experiment, LanguageSftConfig
from bistil.report.orderings import AGAINST, LEANS, OPEN
from bistil.settings.yaml import build as settings
from bistil.settings.yaml import read_yaml
from bistil.sft.delta import SparseDelta
from bistil.studies import Densities, Study, Supports, alignment
from bistil.studies.alignment import TOGETHER, Alignment, correlation, strategies, study_alignment
from bistil.studies.densities import at_densities, read_densities, scores, study_densities
from bistil.studies.kept import Build, Found, Verdict, read_table, save
from bistil.studies.supports import across, study_supports, verdicts
from bistil.tasks.retrieval import Side, parallel, retrieve
from bistil.text.languages import DataFolder

ROOT = Path(__file__).parents[2]
SPIEL = {
    "spiel": {"density": 0.1, "interval": 1, "estimation": 1, "rate": 0.5},
    "sparse": {"steps": 4, "learning_rate": 1e-3},
}


@pytest.mark.slow
def test_overlaps_and_ages_are_those_of_the_deltas(
    experiment: Callable[..., Experiment], here: Build
) -> None:
    base = experiment()
    spiel = settings(LanguageSftConfig, SPIEL, "spiel")
    methods = {
        "LT-SFT": Supports(languages=("qaa", "qac")),
        "SpIEL-AG": Supports(languages=("qac",), seeds=(1, 2, 3), sft=spiel),
    }
    methods["SpIEL-MA"] = Supports(
        languages=("qac",),
        sft=dataclasses.replace(spiel, spiel=dataclasses.replace(spiel.spiel, method="ma")),
    )
    found = study_supports(base, methods, here)
    pipeline = here(base, {})
    first, second = (
        SparseDelta.load(pipeline.language_sft(code).path("delta.safetensors")) for code in ("qaa", "qac")
    )
    other = SparseDelta.load(pipeline.language_sft("qac", seed=2).path("delta.safetensors"))
    rows = {
        (row["method"], row["first"], row["first_seed"], row["second"], row["second_seed"]): row
        for row in found.tables["overlaps"]
    }
    assert len(rows) == 6 + 3 + 1
    [row] = found.tables["common"]
    assert (row["method"], row["language"], row["seeds"]) == ("SpIEL-AG", "qac", 3)
    assert row["common"] <= min(one["overlap"] for key, one in rows.items() if key[0] == "SpIEL-AG")
    assert rows["LT-SFT", "qaa", 1, "qac", 1]["overlap"] == pytest.approx(
        100 * first.overlap(second), abs=1e-3
    )
    assert rows["LT-SFT", "qac", 1, "qac", 2]["overlap"] == pytest.approx(
        100 * second.overlap(other), abs=1e-3
    )
    assert all(
        row["chance"] == pytest.approx(10, abs=0.01) and row["first_family"] == "Arvan"
        for row in rows.values()
    )
    ages = [row for row in found.tables["ages"] if (row["method"], row["seed"]) == ("SpIEL-AG", 1)]
    assert [row["born"] for row in ages] == [0, 1, 2, 3, 4]
    assert (
        sum(row["share"] for row in ages)
        == pytest.approx(100, abs=0.01)
        == sum(row["chance"] for row in ages)
    )
    assert ages[0]["share"] == 0  # the first update replaces the whole random support
    assert set(found.figures) == {
        "overlap-lt-sft",
        *(f"places-{name}" for name in ("lt-sft", "spiel-ag", "spiel-ma")),
        "ages",
    }
    claims = [verdict.claim for verdict in found.verdicts]
    assert "seeds share more parameters by SpIEL-MA than by SpIEL-AG" in claims
    assert not any("unrelated" in claim for claim in claims)  # no pair of two families
    assert len(found.artefacts) == 9


def pair(
    first: str, second: str, overlap: float, *, seeds: tuple[int, int] = (1, 1), method: str = "LT-SFT"
) -> dict[str, Any]:
    families = {"first_family": first[1], "second_family": second[1]}
    named = {
        "method": method,
        "first": first,
        "first_seed": seeds[0],
        "second": second,
        "second_seed": seeds[1],
    }
    return {**named, **families, "overlap": overlap, "chance": 8.0, "chance_by_tensor": 9.0}


def test_verdicts_on_overlaps_in_closed_form() -> None:
    rows = [
        pair("qaa", "qab", 12.0),
        pair("qaa", "qac", 10.0),
        pair("qaa", "qba", 9.5),
        pair("qaa", "qaa", 40.0, seeds=(1, 2)),
    ]
    rows.append(pair("qaa", "qba", 99.0, seeds=(1, 2)))  # two languages and two seeds: of no kind
    found = verdicts("LT-SFT", rows)
    assert [(verdict.left, verdict.right) for verdict in found] == [
        (11, 8),
        (11, 9),
        (11, 9.5),
        (10, 9.5),
        (40, 11),
    ]
    assert all(verdict.word == LEANS for verdict in found)
    worse = verdicts("LT-SFT", [pair("qaa", "qab", 8.5), pair("qaa", "qba", 10.5)])
    assert [verdict.word for verdict in worse] == [LEANS, AGAINST, AGAINST, AGAINST]
    assert verdicts("LT-SFT", rows[4:]) == []


def test_verdicts_across_spiels_variants_in_closed_form() -> None:
    pairs = [
        pair("qac", "qac", 50.0, seeds=(1, 2), method="SpIEL-MA"),
        pair("qac", "qac", 30.0, seeds=(1, 2), method="SpIEL-AG"),
    ]
    ages = [{"method": "SpIEL-AG", "born": step, "share": 50.0} for step in (20, 100)]
    ages.append({"method": "SpIEL-MA", "born": 20, "share": 100.0})
    assert [(verdict.left, verdict.right, verdict.word) for verdict in across(pairs, ages)] == [
        (50, 30, LEANS),
        (60, 20, LEANS),
    ]
    assert across(pairs[:1], ages[:2]) == []


def test_a_language_that_is_not_there_is_refused_at_once(
    experiment: Callable[..., Experiment], here: Build, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'xyz' is not in it"):
        study_supports(experiment(), {"LT-SFT": Supports(languages=("qaa", "xyz"))}, here)
    assert not (tmp_path / "store").exists()


def test_a_pair_of_densities_changes_two_numbers_only(experiment: Callable[..., Experiment]) -> None:
    base = experiment()
    grid = Densities(task="ner", targets=("qac",), language=(0.1, 0.5), of_task=(0.1, 0.3))
    one = at_densities(base, grid, 0.5, 0.3)
    assert (one.language_sft.density, one.task["ner"].sft.density, one.systems) == (
        0.5,
        0.3,
        ("teacher-ltsft",),
    )
    same = at_densities(base, grid, 0.1, 0.1)
    assert (same.language_sft, same.task["ner"], same.text) == (
        base.language_sft,
        base.task["ner"],
        base.text,
    )


@pytest.mark.slow
def test_the_grid_of_densities_shares_language_sfts(
    experiment: Callable[..., Experiment], here: Build, tmp_path: Path
) -> None:
    grid = Densities(task="ner", targets=("qac",), language=(0.1, 0.5), of_task=(0.1, 0.5))
    said: list[str] = []
    found = study_densities(experiment(), grid, here, say=said.append)
    kinds = [artefact.kind for artefact in found.artefacts.values()]
    assert (
        kinds.count("language-sft"),
        kinds.count("task-sft"),
        kinds.count("evaluation"),
        kinds.count("timing"),
    ) == (4, 4, 4, 0)
    assert len(said) == 4
    save(tmp_path / "kept", [found], title="t")
    rows = read_densities(tmp_path / "kept" / "densities.csv")
    language, task, values, metric = scores(rows)
    assert (language, task, metric, values.shape) == ([0.1, 0.5], [0.1, 0.5], "f1", (2, 2))
    asked = {
        (row["language_density"], row["task_density"]): row["value"] for row in rows if row["metric"] == "f1"
    }
    assert values[1, 0] == asked[0.5, 0.1]
    assert len(found.verdicts) == 2
    shared = {(row["language_density"], row["task_density"]): row for row in found.tables["shared"]}
    assert shared[0.5, 0.5]["overlap"] > shared[0.1, 0.1]["overlap"]
    assert [row["chance"] for row in shared.values()] == [10.0, 50.0, 50.0, 50.0]
    assert (tmp_path / "kept" / "figures" / "shared.svg").is_file()


def test_scores_are_means_over_targets_and_seeds_with_gaps() -> None:
    def row(language: float, task: float, value: float, target: str = "qab") -> dict[str, Any]:
        return {
            "language_density": language,
            "task_density": task,
            "task": "parsing",
            "metric": "las",
            "target": target,
            "value": value,
        }

    _, _, values, _ = scores(
        [row(0.1, 0.1, 10.0), row(0.1, 0.1, 30.0, "qac"), row(0.5, 0.1, 5.0), row(0.5, 0.9, 7.0)]
    )
    np.testing.assert_array_equal(values, [[20.0, np.nan], [np.nan, np.nan]])  # of one target of two


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, "asks nothing"),
        (
            {"densities": {"task": "ner", "targets": ["qac"], "language": [0.5, 0.1], "of_task": [0.1]}},
            "Rising densities",
        ),
        (
            {"densities": {"task": "ner", "targets": ["qac"], "language": [0.5, 1.5], "of_task": [0.1]}},
            r"densities\.language\[1\] should be above 0 and at most 1, but is 1\.5",
        ),
        (
            {"densities": {"task": "ner", "targets": [], "language": [0.5], "of_task": [0.1]}},
            r"densities\.targets should be a list with at least one entry",
        ),
        ({"supports": {"LT-SFT": {"languages": []}}}, "languages should be a list with at least one entry"),
        ({"supports": {"LT-SFT": {"languages": ["qaa"], "density": 1}}}, "unknown key 'density'"),
    ],
)
def test_what_a_study_cannot_be_is_told(entries: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        settings(Study, {"name": "s", "experiment": "e.yaml", **entries}, "study")


def test_a_study_needs_the_settings_it_varies(experiment_file: Callable[..., Path]) -> None:
    grid = Densities(task="qa", targets=("qac",), language=(0.1,), of_task=(0.1,))
    with pytest.raises(InputError, match="density of qa SFTs"):
        Study(name="s", experiment=str(experiment_file()), densities=grid).base()
    with pytest.raises(InputError, match="has none under `language_sft`"):
        Study(
            name="s",
            experiment=str(experiment_file(language_sft=None)),
            supports={"LT-SFT": Supports(languages=("qaa",))},
        ).base()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data" / "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_studies_of_the_project_can_be_read(path: Path) -> None:
    study = Study.read(path)
    assert study.name == path.stem
    base = study.base()
    assert study.alignment or study.decoder or study.features or base.language_sft is not None


def test_verdicts_and_tables_are_kept_and_old_files_go(tmp_path: Path) -> None:
    found = Found(
        tables={"overlaps": [{"a": 1}]}, verdicts=[Verdict("more", 2.0, 1.0), Verdict("=less()", 1.0, 2.0)]
    )
    found.figures["curve"] = (
        plots.learning_curve({"one": [{"step": 1, "x": 2.0}, {"step": 2, "x": 3.0}]}, metric="x"),
        "How x grows",
    )
    page = save(tmp_path, [found], title="A study", question="Is a < b?", errors=["b failed."]).read_text(
        encoding="utf-8"
    )
    rows = [(row["claim"], row["verdict"]) for row in read_table(tmp_path / "verdicts.csv")]
    assert rows == [("more", LEANS), ("'=less()", AGAINST)]
    told = (
        "A study",
        "Is a &lt; b?",
        "1 stage failed",
        "b failed.",
        LEANS,
        AGAINST,
        "How x grows",
        "<svg",
        "overlaps.csv",
    )
    for words in told:
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    page = save(tmp_path, [Found(tables={"overlaps": []})], title="A study").read_text(encoding="utf-8")
    assert "Do the claims hold?" not in page
    assert [path.name for path in tmp_path.rglob("*") if path.suffix in {".csv", ".svg", ".png"}] == []


def test_equal_numbers_lean_nowhere_and_small_ones_are_told(tmp_path: Path) -> None:
    assert [Verdict("", 1.0, right).word for right in (0.5, 1.0, 2.0)] == [LEANS, OPEN, AGAINST]
    found = Found(tables={"rates": [{"rate": 3e-5, "value": 49.53016065474386, "seed": 1}]})
    found.verdicts.append(Verdict("no correlation", 0.0, 0.0414))
    page = save(tmp_path, [found], title="A study").read_text(encoding="utf-8")
    assert "<td>0</td><td>0.0414</td>" in page
    assert '<th scope="row">3e-05</th><td>49.5302</td><td>1</td>' in page


def test_a_figure_is_named_after_a_method_of_any_name(tmp_path: Path) -> None:
    made = plots.learning_curve({"one": [{"step": 1, "x": 2.0}]}, metric="x")
    found = Found(figures={'overlap-../5 %"><script>\\1': (made, "How x grows")})
    page = save(tmp_path / "kept", [found], title="A study").read_text(encoding="utf-8")
    assert "<script>" not in page
    [path] = tmp_path.rglob("*.svg")
    assert path.parent == tmp_path / "kept" / "figures"


@pytest.mark.slow
def test_a_study_runs_from_the_command_line_and_a_second_time_builds_nothing(
    experiment_file: Callable[..., Path], data: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    entries = {
        "name": "tiny-study",
        "experiment": str(experiment_file()),
        "supports": {"LT-SFT": {"languages": ["qaa", "qac"]}},
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    command = [
        "study",
        str(file),
        "--data",
        str(data.root),
        "--store",
        str(tmp_path / "store"),
        "--reports",
        str(tmp_path / "reports"),
    ]
    assert main([*command, "--workers", "1"]) == 0
    folder = tmp_path / "reports" / "tiny-study"
    assert "LT-SFT: related languages share more parameters than by chance" in capsys.readouterr().out
    about = json.loads((folder / "study.json").read_text())
    assert about["errors"] == []
    assert len(list((folder / "manifests").glob("language-sft-*.json"))) == 4
    assert "how many of their parameters two" in (folder / "index.html").read_text(encoding="utf-8")
    before = (folder / "overlaps.csv").read_bytes()
    assert main([*command, "--workers", "1"]) == 0
    assert (folder / "overlaps.csv").read_bytes() == before
    assert "language sft" not in capsys.readouterr().out


def test_a_correlation_has_the_interval_of_draws_over_its_points() -> None:
    line = [(float(x), 3.0 - 2.0 * x) for x in range(6)]
    assert correlation(line) == (pytest.approx(-1.0), (pytest.approx(-1.0), pytest.approx(-1.0)))
    cloud = [(0.0, 0.0), (1.0, 0.2), (2.0, -0.1), (3.0, 0.3), (4.0, 0.0)]
    r, (low, high) = correlation(cloud)
    assert r == pytest.approx(float(np.corrcoef(np.array(cloud).T)[0, 1]))
    assert low < r < high
    generator = np.random.default_rng(7)
    draws = [np.array(cloud)[generator.integers(5, size=5)].T for _ in range(4000)]
    known = [np.corrcoef(draw)[0, 1] for draw in draws if np.ptp(draw[0]) and np.ptp(draw[1])]
    assert low == pytest.approx(np.quantile(known, 0.025), abs=0.05)


def test_systems_that_lack_a_target_are_no_point_beside_the_others() -> None:
    rows = [
        {"system": system, "by": "cosine", "layer": TOGETHER, "target": target, "accuracy": accuracy}
        for system, target, accuracy in (("a", "qab", 90.0), ("a", "qac", 10.0), ("b", "qab", 80.0))
    ]
    found = strategies(rows, {"a": 60.0, "b": 70.0})
    assert found == [{"system": "a", "by": "cosine", "alignment": 50.0, "score": 60.0}]


@pytest.mark.slow
def test_alignment_stands_beside_the_score_of_the_same_systems(
    experiment: Callable[..., Experiment], here: Build
) -> None:
    base = experiment()
    asked = Alignment(
        systems=("teacher-ltsft", "bistil-tf:2", "scratch:2"), targets=("qac",), task="ner", pairs=12
    )
    found = study_alignment(base, asked, here)
    rows = found.tables["alignment"]
    layers = {row["system"]: [one["layer"] for one in rows if one["system"] == row["system"]] for row in rows}
    depth = here(base, {}).teacher.encoder.config.num_hidden_layers
    assert set(layers) == {"teacher-ltsft", "bistil-tf lrf 2", "scratch lrf 2"}
    assert layers["teacher-ltsft"] == [*range(1, depth + 1), TOGETHER] * 2
    assert layers["bistil-tf lrf 2"] == [*range(1, depth // 2 + 1), TOGETHER] * 2
    pipeline = here(base, {})
    cell = next(c for c in base.cells() if (c.system, c.task, c.target) == ("bistil-tf", "ner", "qac"))
    source, target = (Side(*pipeline.encoder(cell, code)) for code in ("qaa", "qac"))
    pairs = parallel(pipeline.data, "qaa", "qac")[:12]
    length = base.text.length
    for row in rows:
        if row["system"] == "bistil-tf lrf 2" and row["layer"] != TOGETHER:
            own = retrieve(source, target, pairs, layer=row["layer"], by=row["by"], max_length=length)
            assert row["accuracy"] == pytest.approx(own["accuracy"], abs=1e-3)
    results = batch.rows(pipeline)
    [score] = [
        row["value"]
        for row in results
        if (row["system"], row["task"], row["target"], row["metric"], row["lrf"])
        == ("bistil-tf", "ner", "qac", "f1", 2)
    ]
    beside = {(row["system"], row["by"]): row["score"] for row in found.tables["strategies"]}
    assert beside["bistil-tf lrf 2", "cosine"] == beside["bistil-tf lrf 2", "bertscore"] == round(score, 4)
    assert {"layers-cosine", "layers-bertscore", "alignment-cosine"} <= set(found.figures)
    with pytest.raises(InputError, match="as `task` under `alignment`"):
        dataclasses.replace(asked, task="qa").check(base)


def test_systems_that_all_score_alike_have_no_correlation(
    experiment: Callable[..., Experiment], here: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = [
        {"system": name, "by": "cosine", "alignment": place, "score": 0.0}
        for place, name in enumerate(("one", "two", "three"))
    ]
    monkeypatch.setattr(alignment, "strategies", lambda *_: alike)
    asked = Alignment(systems=("teacher-ltsft",), targets=("qac",), task="ner", by=("cosine",), pairs=12)
    found = study_alignment(experiment(), asked, here)
    assert set(found.figures) == {"layers-cosine"}
    assert not found.verdicts
    monkeypatch.setattr(
        alignment, "strategies", lambda *_: [{**one, "score": one["alignment"]} for one in alike]
    )
    assert study_alignment(experiment(), asked, here).verdicts[0].right == pytest.approx(1)


def test_alignment_is_refused_before_anything_is_built(experiment: Callable[..., Experiment]) -> None:
    """The task's file is missing, which is read last: no job was handed out before it was looked for."""
    handed, asked = [], Alignment(systems=("teacher-ltsft",), targets=("qac",), task="ner", pairs=12)

    class Refusing:
        def __init__(self, experiment: Experiment) -> None:
            self.tasks = set(experiment.targets)

        def check(self) -> None:
            if "ner" in self.tasks:
                raise InputError("no file")

    def build(experiment: Experiment, jobs: Any) -> Any:
        handed.extend(jobs)
        return Refusing(experiment)

    with pytest.raises(InputError, match="no file"):
        study_alignment(experiment(), asked, build)
    assert not handed


def test_a_study_of_an_experiment_with_groups_narrows_it() -> None:
    """Targets are left out, and what the experiment says of all of them goes along."""
    base = Experiment.read(ROOT / "data" / "experiments" / "miniworld-madg.yaml")
    assert base.target_groups
    assert base.claims
    study = read_yaml(Study, ROOT / "data" / "studies" / "miniworld-features.yaml")
    assert study.features is not None
    narrow = study.features.over(base)
    assert (narrow.target_groups, narrow.claims) == ({}, ())
    assert narrow.targets == {"pos": study.features.targets}
