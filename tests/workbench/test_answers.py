"""What models answer beside gold, for every task: by hand, through a pipeline, and in the panel."""

from pathlib import Path
from typing import Any

import pytest
from tiny import entries

from bistil.errors import InputError
from bistil.experiment import Cell, Experiment
from bistil.pipeline import Pipeline
from bistil.settings.yaml import build
from bistil.store.artefacts import Store
from bistil.tasks import TASKS
from bistil.tasks.nli import Pair
from bistil.tasks.parsing import Tree
from bistil.tasks.qa import Answer
from bistil.tasks.squad import Question
from bistil.tasks.tagging import Tagged
from bistil.tasks.treebank import Sentence
from bistil.workbench import Answers, answers, answers_panel
from bistil.workbench.answers import Said, beside

WORDS = ("anna", "sees", "ben")
QUESTION = Question("q", "Who?", "Ana <sees> the cat.", (("Ana", 0), ("the cat", 11)))


def said(example: Any, prediction: Any) -> Said:
    return beside(example, {"m": prediction}).said["m"]


def test_a_word_without_head_and_a_wrong_relation_are_wrong() -> None:
    sentence = Sentence(WORDS, (2, 0, 2), ("nsubj:pass", "root", "obj"))
    found = beside(sentence, {"m": Tree((2, 0), ("nsubj", "obj"))})
    assert (found.units, found.gold) == (WORDS, ("nsubj of sees", "root", "obj of sees"))
    assert found.said["m"] == Said(("nsubj of sees", "obj", "–"), (True, False, False))
    assert found.said["m"].wrong == 2


def test_an_arc_to_another_word_of_the_same_form_is_wrong() -> None:
    sentence = Sentence(
        ("the", "dog", "sees", "the", "dog"), (2, 3, 0, 5, 3), ("det", "nsubj", "root", "det", "obj")
    )
    found = said(sentence, Tree((5, 3, 0, 5, 3), ("det", "nsubj", "root", "det", "obj:x")))
    assert found.texts[0] == "det of dog"
    assert found.right == (False, True, True, True, True)


def test_tags_and_labels_are_compared_with_gold() -> None:
    assert said(Tagged(WORDS, ("B-PER", "O", "B-PER")), ("B-PER", "B-LOC")) == Said(
        ("B-PER", "B-LOC", "–"), (True, False, False)
    )
    pair = Pair("anna sees ben", "ben sleeps", "neutral")
    assert beside(pair, {}).about == "anna sees ben"
    assert said(pair, "neutral").right == (True,)
    assert said(pair, "contradiction") == Said(("contradiction",), (False,))


def test_the_best_span_counts_where_it_is_any_of_the_answers() -> None:
    assert said(QUESTION, (Answer(4, 10, 2.0), Answer(0, 3, 1.0))) == Said(("<sees>",), (False,))
    assert said(QUESTION, (Answer(15, 18, 2.0),)) == Said(("cat",), (True,))
    assert said(QUESTION, ()) == Said(("–",), (False,))


def test_a_task_of_ones_own_is_shown_without_a_verdict() -> None:
    found = beside(["sports", "a goal"], {"m": "politics"})
    assert found.said["m"] == Said(("politics",), (True,))
    assert "a goal" in found._repr_html_()


def test_what_is_wrong_is_struck_through_and_everything_is_escaped() -> None:
    text = beside(QUESTION, {"good": (Answer(0, 3, 1.0),), "<bad>": (Answer(4, 10, 1.0),)})._repr_html_()
    assert "Ana &lt;sees&gt; the cat." in text
    assert text.count("line-through") == 1
    assert 'line-through">&lt;sees&gt;</span>' in text
    assert "&lt;bad&gt;" in text


def test_the_panel_goes_through_the_examples_of_every_task() -> None:
    tags = [beside(Tagged((word,), ("O",)), {"m": ("O",)}) for word in WORDS]
    panel = answers_panel({"ner": tags, "qa": [beside(QUESTION, {})]})
    assert "anna" in panel.shown.value
    panel.slider.value = 3
    assert "ben" in panel.shown.value
    panel.task.value = "qa"
    assert (panel.slider.value, panel.slider.max) == (1, 1)
    assert "Who?" in panel.shown.value
    with pytest.raises(InputError, match="at least one example of each task"):
        answers_panel({"ner": []})


@pytest.fixture(scope="module")
def pipeline(teacher_folder: Path, data, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    whole = entries(teacher_folder, steps=1)
    plan = {
        **whole,
        "targets": {name: ["qac"] for name in TASKS},
        "task": dict.fromkeys(TASKS, whole["task"]["ner"]),
    }
    return Pipeline(build(Experiment, plan, "tiny"), data, Store(tmp_path_factory.mktemp("store")))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_teacher_and_student_answer_every_task(pipeline: Pipeline, name: str) -> None:
    """The verdicts are those of the task's own score, where that is a share of right units."""
    examples = TASKS[name].read(pipeline.data.file(TASKS[name].column, "qac", "test"))
    cell = Cell("bistil-tf", name, "qac", 2, 1)
    found = answers(pipeline, [cell.of_teacher, cell], examples)
    assert all(
        isinstance(one, Answers) and set(one.said) == {"teacher-ltsft", "bistil-tf:2"} for one in found
    )
    assert all(
        len(one.units) == len(one.gold) == len(said.texts) == len(said.right)
        for one in found
        for said in one.said.values()
    )
    rights = [right for one in found for right in one.said["bistil-tf:2"].right]
    metric = {"parsing": "las", "qa": "em"}.get(name, "accuracy")
    if name != "ner":  # whose score is of entities
        assert 100 * sum(rights) / len(rights) == pytest.approx(pipeline.evaluation(cell).metrics[metric])
    with pytest.raises(InputError, match="there are none"):
        answers(pipeline, [cell], [])
