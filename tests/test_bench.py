"""The bench runs at any size and says what it compared with what."""

import json
from pathlib import Path

from bistil.bench import Size, run_bench

TINY = Size(layers=1, hidden=64, vocabulary=300, batch=2, length=8, turns=1, lines=20)


def test_every_comparison_names_its_baseline_and_environment(tmp_path: Path) -> None:
    said: list[str] = []
    found = json.loads(run_bench(tmp_path / "bench", TINY, say=said.append).read_text(encoding="utf-8"))
    assert len(found["comparisons"]) == len(said) == 5
    for comparison in found["comparisons"]:
        assert comparison["against"]
        assert comparison["ratios"]["seconds"] > 0
    assert found["environment"]["torch"]
    sparse, switch = found["comparisons"][:2]
    assert sparse["ratios"]["optimiser state, bytes"] < 0.1
    assert switch["largest change of the base after all switches"]["ours"] == 0.0
