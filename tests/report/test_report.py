"""The report: self-contained, escaped, the same bytes for the same rows, and whole on partial grids."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bistil import plots
from bistil.errors import InputError
from bistil.evaluation import significance
from bistil.evaluation.results import Variant, settings, write_results
from bistil.evaluation.significance import Outcomes, write_outcomes
from bistil.report import templates
from bistil.report.again import write_again
from bistil.report.asked import claims_of
from bistil.report.page import orderings, read_results, write_report
from bistil.report.readme import markdown
from bistil.report.tables import cost_table, group_tables, headline, score_tables

SYSTEMS = [
    ("teacher-ltsft", None, 60.0),
    ("bistil-tf", 2, 58.0),
    ("bistil-tf", 3, 59.0),
    ("bistil-st", 2, 55.0),
    ("floor", None, 9.0),
]


def rows(seeds: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "experiment": "demo",
            "system": system,
            "teacher": None if system == "floor" else "t",
            "task": "parsing",
            "source": "src",
            "target": target,
            "lrf": lrf,
            "density": 0.08,
            "seed": seed,
            "metric": metric,
            "value": value + shift + seed,
            "n_examples": 10,
            "parameters": 100 // (lrf or 1),
            "vocabulary": 50,
            "flops_per_example": 1e9 / (lrf or 1),
            "artefact": f"id-{system}",
        }
        for system, lrf, value in SYSTEMS
        for target, shift in (("aaa", 5.0), ("bbb", -5.0))
        for seed in range(seeds)
        for metric in ("las", "uas")
    ]


MANIFEST: dict[str, Any] = {
    "id": "id-bistil-tf",
    "kind": "student",
    "seed": 0,
    "finished": "2030-01-01T00:00:00Z",
    "wall_seconds": 100.0,
    "peak_memory_bytes": 2**30,
    "device": "cpu",
    "device_reason": "no CUDA device",
    "versions": {"torch": "2.11"},
    "git": {"commit": "abcdef0123456789", "dirty": True},
    "config": {"steps": 10},
    "inputs": {"teacher": "sha256:00"},
    "metrics": {"loss": 1.0},
}


class Balance(HTMLParser):
    """Checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(
        folder, rows(), title="Demo <script>", manifests=[MANIFEST], notes="First & foremost.\n\nSecond."
    )


def test_the_page_is_one_self_contained_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://", text)
    assert not re.search(r"<(script|link|img|iframe|object)\b", text)
    assert not re.search(r"@import|url\((?!#)", text)
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_what_people_wrote_is_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "Demo &lt;script&gt;" in text
    assert "<p>First &amp; foremost.</p>\n<p>Second.</p>" in text


def test_the_page_says_what_holds_and_what_was_kept(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert "✓ holds" in text
    assert "✗ does not hold" in text
    assert "Not run: " in text
    assert "96.7 %" in text
    assert "2.0 times fewer parameters and 0.50 of the FLOPs" in text
    assert "<strong>64.5</strong><small>± 0.7</small>" in text
    assert "<strong>65.5</strong>" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_names_every_artefact_and_those_without_manifest(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "abcdef0123</code> + changes" in text
    assert "2 min" in text
    assert "1,024 MiB" in text
    assert "no CUDA device" in text
    assert "<code>id-teacher-ltsft</code>" in text.split("No manifest was at hand for:")[1].split("</p>")[0]


def test_the_folder_holds_the_data_and_figures(page: Path) -> None:
    folder = page.parent
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        "scores-parsing.png",
        "scores-parsing.svg",
        "trade-off.png",
        "trade-off.svg",
    ]
    assert len(read_results(folder / "results.csv")) == len(rows())
    assert json.loads((folder / "manifests" / "student-id-bistil-tf.json").read_text()) == MANIFEST


def test_the_same_rows_give_the_same_bytes(page: Path, tmp_path: Path) -> None:
    again = write_report(
        tmp_path,
        rows()[::-1],
        title="Demo <script>",
        manifests=[MANIFEST],
        notes="First & foremost.\n\nSecond.",
    )
    for path in page.parent.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(page.parent)).read_bytes(), path.name
    assert again.name == "index.html"


@pytest.mark.parametrize("system", ["floor", "bistil-tf", "teacher-ltsft"])
def test_a_partial_grid_gives_a_whole_page(system: str, tmp_path: Path) -> None:
    some = [
        {key: value for key, value in row.items() if key != "flops_per_example"}
        for row in rows(1)
        if row["system"] == system
    ]
    text = write_report(tmp_path, some[:1], title="One score").read_text(encoding="utf-8")
    assert "One seed." in text
    assert "Not run: " in text


def test_given_claims_and_figures_are_shown(tmp_path: Path) -> None:
    extra = {
        "vocabulary curve": (
            plots.vocabulary_curve([1e-6, 1e-5], [9, 5], 1e-6),
            "How the vocabulary shrinks.",
        )
    }
    path = write_report(tmp_path, rows(1), title="More", claims=orderings(rows(1)), figures=extra)
    assert "keeps at least 97 %" in path.read_text(encoding="utf-8")
    assert "How the vocabulary shrinks." in path.read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "vocabulary-curve.svg").is_file()


def test_no_rows_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        write_report(tmp_path, [], title="Empty")


def test_a_page_is_made_again_from_what_lies_beside_it(tmp_path: Path) -> None:
    curve = plots.vocabulary_curve([1e-6, 1e-5], [100, 50], 1e-6)
    made = write_report(
        tmp_path,
        rows(),
        title="Papers & claims",
        notes="One < two.\n\nThree.",
        manifests=[MANIFEST],
        figures={"vocabulary-curve": (curve, 'How the "vocabulary" shrinks.')},
    )
    before = made.read_text(encoding="utf-8")
    told = before.replace("✓ holds", "✓ was told").replace("96.7 %", "all").replace("pages", "leaves")
    assert told.count("was told") + told.count(">all<") >= 2
    made.write_text(told, encoding="utf-8")
    assert write_again(tmp_path) == made
    assert made.read_text(encoding="utf-8") == before
    write_report(tmp_path, rows(), title="Without a note")
    assert write_again(tmp_path).read_text(encoding="utf-8") == made.read_text(encoding="utf-8")
    made.write_text("<h1>Another page</h1>", encoding="utf-8")
    with pytest.raises(InputError, match="another one"):
        write_again(tmp_path)


def test_what_is_told_of_narrow_students_is_told_once(tmp_path: Path) -> None:
    narrow = [{**row, "drf": 2 if row["lrf"] else None} for row in rows()]
    first = write_report(tmp_path, narrow, title="Narrow").read_text(encoding="utf-8")
    assert "With a drf its hidden size" in first
    for _ in range(2):
        assert write_again(tmp_path).read_text(encoding="utf-8") == first


def test_cells_of_fewer_seeds_say_so(tmp_path: Path) -> None:
    fewer = [row for row in rows() if (row["system"], row["seed"]) != ("bistil-tf", 1)]
    table = score_tables(fewer, settings(fewer)[0])[0]
    small = {variant.system: {cell.small for cell in cells[:-1]} for variant, cells in table["lines"]}
    assert small["bistil-tf"] == {"(1 of 2 seeds)"}
    assert all("seeds" not in text for text in small["teacher-ltsft"])


ASKED = {
    "data": "miniworld",
    "teacher": "there/teacher",
    "source": "src",
    "seen": ["src"],
    "seeds": [1],
    "systems": ["teacher-ltsft"],
    "targets": {"ner": ["aaa"]},
}
UNSAID: dict[str, Any] = {"regimes": {}, "groups": []}
"""What reports of some versions say of what was not asked for."""


def test_a_report_takes_in_what_another_machine_ran_of_its_experiment(tmp_path: Path) -> None:
    one, other, whole = (tmp_path / name for name in ("one", "other", "whole"))
    ran = [row | {"artefact": f"{row['artefact']} of {row['seed']}"} for row in rows(3)]
    seeds = {seed: [row for row in ran if row["seed"] == seed] for seed in (1, 2)}
    more = {**MANIFEST, "id": "ffff000011112222"}
    curve = plots.vocabulary_curve([1e-6, 1e-5], [100, 50], 1e-6)
    extra = {"vocabulary-curve": (curve, "A curve.")}
    write_report(one, seeds[1], title="demo", notes="Seed 1.\n\nAnd this.", manifests=[MANIFEST])
    write_report(other, seeds[2], title="demo", manifests=[more], figures=extra, told={"mine": "Mine."})
    targets = {"ner": ["aaa"], "parsing": ["bbb"]}
    for folder, asked in {
        one: {**ASKED, **UNSAID},
        other: {**ASKED, "on_source": True, "seeds": [2, 3], "systems": ["mine"], "targets": targets},
    }.items():
        (folder / "experiment.json").write_text(json.dumps(asked), encoding="utf-8")

    page = write_again(one, [other]).read_text(encoding="utf-8")
    write_report(whole, [*seeds[1], *seeds[2]], title="demo", manifests=[MANIFEST, more])
    assert (one / "results.csv").read_text() == (whole / "results.csv").read_text()
    assert {path.name for path in (one / "manifests").iterdir()} == {
        path.name for path in (whole / "manifests").iterdir()
    }
    assert "seeds 1, 2 (not run yet: 3)" in page
    assert all(told in page for told in ("And this.", "A curve."))
    assert json.loads((one / "experiment.json").read_text()) == {
        **ASKED,
        **UNSAID,
        "seeds": [1, 2, 3],
        "on_source": True,
        "systems": ["teacher-ltsft", "mine"],
        "targets": targets,
    }
    assert write_again(one, [other]).read_text(encoding="utf-8") == page  # twice is once

    (other / "experiment.json").write_text(json.dumps({**ASKED, "source": "bbb"}), encoding="utf-8")
    write_report(whole, [row for row in ran if row["seed"] == 0], title="demo")
    (whole / "experiment.json").write_text(json.dumps({**ASKED, "seeds": [0]}), encoding="utf-8")
    before = (one / "results.csv").read_text()
    with pytest.raises(InputError, match="they differ in source too"):
        write_again(one, [whole, other])
    assert (one / "results.csv").read_text() == before  # nothing is added where one of them is refused
    write_again(one, [whole])
    assert (one / "results.csv").read_text() != before
    (other / "experiment.json").unlink()
    with pytest.raises(InputError, match="keeps no settings"):
        write_again(one, [other])


def test_a_page_made_again_asks_what_its_experiment_claimed(tmp_path: Path) -> None:
    write_report(tmp_path, rows(), title="demo", manifests=[])
    claims = [{"order": "bistil-tf:3 > bistil-tf:2", "tasks": [], "targets": [], "source": "nowhere <said>"}]
    (tmp_path / "experiment.json").write_text(json.dumps({**ASKED, "claims": claims}), encoding="utf-8")
    page = write_again(tmp_path).read_text(encoding="utf-8")
    assert "bistil-tf lrf 3 &gt; bistil-tf lrf 2<br><small>nowhere &lt;said&gt;</small>" in page
    assert "not run" not in page


def test_times_tell_their_spread_a_busy_machine_and_a_heavy_head() -> None:
    [setting] = settings(rows())
    plain = [{**row, "latency_ms": 10.0} for row in rows()]
    assert any("in passing" in note for note in cost_table(plain, setting)["notes"])
    times = {"latency_spread_ms": 0.5, "encoder_ms": 6.0, "processor_share": 0.62}
    taken = [{**row, **times} for row in plain]
    table = cost_table(taken, setting)
    small = {
        variant.label: cells[[label for label, _ in table["head"]].index("latency, batch of 1")].small
        for variant, cells in table["lines"]
    }
    assert (small["teacher-ltsft"], small["bistil-tf lrf 2"]) == ("± 0.5", "± 0.5 1.00×")
    notes = " ".join(table["notes"])
    assert "only 62 % of its time" in notes
    assert "take 40 % of bistil-tf lrf 2's latency" in notes
    assert "in passing" not in notes
    quiet = [{**row, "processor_share": 0.99, "encoder_ms": 9.0} for row in taken]
    assert len(cost_table(quiet, setting)["notes"]) == 1
    first = headline(taken, setting)
    assert first is not None
    assert first["price"].endswith("0.50 of the FLOPs and 1.00 of the latency")


def test_a_share_of_a_weak_teacher_is_no_headline() -> None:
    [setting] = settings(rows())
    weak = [{**row, "value": row["value"] / 2} for row in rows()]
    told, first = headline(weak, setting), headline(rows(), setting)
    assert told is not None
    assert first is not None
    assert (first["share"], told["share"]) == ("96.7 %", "29.2")
    assert "by teacher-ltsft, which is itself weak" in told["text"]


GROUPS = {"near": ["aaa"], "far": ["bbb", "ccc"], "elsewhere": ["zzz"]}


def grouped_rows() -> list[dict[str, Any]]:
    """Three targets: bistil-tf lrf 2 has 63.5, 53.5 and 43.5 on them, in the mean of its seeds."""
    more = [{**row, "target": "ccc", "value": row["value"] - 10} for row in rows() if row["target"] == "bbb"]
    return [*rows(), *more]


def test_targets_by_groups_have_a_column_each(tmp_path: Path) -> None:
    setting = settings(grouped_rows())[0]
    table = score_tables(grouped_rows(), setting, GROUPS)[0]
    assert table["head"] == ["near", "far", "mean", "% of teacher"]  # a group without targets here has none
    cells = next(cells for variant, cells in table["lines"] if variant == Variant("bistil-tf", 2))
    near, far, mean = (float(cell.text) for cell in cells[:3])
    assert (near, far) == (63.5, 48.5)
    assert mean == pytest.approx((63.5 + 2 * 48.5) / 3, abs=0.05)
    [further] = group_tables(grouped_rows(), GROUPS)
    assert further.head == ["", *table["head"]]
    assert group_tables(grouped_rows(), {}) == []
    write_results(tmp_path / "results.csv", grouped_rows())
    assert "| aaa | bbb | ccc | mean |" in markdown(tmp_path / "results.csv")
    (tmp_path / "experiment.json").write_text(json.dumps({"target_groups": GROUPS}))
    assert "| near | far | mean |" in markdown(tmp_path / "results.csv")


def test_what_is_one_model_stands_in_one_line_and_the_table_says_so(tmp_path: Path) -> None:
    tuned = [{**row, "artefact": f"{row['artefact']} {row['system']} {row['lrf']}"} for row in rows()]
    own = [{**row, "task": "retrieval", "metric": "accuracy"} for row in tuned]
    again = [{**row, "system": "bistil-st"} for row in own if (row["system"], row["lrf"]) == ("bistil-tf", 3)]
    setting, before = settings(own)[0], score_tables([*own], settings(own)[0])[0]
    assert before["same"] == ""
    twice = [row for row in own if row["system"] != "bistil-st"] + again
    table = score_tables(twice, setting)[0]
    shown = [variant.label for variant, _ in table["lines"]]
    assert sorted(shown) == sorted({variant.label for variant, _ in before["lines"]} - {"bistil-st lrf 2"})
    assert table["same"] == "Left out, being the same model here: bistil-st lrf 3 (as bistil-tf lrf 3)."
    learnt = [{**row, "task": "parsing", "metric": "las"} for row in twice]
    assert len(score_tables(learnt, settings(learnt)[0])[0]["lines"]) == len(table["lines"]) + 1
    write_results(tmp_path / "results.csv", twice)
    assert table["same"] in markdown(tmp_path / "results.csv")


def test_a_claim_about_a_group_is_about_its_targets() -> None:
    said = {"order": "bistil-tf:2 > floor", "tasks": [], "targets": ["far", "aaa"], "within": 0.0}
    [chain] = claims_of({"claims": [said], "target_groups": GROUPS})
    assert chain.targets == ("bbb", "ccc", "aaa")
    with pytest.raises(InputError, match=r"`claims` of experiment\.json: .* 'unless'"):
        claims_of({"claims": [{**said, "unless": 1}]})


def test_a_task_whose_only_target_is_in_no_group_has_its_mean() -> None:
    alone = [row for row in rows() if row["target"] == "aaa"]
    [table, _] = score_tables(alone, settings(alone)[0], {"far": ["bbb"]})
    assert table["head"] == ["mean", "% of teacher"]
    assert len(table["lines"]) == len(SYSTEMS)


def test_a_share_of_the_teacher_is_over_the_same_targets() -> None:
    three = grouped_rows()
    some = [row for row in three if row["target"] != ("ccc" if row["system"] == "teacher-ltsft" else "aaa")]
    apart = [row for row in some if (row["system"] == "teacher-ltsft") == (row["target"] != "ccc")]
    for found, expected in ((some, f"{100 * 53.5 / 55.5:.1f}"), (apart, "–")):
        table = score_tables(found, settings(found)[0])[0]
        shares = {variant.label: cells[-1].text for variant, cells in table["lines"]}
        assert (shares["teacher-ltsft"], shares["bistil-tf lrf 2"]) == ("100.0", expected)


def test_zero_shot_is_said_of_what_is(tmp_path: Path) -> None:
    taken = [{**row, "regime": "" if row["system"] == "floor" else "source"} for row in rows()]
    on_source = [{**row, "metric": "source-las", "target": "src"} for row in taken if row["metric"] == "las"]
    few = [{**row, "system": "bistil-tf@fs", "regime": "source + 100 of target × 10"} for row in taken[:4]]
    for told, given in ((True, taken), (False, [*taken, *few])):
        tables = score_tables([*given, *on_source], settings(given)[0])
        assert [table["zero_shot"] for table in tables] == [told, False, told]  # las, on the source, uas
        page = write_report(tmp_path / str(told), given, title="Some").read_text(encoding="utf-8")
        assert ("LAS (%), zero-shot" in page) == told
        assert ("learnt from by bistil-tf@fs, as" in page) != told
    own = [{**row, "regime": "" if row["system"] == "floor" else "target"} for row in rows()]
    page = write_report(tmp_path / "own", own, title="Some").read_text(encoding="utf-8")
    assert "zero-shot" not in page
    assert "Every system learns a task from the examples that its sentence says" in page


def test_what_a_report_keeps_outlives_a_writing_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: str | bytes) -> None:
        raise OSError("no space left")

    templates.save(tmp_path, "*.json", {"a.json": "1", "b.json": "2"})
    write_outcomes(tmp_path, {"c": Outcomes("test", {"las": np.ones((2, 3))})})
    monkeypatch.setattr(templates, "write_whole", full)
    monkeypatch.setattr(significance, "write_whole", full)
    with pytest.raises(OSError, match="no space"):
        templates.save(tmp_path, "*.json", {"a.json": "1"})
    with pytest.raises(OSError, match="no space"):
        write_outcomes(tmp_path, {"d": Outcomes("test", {"las": np.ones((2, 3))})})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "c.safetensors"]
