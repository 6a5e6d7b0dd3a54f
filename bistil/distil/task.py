"""Task tuning by SFT: on gold labels (a teacher's task SFT, a self-taught student) or after a teacher (stage
2, BiStil section 3.2).

Notable: one procedure for all of them. Teacher-forced means L_attn + L_hidden + L_pred against the teacher
that wears the source language's SFT and its own task SFT; no gold label enters then. The head trains in full,
from the same start in both phases; a teacher-forced student's head starts as the teacher's, since its states
are trained to be the teacher's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bistil.adapt.wardrobe import Wardrobe
from bistil.adapt.worn import Worn
from bistil.distil.family import put
from bistil.distil.general import set_dropout
from bistil.distil.objective import compare, term_pairs
from bistil.distil.terms import Context, Reading
from bistil.distil.width import Narrowing
from bistil.losses import logits_loss
from bistil.models.load import Output, TaskModel
from bistil.settings.ranges import Count, Length, Positive, Settings
from bistil.sft.config import SftConfig, SftMethod
from bistil.sft.delta import SparseDelta
from bistil.sft.lottery import select_biases
from bistil.sft.train_sft import SUPPORT, write_support
from bistil.sft.tune import fine_tune
from bistil.sft.tuning import Tuning
from bistil.systems.layers import Pairs
from bistil.systems.recipe import Term
from bistil.tasks.task import Row, Task
from bistil.tasks.training import TaskBatches
from bistil.text.corpora import IGNORED
from bistil.training.loop import Evaluate, History, Objective, Run


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Settings):
    """A task SFT.

    Attributes:
        sft: What may change, and for how long it trains.
        batch_size: Examples (sentences, pairs or questions) in a batch.
        max_length: The largest number of sub-words of an example; of a question, that of a window.
        examples: The largest number of training examples of a file, None for all; an upsampled one is one.
        validation_examples: The largest number of examples that pick the checkpoint, None for all.
        head_learning_rate: The peak of the learning rate of the task's head, None for the schedules'. Heads
            want more where a teacher's states have little variance, as those of multilingual-e5-small.
        adapter: What systems that tune an adapter use in place of `sft`.
    """

    sft: SftConfig
    batch_size: Count = 16
    max_length: Length = 128
    examples: Count | None = None
    validation_examples: Count | None = field(default=None, metadata={"added_later": True})
    head_learning_rate: Positive | None = field(default=None, metadata={"added_later": True})
    adapter: SftMethod | None = field(default=None, metadata={"added_later": True})


Logits = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What a teacher-forced student follows.

    Attributes:
        teacher: a task model that wears the source language.
        kept: the teacher's ids of the student's tokens; None where both have the same. Shape: [V_student].
        terms: what of its states is imitated.
        pairs: the layers that belong together.
        narrowing: of a narrower student, its map as stage 1 left it.
        temperature: what logits of both sides are divided by in L_pred; its gradient keeps its size.
        wardrobe: what the teacher wears for the language of each batch; None where that stays.
        gold: whether its logits stand beside gold labels, by their squared distance (Bui section 3.3.6).
    """

    teacher: TaskModel
    kept: Tensor | None
    terms: Mapping[str, Term]
    pairs: Pairs
    narrowing: Narrowing | None = None
    temperature: float = 1.0
    wardrobe: Wardrobe | None = None
    gold: bool = False

    def logits(self, batch: Mapping[str, Any], *, states: bool = False) -> Output:
        """What the teacher says of a batch in the student's tokens."""
        ids = batch["input_ids"]
        theirs = {**batch, "input_ids": ids if self.kept is None else self.kept.to(ids.device)[ids]}
        with torch.inference_mode():
            return self.teacher(theirs, states=states, maps=False)  # type: ignore[no-any-return]


class TaskLearning(Objective):
    """Cross-entropy on gold labels, or half that and half the squared distance from a teacher's logits.

    Args:
        wardrobe: what the model's encoder wears for the language of each batch; None where that stays.
        beside: a model that reads each batch too, and has what is trained in common with the first; the loss
            is then the mean of the two.
        follows: the teacher whose logits count.
    """

    model: TaskModel

    def __init__(
        self,
        model: TaskModel,
        task: Task,
        wardrobe: Wardrobe | None = None,
        *,
        beside: TaskModel | None = None,
        follows: Followed | None = None,
    ) -> None:
        super().__init__(model)
        self._task, self._follows, self._beside = task, (follows,), (beside,) if beside is not None else ()
        own = (wardrobe, follows.wardrobe if follows is not None else None)
        self._wardrobes = [one for one in own if one is not None]
        if follows is not None:
            follows.teacher.eval().requires_grad_(False)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The task's loss; its two halves are parts where a teacher counts."""
        for wardrobe in self._wardrobes:
            wardrobe.wear(batch["language"])
        [follows] = self._follows
        found = [model(batch).logits for model in (self.model, *self._beside)]
        gold = sum((self._task.loss(one, batch) for one in found[1:]), self._task.loss(found[0], batch))
        gold = gold / len(found) if self._beside else gold
        if follows is None:
            return gold, {}
        wanted = follows.logits(batch).logits
        apart = torch.stack([_apart(one, wanted, batch) for one in found]).mean()
        return (gold + apart) / 2, {"gold": gold.detach(), "logits": apart.detach()}

    def train(self, mode: bool = True) -> "TaskLearning":
        """Switch the model beside too."""
        for one in self._beside:
            one.train(mode)
        return super().train(mode)


def _apart(student: Logits, teacher: Logits, batch: Logits) -> Tensor:
    """The squared distance from the teacher of what is labelled, summed over the task's kinds of logits."""
    gold = batch.get("labels", batch.get("heads"))

    def labelled(rows: Tensor) -> Tensor:
        known = gold is not None and gold.shape == rows.shape
        return (gold != IGNORED) if known and gold is not None else torch.ones_like(rows)

    losses = [logits_loss(own, teacher[name], labelled(own[..., 0])) for name, own in student.items()]
    return torch.stack(losses).sum()


class TaskDistillation(Objective):
    """What a student imitates of a task teacher's states, plus L_pred (BiStil eqs. 5.1 to 5.3, plain sum)."""

    model: TaskModel

    def __init__(
        self, student: TaskModel, task: Task, follows: Followed, wardrobe: Wardrobe | None = None
    ) -> None:
        super().__init__(student)
        self._wardrobes = [one for one in (wardrobe, follows.wardrobe) if one is not None]
        follows.teacher.eval().requires_grad_(False)
        self._task, self._follows = task, (follows,)
        depths = (follows.teacher.encoder.config.num_hidden_layers, student.encoder.config.num_hidden_layers)
        self._pairs = term_pairs(follows.terms, follows.pairs, *depths)

    def train(self, mode: bool = True) -> "TaskDistillation":
        """Switch the student, without dropout, whatever was hung on it meanwhile: it learns a function, not a
        sample of it. The parser's head alone keeps its own.
        """
        super().train(mode)
        set_dropout(self.model, 0.0)
        return self

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch; parts are the terms and `prediction`."""
        (follows,) = self._follows
        for wardrobe in self._wardrobes:
            wardrobe.wear(batch["language"])
        student = self.model(batch, states=True, maps=False)
        teacher = follows.logits(batch, states=True)
        own, goal, context = Reading(student), Reading(teacher), Context(batch["attention_mask"])
        states, parts = compare(follows.terms, own, goal, self._pairs, context, follows.narrowing)
        mine, wanted = (_tempered(one.logits, follows.temperature) for one in (student, teacher))
        prediction = follows.temperature**2 * self._task.distillation_loss(mine, wanted, batch)
        return states + prediction, {**parts, "prediction": prediction.detach()}


def _tempered(logits: Mapping[str, Tensor], temperature: float) -> Mapping[str, Tensor]:
    if temperature == 1.0:
        return logits
    return {name: one / temperature for name, one in logits.items()}


def train_task_sft(
    model: TaskModel,
    task: Task,
    examples: Mapping[str, Sequence[Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: TaskConfig,
    validate: Evaluate,
    base: str,
    run: Run,
    follows: Followed | None = None,
    wardrobe: Wardrobe | None = None,
    cut: int = 0,
    before: SparseDelta | None = None,
    exposed: Mapping[str, Sequence[str]] | None = None,
    beside: PreTrainedModel | None = None,
) -> tuple[Worn, History]:
    """Tune `model` on examples of a task, by language; return the delta, or the adapter, with the whole head
    in it.

    Args:
        model: its encoder wears the source language's delta already where there is one; the new delta adds to
            that.
        validate: source-language validation metrics, among them `task.metric`, which picks the checkpoint.
        follows: a task teacher (teacher-forced); None for gold labels.
        wardrobe: what the encoder wears for the language of each batch, from the forward pass until its
            gradients are there, beside what it wears already.
        cut: how many parameters trimming took from the encoder; the density is a share of all.
        before: what is tuned further, the same entries of it where `select` is "given": the encoder has that
            on, the head is its head, and what comes back is the sum.
        exposed: whose modules the batches of a language are read in, one drawn for each batch; its own where
            nothing is said.
        beside: another student of the family; it gets the first one's biases, or its adapter, and each batch.
    """
    from bistil.adapt.undressing import Undressing

    rows = {code: _encoded(task, own, tokenizer, config.max_length) for code, own in examples.items()}
    other = TaskModel(encoder=beside, head=model.head) if beside is not None else None
    if beside is not None:
        beside.requires_grad_(False)
        if config.sft.lottery is not None:
            put(
                model.encoder,
                beside,
                select_biases(model.encoder, norms=config.sft.lottery.select == "all-biases"),
            )
    objective: Objective = TaskLearning(
        model, task, wardrobe, beside=other, follows=follows if follows and follows.gold else None
    )
    if follows is not None and not follows.gold:
        head, narrowing = follows.teacher.head.state_dict(), follows.narrowing
        model.head.load_state_dict(narrowing.head_state(head, model.head.state_dict()) if narrowing else head)
        objective = TaskDistillation(model, task, follows, wardrobe)

    def batches(steps: int, seed: int) -> Dataset:
        pad = int(tokenizer.pad_token_id)
        size = config.batch_size
        return TaskBatches(task, rows, pad, batch_size=size, steps=steps, seed=seed, exposed=exposed or {})

    tuning = Tuning(
        objective,
        model.encoder,
        model.head,
        batches,
        validate,
        select=task.metric,
        base=base,
        head_rate=config.head_learning_rate,
        cut=cut,
        callbacks=[Undressing(wardrobe)] if wardrobe is not None else [],
        undress=partial(wardrobe.wear, None) if wardrobe is not None else None,
        beside=beside,
        named=f"task {task.name}",
    )
    sft = config.sft.counted(sum(map(len, rows.values())), config.batch_size)
    if before is None:
        return fine_tune(tuning, sft, run)
    lottery = sft.lottery
    if lottery is not None and lottery.select == "given":
        write_support(run.folder / SUPPORT, {name: where for name, (where, _) in before.tensors.items()})
    found, history = fine_tune(tuning, sft, run)
    assert isinstance(found, SparseDelta), "what is tuned further is no adapter"
    return replace(before, full={}) + found, history


def _encoded(
    task: Task, examples: Sequence[Any], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Row]:
    """The rows of some examples; one that counts several times is encoded, and kept, once."""
    single = {id(one): one for one in examples}
    rows = task.encode([*single.values()], tokenizer, max_length=max_length)
    by_id = dict(zip(single, rows, strict=True))
    return [by_id[id(one)] for one in examples]
