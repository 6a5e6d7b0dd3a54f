"""Judge a teacher by what it is for: a quick zero-shot test in POS and NER, all weights tuned briefly on the source language.

Notable: a teacher that models each language well may still not have aligned them; its masked-LM loss does not tell, this does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from conllu import parse_incr
from transformers import set_seed

from bistil.distil.task import TaskBatches
from bistil.evaluate import predict_all
from bistil.languages import DataFolder
from bistil.models import TaskModel, load_encoder, load_tokenizer
from bistil.tasks.ner import Ner, Tagged


def read_pos(path: Path) -> list[Tagged]:
    """Sentences of a CoNLL-U file with their universal parts of speech as tags."""
    with path.open(encoding="utf-8") as file:
        rows = [[token for token in sentence if isinstance(token["id"], int)] for sentence in parse_incr(file)]
    return [Tagged(words=tuple(t["form"] for t in row), tags=tuple(t["upos"] for t in row)) for row in rows]


def probe(
    teacher: Path,
    data: DataFolder,
    source: str,
    targets: Mapping[str, Sequence[str]],
    *,
    steps: int = 200,
    batch_size: int = 32,
    seed: int = 1,
) -> dict[str, dict[str, float]]:
    """Accuracy (`pos`) or entity F1 (`ner`) in percent by language, the source's dev set and the targets' test sets.

    `targets`: task -> language codes. A fresh linear head and the encoder are tuned for `steps` steps of `batch_size` sentences.
    """
    scores: dict[str, dict[str, float]] = {}
    for name, codes in targets.items():
        kind = "parsing" if name == "pos" else "ner"
        read = read_pos if name == "pos" else Ner().read
        training = read(data.file(kind, source, "train"))
        tags = sorted({tag for sentence in training for tag in sentence.tags} - {"O"})
        task = Ner(labels=("O", *tags))
        set_seed(seed)
        encoder, tokenizer = load_encoder(teacher), load_tokenizer(str(teacher))
        model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size)).train()
        rows = task.encode(training, tokenizer, max_length=96)
        batches = TaskBatches(task, rows, int(tokenizer.pad_token_id), batch_size=batch_size, steps=steps, seed=seed)
        groups = [{"params": model.encoder.parameters(), "lr": 5e-4}, {"params": model.head.parameters(), "lr": 2e-3}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20) * (1 - step / steps))
        for step in range(steps):
            batch = batches[step]
            task.loss(model(batch).logits, batch).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        scores[name] = {}
        for code in (source, *codes):
            examples = read(data.file(kind, code, "dev" if code == source or not data.has(kind, code, "test") else "test"))
            predictions = predict_all(model, task, examples, tokenizer, max_length=128)
            scores[name][code] = _accuracy(examples, predictions) if name == "pos" else task.score(examples, predictions)["f1"]
    return scores


def _accuracy(examples: Sequence[Tagged], predictions: Sequence[Sequence[str]]) -> float:
    words = sum(len(example.tags) for example in examples)
    right = sum(
        gold == guess for example, tags in zip(examples, predictions, strict=True) for gold, guess in zip(example.tags, tags, strict=False)
    )
    return 100 * right / max(words, 1)
