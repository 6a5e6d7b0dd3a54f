"""Two experiments compared: from folders, tables and experiment files; what changed is told once, with its
certainty, or why not.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bistil import cli
from bistil.errors import InputError
from bistil.evaluation.results import write_results
from bistil.evaluation.significance import Outcomes, write_outcomes
from bistil.experiment import Experiment
from bistil.report.compare import as_text, compare
from bistil.report.sides import differing, read_side
from bistil.report.tables import Table
from bistil.store.provenance import plain

ROOT = Path(__file__).parents[2]
DEMO = Experiment.read(ROOT / "data" / "experiments" / "demo.yaml")
N = 300


def write(
    folder: Path,
    share: float,
    *,
    systems: tuple[str, ...],
    targets: tuple[str, ...] = ("qab",),
    steps: int = 80,
) -> Path:
    """What a report of systems that are right on about this share of the examples leaves behind, its page
    aside.
    """
    rows, kept, manifests = list[dict[str, Any]](), dict[str, Outcomes](), list[dict[str, Any]]()
    for system in systems:
        for target in targets:
            for seed in (1, 2):
                name = f"{folder.name}-{system}-{target}-{seed}"
                right = np.random.default_rng([seed, len(system)]).random(N) < share
                kept[name] = Outcomes(
                    f"sha256:{target}", {"accuracy": np.stack([right, np.ones(N)]).astype(np.uint8)}
                )
                rows.append(
                    {
                        "experiment": folder.name,
                        "system": system,
                        "teacher": "t",
                        "task": "nli",
                        "source": "qaa",
                        "target": target,
                        "lrf": None,
                        "seed": seed,
                        "metric": "accuracy",
                        "value": 100 * float(right.mean()),
                        "artefact": name,
                        "parameters": steps * 10**6,
                    }
                )
                manifests.append(
                    {
                        "kind": "evaluation",
                        "id": name,
                        "config": {"steps": steps},
                        "versions": {"torch": f"2.{steps}"},
                    }
                )
    write_results(folder / "results.csv", rows)
    write_outcomes(folder / "outcomes", kept)
    (folder / "manifests").mkdir()
    for manifest in manifests:
        (folder / "manifests" / f"evaluation-{manifest['id']}.json").write_text(
            json.dumps(manifest), encoding="utf-8"
        )
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("reports")
    return (
        write(place / "one", 0.70, systems=("teacher-ltsft", "teacher-head"), targets=("qab", "qac")),
        write(place / "other", 0.80, systems=("teacher-ltsft", "teacher-full"), steps=90),
    )


def tables(left: Path, right: Path) -> dict[str, Table]:
    return {
        table.title: table for table in compare(read_side(left, left.parent), read_side(right, right.parent))
    }


def test_scores_settings_costs_and_what_only_one_has(two) -> None:
    found = tables(*two)
    assert found["Settings that differ"].lines == [("evaluation.steps", "80", "90")]
    assert found["Software that differs"].lines == [("torch", "2.80", "2.90")]
    assert found["Only in one of them"].lines == [
        ("system", "teacher-head", "teacher-full"),
        ("target", "qac", ""),
    ]
    [line] = found["Natural language inference (t, from qaa): accuracy (%)"].lines
    assert (line[0], line[6]) == ("teacher-ltsft", "1")
    means = [float(cell.split(" ±")[0]) for cell in line[1:3]]
    assert float(line[3].split(" ±")[0]) == pytest.approx(means[1] - means[0], abs=0.11)
    low, high = (float(text) for text in line[4].split(" to "))
    assert 0 < low < float(line[3].split(" ±")[0]) < high
    assert line[5] in ("< 0.001", "0.001", "0.002")
    [cost] = found["Natural language inference (t, from qaa): costs that differ"].lines
    assert cost == ("teacher-ltsft", "parameters", "80 M", "90 M", "1.12×")


def test_alike_reports_have_nothing_to_tell_but_equal_scores(two) -> None:
    found = tables(two[0], two[0])
    assert [title for title in found if "accuracy" not in title] == []
    for line in found["Natural language inference (t, from qaa): accuracy (%)"].lines:
        assert line[3:6] == ("+0.0 ± 0.0", "+0.0 to +0.0", "1.000")


def test_a_table_alone_has_neither_outcomes_nor_settings(two, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_bytes((two[1] / "results.csv").read_bytes())
    found = tables(two[0], bare)
    assert "Settings that differ" not in found
    [line] = found["Natural language inference (t, from qaa): accuracy (%)"].lines
    assert line[4] == "2 of 4 evaluations kept no outcomes"
    assert tables(two[0], two[1] / "results.csv").keys() == tables(*two).keys()


def test_the_same_id_made_twice_keeps_its_own_outcomes(two, tmp_path: Path) -> None:
    again = tmp_path / "one"
    shutil.copytree(two[0], again)
    shutil.rmtree(again / "outcomes")  # as of an older version
    [line, _] = tables(two[0], again)["Natural language inference (t, from qaa): accuracy (%)"].lines
    assert line[4] == "4 of 8 evaluations kept no outcomes"


def test_experiment_files_stand_for_their_reports(tmp_path: Path) -> None:
    for name, lines in (("demo", 8000), ("more", 9000)):
        folder = write(tmp_path / name, 0.7, systems=("teacher-ltsft",))
        plan = replace(DEMO, name=name, text=replace(DEMO.text, lines=lines))
        (folder / "experiment.json").write_text(json.dumps(plain(plan)), encoding="utf-8")
    file = ROOT / "data" / "experiments" / "demo.yaml"
    found = {t.title: t for t in compare(read_side(file, tmp_path), read_side(tmp_path / "more", tmp_path))}
    assert found["Settings that differ"].lines == [("name", "demo", "more"), ("text.lines", "8000", "9000")]


def test_a_part_that_one_side_lacks_is_one_line() -> None:
    left, right = {"a.b.c": "1", "a.b.d": "2", "x": "1", "y.z": "null"}, {"x": "2", "y.z.q": "3"}
    assert differing(left, right) == [
        ("a", "2 settings", "–"),
        ("x", "1", "2"),
        ("y.z", "null", "1 settings"),
        ("y.z.q", "–", "3"),
    ]
    assert differing(left, None) == []


def test_systems_are_compared_whatever_the_density_of_each_side(two, tmp_path: Path) -> None:
    sides = [read_side(folder, folder.parent) for folder in two]
    whole = compare(*sides)
    other = replace(sides[1], rows=[{**row, "density": 0.02} for row in sides[1].rows])
    told = compare(sides[0], other)
    assert [line[0] for line in scores_in(told)] == [line[0] for line in scores_in(whole)] != []
    several = [{**row, "density": density} for row in sides[0].rows for density in (0.08, 0.02)]
    lines = scores_in(compare(replace(sides[0], rows=several), other))
    densities = {line[0].partition(" density ")[2] for line in lines if not line[0].startswith("floor")}
    assert densities == {"0.02"}


def scores_in(tables: list[Table]) -> list[Any]:
    return [
        line for table in tables if table.head[0] == "system" and "p" in table.head for line in table.lines
    ]


def test_the_command_prints_and_writes_and_refuses(two, capsys, tmp_path: Path) -> None:
    assert cli.main(["report", str(two[0]), str(two[1]), "--reports", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    page = Path(out.splitlines()[-1])
    assert page == tmp_path / "one-and-other" / "index.html"
    text = page.read_text(encoding="utf-8")
    for line in as_text(compare(read_side(two[0], tmp_path), read_side(two[1], tmp_path))):
        assert line in out
    assert "<td>2.90</td>" in text
    assert "http" not in text
    write_results(tmp_path / "empty" / "results.csv", [])
    for arguments, said in (
        ([two[0], tmp_path / "nowhere"], "A report's folder, a results.csv or an experiment file"),
        ([two[0], tmp_path / "empty"], "holds no rows"),
        ([two[0], two[1], two[0]], "two to compare"),
    ):
        assert cli.main(["report", *map(str, arguments), "--reports", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err


def test_an_experiment_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bistil batch"):
        read_side(ROOT / "data" / "experiments" / "demo.yaml", tmp_path)
