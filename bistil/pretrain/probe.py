"""Judge a teacher by what it is for: a quick zero-shot test in POS and NER, all weights tuned briefly on the
source language.

Notable: a teacher that models each language well may still not have aligned them; its masked-LM loss does not
tell, this does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import set_seed

from bistil.distil.task import TaskBatches
from bistil.evaluation.score import predict_all
from bistil.models.load import TaskModel, load_encoder, load_tokenizer
from bistil.tasks.ner import Ner
from bistil.tasks.pos import Pos
from bistil.text.languages import DataFolder

PROBED: dict[str, Pos | Ner] = {"pos": Pos(), "ner": Ner()}


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
    """Accuracy (`pos`) or entity F1 (`ner`) in percent by language, the source's dev set and the targets'
    test sets.

    `targets`: task -> language codes. A fresh linear head and the encoder are tuned for `steps` steps of
    `batch_size` sentences.
    """
    scores: dict[str, dict[str, float]] = {}
    for name, codes in targets.items():
        kind = PROBED[name]
        training = kind.read(data.file(kind.column, source, "train"))
        tags = sorted({tag for sentence in training for tag in sentence.tags} - {kind.other})
        task = replace(kind, labels=(kind.other, *tags))
        set_seed(seed)
        encoder, tokenizer = load_encoder(teacher), load_tokenizer(str(teacher))
        model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size)).train()
        rows = task.encode(training, tokenizer, max_length=96)
        batches = TaskBatches(
            task, {source: rows}, int(tokenizer.pad_token_id), batch_size=batch_size, steps=steps, seed=seed
        )
        groups = [
            {"params": model.encoder.parameters(), "lr": 5e-4},
            {"params": model.head.parameters(), "lr": 2e-3},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, step / 20) * (1 - step / steps)
        )
        for step in range(steps):
            batch = batches[step]
            task.loss(model(batch).logits, batch).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        scores[name] = {}
        for code in (source, *codes):
            split = "test" if code != source and data.has(task.column, code, "test") else "dev"
            examples = task.read(data.file(task.column, code, split))
            predictions = predict_all(model, task, examples, tokenizer, max_length=128)
            scores[name][code] = task.score(examples, predictions)[task.metric]
    return scores
