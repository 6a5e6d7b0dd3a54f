"""Stage 1 by our step and by the published one, on the same batches, and what the students are worth in the
end: `parity.py [STEPS]`.

The published step (`bistil.bench.published`) runs both whole masked-LM models and compares eager attention
maps of every layer. Batches are full, since on padding the two differ by intention. Writes what it finds as
JSON to standard output; test_parity.py does the same in small.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bistil.bench.published import stage_one_loss
from bistil.distil.general import GeneralConfig, distil
from bistil.distil.objective import Distillation
from bistil.distil.start import initialise
from bistil.distil.task import TaskConfig, train_task_sft
from bistil.distil.teachers import AdaptedTeacher
from bistil.evaluation.score import evaluate
from bistil.experiment import Experiment
from bistil.models.load import TaskModel, load_teacher
from bistil.sft.delta import base_hash
from bistil.sources.folder import open_data
from bistil.systems.layers import start_layers
from bistil.systems.recipe import STATES
from bistil.tasks import task as find_task
from bistil.text.corpora import Blocks, read_lines, to_blocks
from bistil.text.languages import DATA
from bistil.training.loop import Objective, Run, Schedule

LENGTH, TASK, TARGETS = 64, "parsing", ("qab", "qac")


class Published(Objective):
    """The published loss of a student in its masked-LM model against a whole teacher."""

    terms: Mapping[str, Any] = MappingProxyType({})  # none whose shares could be told

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, layers: tuple[int, ...]) -> None:
        super().__init__(student.base_model)
        self._models, self._layers = (student, teacher.eval().requires_grad_(False)), layers
        self.teacher = AdaptedTeacher(teacher.base_model, {}, None)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one full batch; no parts."""
        return stage_one_loss(*self._models, batch["input_ids"], batch["attention_mask"], self._layers), {}


def student_by(
    way: str, teacher_folder: Path, text: Mapping[str, Blocks], config: GeneralConfig
) -> tuple[PreTrainedModel, list[float]]:
    """A student of the teacher's vocabulary by one way, `ours` or `published`, and the loss of every step."""
    teacher, other = load_teacher(teacher_folder), load_teacher(teacher_folder).mlm
    layers = tuple(start_layers("uniform", teacher.encoder.config.num_hidden_layers, config.lrf))
    encoder = initialise(teacher.encoder, config.lrf)
    adapted = AdaptedTeacher(teacher.encoder, {}, None)
    objective: Any = Distillation(encoder, adapted, STATES, tuple(enumerate(layers, start=1)))
    if way == "published":
        setattr(other, other.base_model_prefix, encoder)
        objective = Published(other, teacher.mlm, layers)
    curve: list[float] = []
    objective.register_forward_hook(
        lambda module, given, found: curve.append(float(found[0].detach())) if module.training else None
    )
    with tempfile.TemporaryDirectory() as folder:
        distil(objective, teacher.tokenizer, text, config=config, run=Run(Path(folder), way))
    return encoder, curve


def distance(one: list[float], other: list[float]) -> list[float]:
    """How far apart two curves are at each step, as a share of the second."""
    return [abs(a - b) / b for a, b in zip(one, other, strict=True)]


def scores(
    encoder: PreTrainedModel, teacher_folder: Path, source: str, config: TaskConfig
) -> dict[str, float]:
    """Zero-shot scores after a self-taught task SFT in the source language, without language SFTs."""
    data, tokenizer, kind = open_data("miniworld"), load_teacher(teacher_folder).tokenizer, find_task(TASK)
    examples = kind.read(data.file(kind.column, source, "train"))
    task, base = kind.for_training(examples), base_hash(encoder)
    torch.manual_seed(config.sft.seed)
    model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size))
    dev = task.read(data.file(kind.column, source, "dev"))
    with tempfile.TemporaryDirectory() as folder:
        train_task_sft(
            model,
            task,
            examples,
            tokenizer,
            config=config,
            validate=lambda: evaluate(model, task, dev, tokenizer),
            base=base,
            run=Run(Path(folder), "task SFT"),
        )
    return {
        code: evaluate(model, task, task.read(data.file(kind.column, code, "test")), tokenizer)[task.metric]
        for code in TARGETS
    }


def main(steps: int) -> None:
    torch.set_num_threads(1)
    experiment = Experiment.read(DATA / "experiments" / "miniworld-claims.yaml")
    folder, data = DATA.parent / experiment.teacher, open_data("miniworld")
    tokenizer = load_teacher(folder).tokenizer
    codes = (experiment.source, TARGETS[-1])
    text = {
        code: to_blocks(tokenizer, read_lines(data.text(code), experiment.text.lines), LENGTH)
        for code in codes
    }
    schedule = Schedule(steps=steps, learning_rate=2e-3, evaluations=2, warmup_share=0.05)
    curves: dict[tuple[str, int], list[float]] = {}
    for seed in (1, 2):
        for way in ("ours", "published"):
            config = GeneralConfig(lrf=2, schedule=schedule, batch_size=16, seed=seed)
            student, curves[way, seed] = student_by(way, folder, text, config)
            tuned = experiment.task[TASK]
            found = scores(
                student,
                folder,
                experiment.source,
                dataclasses.replace(tuned, sft=dataclasses.replace(tuned.sft, seed=seed)),
            )
            last = sum(curves[way, seed][-20:]) / 20
            print(json.dumps({"way": way, "seed": seed, "last 20 steps": last, **found}), flush=True)
    for name, one, other in (
        ("ours against published, seed 1", curves["ours", 1], curves["published", 1]),
        ("ours against published, seed 2", curves["ours", 2], curves["published", 2]),
        ("seed 1 against seed 2, ours", curves["ours", 1], curves["ours", 2]),
    ):
        apart = distance(one, other)
        print(json.dumps({name: {"first": apart[0], "largest": max(apart), "mean": sum(apart) / len(apart)}}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
