"""The teacher cut once to all languages of an experiment: every stage then costs what a small model's does.

Notable: kept is whatever token any text falls into that the experiment reads, task data and translations too,
however rare, so no stage sees other tokens or states than it would with the whole teacher. What differs is
what a masked-LM head can predict: kept tokens only.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from bistil.models.load import load_encoder
from bistil.pipeline.examples import TRANSLATION
from bistil.pipeline.inputs import CUT, Inputs
from bistil.store.artefacts import Artefact, file_id
from bistil.tasks import RETRIEVAL, column
from bistil.tasks import task as find_task
from bistil.tasks.retrieval import parallel, parallel_files
from bistil.vocab.counting import Ids, count_tokens, size
from bistil.vocab.selection import Characters
from bistil.vocab.whole import cut

OCCURS = sys.float_info.min
"""The share that a token reaches by occurring once."""


def make_trimmed_teacher(inputs: Inputs) -> Artefact:
    """The cut teacher in `teacher/`; what `bistil trim` tells of it, as metrics.

    `vocabulary` is the rows before and after, `rows` how many of all embeddings went.
    """
    experiment, data = inputs.experiment, inputs.data
    characters: Characters = "all" if experiment.vocabulary.characters == "all" else "scripts"
    codes = inputs.codes

    def build(folder: Path) -> Mapping[str, Any]:
        teacher = inputs.uncut_teacher()
        full = teacher.mlm if teacher.has_mlm_head else teacher.encoder
        before = teacher.encoder.config.to_dict()
        shutil.rmtree(folder / CUT, ignore_errors=True)
        found = cut(
            Path(experiment.teacher).name,
            teacher.tokenizer,
            full,
            {code: inputs.lines(code) for code in codes},
            folder / CUT,
            threshold=OCCURS,
            characters=characters,
            further=_counts(inputs, teacher.tokenizer),
        )
        after = load_encoder(folder / CUT).config.to_dict()
        sizes = {name: (before[name], after[name]) for name in ("vocab_size", "max_position_embeddings")}
        told = {name: value for name, value in asdict(found).items() if name not in ("folder", "left")}
        rows = sum(old - new for old, new in sizes.values())
        return {**told, "vocabulary": sizes["vocab_size"], "rows": rows}

    files = {" ".join(name): file_id(data.file(column(name[0]), *name[1:])) for name in inputs.task_files}
    made = {name: one for task in experiment.tuned for name, one in inputs.translations(task).items()}
    for target in inputs.paired:
        pairs = filter(None, parallel_files(data, experiment.source, target))
        files |= {f"pairs {target} {number}": file_id(path) for number, path in enumerate(pairs)}
    settings: dict[str, Any] = {"characters": characters, "lines": experiment.text.lines}
    if RETRIEVAL in experiment.targets and experiment.retrieval.prefix:
        settings["prefix"] = experiment.retrieval.prefix
    lengths = {task: experiment.task[task].max_length for task in experiment.tuned}
    made_from = {"teacher": inputs.teacher_id, **inputs.texts(codes), **files, **made}
    return inputs.store.run("trimmed-teacher", {**settings, "lengths": lengths}, made_from, build)


def _counts(inputs: Inputs, tokenizer: PreTrainedTokenizerFast) -> list[Ids]:
    """How often each token occurs in the examples of each task, and in translations. Shape: [V] each."""
    experiment, found = inputs.experiment, []
    for name in experiment.tuned:
        task = find_task(name)
        files = {one: inputs.data.file(column(name), *one[1:]) for one in inputs.task_files if one[0] == name}
        read = {one: task.read(file) for one, file in files.items()}
        known = [one for (_, _, split), examples in read.items() if split != "test" for one in examples]
        more = [task.read(one.path(TRANSLATION)) for one in inputs.translations(name).values()]
        every = [one for examples in (*read.values(), *more) for one in examples]
        rows = task.for_training(known).encode(every, tokenizer, max_length=experiment.task[name].max_length)
        ids = np.concatenate([np.array(row["input_ids"], np.int64) for row in rows])
        found.append(np.bincount(ids, minlength=size(tokenizer)))
    for target in inputs.paired:
        pairs = parallel(inputs.data, experiment.source, target)
        prefix = experiment.retrieval.prefix
        found.append(count_tokens(tokenizer, [prefix + line for pair in pairs for line in pair]))
    return found
