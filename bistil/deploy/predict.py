"""What a finished student says of plain text: `bistil predict MODEL FILE`.

Notable: MODEL is the folder of a finished student, as `Pipeline.deployed` and `bistil export` write it, ONNX
graphs too; what is in it says what it does. Words are what white space separates, so text should be tokenised
as the training data was. A sentence that is longer than the model is tagged in windows that overlap by a
quarter; what cannot be put together so, a parse or a pair, is told to have been cut."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bistil.deploy.read import load_deployed
from bistil.errors import InputError
from bistil.evaluation.score import predict_rows
from bistil.models.architectures import longest_sequence
from bistil.settings.files import read_text, text_of
from bistil.tasks.asking import ASKED, asked, texts_of
from bistil.tasks.choice import Candidates, Choice
from bistil.tasks.classification import Text
from bistil.tasks.labelling import Labelling
from bistil.tasks.nli import Pair
from bistil.tasks.parsing import Parsing, Tree
from bistil.tasks.qa import Answer
from bistil.tasks.squad import Question
from bistil.tasks.tagging import Tagged, Tagging
from bistil.tasks.treebank import Sentence
from bistil.text.corpora import IGNORED
from bistil.training.progress import Listener, silent

BATCH = 32


def predict(
    model: Path,
    file: Path | bytes,
    *,
    as_json: bool = False,
    confidence: bool = False,
    warn: Callable[[str], None] = lambda told: None,
    progress: Listener = silent,
) -> Iterator[str]:
    """Lines of what the model says of each line of the file.

    A tagger (entities, parts of speech) gives `word<TAB>tag` lines and a blank line after each sentence; a
    parser gives CoNLL-U, with the number of the line as `sent_id`. A model of sentence pairs, of which the
    file has one a line with a tab between them, gives `label<TAB>premise<TAB>hypothesis`, a classifier
    `label<TAB>text`, and one for questions, `question<TAB>paragraph` a line, gives
    `answer<TAB>question<TAB>paragraph`; one that chooses, `context<TAB>question<TAB>choice | choice` a line,
    puts its choice in front. Of a blank line all but a parser give a blank line, so that the k-th output is
    always that of the k-th line.

    Args:
        file: of text, or its bytes.
        as_json: one JSON object for each line of the file instead, blank ones too.
        confidence: with each tag or label how probable the model finds it, as a further column; JSON has it
            always. Parses and answers have none.
        warn: told each line of which something was cut off.

    Raises:
        InputError: where the folder holds no such model, the file no text, or a line is no pair where one is
            needed.
    """
    student, task, tokenizer = load_deployed(model)
    named = file if isinstance(file, Path) else Path("standard input")
    text = read_text(file) if isinstance(file, Path) else text_of(named, file)
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if not any(lines):
        raise InputError(
            f"A line of text was expected in {named}, but there is none. Give a file with text in it."
        )
    asker = _Asker(student, task, tokenizer, warn, progress)
    numbers = [number for number, line in enumerate(lines, start=1) if line]
    examples = _examples(task, named, lines)
    answers = iter(zip(examples, asker.ask(examples, numbers), strict=True))
    for number, line in enumerate(lines, start=1):
        if as_json:
            found = _object(*next(answers)) if line else {}
            yield json.dumps({"line": number, **found}, ensure_ascii=False)
        elif line:
            example, (said, sure) = next(answers)
            yield from _told(example, said, sure if confidence else None, number)
        elif not isinstance(task, Parsing):
            yield ""


class _Asker:
    """Asks a model, in windows where a sentence is too long for it."""

    def __init__(
        self, student: Any, task: Any, tokenizer: Any, warn: Callable[[str], None], progress: Listener
    ) -> None:
        self.student, self.task, self.tokenizer = student, task, tokenizer
        self.warn, self.progress = warn, progress
        self.length = longest_sequence(student.config)

    def ask(self, examples: Sequence[Any], numbers: Sequence[int]) -> list[tuple[Any, Any]]:
        """What is said of each example, and how sure: of each word, of a label, or None."""
        parts, places = list[Any](), list[tuple[int, int]]()
        for place, (example, number) in enumerate(zip(examples, numbers, strict=True)):
            for start, part in self._windows(example, number):
                parts.append(part)
                places.append((place, start))
        rows = self.task.encode(parts, self.tokenizer, max_length=self.length)
        task: Any = Sure(self.task)
        found = predict_rows(
            self.student,
            task,
            rows,
            pad_id=int(self.tokenizer.pad_token_id),
            batch_size=BATCH,
            progress=self.progress,
        )
        joined: dict[int, tuple[Any, Any]] = {}
        for (place, start), (said, sure) in zip(places, found, strict=True):
            joined[place] = (said, sure) if start == 0 else _joined(joined[place], said, sure, start)
        return [joined[place] for place in range(len(examples))]

    def _windows(self, example: Any, number: int) -> Iterator[tuple[int, Any]]:
        """The parts of an example, each with its first word."""
        if isinstance(example, Tagged):
            start, of = 0, len(example.words)
            while (kept := self._kept(example, start)) < of - start:
                words = slice(start, start + kept)
                yield start, replace(example, words=example.words[words], tags=example.tags[words])
                start += max(1, kept - kept // 4)
            yield start, replace(example, words=example.words[start:], tags=example.tags[start:])
            return
        if isinstance(example, Sentence):
            [row] = self.task.encode([example], self.tokenizer, max_length=self.length)
            if (kept := len(row["first_subwords"])) < len(example.words):
                self.warn(f"line {number}: the model takes {kept} words at most here, the others have _")
        if isinstance(example, Question) and (size := self._tokens(example.question)) > self.length // 3:
            self.warn(f"line {number}: of the question's {size} tokens the first {self.length // 3} are read")
        if isinstance(example, Candidates):
            size = 4 + max(self._tokens(example.context, example.question, one) for one in example.choices)
            if size > self.length:
                self.warn(f"line {number}: {size} tokens are cut to the {self.length} that the model takes")
        if isinstance(example, Pair | Text):
            size = len(self.tokenizer(*texts_of(example))["input_ids"])
            if size > self.length:
                self.warn(f"line {number}: {size} tokens are cut to the {self.length} that the model takes")
        yield 0, example

    def _tokens(self, *texts: str) -> int:
        """How many tokens some texts have together."""
        ids: Any = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return sum(map(len, ids))

    def _kept(self, example: Tagged, start: int) -> int:
        """How many words from `start` fit into the model: no more than it takes tokens."""
        words = slice(start, start + self.length)
        some = replace(example, words=example.words[words], tags=example.tags[words])
        [row] = self.task.encode([some], self.tokenizer, max_length=self.length)
        return sum(label != IGNORED for label in row["labels"])


class Sure:
    """A task whose predictions come with how probable the model finds them, from the same forward pass."""

    def __init__(self, task: Any) -> None:
        self.task = task

    def encode(self, examples: Sequence[Any], tokenizer: Any, *, max_length: int) -> Any:
        """As the task does."""
        return self.task.encode(examples, tokenizer, max_length=max_length)

    def collate(self, rows: Any, pad_id: int) -> Any:
        """As the task does."""
        return self.task.collate(rows, pad_id)

    def predict(self, model: Any, batch: Any) -> list[tuple[Any, Any]]:
        """Predictions, each with probabilities: of every word's tag, of a label, or None."""
        if not isinstance(self.task, Tagging | Labelling | Choice):
            return [(said, None) for said in self.task.predict(model, batch)]
        output = model(batch)
        again: Any = lambda _: output  # noqa: E731 - stands for the model, which is not run twice
        found = self.task.predict(again, batch)
        best = output.logits["labels"].float().softmax(-1).amax(-1)
        if not isinstance(self.task, Tagging):
            return list(zip(found, best.tolist(), strict=True))
        words = batch["labels"] != IGNORED
        return [(said, own[at].tolist()) for said, own, at in zip(found, best, words, strict=True)]


def _joined(
    before: tuple[Any, Any], said: Sequence[str], sure: Sequence[float], start: int
) -> tuple[Any, Any]:
    """Tags of windows one after the other; of the words that two have, each gives the half nearer to its
    middle.
    """
    tags, known = before
    half = (len(tags) - start + 1) // 2
    at = start + half
    return [*tags[:at], *said[half:]], [*known[:at], *sure[half:]]


def _object(example: Any, answer: tuple[Any, Any]) -> dict[str, Any]:
    """What is said of an example, by name."""
    said, sure = answer
    if isinstance(example, Pair | Text):
        names = ASKED["nli" if isinstance(example, Pair) else "classification"]
        read = dict(zip(names, texts_of(example), strict=True))
        return {**read, "label": said, "confidence": sure}
    if isinstance(example, Candidates):
        asked_of = {"context": example.context, "question": example.question, "choices": example.choices}
        return {**asked_of, "answer": example.choices[said], "confidence": sure}
    if isinstance(example, Question):
        answers: Sequence[Answer] = said
        text = example.context[answers[0].start : answers[0].end] if answers else ""
        return {"question": example.question, "paragraph": example.context, "answer": text}
    if isinstance(example, Sentence):
        return {"words": example.words, "heads": said.heads, "relations": said.relations}
    return {"words": example.words, "tags": list(said), "confidence": sure}


def _examples(task: Any, file: Path, lines: Sequence[str]) -> list[Any]:
    """The lines that are not blank as examples of the task."""
    wanted = ASKED[task.name]
    return [
        asked(task.name, *(_columns(file, number, line, wanted) if len(wanted) > 1 else (line,)))
        for number, line in enumerate(lines, start=1)
        if line
    ]


def _told(example: Any, said: Any, sure: Any, number: int) -> Iterator[str]:
    """The lines of one example, which is that of line `number`. sure: None where it is not told."""
    if isinstance(example, Pair | Text | Candidates):
        said = example.choices[said] if isinstance(example, Candidates) else said
        yield "\t".join([said, *([f"{sure:.3f}"] if sure else []), *texts_of(example)])
    elif isinstance(example, Question):
        best: Sequence[Answer] = said
        answer = example.context[best[0].start : best[0].end] if best else ""
        yield f"{answer}\t{example.question}\t{example.context}"
    elif isinstance(example, Sentence):
        yield from _parse(example.words, said, number)
    else:
        for place, (word, tag) in enumerate(zip(example.words, said, strict=True)):
            yield f"{word}\t{tag}" + (f"\t{sure[place]:.3f}" if sure else "")
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
    if len(columns) != len(wanted) or not all(column.strip() for column in columns):
        raise InputError(
            f"{file}, line {number}: a {' and a '.join(wanted)} with a tab between them were expected, but"
            f" got {line!r}."
        )
    return columns
