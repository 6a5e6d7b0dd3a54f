"""From which examples a task is learnt, and how they come in batches.

Notable: a batch holds examples of one language and names it, so that a model can wear what belongs to that
language while it learns from several.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from bistil.systems.recipe import Rows
from bistil.tasks.task import Row, Task
from bistil.text import sampling


def read_examples(
    task: Task, rows: Sequence[Rows], file: Callable[[str, str], Path], *, source: str, target: str
) -> dict[str, list[Any]]:
    """Read the examples that `rows` speak of, by language.

    Args:
        file: gives the task's file of a language and a split.

    Raises:
        InputError: as the task's reader.
    """
    found: dict[str, list[Any]] = {}
    for part in rows:
        code = language_of(part, source=source, target=target)
        found.setdefault(code, []).extend(task.read(file(code, part.split))[: part.most] * part.upsample)
    return found


def language_of(rows: Rows, *, source: str, target: str) -> str:
    """Return the code of the language whose rows these are."""
    return {"source": source, "target": target}.get(rows.language, rows.language)


class TaskBatches(Dataset):
    """Step number -> padded batch of one language, with its code as `language`; examples of like length come
    together.

    A language is drawn as often as its share of the examples is.

    Args:
        rows: encoded examples by language.
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

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> dict[str, Any]:
        code, chosen = self._order[step]
        batch = self._task.collate([self._rows[code][i] for i in chosen], self._pad_id)
        return {**batch, "language": code}
