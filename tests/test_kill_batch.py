"""A batch of 12 scores killed five times; `python tests/kill_batch.py --engine pool snakemake submit` does it
with 24 and every engine.
"""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_batch_killed_five_times_builds_each_stage_once() -> None:
    script = Path(__file__).with_name("kill_batch.py")
    ran = subprocess.run(
        [sys.executable, str(script), "--times", "5", "--seeds", "1"],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count(" kill ") == 5
    assert "each stage built once, same scores" in ran.stdout
