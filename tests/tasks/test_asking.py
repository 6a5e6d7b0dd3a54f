"""Plain text as examples of every task, and back."""

from pathlib import Path

import pytest

from bistil.errors import InputError
from bistil.tasks import TASKS
from bistil.tasks.asking import ASKED, asked, texts_of
from bistil.text.languages import DataFolder


@pytest.mark.parametrize("task", ASKED)
def test_the_texts_of_an_example_ask_for_the_same_again(task: str, data: DataFolder) -> None:
    example = TASKS[task].read(Path(data.file(TASKS[task].column, "qac", "test")))[0]
    texts = texts_of(example)
    assert len(texts) == len(ASKED[task])
    again = asked(task, *texts)
    assert type(again) is type(example)
    assert texts_of(again) == texts


def test_empty_texts_and_other_tasks_are_told() -> None:
    with pytest.raises(
        InputError, match=r"premise and a hypothesis with at least one word.*only a premise came"
    ):
        asked("nli", "a b", "  ")
    with pytest.raises(InputError, match="but nothing came"):
        asked("parsing", "")
    with pytest.raises(InputError, match="but 2 texts came"):
        asked("parsing", "a", "b")
    with pytest.raises(InputError, match="premise and a hypothesis"):
        asked("nli", "a b")
    with pytest.raises(InputError, match="cannot be asked here"):
        asked("topic", "a b")
    assert texts_of(["topic", "a b"]) == ()
