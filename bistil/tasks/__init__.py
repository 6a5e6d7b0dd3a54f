"""Tasks by name.

Notable: a task is one file behind the `Task` protocol of `bistil.tasks.task` and one entry of `TASKS`; an
entry of one's own makes one's own task known to experiment files. Sentence retrieval
(`bistil.tasks.retrieval`) trains nothing and is a function, no task."""

from bistil.errors import InputError
from bistil.tasks.choice import Choice
from bistil.tasks.classification import Classification
from bistil.tasks.ner import Ner
from bistil.tasks.nli import Nli
from bistil.tasks.parsing import Parsing
from bistil.tasks.pos import Pos
from bistil.tasks.qa import Qa
from bistil.tasks.retrieval import PARALLEL
from bistil.tasks.task import Task

RETRIEVAL = "retrieval"
TASKS: dict[str, Task] = {
    task.name: task for task in (Parsing(), Ner(), Pos(), Nli(), Classification(), Choice(), Qa())
}

__all__ = ["PARALLEL", "RETRIEVAL", "TASKS", "Task", "column", "primary", "task", "title"]


def task(name: str) -> Task:
    """The task of that name, before training.

    Raises:
        InputError: where there is no such task.
    """
    if name not in TASKS:
        raise InputError(
            f"A task was expected, one of {', '.join(TASKS)}, but got {name!r}. Use one of these names."
        )
    return TASKS[name]


def column(name: str) -> str:
    """The column of the language table that names a task's files."""
    return PARALLEL if name == RETRIEVAL else task(name).column


def primary(name: str) -> str | None:
    """The metric that a task is judged by; None for a task that is not known."""
    return "accuracy" if name == RETRIEVAL else TASKS[name].metric if name in TASKS else None


def title(name: str) -> str:
    """What reports call a task; its name for one that is not known."""
    return "Sentence retrieval" if name == RETRIEVAL else TASKS[name].title if name in TASKS else name
