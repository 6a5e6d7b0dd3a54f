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
from bistil.settings.files import read_text
from bistil.tasks.asking import ASKED, asked
from bistil.tasks.nli import Pair
from bistil.tasks.parsing import Parsing, Tree
from bistil.tasks.qa import Answer
from bistil.tasks.squad import Question
from bistil.tasks.treebank import Sentence

BATCH = 32


def predict(model: Path, file: Path) -> Iterator[str]:
    """Lines of what the model says of each line of the file.

    A tagger (entities, parts of speech) gives `word<TAB>tag` lines and a blank line after each sentence; a
    parser gives CoNLL-U, with the number of the line as `sent_id`. A model of sentence pairs, of which the
    file has one a line with a tab between them, gives `label<TAB>premise<TAB>hypothesis`, and one for
    questions, `question<TAB>paragraph` a line, gives `answer<TAB>question<TAB>paragraph`. Of a blank line all
    but a parser give a blank line, so that the k-th output is always that of the k-th line.

    Raises:
        InputError: where the folder holds no such model, the file no text, or a line is no pair where one is
            needed.
    """
    student, task, tokenizer = load_deployed(model)
    lines = [line.strip() for line in read_text(file).removesuffix("\n").split("\n")]
    if not any(lines):
        raise InputError(
            f"A line of text was expected in {file}, but there is none. Give a file with text in it."
        )
    examples = _examples(task, file, lines)
    found = predict_all(
        student, task, examples, tokenizer, batch_size=BATCH, max_length=longest_sequence(student.config)
    )
    answers = zip(examples, found, strict=True)
    for number, line in enumerate(lines, start=1):
        if line:
            yield from _told(*next(answers), number)
        elif not isinstance(task, Parsing):
            yield ""


def _examples(task: Any, file: Path, lines: Sequence[str]) -> list[Any]:
    """The lines that are not blank as examples of the task."""
    wanted = ASKED[task.name]
    return [
        asked(task.name, *(_columns(file, number, line, wanted) if len(wanted) == 2 else (line,)))
        for number, line in enumerate(lines, start=1)
        if line
    ]


def _told(example: Any, said: Any, number: int) -> Iterator[str]:
    """The lines of one example, which is that of line `number`; `_` for a word beyond the model's length."""
    if isinstance(example, Pair):
        yield f"{said}\t{example.premise}\t{example.hypothesis}"
    elif isinstance(example, Question):
        best: Sequence[Answer] = said
        answer = example.context[best[0].start : best[0].end] if best else ""
        yield f"{answer}\t{example.question}\t{example.context}"
    elif isinstance(example, Sentence):
        yield from _parse(example.words, said, number)
    else:
        tags = [*said, *["_"] * (len(example.words) - len(said))]
        yield from (f"{word}\t{tag}" for word, tag in zip(example.words, tags, strict=True))
        yield ""


def _parse(words: Sequence[str], tree: Tree, line: int) -> Iterator[str]:
    """CoNLL-U with heads and universal relations."""
    rest = ["_"] * (len(words) - len(tree.heads))
    yield f"# sent_id = {line}"
    yield f"# text = {' '.join(words)}"
    for number, (word, head, relation) in enumerate(
        zip(words, [*tree.heads, *rest], [*tree.relations, *rest], strict=True), start=1
    ):
        yield f"{number}\t{word}\t_\t_\t_\t_\t{head}\t{relation}\t_\t_"
    yield ""


def _columns(file: Path, number: int, line: str, wanted: Sequence[str]) -> list[str]:
    columns = line.split("\t")
    if len(columns) != 2 or not all(column.strip() for column in columns):
        raise InputError(
            f"{file}, line {number}: a {' and a '.join(wanted)} with a tab between them were expected, but"
            f" got {line!r}."
        )
    return columns
