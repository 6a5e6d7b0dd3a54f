"""Train stage 1 and a language SFT, and write down losses and results: `[torchrun …] two_processes.py WORLD
TEACHER TO`.

In a process group the processes share out each batch; test_parallel.py compares what they write with what one
process writes.
"""

import json
import os
import sys
from pathlib import Path

import torch
from tiny import objective_of

from bistil.distil.general import GeneralConfig, distil, set_dropout
from bistil.distil.start import initialise
from bistil.distil.teachers import AdaptedTeacher
from bistil.models.load import load_teacher
from bistil.sft.config import SftConfig
from bistil.sft.language import TextConfig, train_language_sft
from bistil.sft.lottery import LotteryConfig
from bistil.text.corpora import lines_to_blocks, read_lines
from bistil.training.loop import Run, Schedule

STEPS = 50


def main(world: Path, teacher_folder: Path, to: Path) -> None:
    rank = int(os.environ.get("RANK", "0"))
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    teacher = load_teacher(teacher_folder)
    lines = {code: read_lines(world / "corpora" / f"{code}.txt") for code in ("qaa", "qac")}
    blocks = {code: lines_to_blocks(teacher.tokenizer, found, 32) for code, found in lines.items()}
    phase = Schedule(steps=STEPS // 2, learning_rate=1e-3, evaluations=2, clip=1.0)
    sft = SftConfig(lottery=LotteryConfig(density=0.1, l1=0.1), dense=phase, sparse=phase)
    mlm = teacher.mlm
    set_dropout(mlm, 0.0)  # random numbers are each process's own
    delta, sft_history = train_language_sft(
        mlm,
        teacher.tokenizer,
        "qac",
        blocks["qac"],
        text=TextConfig(batch_size=6, mask_share=0.3),
        sft=sft,
        run=Run(to / "sft", "language SFT"),
    )
    encoder = load_teacher(teacher_folder).encoder
    student = initialise(encoder, 2)
    history = distil(
        objective_of(student, AdaptedTeacher(encoder, {"qac": delta}, None)),
        teacher.tokenizer,
        blocks,
        config=GeneralConfig(
            lrf=2, schedule=Schedule(steps=STEPS, learning_rate=1e-3, evaluations=10), batch_size=6
        ),
        run=Run(to / "stage-1", "stage 1"),
    )
    found = {
        "stage 1": history,
        "language SFT": sft_history,
        "student": [float(parameter.detach().norm()) for parameter in student.parameters()],
        "support": sum(int(positions.sum()) for positions, _ in delta.tensors.values()),
        "delta": float(sum(values.double().square().sum() for _, values in delta.tensors.values()) ** 0.5),
    }
    if rank == 0:
        (to / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
