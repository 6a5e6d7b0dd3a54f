"""Tables for LaTeX, and reports of ten thousand rows."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bistil.evaluation.results import read_results, write_results
from bistil.report.latex import escaped, latex_tables
from bistil.report.page import write_report
from bistil.systems.table import SYSTEMS

ROOT = Path(__file__).parents[2]
CLAIMS = read_results(ROOT / "reports" / "miniworld-claims" / "results.csv")


def test_tables_have_the_cells_of_the_page() -> None:
    tables = latex_tables(CLAIMS)
    assert set(tables) == {"scores-ner", "costs-ner", "scores-parsing", "costs-parsing"}
    text = tables["scores-ner"]
    assert r"bistil-tf lrf 2 & \textbf{84.7} {\small $\pm$ 1.1} & 64.4" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"F1 (\%), zero-shot, mean $\pm$ one standard deviation over 3 seeds" in text
    columns = len(text.split(r"\begin{tabular}{")[1].split("}")[0])
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 9
    assert {line.count(" & ") for line in rows} == {columns - 1}
    assert r"{\small 0.46$\times$}" in tables["costs-ner"]


def test_what_latex_would_take_for_commands_is_spelled_out() -> None:
    assert (
        escaped(r"a_b 5 % & {#$} \x ~^")
        == r"a\_b 5 \% \& \{\#\$\} \textbackslash{}x \textasciitilde{}\textasciicircum{}"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_takes_them(tmp_path: Path) -> None:
    for name, text in latex_tables(CLAIMS).items():
        whole = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
        (tmp_path / f"{name}.tex").write_text(whole, encoding="utf-8")
        ran = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=tmp_path,
            capture_output=True,
        )
        assert ran.returncode == 0, ran.stdout[-2000:]


def many() -> list[dict[str, Any]]:
    """10,080 rows: two tasks with two metrics, 60 targets, 14 systems, three seeds."""
    systems = [(name, 2 if system.student else None) for name, system in SYSTEMS.items()][-14:]
    return [
        {
            "experiment": "large",
            "system": name,
            "teacher": "t",
            "task": task,
            "source": "src",
            "target": f"l{target:02}",
            "lrf": lrf,
            "seed": seed,
            "metric": metric,
            "value": 40.0 + place + target / 10 + seed / 7,
            "parameters": 10**8 // (lrf or 1),
            "flops_per_example": 1e9 / (lrf or 1),
            "artefact": f"{task}-{name}-{target}-{seed}",
        }
        for task, metrics in {"parsing": ("las", "uas"), "ner": ("f1", "recall")}.items()
        for place, (name, lrf) in enumerate(systems)
        for target in range(60)
        for seed in (1, 2, 3)
        for metric in metrics
    ]


@pytest.mark.slow
def test_ten_thousand_rows_take_seconds_and_a_few_megabytes(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", many())
    rows = read_results(tmp_path / "results.csv")
    assert len(rows) == 10_080
    manifests = [
        {"kind": "evaluation", "id": row["artefact"], "config": {"text": "x" * 2000}, "wall_seconds": 1.0}
        for row in rows[::2]
    ]
    start = time.process_time()
    page = write_report(tmp_path, rows, title="Large", manifests=manifests)
    assert time.process_time() - start < 60
    assert page.stat().st_size < 5 * 2**20
    text = page.read_text(encoding="utf-8")
    assert "<summary>Each of the 60 targets</summary>" in text
    assert 'href="manifests/evaluation-parsing-' in text
