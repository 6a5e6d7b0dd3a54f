"""Examples that a task is learnt from beyond the files of the data folder: shots, and translations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bistil.miniworld import load_settings
from bistil.miniworld.oracle import oracle
from bistil.pipeline.examples import TRANSLATION
from bistil.pipeline.inputs import Inputs
from bistil.settings.places import DATA, given, world_file
from bistil.settings.yaml import build
from bistil.store.artefacts import Artefact, file_id
from bistil.systems.rows import Rows
from bistil.tasks import column
from bistil.tasks import task as find_task
from bistil.tasks.training import draw_shots
from bistil.tasks.translation import (
    Translate,
    Translator,
    by_model,
    by_table,
    measured,
    translated,
    write_translated,
)


def make_shots(inputs: Inputs, task: str, code: str, most: int, seed: int, overlap: str) -> Artefact:
    """The shots of a language: the numbers of examples of its train file, or of its dev file where it has no
    train file.
    """
    rows = build(Rows, {"language": code, "most": most, "drawn": True, "overlap": overlap}, "shots")
    file, test = inputs.origin(task, rows), inputs.data.file(column(task), code, "test")

    def work(folder: Path) -> Mapping[str, Any]:
        return {"rows": draw_shots(task, rows, *map(find_task(task).read, (file, test)), seed=seed)}

    config = {"task": task, "language": code, "most": most, "seed": seed, "overlap": overlap}
    return inputs.store.run("shots", config, {"file": file_id(file), "test": file_id(test)}, work)


def make_translation(inputs: Inputs, task: str, split: str, code: str, to: str, by: str) -> Artefact:
    """A file of a task, translated from one language to another, and what can be seen of it as metrics."""
    settings = inputs.experiment.translators[by]
    file = inputs.data.file(column(task), code, split)
    known = _known(inputs, settings, code, to)

    def work(folder: Path) -> Mapping[str, Any]:
        before = find_task(task).read(file)
        after = translated(before, _translator(inputs, settings, task, code, to, split, known, folder))
        write_translated(folder / TRANSLATION, after)
        return measured(before, after)

    made_from: dict[str, Artefact | str] = {"file": file_id(file), settings.kind: file_id(known)}
    config = {"task": task, "split": split, "source": code, "target": to, "translator": settings.said}
    return inputs.store.run("translation", config, made_from, work)


def check_gathered(inputs: Inputs, task: str) -> None:
    """Fail now on shots that cannot be drawn, and on tables, worlds and models of translators that are not
    there.

    Raises:
        InputError: as `draw_shots`, `by_table` and `by_model`.
    """
    cells = [cell for cell in inputs.experiment.cells() if cell.task == task]
    rows = {
        (part, cell.seed)
        for cell in cells
        for part in (*inputs.examples(cell), *inputs.validated(cell))
        if part.drawn
    }
    read = find_task(task).read
    for part, seed in sorted(rows, key=str):
        test = inputs.data.file(column(task), part.language, "test")
        draw_shots(task, part, read(inputs.origin(task, part)), read(test), seed=seed)
    source = inputs.experiment.source
    asked = {
        (source, part.language, part.translated)
        for cell in cells
        for part in (*inputs.examples(cell), *inputs.validated(cell))
        if part.translated
    }
    asked |= {(cell.target, source, by) for cell in cells if (by := inputs.system(cell).translated_test)}
    for code, to, by in sorted(asked):
        settings = inputs.experiment.translators[by]
        known = _known(inputs, settings, code, to)
        _translator(inputs, settings, task, code, to, "train", known, Path())


def _known(inputs: Inputs, settings: Translator, code: str, to: str) -> Path:
    """What a translator translates by: its table, its model, or the settings of an oracle's world."""
    if settings.kind == "table":
        return inputs.data.translations(code, to)
    if settings.kind == "seq2seq":
        return inputs.translation_model(settings.model_for(code, to))
    if settings.world:
        return given(settings.world)
    return world_file(inputs.experiment.data) or DATA / "miniworld.yaml"


def _translator(
    inputs: Inputs, settings: Translator, task: str, code: str, to: str, split: str, known: Path, folder: Path
) -> Translate:
    """Who translates a file, by what `known` says: a table, a model, which keeps in `folder` how far it has
    come, or the settings of an oracle's world.
    """
    if settings.kind == "table":
        return by_table(known)
    if settings.kind == "seq2seq":
        run = inputs.run(folder, f"translation of {code} into {to}")
        return by_model(known, settings, code, to, run=run, device=inputs.device)
    return oracle(load_settings(known), code, to, split, task=task, **vars(settings.noise))
