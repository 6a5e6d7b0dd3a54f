"""What a finished student says of plain text: `bistil predict MODEL FILE`.

Notable: MODEL is the folder of a deployed student, as `Pipeline.deployed` writes it; what is in it says what it does. Words are what white
space separates, so text should be tokenised as the training data was.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedTokenizerBase

from bistil.architectures import longest_sequence
from bistil.corpora import read_lines
from bistil.errors import InputError
from bistil.evaluate import predict_all
from bistil.models import TaskModel, load_encoder, load_tokenizer, quiet
from bistil.tasks.asking import asked
from bistil.tasks.parsing import Parsing
from bistil.tasks.sentences import tokenize

BATCH = 32


def predict(model: Path, file: Path) -> Iterator[str]:
    """Lines of what the model says of each line of the file.

    A tagger (entities, parts of speech) gives `word<TAB>tag` lines and a blank line after each sentence; a parser gives CoNLL-U; a model of
    sentence pairs, of which the file has one a line with a tab between them, gives `label<TAB>premise<TAB>hypothesis`.

    :raises InputError: where the folder holds no such model, or a line is no pair where one is needed.
    """
    if not (model / "config.json").is_file():
        raise InputError(
            f"The folder of a finished student was expected at {model}, but it has no config.json. `make demo` says where it puts one."
        )
    lines, tokenizer = read_lines(file), load_tokenizer(str(model))
    if (model / "head.safetensors").is_file():
        return _parses(model, [line.split() for line in lines], tokenizer)
    form = str((AutoConfig.from_pretrained(model).architectures or [""])[0])
    if form.endswith("ForTokenClassification"):
        return _tags(_loaded(AutoModelForTokenClassification, model), [line.split() for line in lines], tokenizer)
    if form.endswith("ForSequenceClassification"):
        return _pairs(_loaded(AutoModelForSequenceClassification, model), _pairs_of(file, lines), tokenizer)
    raise InputError(
        f"A tagger, a parser or a classifier of sentence pairs was expected in {model}, but it holds {form or 'a bare encoder'}."
    )


def _loaded(kind: Any, folder: Path) -> Any:
    with quiet():
        return kind.from_pretrained(folder).eval()


@torch.inference_mode()
def _tags(model: Any, sentences: Sequence[list[str]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """One tag a word, that of its first sub-word; `_` for a word beyond the model's length."""
    for tokens, words in zip(tokenize(sentences, tokenizer, max_length=_length(model)), sentences, strict=True):
        best = model(input_ids=torch.tensor([tokens.input_ids])).logits[0].argmax(-1).tolist()
        tags = [model.config.id2label[best[position]] for position in tokens.first_subwords]
        yield from (f"{word}\t{tag}" for word, tag in zip(words, [*tags, *["_"] * (len(words) - len(tags))], strict=True))
        yield ""


def _parses(folder: Path, sentences: Sequence[list[str]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """CoNLL-U with heads and universal relations; `_` for a word beyond the model's length."""
    labels = tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
    encoder, task = load_encoder(folder), Parsing(labels=labels)
    head = task.head(encoder.config.hidden_size)
    head.load_state_dict(load_file(folder / "head.safetensors"))
    examples = [asked("parsing", " ".join(words)) for words in sentences]
    found = predict_all(TaskModel(encoder=encoder, head=head), task, examples, tokenizer, batch_size=BATCH, max_length=_length(encoder))
    for words, parse in zip(sentences, found, strict=True):
        rest = len(words) - len(parse.heads)
        heads, relations = [*map(str, parse.heads), *["_"] * rest], [*parse.relations, *["_"] * rest]
        yield f"# text = {' '.join(words)}"
        for number, (word, governor, relation) in enumerate(zip(words, heads, relations, strict=True), start=1):
            yield f"{number}\t{word}\t_\t_\t_\t_\t{governor}\t{relation}\t_\t_"
        yield ""


@torch.inference_mode()
def _pairs(model: Any, pairs: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """One label a pair."""
    for premise, hypothesis in pairs:
        encoded = tokenizer(premise, hypothesis, truncation="longest_first", max_length=_length(model), return_tensors="pt")
        best = int(model(**encoded).logits[0].argmax())
        yield f"{model.config.id2label[best]}\t{premise}\t{hypothesis}"


def _pairs_of(file: Path, lines: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise InputError(
                f"{file}, line {number} of those with text: two sentences with a tab between them were expected, but got {line!r}."
            )
        found.append((columns[0], columns[1]))
    return found


def _length(model: Any) -> int:
    """The most tokens that the model takes."""
    return longest_sequence(model.config)
