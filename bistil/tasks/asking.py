"""Plain text as examples of a task, for models that are asked and not scored.

Notable: words are what white space separates, so text should be tokenised as the training data was. What is
gold in an example is a stand-in here, and means nothing."""

from typing import Any

from bistil.errors import InputError
from bistil.tasks.choice import Candidates
from bistil.tasks.classification import Text
from bistil.tasks.nli import LABELS, Pair
from bistil.tasks.squad import Question
from bistil.tasks.tagging import Tagged
from bistil.tasks.treebank import Sentence

ASKED = {
    "parsing": ("sentence",),
    "ner": ("sentence",),
    "pos": ("sentence",),
    "nli": ("premise", "hypothesis"),
    "classification": ("text",),
    "qa": ("question", "paragraph"),
    "choice": ("context", "question", "choices"),
}
"""Task -> what it is asked about."""
BETWEEN = " | "
"""What stands between the choices of one question."""


def asked(task: str, *texts: str) -> Any:
    """Return an example of a task made of one text for each of its names in ASKED.

    Raises:
        InputError: for a task of another kind, a number of texts that is not the task's, or an empty text.
    """
    if task not in ASKED:
        raise InputError(
            f"A task of one's own cannot be asked here, only {', '.join(ASKED)}; {task!r} came. Use its"
            " `predict`."
        )
    if len(texts) != len(ASKED[task]) or not all(text.strip() for text in texts):
        names = ASKED[task]
        given = [name for name, text in zip(names, texts, strict=False) if text.strip()]
        came = (
            "nothing"
            if not given
            else f"only a {' and a '.join(given)}"
            if len(given) < len(names)
            else f"{len(texts)} texts"
        )
        raise InputError(
            f"A {' and a '.join(names)} with at least one word {'were' if len(names) > 1 else 'was'} expected"
            f" for {task}, but {came} came. Fill it in."
        )
    first, last = texts[0], texts[-1]
    words = tuple(first.split())
    match task:
        case "parsing":
            return Sentence(words, (0,) * len(words), ("root",) * len(words))
        case "nli":
            return Pair(first, last, LABELS[0])
        case "classification":
            return Text(first, "")
        case "choice":
            choices = tuple(choice for part in last.split(BETWEEN.strip()) if (choice := part.strip()))
            if len(choices) < 2:
                raise InputError(
                    f"Two choices or more with {BETWEEN!r} between them were expected, got {last!r}."
                )
            return Candidates(first, texts[1], choices, 0)
        case "qa":
            return Question("", first, last, ((last[:1], 0),))
    return Tagged(words, ("O",) * len(words))


def texts_of(example: Any) -> tuple[str, ...]:
    """Return the texts that an example would be asked by; none for an example of another kind."""
    match example:
        case Sentence(words=words) | Tagged(words=words):
            return (" ".join(words),)
        case Pair():
            return example.premise, example.hypothesis
        case Candidates():
            return example.context, example.question, BETWEEN.join(example.choices)
        case Text():
            return (example.text,)
        case Question():
            return example.question, example.context
    return ()
