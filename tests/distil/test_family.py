"""Families: what is shared is one tensor, a step moves its own language's student, resuming is exact, and
what one student has learnt is carried to another as it should be.
"""

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import masked_lm, objective_of

from bistil.distil.family import Family, share
from bistil.distil.general import GeneralConfig, distil
from bistil.distil.start import initialise_with_head
from bistil.distil.teachers import AdaptedTeacher
from bistil.errors import InputError
from bistil.models.load import load_encoder
from bistil.pipeline import Pipeline
from bistil.pipeline.tuned import carried
from bistil.sft.delta import SparseDelta, base_hash
from bistil.store.artefacts import Artefact, Store, artefact_id
from bistil.systems.table import SYSTEMS
from bistil.tasks.retrieval import Side, parallel, retrieve
from bistil.text.corpora import Batches, read_lines, to_blocks
from bistil.training.loop import Run, Schedule, Stopped
from bistil.training.progress import Event, silent

CODES = ("qaa", "qac")
assert SYSTEMS["monoshot"].student is not None
MONOSHOT = SYSTEMS["monoshot"].student
CONFIG = GeneralConfig(lrf=2, schedule=Schedule(steps=8, learning_rate=1e-3, evaluations=2), batch_size=4)


@pytest.fixture(scope="module")
def corpora(world: Path, wordpiece):
    return {
        code: to_blocks(wordpiece, read_lines(world / "corpora" / f"{code}.txt", 60), 24) for code in CODES
    }


def family(wordpiece, parts: tuple[str, ...], codes=CODES) -> Family:
    mlm = masked_lm(len(wordpiece))
    teacher = AdaptedTeacher(mlm.base_model, {}, None, mlm)
    members = {code: initialise_with_head(mlm, 2).train() for code in codes}
    share(members, parts)
    return Family({code: objective_of(one, teacher, MONOSHOT) for code, one in members.items()})


def batches(corpora, wordpiece, steps: int) -> Batches:
    return Batches(
        corpora,
        wordpiece,
        weights=dict.fromkeys(corpora, 1.0),
        batch_size=4,
        steps=steps,
        mask_share=0.15,
        seed=1,
        in_turn=True,
    )


def train(objective, items) -> list[float]:
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3, weight_decay=0.01)
    losses = []
    for item in items:
        optimizer.zero_grad(set_to_none=True)
        loss, _ = objective(item)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def test_languages_take_turns(corpora, wordpiece) -> None:
    found = batches(corpora, wordpiece, 5)
    assert [found[step]["language"] for step in range(5)] == [*CODES, *CODES, "qaa"]


def test_a_family_that_shares_everything_is_one_bilingual_student(corpora, wordpiece) -> None:
    whole = family(wordpiece, ("embeddings", "head", "layer:1", "layer:2", "layer:3"))
    mlm = masked_lm(len(wordpiece))
    alone = objective_of(initialise_with_head(mlm, 2).train(), mlm, MONOSHOT)
    for objective in (whole, alone):
        for module in objective.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    steps: Any = batches(corpora, wordpiece, 6)
    items = list(steps)
    assert train(whole, items) == train(alone, items)
    for code in CODES:
        assert all(torch.equal(one, alone.model.state_dict()[name]) for name, one in
                   whole.model[code].state_dict().items())  # fmt: skip


def test_a_step_moves_what_is_shared_and_its_own_language_alone(corpora, wordpiece) -> None:
    one = family(wordpiece, ("embeddings", "head", "layer:2"))
    before = {code: state(one.model[code]) for code in CODES}
    train(one, [batches(corpora, wordpiece, 1)[0]])
    moved = {
        code: {
            name for name, now in state(one.model[code]).items() if not torch.equal(now, before[code][name])
        }
        for code in CODES
    }
    assert any("layer.0" in name for name in moved["qaa"])
    assert {name.split(".")[1] for name in moved["qac"]} == {"embeddings", "encoder", "predictions"}
    assert all("layer.1." in name for name in moved["qac"] if ".encoder." in name)
    first, second = (dict(one.model[code].named_parameters(remove_duplicate=False)) for code in CODES)
    common = {name for name in first if first[name] is second[name]}
    assert all(("layer.1." in name) == (name in common) for name in first if ".encoder." in name)


@pytest.mark.parametrize(
    ("parts", "tied", "same_embeddings", "same_output"),
    [
        ((), True, False, False),
        (("embeddings", "head"), True, True, True),
        (("embeddings",), False, True, False),
        (("head",), False, False, True),
    ],
)
def test_heads_are_tied_where_both_or_neither_is_shared(
    wordpiece, parts, tied: bool, same_embeddings: bool, same_output: bool
) -> None:
    first, second = family(wordpiece, parts).model.values()
    for member in (first, second):
        assert (member.get_output_embeddings().weight is member.get_input_embeddings().weight) == tied
        assert torch.equal(member.get_output_embeddings().weight, member.get_input_embeddings().weight)
    assert (first.get_input_embeddings().weight is second.get_input_embeddings().weight) == same_embeddings
    assert (first.get_output_embeddings().weight is second.get_output_embeddings().weight) == same_output
    dense = [one.cls.predictions.transform.dense.weight for one in (first, second)]
    assert (dense[0] is dense[1]) == same_output


def test_a_layer_that_is_not_there_cannot_be_shared(wordpiece) -> None:
    with pytest.raises(InputError, match="3 layers has no layer 4"):
        family(wordpiece, ("layer:4",))


def test_an_interrupted_family_goes_on_where_it_was(corpora, wordpiece, tmp_path: Path) -> None:
    through = family(wordpiece, ("embeddings", "head"))
    history = distil(through, wordpiece, corpora, config=CONFIG, run=Run(tmp_path / "a", "family"))
    assert {"eval_loss_qaa", "eval_loss_qac"} <= {name for entry in history for name in entry}
    stop = threading.Event()
    with pytest.raises(Stopped):
        distil(
            family(wordpiece, ("embeddings", "head")),
            wordpiece,
            corpora,
            config=CONFIG,
            run=Run(tmp_path / "b", "family", lambda event: stop.set() if event.step == 3 else None, stop),
        )
    resumed = family(wordpiece, ("embeddings", "head"))
    distil(resumed, wordpiece, corpora, config=CONFIG, run=Run(tmp_path / "b", "family"))
    one, other = state(through), state(resumed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    embeddings = [member.get_input_embeddings().weight for member in resumed.model.values()]
    assert embeddings[0] is embeddings[1]


def test_shares_are_of_the_terms_losses_and_of_their_gradients_at_the_last_layer(corpora, wordpiece) -> None:
    found = family(wordpiece, ("embeddings", "head"))
    batch = batches(corpora, wordpiece, 1)[0]
    before = state(found)
    shares = found.shares(batch)
    assert all(parameter.grad is None for parameter in found.parameters())
    values, norms = dict[str, float](), dict[str, float]()
    for name, term in MONOSHOT.terms.items():
        alone = family(wordpiece, ("embeddings", "head"))
        alone.load_state_dict(before)
        # one term whose weight is all that counts, by the ordinary training step
        one = alone._members[0][batch["language"]]
        one.terms = {name: term}
        loss, _ = alone(batch)
        loss.backward()
        values[name] = float(loss.detach())
        own: Any = alone.model[batch["language"]].base_model
        slopes = [one.grad for one in own.encoder.layer[2].parameters()]
        norms[name] = sum(float(one.square().sum()) for one in slopes if one is not None) ** 0.5
    assert norms["embedding"] == 0
    for name, own in shares.items():
        assert own["loss"] == pytest.approx(values[name] / sum(values.values()), rel=1e-5)
        assert own["gradient"] == pytest.approx(norms[name] / sum(norms.values()), rel=1e-4)


def test_shares_are_told_once_and_leave_the_training_as_it_is(corpora, wordpiece, tmp_path: Path) -> None:
    told: list[Event] = []
    quiet, loud = (family(wordpiece, ("embeddings", "head")) for _ in range(2))
    for name, one in (("quiet", quiet), ("loud", loud)):
        if one is quiet:
            one.shares = lambda batch: {"gold": {"loss": 1.0, "gradient": 1.0}}  # type: ignore[method-assign]
        config, run = CONFIG, Run(tmp_path / name, "family", told.append if one is loud else silent)
        distil(one, wordpiece, corpora, config=config, run=run)
    notes = [event.stage for event in told if event.told]
    assert len(notes) == 1
    assert notes[0].startswith("note: family, qaa + qac, lrf 2: at step 1, shares of the loss and of")
    assert all(f" {term} " in notes[0] for term in MONOSHOT.terms)
    first, second = state(quiet), state(loud)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_checkpoint_can_be_chosen_by_another_metric(corpora, wordpiece, tmp_path: Path) -> None:
    """The first of two evaluations finds more than the second, whose loss is lower."""
    accuracies = iter((90.0, 10.0))
    states: list[dict[str, torch.Tensor]] = []
    found = family(wordpiece, ("embeddings", "head"))

    def also() -> dict[str, float]:
        states.append(state(found))
        return {"accuracy": next(accuracies)}

    config = dataclasses.replace(CONFIG, select="retrieval")
    history = distil(found, wordpiece, corpora, config=config, run=Run(tmp_path / "run", "f"), also=also)
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[1] < losses[0]
    kept = state(found)
    assert all(torch.equal(kept[name], states[0][name]) for name in kept)


def test_the_students_of_a_groups_family_are_told_apart(
    experiment, data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(self: Store, kind: str, config: Any, inputs: Any, build: Any) -> Artefact:
        name = artefact_id(kind, config, inputs)
        return Artefact(tmp_path / kind / name, {"id": name, "kind": kind, "metrics": {}})

    monkeypatch.setattr(Store, "run", noted)
    variants = {"carried": {"of": "monoshot", "learning": {"through": "source"}}}

    def same(system: str, *stages: str) -> list[bool]:
        grid = experiment(
            systems=[system],
            variants=variants,
            targets={"ner": ["qab", "qac"]},
            groups=[["qab", "qac"]],
            on_source=True,
        )
        pipeline = Pipeline(grid, data, Store(tmp_path))
        ids = [[getattr(pipeline, stage)(cell).id for cell in grid.cells()] for stage in stages]
        return [one == other for one, other in ids]

    assert same("monoshot:2", "student", "task_sft") == [True, False]
    assert same("carried:2", "task_sft", "source_evaluation", "deployed") == [True, False, False]


def test_differences_keep_the_distance_of_two_students_and_values_bring_them_together() -> None:
    torch.manual_seed(0)
    first, second = (masked_lm(50, layers=2, seed=seed).bert for seed in (1, 2))
    name = "encoder.layer.1.output.dense.bias"
    moves = SparseDelta(tensors={name: (torch.arange(0, 32, 2), torch.randn(16))}, base=base_hash(first))
    gap = first.get_parameter(name).detach() - second.get_parameter(name).detach()
    handle = moves.apply(first)
    tuned = first.get_parameter(name).detach().clone()
    handle.revert()
    for values in (False, True):
        other = masked_lm(50, layers=2, seed=2).bert
        carried(moves, first, other, values=values).apply(other)
        found = other.get_parameter(name).detach()
        expected = tuned[::2] if values else tuned[::2] - gap[::2]
        assert torch.allclose(found[::2], expected, atol=1e-6)
        assert torch.equal(found[1::2], second.get_parameter(name).detach()[1::2])


VARIANTS = {
    "on-source": {"of": "monoshot", "learning": {"through": "source", "used": "source"}},
    "biases": {"of": "monoshot", "learning": {"select": "biases", "through": "source", "carried": "values"}},
    "moved": {"of": "monoshot", "learning": {"through": "source", "embeddings": "frozen"}},
    "common": {"of": "monoshot", "learning": {"through": "source", "part": "shared"}},
}


@pytest.mark.slow
def test_families_and_their_tunings_run_from_the_yaml(experiment, data, tmp_path: Path) -> None:
    systems = ["monoshot:2", *(f"{name}:2" for name in VARIANTS)]
    small = experiment(
        systems=systems,
        variants=VARIANTS,
        targets={"ner": ["qac"], "retrieval": ["qac"]},
        language_sft=None,
    )
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    pipeline.check()
    cells = {cell.system: cell for cell in small.cells() if cell.task == "ner"}
    student = pipeline.student(cells["monoshot"])
    assert student.id == pipeline.student(cells["moved"]).id
    source, target = (load_encoder(student.path(f"members/{code}")) for code in ("qaa", "qac"))
    shared: list[Any] = [one.get_input_embeddings().weight for one in (source, target)]
    assert torch.equal(*shared)
    apart = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(source.get_parameter(apart), target.get_parameter(apart))
    assert student.path("members/qac-mlm-head.safetensors").is_file()
    embeddings = sum(one.numel() for one in source.get_submodule("embeddings").parameters())
    assert student.metrics["parameters"] == 2 * source.num_parameters() - embeddings

    sfts = {name: pipeline.task_sft(cell) for name, cell in cells.items()}
    base = {name: SparseDelta.load(sft.path("delta.safetensors")).base for name, sft in sfts.items()}
    assert base["monoshot"] == base_hash(target)
    assert {base[name] for name in VARIANTS} == {base_hash(source)}
    moved = SparseDelta.load(sfts["moved"].path("delta.safetensors"))
    assert not any(name.startswith("embeddings.") for name in moved.tensors)
    common = SparseDelta.load(sfts["common"].path("delta.safetensors"))
    assert {name.partition(".")[0] for name in common.tensors} == {"embeddings"}
    assert "embeddings.word_embeddings.weight" in common.tensors
    model = {name: pipeline.task_model(cell, "qac")[0].encoder for name, cell in cells.items()}
    for name, tensor in model["moved"].state_dict().items():
        before = target.state_dict()[name]
        tuned = load_encoder(student.path("members/qaa"))
        moved.apply(tuned)
        # lock-step: the distance of the two students is what it was before (Bui section 3.3.5)
        expected = before + (tuned.state_dict()[name] - source.state_dict()[name])
        assert torch.allclose(tensor, expected, atol=1e-6), name
    tuned = load_encoder(student.path("members/qaa"))
    common.apply(tuned)
    words: list[Any] = [one.get_input_embeddings().weight for one in (model["common"], tuned)]
    assert torch.equal(*words)
    assert torch.equal(model["common"].get_parameter(apart), target.get_parameter(apart))
    tuned = load_encoder(student.path("members/qaa"))
    SparseDelta.load(sfts["biases"].path("delta.safetensors")).apply(tuned)
    bias = "encoder.layer.0.output.dense.bias"
    assert torch.allclose(model["biases"].get_parameter(bias), tuned.get_parameter(bias), atol=1e-6)
    tuned = load_encoder(student.path("members/qaa"))
    SparseDelta.load(sfts["on-source"].path("delta.safetensors")).apply(tuned)
    assert torch.equal(model["on-source"].get_parameter(apart), tuned.get_parameter(apart))
    scores = {name: pipeline.evaluation(cell).id for name, cell in cells.items()}
    assert len(set(scores.values())) == len(cells)
    [row] = [row for row in pipeline.rows(cells["moved"]) if row["metric"] == "f1"]
    assert (row["languages"], row["learning"]) == ("each", "all source to target")
    found = next(cell for cell in small.cells() if (cell.task, cell.system) == ("retrieval", "monoshot"))
    assert pipeline.evaluation(found).metrics["n_examples"] > 0
    sides = [pipeline.encoder(found, code)[0].get_parameter(apart) for code in ("qaa", "qac")]
    assert not torch.equal(*sides)
    folder = pipeline.deployed(cells["moved"]).path("model")
    assert (folder / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_family_is_chosen_by_retrieval_on_pairs_that_score_nothing(
    experiment, data, tmp_path: Path
) -> None:
    asked = {
        "systems": ["monoshot:2"],
        "targets": {"retrieval": ["qac"]},
        "language_sft": None,
        "task": {},
    }
    small = experiment(**asked, retrieval={"pairs": 12})
    small = dataclasses.replace(small, general=dataclasses.replace(small.general, select="retrieval"))
    pipeline = Pipeline(small, data, Store(tmp_path / "store"))
    pipeline.check()
    [cell] = small.cells()
    [(code, pairs)] = pipeline.spare_pairs(("qaa", "qac")).items()
    scored = parallel(data, "qaa", "qac")[:12]
    assert code == "qac"
    assert pairs
    assert not set(pairs) & set(scored)
    student = pipeline.student(cell)
    found = json.loads(student.path("history.json").read_text())
    accuracies = [entry["eval_accuracy"] for entry in found if "eval_accuracy" in entry]
    assert student.metrics["best_accuracy"] == max(accuracies)
    source, target = (
        Side(load_encoder(student.path(f"members/{one}")), pipeline.encoder(cell, one)[1])
        for one in ("qaa", "qac")
    )
    kept = retrieve(source, target, pairs, layer=3, by="bertscore", max_length=small.text.length)["accuracy"]
    assert kept == max(accuracies)
    every = dataclasses.replace(small, retrieval=dataclasses.replace(small.retrieval, pairs=None))
    with pytest.raises(InputError, match="and all pairs score"):
        Pipeline(every, data, Store(tmp_path / "store")).check()
    alone = dataclasses.replace(small, systems=("eliquare-pre:2",))
    with pytest.raises(InputError, match="of the source and of other languages"):
        Pipeline(alone, data, Store(tmp_path / "store")).check()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"student": None}, "which this system has not"),
        ({"adaptation": SYSTEMS["teacher-ltsft"].adaptation}, "wear nothing"),
        (
            {"learning": dataclasses.replace(SYSTEMS["bistil-tf"].learning, through="source")},
            "is the target's",
        ),
    ],
)
def test_systems_that_cannot_be_are_refused(changed, told: str) -> None:
    system = SYSTEMS["monoshot"]
    system = dataclasses.replace(system, learning=dataclasses.replace(system.learning, through="source"))
    with pytest.raises(InputError, match=told):
        dataclasses.replace(system, **changed)


def test_what_cannot_be_shared_is_refused() -> None:
    common = dataclasses.replace(SYSTEMS["monoshot"].learning, part="shared")
    for name, student in (
        ("bistil-tf", None),
        ("monoshot", dataclasses.replace(MONOSHOT, share=("head",))),
    ):
        system = SYSTEMS[name]
        with pytest.raises(InputError, match="the encoders of a family have in common"):
            dataclasses.replace(
                system,
                learning=dataclasses.replace(common, follows=system.learning.follows),
                student=student or system.student,
            )
    with pytest.raises(InputError, match="can share `embeddings`"):
        dataclasses.replace(MONOSHOT, share=("pooler",))
    with pytest.raises(InputError, match="truncated teacher"):
        dataclasses.replace(MONOSHOT, terms={})
