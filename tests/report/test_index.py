"""One page over all reports: every report has a line, readable or not."""

import re
from pathlib import Path

import pytest
from tiny import ROOT

from bistil.cli import main
from bistil.report.index import lines, write_index


def test_every_kept_report_has_a_line() -> None:
    found = {line.name: line for line in lines(ROOT / "reports")}
    assert set(found) == {page.parent.name for page in (ROOT / "reports").glob("*/index.html")}
    long = found["real-small-long"]
    assert (long.teacher, long.seeds, long.languages) == ("teacher-small", 1, "eng → deu, fra")
    assert found["miniworld-claims"].seeds == 3
    assert re.fullmatch(r"2026-\d\d-\d\d", found["miniworld-claims"].written)
    assert found["miniworld-anatomy"].task == "–"  # a study has no scores


def test_the_kept_index_is_that_of_the_kept_reports(tmp_path: Path) -> None:
    kept = (ROOT / "reports" / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'href="([\w-]+)/index.html"', kept))
    assert named <= {page.parent.name for page in (ROOT / "reports").glob("*/index.html")}
    assert {"real-small-long", "miniworld-claims", "miniworld-anatomy"} <= named


def test_a_report_that_cannot_be_read_is_named_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "index.html").write_text("<p>", encoding="utf-8")
    (tmp_path / "broken" / "results.csv").write_text("no,table\n1", encoding="utf-8")
    assert [line.name for line in lines(tmp_path)] == ["broken"]
    assert main(["report", "--reports", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    text = write_index(tmp_path).read_text(encoding="utf-8")
    assert '<a href="broken/index.html">broken</a>' in text


def test_an_artefact_without_a_day_takes_none_from_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "manifests"
    folder.mkdir(parents=True)
    (tmp_path / "one" / "index.html").write_text("<p>", encoding="utf-8")
    (folder / "a.json").write_text("{}", encoding="utf-8")
    (folder / "b.json").write_text('{"finished": null}', encoding="utf-8")
    assert [line.written for line in lines(tmp_path)] == ["–"]
    (folder / "c.json").write_text('{"finished": "2026-01-02T03:04:05Z"}', encoding="utf-8")
    assert [line.written for line in lines(tmp_path)] == ["2026-01-02"]
