"""Stage 1: its loss, what it may look at, whose language the teacher wears, and that it resumes."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import masked_lm, objective_of

from bistil import vocab
from bistil.distil.general import (
    GeneralConfig,
    distil,
    evaluate_general,
    set_dropout,
)
from bistil.distil.start import initialise
from bistil.distil.teachers import AdaptedTeacher
from bistil.errors import InputError
from bistil.models.load import encode
from bistil.sft.delta import SparseDelta, base_hash
from bistil.text.corpora import Batches, read_lines, to_blocks
from bistil.training.loop import Run, Schedule, Stopped
from bistil.training.progress import Event

CODES = ("qaa", "qac")
CONFIG = GeneralConfig(lrf=2, schedule=Schedule(steps=8, learning_rate=1e-3, evaluations=2), batch_size=4)


@pytest.fixture(scope="module")
def corpora(world: Path, wordpiece):
    return {
        code: to_blocks(wordpiece, read_lines(world / "corpora" / f"{code}.txt", 60), 24) for code in CODES
    }


def delta_for(encoder, seed: int) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)
    names = ["embeddings.word_embeddings.weight", "encoder.layer.1.attention.self.query.weight"]
    tensors = {name: (torch.arange(0, 900, 3), torch.randn(300, generator=generator)) for name in names}
    return SparseDelta(tensors=tensors, base=base_hash(encoder))


def teacher_of(wordpiece, *, adapted: bool = True, kept=None) -> AdaptedTeacher:
    encoder = masked_lm(len(wordpiece)).bert
    deltas = {code: delta_for(encoder, i) for i, code in enumerate(CODES)} if adapted else {}
    return AdaptedTeacher(encoder, deltas, kept)


def bits(model) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def batch_of(corpora, code: str = "qaa"):
    ids, mask = corpora[code].rows(np.arange(4))
    mask[1, 10:] = 0
    return {"language": code, "input_ids": ids, "attention_mask": mask}


def test_a_whole_copy_of_the_unadapted_teacher_has_no_loss(corpora, wordpiece) -> None:
    teacher = teacher_of(wordpiece, adapted=False)
    student = initialise(teacher.encoder, 1)
    loss, parts = objective_of(student.eval(), teacher)(batch_of(corpora))
    assert float(loss) == 0.0
    assert {name: float(value) for name, value in parts.items()} == {"attention": 0.0, "hidden": 0.0}
    loss, _ = objective_of(initialise(teacher.encoder, 2).eval(), teacher)(batch_of(corpora))
    assert float(loss) > 0.01


def test_the_gradient_reaches_the_student_and_never_the_teacher(corpora, wordpiece) -> None:
    teacher = teacher_of(wordpiece)
    student = initialise(teacher.encoder, 2)
    objective = objective_of(student, teacher)
    objective(batch_of(corpora))[0].backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(
        parameter.grad is None and not parameter.requires_grad for parameter in teacher.encoder.parameters()
    )
    assert len(list(objective.parameters())) == len(list(student.parameters()))


def test_padding_does_not_count(corpora, wordpiece) -> None:
    teacher = teacher_of(wordpiece)
    objective = objective_of(initialise(teacher.encoder, 2).eval(), teacher)
    batch = batch_of(corpora)
    other = {**batch, "input_ids": torch.where(batch["attention_mask"] == 1, batch["input_ids"], 7)}
    assert float(objective(batch)[0]) == pytest.approx(float(objective(other)[0]), rel=1e-6)


def run(corpora, wordpiece, folder: Path, **watched):
    teacher = teacher_of(wordpiece)
    student = initialise(teacher.encoder, 2)
    objective = objective_of(student, teacher)
    history = distil(objective, wordpiece, corpora, config=CONFIG, run=Run(folder, "stage 1", **watched))
    return student, teacher, history


def test_no_masked_lm_head_is_ever_evaluated(corpora, wordpiece, tmp_path: Path, monkeypatch) -> None:
    from transformers.models.bert import modeling_bert

    def poison(*args, **kwargs):
        raise AssertionError("a masked-LM head was evaluated")

    for name in ("BertOnlyMLMHead", "BertLMPredictionHead", "BertForMaskedLM"):
        monkeypatch.setattr(getattr(modeling_bert, name), "forward", poison)
    run(corpora, wordpiece, tmp_path)


def test_the_teacher_wears_the_language_of_the_batch(corpora, wordpiece, tmp_path: Path, monkeypatch) -> None:
    expected = [teacher_of(wordpiece).encoder for _ in CODES]
    for encoder, code in zip(expected, CODES, strict=True):
        delta_for(encoder, CODES.index(code)).apply(encoder)
    worn, original = [], AdaptedTeacher.ids

    def spy(self, ids):
        worn.append(
            next((c for c, e in zip(CODES, expected, strict=True) if same(bits(e), bits(self.encoder))), None)
        )
        return original(self, ids)

    asked, wear = [], AdaptedTeacher.wear

    def note(self, language):
        asked.append(language)
        wear(self, language)

    monkeypatch.setattr(AdaptedTeacher, "ids", spy)
    monkeypatch.setattr(AdaptedTeacher, "wear", note)
    run(corpora, wordpiece, tmp_path)
    assert asked[-1] is None
    assert worn == asked[:-1]
    assert set(worn) == set(CODES)
    batches = Batches(
        corpora, wordpiece, weights=dict.fromkeys(CODES, 1.0), batch_size=4, steps=8, mask_share=0.15, seed=1
    )
    first, *trained = worn  # the first batch is read once before, to tell what the terms' weights come to
    assert first == trained[0]
    assert trained[:4] == [batches[step]["language"] for step in range(4)]


def test_the_loss_falls_and_the_best_state_is_kept(corpora, wordpiece, tmp_path: Path) -> None:
    student, teacher, history = run(corpora, wordpiece, tmp_path)
    assert same(bits(teacher.encoder), bits(teacher_of(wordpiece).encoder))
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert all({"eval_loss_qaa", "eval_loss_qac"} <= set(entry) for entry in history if "eval_loss" in entry)
    assert all({"attention", "hidden"} <= set(entry) for entry in history if "loss" in entry)
    assert not any(module.p for module in student.modules() if isinstance(module, torch.nn.Dropout))
    assert student.config.hidden_dropout_prob == 0.1


@pytest.mark.parametrize("when", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_a_stopped_run_resumes_to_the_same_weights(corpora, wordpiece, tmp_path: Path, when: int) -> None:
    whole, _, _ = run(corpora, wordpiece, tmp_path / "whole")
    stop = threading.Event()

    def watch(event: Event) -> None:
        if event.step == when:
            stop.set()

    with pytest.raises(Stopped):
        run(corpora, wordpiece, tmp_path / "broken", progress=watch, stop=stop)
    resumed, _, _ = run(corpora, wordpiece, tmp_path / "broken")
    assert same(bits(whole), bits(resumed))


def test_the_teacher_sees_its_own_ids_of_the_students_tokens(world: Path, wordpiece) -> None:
    lines = {code: read_lines(world / "corpora" / f"{code}.txt", 60) for code in CODES}
    kept = vocab.choose(
        wordpiece, [vocab.count_tokens(wordpiece, text) for text in lines.values()], threshold=2e-4
    )
    assert len(kept) < len(wordpiece)
    trimmed = vocab.trim_tokenizer(wordpiece, kept)
    teacher = teacher_of(wordpiece, kept=torch.from_numpy(kept))
    whole = teacher_of(wordpiece)
    text = [
        line
        for line in lines["qac"]
        if kept[trimmed(line)["input_ids"]].tolist() == wordpiece(line)["input_ids"]
    ][:6]
    assert len(text) == 6
    small, large = (tokenizer(text, padding=True, return_tensors="pt") for tokenizer in (trimmed, wordpiece))
    assert not torch.equal(small["input_ids"], large["input_ids"])
    for code in (None, "qac"):
        teacher.wear(code)
        whole.wear(code)
        one, other = (
            teacher.states(small["input_ids"], small["attention_mask"]),
            whole.states(large["input_ids"], large["attention_mask"]),
        )
        assert same(one.hidden, other.hidden)
        assert same(one.attention, other.attention)
    student = initialise(masked_lm(len(wordpiece)).bert, 1).eval()
    vocab.trim_model(student, kept)
    teacher.wear(None)
    states = encode(student, small["input_ids"], small["attention_mask"], states=True)
    expected = teacher.states(small["input_ids"], small["attention_mask"])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(states.hidden, expected.hidden, strict=True))


def test_the_evaluation_is_a_mean_over_languages(corpora, wordpiece) -> None:
    teacher = teacher_of(wordpiece)
    objective = objective_of(initialise(teacher.encoder, 2).eval(), teacher)
    found = evaluate_general(objective, [batch_of(corpora, code) for code in ("qaa", "qaa", "qac")])
    assert found["loss"] == pytest.approx((found["loss_qaa"] + found["loss_qac"]) / 2)


def test_dropout_is_set_everywhere(wordpiece) -> None:
    encoder = masked_lm(len(wordpiece)).bert
    set_dropout(encoder, 0.25)
    assert {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)} == {0.25}


@pytest.mark.parametrize("wrong", [{"language_run": 0}, {"pool": 0}])
def test_runs_and_pools_are_at_least_one_step(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="should be at least 1"):
        GeneralConfig(lrf=2, schedule=CONFIG.schedule, **wrong)


def test_a_run_of_steps_is_one_language(corpora, wordpiece, tmp_path: Path, monkeypatch) -> None:
    asked, wear = [], AdaptedTeacher.wear

    def note(self, language):
        asked.append(language)
        wear(self, language)

    monkeypatch.setattr(AdaptedTeacher, "wear", note)
    teacher = teacher_of(wordpiece)
    config = dataclasses.replace(CONFIG, language_run=4)
    objective = objective_of(initialise(teacher.encoder, 2), teacher)
    distil(objective, wordpiece, corpora, config=config, run=Run(tmp_path, "stage 1"))
    assert len(set(asked[:4])) == 1
    batches = Batches(
        corpora,
        wordpiece,
        weights=dict.fromkeys(CODES, 1.0),
        batch_size=4,
        steps=8,
        mask_share=0.15,
        seed=1,
        language_run=4,
    )
    assert asked[:4] == [batches[step]["language"] for step in range(4)]
