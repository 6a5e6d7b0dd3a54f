"""Two processes take the steps of one: the same losses, the same student, the same sparse fine-tuning."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bistil.errors import InputError
from bistil.training import parallel

HERE = Path(__file__).parents[1]
CURVE = ("loss", "attention", "hidden", "eval_loss", "eval_loss_qaa", "eval_loss_qac")


def found(launcher: Sequence[str], world: Path, teacher: Path, to: Path) -> dict[str, Any]:
    to.mkdir()
    command = [
        sys.executable,
        *launcher,
        str(HERE / "training" / "two_processes.py"),
        str(world),
        str(teacher),
        str(to),
    ]
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": paths,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads((to / "found.json").read_text(encoding="utf-8")))


@pytest.mark.slow
def test_two_processes_train_what_one_trains(world: Path, teacher_folder: Path, tmp_path: Path) -> None:
    one = found([], world, teacher_folder, tmp_path / "one")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = found(launcher, world, teacher_folder, tmp_path / "two")
    for stage in ("stage 1", "language SFT"):
        assert [entry["step"] for entry in one[stage]] == [entry["step"] for entry in two[stage]]
        for mine, theirs in zip(one[stage], two[stage], strict=True):
            for name in mine.keys() & set(CURVE):
                assert theirs[name] == pytest.approx(mine[name], rel=1e-5, abs=1e-5), (
                    stage,
                    mine["step"],
                    name,
                )
    assert one["stage 1"][-1]["step"] == 50
    assert two["student"] == pytest.approx(
        one["student"], rel=1e-4, abs=1e-3
    )  # biases of keys, without a gradient but for rounding
    assert two["support"] == one["support"]
    assert two["delta"] == pytest.approx(one["delta"], rel=1e-3)


def test_a_batch_is_shared_out_row_by_row_or_refused() -> None:
    batches = [{"language": "qaa", "ids": torch.arange(6).view(6, 1) + 10 * step} for step in range(2)]
    shared = parallel.Shared(batches, 2)
    assert len(shared) == 4
    assert [shared[item]["ids"].flatten().tolist() for item in range(4)] == [
        [0, 2, 4],
        [1, 3, 5],
        [10, 12, 14],
        [11, 13, 15],
    ]
    assert shared[3]["language"] == "qaa"
    with pytest.raises(InputError, match=r"a multiple of 4, but a batch has \{'ids': 6\} rows"):
        parallel.Shared(batches, 4)[0]


def test_one_process_has_nothing_to_exchange() -> None:
    count, parameter = torch.tensor(3), torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 5.0)
    parallel.exchange([parameter])
    assert parallel.processes() == 1
    assert parameter.grad.tolist() == [5.0, 5.0]
    assert parallel.over_processes(count) is count
    assert [float(parallel.counted(torch.tensor(n))) for n in (0, 1, 7)] == [1.0, 1.0, 7.0]
