"""Task data in another language: who translates, which tasks can be, and the file that comes of it.

Notable: a sentence is translated once, however often it stands in a file. Labels stay, so only tasks whose
labels are of a whole text can be translated. A model translates in batches that depend on the sentences
alone, each kept once it is done, so that a killed run goes on to the same file.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from bistil.errors import InputError
from bistil.models.seq2seq import (
    TOKENS,
    by_length,
    generate,
    language_token,
    load_model,
    read_tokenizer,
    sentence_ids,
)
from bistil.settings import files
from bistil.settings.ranges import Count, Length, Settings, Share
from bistil.tasks.classification import Text
from bistil.tasks.nli import Pair
from bistil.training.loop import Run, Stopped
from bistil.training.progress import Event

Translate = Callable[[Sequence[str]], list[str]]
"""Translates different sentences, in order."""
NOTHING = "…"
"""What is written of a sentence whose translation is empty."""
DONE = "checkpoint-translations.jsonl"
"""What a killed run has translated, a batch on each line."""
Example = TypeVar("Example", Pair, Text)
SENTENCES: Mapping[type, tuple[str, ...]] = {Pair: ("premise", "hypothesis"), Text: ("text",)}
"""Kind of example -> what of it is translated."""
REFUSED: Mapping[str, str] = {
    "parsing": "a tree is one of the words that were there",
    "pos": "tags belong to the words that were there",
    "ner": "names would have to be found again in the translation",
    "qa": "the answer is a place in the text, which moves",
    "choice": "its candidates are judged beside each other, and would be translated one by one",
    "retrieval": "its sentences are translations already",
}
"""Why the labels of a task do not survive a translation."""


@dataclass(frozen=True, kw_only=True)
class Noise(Settings):
    """How often an oracle errs, for each word.

    Attributes:
        drop: The share of words that are left out.
        swap: The share that change places with the next one.
        wrong: The share in whose place another word of the text stands.
    """

    drop: Share = 0.0
    swap: Share = 0.0
    wrong: Share = 0.0


@dataclass(frozen=True, kw_only=True)
class Translator(Settings):
    """Who translates task data.

    Attributes:
        kind: `table`, a file of the data folder, translations/SOURCE-TARGET.tsv, with a sentence and its
            translation on each line; `oracle`, the grammar of miniworld itself; `seq2seq`, an M2M100, NLLB or
            Marian model.
        noise: How often an oracle errs.
        world: The settings file of an oracle's miniworld; by default the project's.
        model: The folder or hub name of a `seq2seq` model; {source} and {target} in it stand for the codes of
            the languages, since Marian has a model for each pair.
        beams: Hypotheses that a model follows; by default what its own generation settings say.
        max_length: Most tokens of a translation; by default what the model's generation settings say.
        codes: What a model calls languages, by their ISO 639-3 codes, where that is not found.
    """

    kind: Literal["table", "oracle", "seq2seq"]
    noise: Noise = field(default_factory=Noise)
    world: str = ""
    model: str = field(default="", metadata={"added_later": True})
    beams: Count | None = field(default=None, metadata={"added_later": True})
    max_length: Length | None = field(default=None, metadata={"added_later": True})
    codes: dict[str, str] = field(default_factory=dict, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != "oracle" and (self.noise != Noise() or self.world):
            raise InputError("`noise` and `world` are for `kind: oracle` alone.", at=("noise",))
        if self.kind != "seq2seq" and (self.model or self.beams or self.max_length or self.codes):
            raise InputError(
                "`model`, `beams`, `max_length` and `codes` are for `kind: seq2seq` alone.", at=("model",)
            )
        if self.kind == "seq2seq" and not self.model:
            raise InputError("`kind: seq2seq` needs a `model`: a folder or a hub name.", at=("model",))

    def model_for(self, source: str, target: str) -> str:
        """The name of the model that translates between two languages."""
        named = {"{source}": source, "{target}": target}
        name = self.model
        for place, code in named.items():
            name = name.replace(place, self.codes.get(code, code))
        return name

    @property
    def said(self) -> dict[str, Any]:
        """What an artefact's settings say of it; its table, world or model is told by its content."""
        asked = {"beams": self.beams, "max_length": self.max_length, "codes": self.codes}
        return {"kind": self.kind, "noise": self.noise, **{name: one for name, one in asked.items() if one}}


def check_translatable(task: str, *, at: tuple[str | int, ...] = ()) -> None:
    """Refuse a task whose labels do not survive a translation.

    Raises:
        InputError: saying why.
    """
    if task not in ("nli", "classification"):
        why = REFUSED.get(task, "nothing says how its file is written")
        raise InputError(f"{task} can't be learnt from translations or tested on them: {why}.", at=at)


def translated(examples: Sequence[Example], translate: Translate) -> list[Example]:
    """Return examples in another language, with their labels and in their order."""
    sentences = list(dict.fromkeys(text for one in examples for text in _sentences(one).values()))
    found = dict(zip(sentences, translate(sentences), strict=True))
    return [replace(one, **{name: found[text] for name, text in _sentences(one).items()}) for one in examples]


def _sentences(example: Pair | Text) -> dict[str, str]:
    return {name: getattr(example, name) for name in SENTENCES[type(example)]}


def write_translated(path: Path, examples: Sequence[Pair | Text]) -> None:
    """Write examples in a file that their task reads; in the place of a sentence that came back empty stands
    `NOTHING`, since a blank is refused as a mistake in a file.
    """
    lines = [
        (one.label, one.text) if isinstance(one, Text) else (one.premise, one.hypothesis, one.label)
        for one in examples
    ]
    if isinstance(examples[0], Pair):
        lines.insert(0, ("premise", "hypothesis", "label"))
    filled = ("\t".join(cell.strip() or NOTHING for cell in line) for line in lines)
    path.write_text("".join(f"{line}\n" for line in filled), encoding="utf-8", newline="\n")


def by_table(path: Path) -> Translate:
    """Return a translator that looks sentences up in a file of two columns, with a tab between them.

    Raises:
        InputError: for a line that is not two such columns; at a sentence that the file does not have.
    """
    known: dict[str, str] = {}
    for number, line in files.lines(path):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 2 or not all(columns):
            raise InputError(
                f"{path}, line {number}: a sentence, a tab and its translation were expected, but got"
                f" {line[:100]!r}."
            )
        known.setdefault(*columns)

    def translate(sentences: Sequence[str]) -> list[str]:
        lacking = [one for one in sentences if one.strip() not in known]
        if lacking:
            raise InputError(
                f"A translation of each sentence was expected in {path}, but {len(lacking)} of"
                f" {len(sentences)} are missing, the first of them: {lacking[0]!r}. Add a line for each."
            )
        return [known[one.strip()] for one in sentences]

    return translate


def by_model(
    folder: Path, settings: Translator, source: str, target: str, *, run: Run, device: Any = "cpu"
) -> Translate:
    """Return a translator that asks a sequence-to-sequence model; its weights are read when it is first used.

    Args:
        run: keeps what is translated, a batch at a time, and goes on from there.

    Raises:
        InputError: as `read_tokenizer` and `language_token`.
    """
    tokenizer, kind = read_tokenizer(folder)
    reads, writes = (
        language_token(tokenizer, code, settings.codes) if kind == "m2m_100" else None
        for code in (source, target)
    )

    def translate(sentences: Sequence[str]) -> list[str]:
        model = load_model(folder).to(device)
        most = min(TOKENS, int(model.config.max_position_embeddings))
        rows = sentence_ids(tokenizer, sentences, reads, most)
        found = [""] * len(rows)
        batches = list(by_length([len(row) for row in rows]))
        for batch, texts in zip(
            batches,
            _kept(
                run,
                batches,
                lambda batch: generate(
                    model,
                    tokenizer,
                    [rows[i] for i in batch],
                    writes,
                    beams=settings.beams,
                    max_length=settings.max_length,
                ),
            ),
            strict=True,
        ):
            for i, text in zip(batch, texts, strict=True):
                found[i] = text
        return found

    return translate


def _kept(
    run: Run, batches: Sequence[list[int]], make: Callable[[list[int]], list[str]]
) -> Iterator[list[str]]:
    """What is made of each batch, in order; what a killed run has made is read, and a torn last line is made
    again.

    Raises:
        Stopped: where the run is to stop.
    """
    path = run.folder / DONE
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    done = [json.loads(line) for line in lines if line.endswith(b"\n")]
    yield from done
    with path.open("ab") as file:
        file.truncate(sum(len(line) for line in lines[: len(done)]))
        for number in range(len(done), len(batches)):
            if run.stop is not None and run.stop.is_set():
                raise Stopped(
                    f"{run.stage} stopped at batch {number} of {len(batches)}; it goes on from there."
                )
            texts = make(batches[number])
            file.write(json.dumps(texts).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            run.progress(Event(run.stage, number + 1, len(batches)))
            yield texts


def measured(before: Sequence[Example], after: Sequence[Example]) -> dict[str, Any]:
    """What can be seen of a translation without knowing the language: `lines`, the mean `length_ratio` in
    characters, the share of words `copied`, how many sentences are `identical`, `empty`, of `one_word` in
    place of several, or `long`, over four times as long.
    """
    pairs = {
        both
        for old, new in zip(before, after, strict=True)
        for both in zip(_sentences(old).values(), _sentences(new).values(), strict=True)
    }
    words = [(set(old.split()), new.split()) for old, new in pairs]
    total = sum(len(new) for _, new in words)
    return {
        "lines": len(after),
        "length_ratio": sum(len(new) / max(1, len(old)) for old, new in pairs) / max(1, len(pairs)),
        "copied": sum(word in old for old, new in words for word in new) / max(1, total),
        "identical": sum(old == new for old, new in pairs),
        "empty": sum(not new.strip() for _, new in pairs),
        "one_word": sum(len(set(new)) == 1 < len(old) for old, new in words),
        "long": sum(len(new) > 4 * len(old) for old, new in pairs),
    }
