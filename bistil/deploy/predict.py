"""What a finished student says of plain text: `bistil predict MODEL FILE`.

Notable: MODEL is the folder of a finished student, as `Pipeline.deployed` and `bistil export` write it, ONNX
graphs too; what is in it says what it does. Words are what white space separates, so text should be tokenised
as the training data was."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bistil.deploy.read import load_deployed
from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.models.architectures import longest_sequence
from bistil.tasks.asking import ASKED, asked
from bistil.tasks.nli import Pair
from bistil.tasks.parsing import Tree
from bistil.tasks.qa import Answer
from bistil.tasks.squad import Question
from bistil.tasks.treebank import Sentence
from bistil.text.corpora import read_lines

BATCH = 32


def predict(model: Path, file: Path) -> Iterator[str]:
    """Lines of what the model says of each line of the file.

    A tagger (entities, parts of speech) gives `word<TAB>tag` lines and a blank line after each sentence; a
    parser gives CoNLL-U. A model of sentence pairs, of which the file has one a line with a tab between them,
    gives `label<TAB>premise<TAB>hypothesis`, and one for questions, `question<TAB>paragraph` a line, gives
    `answer<TAB>question<TAB>paragraph`.

    :raises InputError: where the folder holds no such model, or a line is no pair where one is needed.
    """
    student, task, tokenizer = load_deployed(model)
    lines = read_lines(file)
    examples = _examples(task, file, lines)
    found = predict_all(
        student, task, examples, tokenizer, batch_size=BATCH, max_length=longest_sequence(student.config)
    )
    for example, said in zip(examples, found, strict=True):
        yield from _told(example, said)


def _examples(task: Any, file: Path, lines: Sequence[str]) -> list[Any]:
    """The lines as examples of the task."""
    wanted = ASKED[task.name]
    return [
        asked(task.name, *texts)
        for texts in (_columns(file, lines, wanted) if len(wanted) == 2 else ((line,) for line in lines))
    ]


def _told(example: Any, said: Any) -> Iterator[str]:
    """The lines of one example; `_` for a word beyond the model's length."""
    if isinstance(example, Pair):
        yield f"{said}\t{example.premise}\t{example.hypothesis}"
    elif isinstance(example, Question):
        best: Sequence[Answer] = said
        answer = example.context[best[0].start : best[0].end] if best else ""
        yield f"{answer}\t{example.question}\t{example.context}"
    elif isinstance(example, Sentence):
        yield from _parse(example.words, said)
    else:
        tags = [*said, *["_"] * (len(example.words) - len(said))]
        yield from (f"{word}\t{tag}" for word, tag in zip(example.words, tags, strict=True))
        yield ""


def _parse(words: Sequence[str], tree: Tree) -> Iterator[str]:
    """CoNLL-U with heads and universal relations."""
    rest = ["_"] * (len(words) - len(tree.heads))
    yield f"# text = {' '.join(words)}"
    for number, (word, head, relation) in enumerate(
        zip(words, [*tree.heads, *rest], [*tree.relations, *rest], strict=True), start=1
    ):
        yield f"{number}\t{word}\t_\t_\t_\t_\t{head}\t{relation}\t_\t_"
    yield ""


def _columns(file: Path, lines: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if len(columns) != 2 or not all(column.strip() for column in columns):
            raise InputError(
                f"{file}, line {number} of those with text: a {' and a '.join(wanted)} with a tab between"
                f" them were expected, but got {line!r}."
            )
        found.append((columns[0], columns[1]))
    return found
