"""Steps and FLOPs of stages from settings and configurations: against the paper's sizes and hours."""

from pathlib import Path

import pytest
from tiny import ROOT
from transformers import BertConfig

from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.models.packaged import teacher_config
from bistil.plan import foresee
from bistil.plan.estimate import Estimator, forward_flops, meta_encoder
from bistil.plan.text import BISTIL_TFLOPS, plan_lines

PUBLIC = {
    "google-bert/bert-base-multilingual-cased": 178,
    "FacebookAI/xlm-roberta-base": 278,
    "microsoft/mdeberta-v3-base": 278,
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_teachers_have_the_papers_parameters(name: str) -> None:
    config = teacher_config(name)
    assert config is not None
    assert round(sum(p.numel() for p in meta_encoder(config).parameters()) / 1e6) == PUBLIC[name]


def test_flops_of_a_bert_are_those_of_its_matrix_products() -> None:
    config = BertConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128
    )
    length, hidden = 32, 64
    layer = 2 * length * (4 * hidden * hidden + 2 * hidden * 128) + 2 * 2 * length * length * hidden
    assert forward_flops(config, length) == 3 * layer + 2 * hidden * hidden  # and the pooler, for one token


def costs(name: str) -> dict[str, tuple[int, float]]:
    experiment = Experiment.read(ROOT / "data" / "experiments" / f"{name}.yaml")
    stages = foresee(experiment)
    estimator = Estimator(stages, teacher_config(experiment.teacher))
    found = {stage.name: estimator.cost(stage) for stage in stages.values()}
    return {name: (cost.steps, cost.hours(BISTIL_TFLOPS)) for name, cost in found.items()}


def test_the_papers_student_takes_the_papers_nine_hours() -> None:
    found = costs("paper-parsing")
    steps, hours = found["student bistil-tf parsing ara lrf 2 seed 1"]
    assert (steps, round(hours)) == (200_000, 9)
    assert found["student bistil-tf parsing ara lrf 3 seed 1"][1] == pytest.approx(
        hours * (12 + 12) / (18 + 12)
    )
    assert found["language-sft ara"][0] == 200_000
    assert found["task-sft teacher-ltsft parsing seed 1"][0] == 13 * 1568
    followed, alone = (
        found[f"task-sft {system} parsing ara lrf 2 seed 1"][1] for system in ("bistil-tf", "bistil-st")
    )
    assert followed / alone == pytest.approx((18 + 12) / 18)
    assert found["evaluation bistil-tf parsing ara lrf 2 seed 1"] == (0, 0.0)


def test_a_student_half_as_wide_takes_a_quarter_of_the_products_with_weights() -> None:
    found = costs("miniworld-baselines")
    wide, narrow = (found[f"task-sft bistil-tf parsing qab lrf 2{drf} seed 1"][1] for drf in ("", " drf 2"))
    teacher = (
        wide * 12 / (3 * 6 + 12)
    )  # the student's six layers forward and backward, the teacher's twelve forward
    assert (narrow - teacher) / (wide - teacher) == pytest.approx(
        0.25, rel=0.2
    )  # attention's own products are halved only


def test_a_rate_of_nothing_is_refused(experiment, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="above 0"):
        list(plan_lines(experiment(), tmp_path, tflops=0.0))
