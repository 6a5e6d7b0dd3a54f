"""A few kills of each kind of run; `python tests/kill_resume.py --times 20` does many."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_runs_end_in_the_same_weights() -> None:
    script = Path(__file__).with_name("kill_resume.py")
    ran = subprocess.run(
        [sys.executable, str(script), "--times", "2"], capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "DIFFERENT" not in ran.stdout
