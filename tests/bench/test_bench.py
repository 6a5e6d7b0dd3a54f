"""The bench runs at any size and says what it compared with what; its plain references compute what ours
computes.
"""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny import masked_lm, objective_of

from bistil import cli
from bistil.bench import PARTS, Size, run_bench
from bistil.bench.inference import EXPORTED, SPEED
from bistil.bench.measure import LEAST, OURS, PUBLISHED, Kept, alternate, comparison, sentence
from bistil.bench.models import config, delta
from bistil.bench.published import add_sparse, stage_one_loss
from bistil.bench.scaling import flops, settings
from bistil.bench.step import kept_by_length, losses, waiting_for_input
from bistil.bench.switch import _sparse
from bistil.cli import machine
from bistil.distil.start import initialise
from bistil.distil.teachers import AdaptedTeacher
from bistil.errors import InputError
from bistil.plan.estimate import forward_flops
from bistil.sft.delta import base_hash, deltas_applied
from bistil.sft.lottery import snapshot
from bistil.systems.layers import start_layers

TINY = Size(layers=2, hidden=64, vocabulary=300, kept=200, batch=2, length=16, turns=1, lines=20)


def measured(part: str, folder: Path, size: Size = TINY) -> list[dict]:
    said: list[str] = []
    found = json.loads(run_bench(folder, part, size, say=said.append).read_text(encoding="utf-8"))
    assert found["environment"]["torch"]
    assert found["size"] == dataclasses.asdict(size)
    assert len(said) == len(found["comparisons"]) > 0
    return found["comparisons"]


@pytest.mark.parametrize(
    "part",
    [
        "step",
        pytest.param("recipes", marks=pytest.mark.slow),
        "labels",
        pytest.param("sft", marks=pytest.mark.slow),
        pytest.param("adapters", marks=pytest.mark.slow),
        "vocab",
        "switch",
        pytest.param("eval", marks=pytest.mark.slow),
        pytest.param("translation", marks=pytest.mark.slow),
    ],
)
def test_every_part_sets_ours_against_what_it_names(part: str, tmp_path: Path) -> None:
    for row in measured(part, tmp_path / "bench"):
        assert row["note"]
        assert {OURS} < set(row["columns"])
        assert row["ratios"]
        for unit, ratios in row["ratios"].items():
            for other, ratio in ratios.items():
                assert ratio == pytest.approx(row["columns"][OURS][unit] / row["columns"][other][unit])
    assert (tmp_path / "bench" / f"{part}.json").is_file()


def test_what_can_be_counted_is_less_than_the_published_way_needs(tmp_path: Path) -> None:
    step, switch = (measured(part, tmp_path)[0] for part in ("step", "switch"))
    assert step["ratios"]["kept for the backward pass, bytes"][PUBLISHED] < 0.9
    assert (
        switch["columns"][OURS]["largest change of the base"]
        == 0.0
        < switch["columns"][PUBLISHED]["largest change of the base"]
    )


def test_what_is_kept_grows_with_the_length_and_maps_with_its_square() -> None:
    row = kept_by_length(dataclasses.replace(TINY, length=128))
    twice, four_times = "kept at 128 to kept at 64", "kept at 256 to kept at 64"
    for name in (OURS, LEAST):
        assert row["columns"][name][twice] == pytest.approx(2, rel=0.01)
        assert row["columns"][name][four_times] == pytest.approx(4, rel=0.01)
    assert row["columns"][PUBLISHED][four_times] > 4.8


def test_input_is_timed_a_batch_at_a_time() -> None:
    row = waiting_for_input(TINY, {"cpu seconds": 2.0, "seconds": 4.0})
    assert row["columns"]["a stage-1 step"] == {"cpu seconds": 2.0, "seconds": 4.0}
    assert 0 < row["columns"][OURS]["seconds"] < 1  # of one batch of two rows
    assert row["ratios"]["seconds"]["a stage-1 step"] == row["columns"][OURS]["seconds"] / 4


@pytest.mark.slow
def test_a_student_is_run_in_every_way_there_is_and_the_others_are_named(tmp_path: Path) -> None:
    rows = measured("inference", tmp_path, dataclasses.replace(TINY, layers=6))
    speeds = [row for row in rows if row["name"].startswith("inference")]
    for row in speeds:
        assert {"teacher", OURS, "student bf16"} <= set(row["columns"])
        assert ("student ONNX" in row["columns"]) != (".[onnx]" in row["note"])
        for column in row["columns"].values():
            assert column[SPEED] == pytest.approx(
                row["columns"]["teacher"]["median seconds"] / column["median seconds"]
            )
    best = {
        row["name"].split(": ")[0]: (row["name"].split(": ")[1], row["columns"])
        for row in rows
        if row not in speeds
    }
    for row in (one for one in speeds if one["name"].startswith("inference, batch 1 ")):
        for student, plain in {"student": OURS, "student lrf 3": "student lrf 3"}.items():
            forms = {"PyTorch": plain, **{form.strip(): f"{student}{form}" for form in EXPORTED}}
            found = {form: row["columns"][name] for form, name in forms.items() if name in row["columns"]}
            fastest = min(found, key=lambda form: found[form]["median seconds"])
            expected = fastest, {OURS: found[fastest], "teacher": row["columns"]["teacher"]}
            assert best[row["name"].replace("inference", f"fastest exported form of {student}")] == expected


def test_the_speeds_that_the_readme_tells_are_those_measured() -> None:
    """Columns of the table: batch x tokens, then `times the teacher's speed` of these forms, to a tenth."""
    forms = (
        OURS,
        "student lrf 3",
        "student bf16",
        "student ONNX",
        "student ONNX int8",
        "student lrf 3 ONNX int8",
    )
    root = Path(__file__).parents[2]
    rows = json.loads((root / "reports/bench/inference.json").read_text(encoding="utf-8"))["comparisons"]
    table = (root / "docs" / "results.md").read_text(encoding="utf-8").split("**Speed**")[1].split("\n\n")[1]
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert len(told) >= 4
    for shape, *speeds in told:
        columns = next(
            row["columns"] for row in rows if row["name"] == f"inference, batch {shape.replace('×', 'x')}"
        )
        assert speeds == [f"{columns[form][SPEED]:.1f}" for form in forms if form in columns]


def test_the_command_line_knows_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(PARTS) == machine.BENCH
    assert [name for name, _, _ in machine.BENCH_SIZES] == [
        one.name for one in dataclasses.fields(Size) if one.name != "lrf"
    ]
    assert all(getattr(Size(), name) == default for name, default, _ in machine.BENCH_SIZES)
    sizes = [text for name in ("layers", "hidden", "vocabulary", "kept", "batch", "length", "lines", "turns")
             for text in (f"--{name}", str(getattr(TINY, name)))]  # fmt: skip
    assert cli.main(["bench", "eval", "--to", str(tmp_path), *sizes]) == 0
    assert str(tmp_path / "eval.json") in capsys.readouterr().out


def test_the_published_loss_and_gradient_are_ours_on_full_batches() -> None:
    teacher = masked_lm(60)
    student = masked_lm(60, layers=3, seed=1)
    student.bert = initialise(teacher.bert, 2)
    with torch.no_grad():
        for parameter in student.bert.parameters():
            parameter.mul_(1.1)
    ids = torch.randint(5, 60, (3, 20), generator=torch.Generator().manual_seed(0))
    mask, parameters = torch.ones_like(ids), list(student.bert.parameters())
    ours, _ = objective_of(student.bert, AdaptedTeacher(teacher.bert, {}, None))(
        {"language": "none", "input_ids": ids, "attention_mask": mask}
    )
    published = stage_one_loss(student, teacher, ids, mask, start_layers("uniform", 6, 2))
    torch.testing.assert_close(ours, published, rtol=1e-5, atol=0)
    for mine, theirs in zip(
        *(torch.autograd.grad(loss, parameters) for loss in (ours, published)), strict=True
    ):
        assert float((mine - theirs).norm()) <= 1e-5 * float(theirs.norm()) + 1e-7


def test_the_published_switch_is_ours_but_for_rounding() -> None:
    encoder = masked_lm(60).bert
    theta = snapshot(encoder)
    one = delta(theta, base_hash(encoder))
    with deltas_applied(encoder, one):
        expected = snapshot(encoder)
    add_sparse(encoder, _sparse(one, theta), 1.0)
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=1e-7)


def test_the_floor_of_the_step_trains_every_parameter_too() -> None:
    sides, student = losses(TINY)
    for name in (PUBLISHED, OURS, LEAST):
        student.zero_grad()
        sides[name]().backward()
        used = {key for key, parameter in student.named_parameters() if parameter.grad is not None}
        assert used == {key for key, _ in student.named_parameters()}


def test_ratios_sentences_and_turns() -> None:
    row = comparison(
        "a thing",
        "with a note",
        {OURS: {"seconds": 1.0, "bytes": 2.0}, LEAST: {"seconds": 4.0}, "other": {"bytes": 8.0}},
    )
    assert row["ratios"] == {"seconds": {LEAST: 0.25}, "bytes": {"other": 0.25}}
    assert sentence(row) == "a thing: bytes: 2 ours, 8 other (ours 0.25x other)"
    calls: list[str] = []
    alternate(2, {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")})
    assert calls == ["a", "b"] * 3


def test_what_is_kept_counts_every_storage_once_and_no_parameter() -> None:
    weight, x = torch.nn.Parameter(torch.ones(5, 5)), torch.ones(7, 5, requires_grad=True)
    kept = Kept([weight])
    with kept:
        (x @ weight).square().sum() + (x @ weight.T).exp().sum()
    assert kept.bytes == 4 * 3 * 35  # x, the squared product, the exponential


def test_a_prediction_grows_with_the_products_of_a_step() -> None:
    size = dataclasses.replace(TINY, layers=4, hidden=128)
    named = dict(settings(size))
    assert named.keys() == {"4 x 8 tokens", "1 x 32 tokens", "batch 4", "2 layers", "width 64"}
    assert {one.batch * one.length for name, one in named.items() if "tokens" in name} == {32}
    assert flops(named["batch 4"]) == 2 * flops(size)
    assert flops(size) == pytest.approx(
        2 * flops(named["2 layers"]), rel=0.01
    )  # a pooler is counted, and does not shrink
    assert flops(named["4 x 8 tokens"]) < flops(size) < flops(named["1 x 32 tokens"])
    student, teacher = 2, 4  # layers; a student's backward pass is worth two forward passes
    assert flops(size) * teacher == size.batch * forward_flops(config(size), size.length) * (
        teacher + 3 * student
    )


def test_scaling_sets_a_prediction_against_a_measurement(tmp_path: Path) -> None:
    for row in measured("scaling", tmp_path):
        [(unit, ratios)] = row["ratios"].items()
        columns = row["columns"]
        assert ratios["measured"] == columns["predicted"][unit] / columns["measured"][unit] > 0
        assert columns["predicted"][unit] != columns["base"][unit] > 0


@pytest.mark.parametrize("name", ["kept", "vocabulary"])
def test_a_vocabulary_without_room_for_words_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} should be at least 100"):
        Size(**{name: 4})
