"""From which examples a task is learnt, and how they come in batches.

Notable: a batch holds examples of one language and names it, so that a model can wear what belongs to that
language while it learns from several.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from bistil.errors import InputError
from bistil.systems.rows import Rows
from bistil.tasks.gold import text_of
from bistil.tasks.task import Row, Task
from bistil.text import sampling
from bistil.text.corpora import composed


def read_examples(
    rows: Sequence[Rows], read: Callable[[Rows], list[Any]], most: int | None = None
) -> dict[str, list[Any]]:
    """Read the examples that `rows` speak of, by language.

    Args:
        rows: their languages are codes.
        read: gives all the examples that one of them is the first of.
        most: how many of each file are read, however often they count; all of them where nothing is said.

    Raises:
        InputError: as the task's reader.
    """
    found: dict[str, list[Any]] = {}
    for part in rows:
        found.setdefault(part.language, []).extend(read(part)[: part.most][:most] * part.upsample)
    return found


def in_codes(rows: Sequence[Rows], *, source: str, target: str, targets: Sequence[str]) -> tuple[Rows, ...]:
    """Return rows with the codes of their languages in place of `source`, `target` and `targets`."""
    named = {"source": [source], "target": [target], "targets": [*targets]}
    return tuple(
        replace(part, language=code) for part in rows for code in named.get(part.language, [part.language])
    )


def draw_shots(
    name: str, rows: Rows, examples: Sequence[Any], test: Sequence[Any], *, seed: int
) -> list[int]:
    """Return the numbers of the examples that are a language's shots: the first ones of a shuffle by task,
    language and seed, so that a few are among many; all where there are fewer.

    Args:
        name: the task's.
        rows: whose and how many, and what is done with one that the test file has too.
        examples: of the train file.

    Raises:
        InputError: where the test file has one of them and they are not to be left out.
    """
    order = np.random.default_rng([seed, *f"{name} {rows.language}".encode()]).permutation(len(examples))
    tested = {composed(text_of(one)) for one in test}
    there = {i for i, one in enumerate(examples) if composed(text_of(one)) in tested}
    found = [int(i) for i in order if rows.overlap != "drop" or i not in there][: rows.most]
    if both := [i for i in found if i in there]:
        raise InputError(
            f"Shots of {rows.language} for {name} that its test file does not have were expected, but"
            f" {len(both)} of {len(found)} stand there too, the first of them:"
            f" {text_of(examples[both[0]])!r}. Set `overlap: drop` in the regime, to draw among the others."
        )
    if not found:
        raise InputError(
            f"Examples of {rows.language} for {name} to draw shots from were expected, but there are none."
        )
    return found


class TaskBatches(Dataset):
    """Step number -> padded batch of one language, with the code of the language that is worn for it as
    `language`; examples of like length come together.

    A language is drawn as often as its share of the examples is.

    Args:
        rows: encoded examples by language.
        exposed: what is worn for the batches of a language, drawn for each; that language where nothing is
            said.
    """

    def __init__(
        self,
        task: Task,
        rows: Mapping[str, Sequence[Row]],
        pad_id: int,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        exposed: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._task, self._rows, self._pad_id = task, rows, pad_id
        weights = {code: float(len(own)) for code, own in rows.items()}
        drawn = sampling.languages(weights, steps, seed=seed) if len(rows) > 1 else [*rows] * steps
        orders = {
            code: iter(
                sampling.epochs(
                    len(own),
                    drawn.count(code),
                    batch_size,
                    seed=seed + number,
                    lengths=[len(row["input_ids"]) for row in own],
                )
            )
            for number, (code, own) in enumerate(rows.items())
        }
        self._order = [(code, next(orders[code])) for code in drawn]
        rng = np.random.default_rng([seed, 0xE4])
        self._worn = [
            own[int(rng.integers(len(own)))] for own in (exposed.get(code, (code,)) for code in drawn)
        ]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> dict[str, Any]:
        code, chosen = self._order[step]
        batch = self._task.collate([self._rows[code][i] for i in chosen], self._pad_id)
        return {**batch, "language": self._worn[step]}
