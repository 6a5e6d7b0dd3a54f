"""One student of several teachers, by their stored labels (MergeDistill, Khanuja et al. 2021).

Notable: teachers differ in width, depth and vocabulary as they like, since tokens, ids and logits alone cross
over. A batch mixes languages and copies, and is a function of the seed and the step. What picks the best
checkpoint is the loss on held-out tokens themselves, which means the same whatever the labels weigh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from bistil.distil.general import GeneralConfig, evaluate_general, set_dropout
from bistil.distil.labels import Labels
from bistil.errors import InputError
from bistil.losses import stored_loss
from bistil.models.architectures import mlm_logits
from bistil.settings.ranges import Count, Density, Layers, Settings, Share
from bistil.systems.recipe import Term
from bistil.text import sampling
from bistil.text.corpora import IGNORED, held_rows
from bistil.training import checkpoints
from bistil.training.loop import History, Objective, Run, fit
from bistil.training.parallel import counted

UNION = "union"


@dataclass(frozen=True, kw_only=True)
class TeacherSource(Settings):
    """Where a teacher of several, or a ready-made model, comes from; give one of both.

    Attributes:
        model: A hub name, or a folder.
        pretrain: A pretraining file, such as data/teachers/miniworld-arvan.yaml, by which it is made first.
    """

    model: str | None = None
    pretrain: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.model) == bool(self.pretrain):
            raise InputError("A teacher is a `model` or made by a file to `pretrain`: give one of them.")


@dataclass(frozen=True, kw_only=True)
class Shape(Settings):
    """The size of a student that no teacher's layers are reduced to.

    Attributes:
        layers: Transformer layers.
        hidden: The width of states and embeddings.
        heads: Attention heads, which divide `hidden`.
        embedding: The width of embeddings where they are narrower than states (an ELECTRA, which maps them);
            None for a BERT.
    """

    layers: Layers = 12
    hidden: Count = 768
    heads: Count = 12
    embedding: Count | None = field(default=None, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden % self.heads:
            raise InputError(f"`heads` should divide `hidden`, but {self.heads} does not {self.hidden}.")


@dataclass(frozen=True, kw_only=True)
class MergeConfig(Settings):
    """How several teachers become one student.

    Attributes:
        taught_by: For each language of the student the teachers that label its text, by their names.
        copies: Of a language with several teachers, whether `all` copies of a block are learnt from, or the
            one (`best`) whose teacher has the least loss per character.
        k: How many of a teacher's logits are stored for a masked token.
        labels: Whether the student learns from the `stored` labels, or from the masked tokens alone (`gold`).
        vocabulary: The `union` of the teachers' vocabularies, or one teacher's name, who then labels all.
        masks: How many differently masked copies of each block are stored.
        alpha: Languages are drawn in proportion to their tokens ** alpha, copies not counted twice.
        constant: The weight of the stored labels beside that of the tokens; null for a fall from 1 to 0.
        student: The student's size.
        start: `random`, or the teacher of the student's size whose layers it starts from.
        until: The share of the schedule after which training ends.
        read_with: Whether text of a task is cut by the union's tokenizer or as the language's first
            `teacher` does.
        normaliser: The teacher whose normalisation the union has, where they differ.
        union_of: The teachers whose vocabularies the union has, those that teach and perhaps others; empty
            for those that teach.
    """

    taught_by: Mapping[str, tuple[str, ...]]
    copies: Literal["all", "best"] = "all"
    k: Count = 8
    labels: Literal["stored", "gold"] = "stored"
    vocabulary: str = UNION
    masks: Count = 2
    alpha: Share = 0.7
    constant: Share | None = None
    student: Shape = field(default_factory=Shape)
    start: str = "random"
    until: Density = 1.0
    read_with: Literal["union", "teacher"] = "union"
    normaliser: str | None = None
    union_of: tuple[str, ...] = field(default=(), metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student.embedding is not None and self.start != "random":
            told = f"A student with `embedding` starts at random, not from {self.start}, which is a BERT."
            raise InputError(told, at=("student", "embedding"))
        for code, names in self.taught_by.items():
            if not names or len(set(names)) < len(names):
                told = f"At least one teacher, none of them twice, was expected for {code}, but got {names}."
                raise InputError(told, at=("taught_by", code))

    @property
    def teaches(self) -> Mapping[str, tuple[str, ...]]:
        """The teachers whose labels each language's text gets."""
        alone = self.vocabulary != UNION
        return dict.fromkeys(self.taught_by, (self.vocabulary,)) if alone else self.taught_by

    def vocabularies(self, teachers: Sequence[str]) -> tuple[str, ...]:
        """Of all teachers those whose vocabularies the student has, in their order."""
        if self.vocabulary != UNION:
            return (self.vocabulary,)
        named = {name for names in self.taught_by.values() for name in names}
        return tuple(name for name in teachers if name in (self.union_of or named))

    def check(self, teachers: Sequence[str]) -> None:
        """Refuse names that no teacher has.

        Raises:
            InputError: for the first of them.
        """
        named: list[tuple[tuple[str, ...], str | None]]
        named = [(("taught_by", code), one) for code, own in self.taught_by.items() for one in own]
        named += [(("vocabulary",), self.vocabulary)] * (self.vocabulary != UNION)
        named += [(("start",), self.start)] * (self.start != "random")
        named += [(("normaliser",), self.normaliser)] * (self.normaliser is not None)
        named += [(("union_of",), name) for name in self.union_of]
        for at, name in named:
            if name not in teachers:
                told = f"One of the `teachers` {', '.join(teachers)} was expected, but got {name!r}."
                raise InputError(told, at=at)
        lacking = [name for own in self.taught_by.values() for name in own if name not in self.union_of]
        if self.union_of and (lacking or self.vocabulary != UNION):
            why = f"{lacking[0]} teaches" if lacking else f"`vocabulary` is {self.vocabulary}"
            told = f"A `union` of all who teach, and of others, was expected, but {why}: name it there, too."
            raise InputError(told, at=("union_of",))


class MergedBatches(Dataset):
    """Step number -> batch of several languages and copies: `input_ids` and `attention_mask` [B, L], masked
    tokens' `positions` and `gold` [B, M] (-100 where a row has fewer), stored `ids` and `values` [B, M, k],
    and the `weight` of the stored labels.

    Args:
        pools: for each language the rows that are drawn from, as numbers of store and row. Shape: [N, 2].
        weights: how often each language is drawn.
    """

    def __init__(
        self,
        stores: Mapping[str, Sequence[Labels]],
        pools: Mapping[str, np.ndarray],
        weights: Mapping[str, float],
        *,
        batch_size: int,
        steps: int,
        seed: int,
        constant: float | None = None,
    ) -> None:
        self._stores, self._pools, self._codes = stores, pools, sorted(pools)
        shares = np.array([weights[code] for code in self._codes])
        self._shares, self._size, self._steps = shares / shares.sum(), batch_size, steps
        self._seed, self._constant = seed, constant

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        rng = np.random.Generator(np.random.PCG64([self._seed, step, 0x3E6E]))
        rows = []
        for code in rng.choice(len(self._codes), self._size, p=self._shares):
            name = self._codes[code]
            store, row = self._pools[name][rng.integers(len(self._pools[name]))]
            rows.append(self._stores[name][store].row(int(row)))
        weight = 1 - step / self._steps if self._constant is None else self._constant
        pad = next(iter(self._stores.values()))[0].pad
        return {**collated(rows, pad), "weight": weight}


def collated(rows: Sequence[Mapping[str, np.ndarray]], pad: int) -> dict[str, Tensor]:
    """Rows of stores side by side."""
    longest, most = (max(len(row[name]) for row in rows) for name in ("tokens", "gold"))
    ids = np.full((len(rows), longest), pad, np.int64)
    lengths = np.array([len(row["tokens"]) for row in rows])
    shape, k = (len(rows), max(most, 1)), rows[0]["ids"].shape[1]
    positions, gold = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    stored, values = np.zeros((*shape, k), np.int64), np.zeros((*shape, k), np.float32)
    for number, row in enumerate(rows):
        ids[number, : lengths[number]] = row["tokens"]
        for name, whole in (("positions", positions), ("gold", gold), ("ids", stored), ("values", values)):
            whole[number, : len(row["gold"])] = row[name]
    mask = (np.arange(longest)[None, :] < lengths[:, None]).astype(np.int64)
    made: dict[str, np.ndarray] = {"input_ids": ids, "attention_mask": mask, "positions": positions}
    made |= {"gold": gold, "ids": stored, "values": values}
    return {name: torch.from_numpy(value) for name, value in made.items()}


class Merging(Objective):
    """The stored labels times `weight` and the masked tokens themselves times 1 - `weight`, each times its
    term's own weight.
    """

    model: PreTrainedModel

    def __init__(self, student: PreTrainedModel, terms: Mapping[str, Term]) -> None:
        super().__init__(student)
        self._terms = dict(terms)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on one batch; parts are the terms before their weights."""
        ids, mask, weight = batch["input_ids"], batch["attention_mask"], float(batch["weight"])
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        rows, at = (batch["gold"] != IGNORED).nonzero(as_tuple=True)
        logits = mlm_logits(self.model, hidden[rows, batch["positions"][rows, at]]).float()
        gold = batch["gold"][rows, at]
        total, parts = logits.new_zeros(()), {}
        for name, term in self._terms.items():
            stored = term.by == "stored"
            if share := weight if stored else 1 - weight:
                found = (
                    stored_loss(logits, batch["ids"][rows, at], batch["values"][rows, at])
                    if stored
                    else cross_entropy(logits, gold, reduction="sum")
                    / counted(torch.tensor(len(gold), device=gold.device))
                )
                total, parts[name] = total + share * term.weight * found, found.detach()
        return total, parts


def pool(stores: Sequence[Labels], copies: str, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of a language's stores are trained on, and which are held out of the first mask's copies, as
    numbers of store and row. A block that is held out is so in all its copies. Shape: [N, 2] each.

    Raises:
        InputError: where the best copies are asked for and stores have not the same blocks; where there is
            nothing to train on or nothing held out.
    """
    if copies == "best" and len({(len(store), store.blocks) for store in stores}) > 1:
        raise InputError(
            "`copies: best` compares what teachers make of the same block, but their tokens cut the text into"
            " different blocks. Take one line a block: `packed: false` under `text`."
        )
    training: list[np.ndarray] = []
    held: list[np.ndarray] = []
    for number, store in enumerate(stores):
        rows = np.arange(len(store))
        out = np.isin(rows % store.blocks, held_rows(store.blocks, share))
        if copies == "best" and len(stores) > 1:
            losses = np.stack([one.per_character for one in stores])
            mine = (losses.argmin(axis=0) == number) & np.isfinite(losses.min(axis=0))
        else:
            mine = np.ones(len(rows), bool)
        for chosen, kept in ((mine & ~out, training), (mine & out & (rows < store.blocks), held)):
            kept.append(np.stack([np.full(chosen.sum(), number), rows[chosen]], axis=1))
    found = np.concatenate(training), np.concatenate(held)
    if not all(map(len, found)):
        raise InputError(
            "Text for at least two blocks was expected, one to train on and one held out, but"
            f" {max(store.blocks for store in stores)} came. Give more text, or a smaller `length`."
        )
    return found


def merge(
    mlm: PreTrainedModel,
    stores: Mapping[str, Sequence[Labels]],
    terms: Mapping[str, Term],
    *,
    how: MergeConfig,
    config: GeneralConfig,
    run: Run,
    most: int = 64,
    earlier: Mapping[float, Path] = MappingProxyType({}),
) -> History:
    """Train a student in place on stored labels, without dropout; the best by the loss on held-out tokens is
    kept.

    Args:
        stores: the stores of each language, one a teacher.
        most: held-out rows of a language.
        earlier: the checkpoints of trainings that differ from this one in ending before it, by their `until`;
            it goes on from the last of them that ended with one of its evaluations.
    """
    set_seed(config.seed)
    set_dropout(mlm, 0.0)
    parts = {code: pool(own, how.copies, config.held_out(code)) for code, own in stores.items()}
    tokens = {code: max(store.tokens for store in own) for code, own in stores.items()}
    blocks = sum(max(store.blocks for store in own) for own in stores.values())
    schedule = config.schedule.counted(blocks, config.batch_size)
    batches = MergedBatches(
        stores,
        {code: training for code, (training, _) in parts.items()},
        sampling.temperature(tokens, how.alpha),
        batch_size=config.batch_size,
        steps=schedule.batches,
        seed=config.seed,
        constant=0.0 if how.labels == "gold" else how.constant,
    )
    evaluation = [
        {**collated([stores[code][s].row(int(row)) for s, row in some], stores[code][0].pad)}
        | {"language": code, "weight": 0.0}
        for code, (_, held) in parts.items()
        for some in np.array_split(held[:most], -(-len(held[:most]) // 16))
    ]
    objective = Merging(mlm, terms)
    ends = {max(1, round(until * schedule.steps)): folder for until, folder in earlier.items()}
    fitting = [step for step in sorted(ends) if step % schedule.every == 0]
    if fitting and checkpoints.newest(run.folder) is None:
        checkpoints.hand_on(ends[fitting[-1]], run.folder)
    return fit(
        objective,
        batches,
        lambda: evaluate_general(objective, evaluation),
        replace(run, stage=f"{run.stage}, {' + '.join(stores)}"),
        schedule=schedule,
        select="loss",
        seed=config.seed,
        until=max(1, round(how.until * schedule.steps)),
    )
