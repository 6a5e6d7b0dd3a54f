"""Narrower students: the projection's properties, what is kept, the losses in one shape, and both stages from
the YAML.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.fft import dct
from test_systems import figures_of
from tiny import entries, masked_lm, objective_of, state_losses
from torch.nn.functional import layer_norm
from transformers import RobertaConfig

from bistil.distil.objective import compare
from bistil.distil.terms import Context, Reading
from bistil.distil.width import Narrowing, check_drf, cosines, initialise_narrow, principal_basis
from bistil.errors import InputError
from bistil.losses import attention_loss, hidden_loss
from bistil.models.load import encode
from bistil.pipeline import Pipeline
from bistil.pipeline.students import NARROWING
from bistil.store.artefacts import Store
from bistil.systems.layers import start_layers
from bistil.tasks.biaffine import ShallowBiaffine
from bistil.tasks.labelling import ClsClassifier

LAYERS = start_layers("uniform", 6, 2)


@pytest.fixture(scope="module")
def teacher():
    return masked_lm(60).bert


def text():
    for seed in range(3):
        ids = torch.randint(5, 60, (8, 12), generator=torch.Generator().manual_seed(seed))
        mask = torch.ones_like(ids)
        mask[0, 6:] = 0
        yield ids, mask


def states_of(encoder, layers) -> torch.Tensor:
    return torch.cat(
        [
            encode(encoder, ids, mask, states=True).hidden[layer][mask == 1]
            for ids, mask in text()
            for layer in layers
        ]
    )


def test_the_cosines_are_orthonormal_and_scipys() -> None:
    for size in (1, 4, 7):
        np.testing.assert_allclose(cosines(size).numpy(), dct(np.eye(size), axis=0, norm="ortho"), atol=1e-12)
        torch.testing.assert_close(cosines(size) @ cosines(size).T, torch.eye(size, dtype=torch.float64))


@torch.no_grad()
def test_the_basis_is_orthonormal_and_keeps_the_most_energy_with_the_least_of_it_in_the_mean(teacher) -> None:
    basis = principal_basis(teacher, (0, *LAYERS), 16, text)
    torch.testing.assert_close(basis.T @ basis, torch.eye(16), atol=1e-5, rtol=0)
    states = states_of(teacher, (0, *LAYERS))
    values = torch.linalg.svdvals(states.double())
    kept = (states @ basis).double()
    assert float(kept.square().sum()) == pytest.approx(float(values[:16].square().sum()), rel=1e-4)
    assert float(kept.mean(1).square().sum() * 16) == pytest.approx(float(values[15] ** 2), rel=1e-3)


@torch.no_grad()
def test_what_is_kept_of_a_layer_and_how_it_is_projected(teacher) -> None:
    student, narrowing = initialise_narrow(teacher, 2, 2, text)
    basis = narrowing.map.T
    assert narrowing.heads.shape == (3, 1)
    first, own = teacher.encoder.layer[1], student.encoder.layer[0]
    head = int(narrowing.heads[0, 0])
    rows = slice(16 * head, 16 * head + 16)
    torch.testing.assert_close(own.attention.self.key.weight, first.attention.self.key.weight[rows] @ basis)
    torch.testing.assert_close(own.attention.self.key.bias, first.attention.self.key.bias[rows])
    torch.testing.assert_close(
        own.attention.output.dense.weight, basis.T @ first.attention.output.dense.weight[:, rows]
    )
    torch.testing.assert_close(
        student.embeddings.word_embeddings.weight, teacher.embeddings.word_embeddings.weight @ basis
    )
    written = []
    for candidate in (0, 1):
        found = []
        for ids, mask in text():
            out = encode(teacher, ids, mask, states=True)
            values = first.attention.self.value(out.hidden[1])[..., 16 * candidate : 16 * candidate + 16]
            context = out.attention[1][:, candidate] @ values
            found.append(
                (context @ first.attention.output.dense.weight[:, 16 * candidate : 16 * candidate + 16].T)[
                    mask == 1
                ]
            )
        written.append(float(torch.cat(found).square().sum(1).mean()))
    assert written[head] == max(written)


@torch.no_grad()
def test_layer_norms_are_the_least_squares_line(teacher) -> None:
    student, narrowing = initialise_narrow(teacher, 2, 2, text)
    basis = narrowing.map.T
    embeddings = teacher.embeddings
    before, after = [], []
    for ids, mask in text():
        whole = (
            embeddings.word_embeddings(ids)
            + embeddings.position_embeddings.weight[:12]
            + embeddings.token_type_embeddings.weight[0]
        )
        before.append(layer_norm(whole @ basis, (16,), eps=1e-12)[mask == 1])
        after.append((embeddings.LayerNorm(whole) @ basis)[mask == 1])
    x, y = torch.cat(before).numpy(), torch.cat(after).numpy()
    for unit in range(16):
        gain, bias = np.polyfit(x[:, unit], y[:, unit], 1)
        assert student.embeddings.LayerNorm.weight[unit].item() == pytest.approx(gain, abs=1e-3)
        assert student.embeddings.LayerNorm.bias[unit].item() == pytest.approx(bias, abs=1e-3)


@torch.no_grad()
def test_a_narrower_student_is_smaller_in_every_way_and_starts_near_the_teacher(teacher) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student, narrowing = initialise_narrow(teacher, 2, 2, text)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    config = student.config
    assert (
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        config.num_hidden_layers,
    ) == (16, 1, 32, 3)
    assert not student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    torch.manual_seed(0)
    other = type(student)(config, add_pooling_layer=False).eval()

    def far(one) -> float:
        losses = []
        for ids, mask in text():
            aligned = narrowing.align(
                encode(one, ids, mask, states=True), encode(teacher, ids, mask, states=True), LAYERS
            )
            losses.append(float(state_losses(*aligned, LAYERS, mask)[1]["hidden"]))
        return sum(losses)

    assert far(student) < 0.7 * far(other)


def test_the_loss_compares_mapped_states_and_kept_heads(teacher) -> None:
    student, narrowing = initialise_narrow(teacher, 3, 2, text)
    ids, mask = next(iter(text()))
    own, theirs = encode(student, ids, mask, states=True), encode(teacher, ids, mask, states=True)
    loss, parts = state_losses(own, theirs, (3, 6), mask, narrowing)
    heads = narrowing.heads.tolist()
    hidden = hidden_loss([z @ narrowing.map for z in own.hidden], [theirs.hidden[i] for i in (0, 3, 6)], mask)
    attention = attention_loss(
        own.attention, [theirs.attention[i - 1][:, kept] for i, kept in zip((3, 6), heads, strict=True)], mask
    )
    torch.testing.assert_close(loss, hidden + attention)
    assert set(parts) == {"attention", "hidden"}


def test_a_narrower_student_may_follow_predictions_alone(teacher) -> None:
    student, narrowing = initialise_narrow(teacher, 3, 2, text)
    ids, mask = next(iter(text()))
    own, theirs = (Reading(encode(one, ids, mask, states=True)) for one in (student, teacher))
    loss, parts = compare({}, own, theirs, {}, Context(mask), narrowing)
    assert (float(loss), parts) == (0.0, {})


@pytest.mark.parametrize("learned", [True, False])
def test_the_map_trains_only_where_it_is_asked_to(teacher, learned: bool) -> None:
    student, narrowing = initialise_narrow(teacher, 2, 2, text, learned=learned)
    objective = objective_of(student, masked_lm(60).bert, narrowing=narrowing)
    ids, mask = next(iter(text()))
    objective({"language": "qaa", "input_ids": ids, "attention_mask": mask})[0].backward()
    assert (narrowing.map.grad is not None) == learned
    assert "narrowing.map" in objective.state_dict()
    assert all(parameter.grad is not None for parameter in student.parameters())


@torch.no_grad()
def test_heads_say_of_z_what_the_teachers_say_of_the_mapped_state() -> None:
    torch.manual_seed(1)
    narrowing = Narrowing(torch.randn(4, 12), torch.zeros(1, 1, dtype=torch.int64))
    z = torch.randn(2, 5, 4)
    one, other = (ShallowBiaffine(hidden_size=size, relations=3, dropout=0.0) for size in (12, 4))
    for parameter in one.parameters():
        parameter.normal_()
    other.load_state_dict(narrowing.head_state(one.state_dict(), other.state_dict()))
    batch = {
        "first_subwords": torch.tensor([[1, 2, 3, 4], [1, 2, -1, -1]]),
        "heads": torch.tensor([[0, 1, 1, 3], [2, 0, -1, -1]]),
    }
    mine, theirs = other(z, batch), one(z @ narrowing.map, batch)
    assert all(torch.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-4) for name in theirs)
    wide, small = (ClsClassifier(hidden_size=size, labels=3, dropout=0.0) for size in (12, 4))
    assert narrowing.head_state(wide.state_dict(), small.state_dict())["dense.weight"].shape == (4, 4)
    with pytest.raises(InputError, match=r"dense.weight should have the shape \(5, 5\)"):
        narrowing.head_state(
            wide.state_dict(), ClsClassifier(hidden_size=5, labels=3, dropout=0.0).state_dict()
        )


def test_a_factor_that_splits_a_head_another_layout_and_no_text_are_refused(teacher) -> None:
    check_drf(teacher.config, 1)
    check_drf(RobertaConfig(), 1)
    with pytest.raises(InputError, match="this is a roberta"):
        check_drf(RobertaConfig(), 2)
    for drf in (0, 3, 4):
        with pytest.raises(InputError, match=r"2 heads, which stay whole.*Choose one of \[1, 2\]"):
            check_drf(teacher.config, drf)
    with pytest.raises(InputError, match="to calibrate"):
        initialise_narrow(teacher, 2, 2, lambda: iter(()))


@pytest.mark.slow
@pytest.mark.parametrize("learned", [True, False])
def test_narrower_students_run_from_the_yaml(
    learned: bool, experiment, data, teacher_folder: Path, tmp_path: Path
) -> None:
    systems = ["bistil-tf:2x2", "bistil-tf:2", "bistil-st:2x2"]
    general = {**entries(teacher_folder)["general"], "learn_map": learned}
    pipeline = Pipeline(
        experiment(systems=systems, targets={"parsing": ["qac"]}, general=general), data, Store(tmp_path)
    )
    pipeline.check()
    rows = {
        (row["system"], row["drf"]): row
        for cell in pipeline.experiment.cells()
        for row in pipeline.rows(cell)
        if row["metric"] == "las"
    }
    assert set(rows) == {("bistil-tf", 2), ("bistil-tf", None), ("bistil-st", 2)}
    assert rows["bistil-tf", 2]["lrf"] == 2
    assert rows["bistil-tf", 2]["parameters"] < 0.6 * rows["bistil-tf", None]["parameters"]
    narrow, whole, _ = pipeline.experiment.cells()
    assert pipeline.student(narrow).manifest["config"]["general"].get("drf") == 2
    assert not {"drf", "learn_map"} & set(pipeline.student(whole).manifest["config"]["general"])
    kept = load_file(pipeline.student(narrow).path(NARROWING))["map"]
    product = kept @ kept.T
    assert torch.allclose(product, torch.eye(16), atol=1e-5) != learned
    assert math.isfinite(pipeline.student(narrow).metrics["best_loss"])
    assert {"student-bistil-lrf-2.svg", "student-bistil-lrf-2-drf-2.svg"} <= figures_of(
        pipeline, tmp_path / "report"
    )
