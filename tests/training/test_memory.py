"""Trainings give freed memory back to the system."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent("""
    import torch
    from bistil.training.memory import give_back

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4 // 1024

    torch.empty(2**22)  # its release raises the size from which on glibc maps tensors by themselves
    kept, freed = [], []
    for _ in range(300):
        freed.append(torch.ones(2**18))  # a megabyte
        kept.append(torch.ones(2**15))
    freed.clear()
    before = resident()
    give_back()
    print(before - resident())
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_tensors_between_kept_ones_go_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 200
