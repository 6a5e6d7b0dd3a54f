"""Tasks by name.

Notable: two tasks so far, dependency parsing and named-entity recognition, both behind the `Task` protocol of `bistil.tasks.task`.
"""

from collections.abc import Sequence
from typing import Any

from bistil.errors import InputError
from bistil.tasks.ner import Ner
from bistil.tasks.parsing import Parsing
from bistil.tasks.task import Task

NAMES = ("parsing", "ner")

__all__ = ["NAMES", "Task", "floor", "task"]


def task(name: str) -> Task:
    """The task of that name, with no labels yet.

    :raises InputError: where there is no such task.
    """
    if name == "parsing":
        return Parsing()
    if name == "ner":
        return Ner()
    raise InputError(f"A task was expected, one of {', '.join(NAMES)}, but got {name!r}. Use one of these names.")


def floor(task: Task, train_examples: Sequence[Any], test_examples: Sequence[Any]) -> dict[str, float]:
    """Metrics on `test_examples` of the best guess that looks at labels of `train_examples` only, in percent."""
    return task.floor(train_examples, test_examples)
