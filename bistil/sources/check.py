"""Check a data folder: what is in each file, what is malformed and where, and which evaluation text is also
text to train on.

Notable: files are read by the very readers that a run uses, so what passes here will be read there; of a
malformed file the first bad line is named. Sentences are compared within a language and without white space,
so tokenised and running text meet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bistil.errors import InputError
from bistil.settings.files import is_file, read_csv
from bistil.settings.files import lines as read_file_lines
from bistil.sources import strict
from bistil.tasks import task as find_task
from bistil.tasks.gold import count, in_words, lacking, warning
from bistil.tasks.ner import unmarked_starts
from bistil.tasks.retrieval import read_parallel
from bistil.text.corpora import composed, read_lines
from bistil.text.languages import OPTIONAL, SPLITS, DataFolder, Language, of_split

EVALUATION = ("dev", "test")
LONG = 250
"""Words of a sentence above which it is likely to be several."""
MANY = 10
"""Labels, different ones, above which they may be texts."""
MOST_REMARKS = 5
TASKS_OF = {"treebank": ("parsing", "pos"), "ner": ("ner",), "nli": ("nli",), "qa": ("qa",)}


@dataclass(frozen=True)
class FileCheck:
    """A file that the language table names: what is in it, or what is wrong with it.

    what: text, parallel or a task. labels: how often each occurs, most frequent first. error: what is wrong,
    with the line; "" if nothing. remarks: what is read all the same, but worth a look."""

    code: str
    what: str
    split: str
    path: Path
    examples: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """How many of the different sentences of an evaluation file stand in a training file of the same
    language.
    """

    evaluation: Path
    training: Path
    sentences: int
    of: int


@dataclass(frozen=True)
class Unlearnt:
    """Labels of an evaluation file, with their numbers, that the training files of some languages lack."""

    evaluation: FileCheck
    labels: Mapping[str, int]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class FolderCheck:
    """What a data folder holds. missing: places named by the table where no file is, `{split}` left in where
    no split is there, and patterns that have files to learn from and none to validate on. strange: columns of
    patterns that no task reads. unsaid: languages of which the table does not say whether the teacher has
    seen them.
    """

    files: tuple[FileCheck, ...]
    overlaps: tuple[Overlap, ...]
    missing: tuple[str, ...]
    strange: tuple[str, ...] = ()
    unlearnt: tuple[Unlearnt, ...] = ()
    unsaid: tuple[str, ...] = ()

    @property
    def malformed(self) -> list[FileCheck]:
        """The files that cannot be read."""
        return [one for one in self.files if one.error]


def check_folder(data: DataFolder, *, say: Callable[[str], None] = lambda text: None) -> FolderCheck:
    """Read every file that the folder's language table names.

    Args:
        say: told each language as it begins.
    """
    files: list[FileCheck] = []
    overlaps: list[Overlap] = []
    missing: list[str] = []
    for code, language in data.languages.items():
        say(code)
        found = list(_files(data.root, language))
        missing += _missing(data.root, language)
        sentences: dict[tuple[str, Path], set[int]] = {}
        for what, split, path in found:
            one, own = _checked(code, what, split, path)
            files.append(one)
            if own:
                sentences[split, path] = own
        overlaps += _overlaps(sentences)
    patterns = {
        column: pattern
        for language in data.languages.values()
        for column, pattern in language.files.items()
        if column not in OPTIONAL and "{split}" in pattern
    }
    strange = tuple(f"{column} ({pattern})" for column, pattern in patterns.items())
    return FolderCheck(
        tuple(_side_by_side(files)),
        tuple(overlaps),
        tuple(missing),
        strange,
        unlearnt=tuple(_unlearnt(files)),
        unsaid=tuple(row["code"] for _, row in read_csv(data.table)[1] if not row["seen"]),
    )


def lines(checked: FolderCheck, root: Path) -> Iterator[str]:
    """The check as text: a line for each file, then what is malformed, what overlaps and what is not
    there.
    """
    for one in checked.files:
        if not one.error:
            labels = in_words(one.labels)
            yield f"{one.code:4} {one.what:9} {one.split:5} {one.examples:>9,}  {_inside(one.path, root)}" + (
                f"  [{labels}]" if labels else ""
            )
    files, malformed = ({one.path for one in group} for group in (checked.files, checked.malformed))
    yield f"{len(files)} files, {len(malformed)} malformed"
    for one in checked.malformed:
        yield f"malformed ({one.what}): {one.error}"
    for one in checked.files:
        yield from (f"read, but {_inside(one.path, root)}, {remark}" for remark in one.remarks[:MOST_REMARKS])
        if (more := len(one.remarks) - MOST_REMARKS) > 0:
            yield f"read, but {_inside(one.path, root)} has {more:,} more of these"
    for own in checked.unlearnt:
        file = _inside(own.evaluation.path, root)
        yield f"labels: {warning(own.evaluation.what, file, own.labels, own.sources)}"
    for overlap in checked.overlaps:
        share = 100 * overlap.sentences / overlap.of
        evaluation, training = _inside(overlap.evaluation, root), _inside(overlap.training, root)
        yield (
            f"overlap: {overlap.sentences:,} of {overlap.of:,} sentences ({share:.1f} %) of {evaluation}"
            f" stand in {training}"
        )
    if checked.missing:
        yield f"named by the table but not there: {', '.join(checked.missing)}"
    if checked.strange:
        yield (
            f"columns that no task reads: {', '.join(checked.strange)}; those of tasks are"
            f" {', '.join(OPTIONAL)}"
        )
    if checked.unsaid:
        yield f"`seen` is empty, which is read as no: {', '.join(checked.unsaid)}"


def _files(root: Path, language: Language) -> Iterator[tuple[str, str, Path]]:
    """What, split and path of every file of a language that is there."""
    if is_file(root / language.corpus):
        yield "text", "train", root / language.corpus
    for column, pattern in _patterns(language):
        for split in SPLITS if "{split}" in pattern else ("test",):
            path = root / of_split(pattern, split)
            if pattern and is_file(path):
                for what in TASKS_OF.get(column, (column,)):
                    yield what, split, path


def _patterns(language: Language) -> Iterator[tuple[str, str]]:
    """Column and pattern of a language's files; what else the table says is for people."""
    return ((column, pattern) for column, pattern in language.files.items() if column in OPTIONAL)


def _missing(root: Path, language: Language) -> Iterator[str]:
    """The patterns of a language that no file fits, and those with files to learn from and none to validate
    on.
    """
    for pattern in (language.corpus, *(pattern for _, pattern in _patterns(language))):
        there = [split for split in SPLITS if is_file(root / of_split(pattern, split))] if pattern else []
        if pattern and not there:
            yield pattern
        elif "{split}" in pattern and "train" in there and "dev" not in there:
            yield f"{of_split(pattern, 'dev')} (a source needs train and dev)"


def _checked(code: str, what: str, split: str, path: Path) -> tuple[FileCheck, set[int]]:
    """A file's check, and hashes of its sentences."""
    try:
        examples = _read(what, path)
    except InputError as error:
        if what == "parsing" and (tags := _tags_alone(path)):
            remark = "has tags and no trees: it serves pos, not parsing"
            return FileCheck(code, what, split, path, len(tags), remarks=(remark,)), _hashes("pos", tags)
        return FileCheck(code, what, split, path, error=str(error)), set()
    counts = count(what, examples)
    found = tuple(_remarks(what, path, examples))
    own = () if what == "pos" else _hashes(what, examples)  # a treebank's sentences are told once
    return FileCheck(code, what, split, path, len(examples), counts, remarks=found), set(own)


def _hashes(what: str, examples: list[Any]) -> set[int]:
    """Hashes of the examples' sentences."""
    sentences = (text for example in examples for text in _sentences(what, example))
    return {hash(composed("".join(text.split()))) for text in sentences}


def _tags_alone(path: Path) -> list[Any]:
    """The sentences of a treebank that has no heads at all; none where it has some or cannot be read."""
    words = [line.split("\t") for _, line in read_file_lines(path) if line and not line.startswith("#")]
    if any(len(word) != 10 or word[6] != "_" for word in words):
        return []
    try:
        return _read("pos", path)
    except InputError:
        return []


def _remarks(what: str, path: Path, examples: list[Any]) -> Iterator[str]:
    """What a user should know of a file that can be read; a treebank's is told once, for its trees."""
    if what in ("parsing", "ner"):
        withheld = sum(set(example.words) == {"_"} for example in examples)
        if withheld:
            yield f"{withheld:,} of {len(examples):,} sentences have no word but '_'"
    if what == "ner":
        longest = max(len(example.words) for example in examples)
        if longest > LONG:
            yield f"has a sentence of {longest:,} words: are blank lines between sentences missing?"
        if starts := unmarked_starts(path):
            yield f"has {starts:,} I- tags that continue no entity of their type: each is read as B-"
    if what == "classification":
        labels = len({example.label for example in examples})
        if labels > MANY and 2 * labels > len(examples):
            yield f"has {labels:,} labels in {len(examples):,} texts: are label and text swapped?"
    if what in ("nli", "classification") and path.suffix not in (".csv", ".jsonl"):
        texts = (text for example in examples for text in _sentences(what, example))
        if quoted := sum(map(_is_quoted, texts)):
            yield f"has {quoted:,} texts in quotation marks with doubled ones inside, which stay as they are"
    if what == "parsing":
        yield from (f"{remark} (the CoNLL-18 script refuses that)" for remark in strict.remarks(path))


def _is_quoted(text: str) -> bool:
    """Whether a cell stands in the quotation marks of a table that a program wrote."""
    inner = text[1:-1]
    return f'"{inner}"' == text and '""' in inner and '"' not in inner.replace('""', "")


def _side_by_side(files: Sequence[FileCheck]) -> Iterator[FileCheck]:
    """The checks, with a remark where translations, line by line, have another number of lines than those
    beside them.
    """
    usual: dict[Path, int] = {}
    for one in files:
        if one.what != "parallel" or one.path.suffix == ".tsv" or one.error:
            yield one
            continue
        wanted = usual.setdefault(one.path.parent, one.examples)
        told = (
            f"has {one.examples:,} lines, others beside it {wanted:,}: line n of all should be one sentence"
        )
        yield replace(one, remarks=(*one.remarks, told)) if one.examples != wanted else one


def _read(what: str, path: Path) -> list[Any]:
    if what == "text":
        return read_lines(path)
    if what == "parallel":
        return read_parallel(path, None if path.suffix == ".tsv" else path)
    return find_task(what).read(path)


def _sentences(what: str, example: Any) -> Iterator[str]:
    """The text of an example: its words, both sentences of a pair, context and question."""
    if what in ("parsing", "pos", "ner"):
        yield " ".join(example.words)
    elif what == "nli":
        yield from (example.premise, example.hypothesis)
    elif what == "classification":
        yield example.text
    elif what == "choice":
        yield from (example.context, *example.choices)
    elif what == "qa":
        yield from (example.context, example.question)
    elif what in ("text", "parallel"):
        yield from (example,) if isinstance(example, str) else example


def _unlearnt(files: Sequence[FileCheck]) -> Iterator[Unlearnt]:
    """The labels of every evaluation file against each language's training file of the same task; languages
    that lack the same ones are told together.
    """
    for one in (file for file in files if file.split in EVALUATION):
        sources: dict[tuple[str, ...], list[str]] = {}
        for training in files:
            if training.split == "train" and training.what == one.what and training.labels:
                sources.setdefault(tuple(lacking(training.labels, one.labels)), []).append(training.code)
        for labels, codes in sources.items():
            if labels:
                yield Unlearnt(one, {label: one.labels[label] for label in labels}, tuple(codes))


def _overlaps(sentences: dict[tuple[str, Path], set[int]]) -> Iterator[Overlap]:
    """Every evaluation file of a language against its text and its training files."""
    for (split, evaluation), own in sentences.items():
        for (other, training), theirs in sentences.items():
            if split in EVALUATION and other == "train" and (common := len(own & theirs)):
                yield Overlap(evaluation, training, common, len(own))


def _inside(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
