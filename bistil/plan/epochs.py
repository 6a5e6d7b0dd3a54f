"""Epochs in a plan as the steps that they come to, where what they are epochs of is at hand.

Notable: an artefact is named by its epochs and its texts; steps are counted when it is built, and here.
Packed text is counted in the teacher's tokens, of which a trimmed vocabulary makes a few more.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.text.corpora import HeldOut, cut
from bistil.training.loop import Schedule


def has_epochs(settings: Any) -> bool:
    """Whether any schedule in the settings is told in epochs."""
    if isinstance(settings, Schedule):
        return settings.epochs is not None
    if isinstance(settings, Mapping):
        return any(map(has_epochs, settings.values()))
    if is_dataclass(settings):
        return any(has_epochs(getattr(settings, one.name)) for one in fields(settings))
    return False


def in_steps(settings: Any, examples: int, batch_size: int) -> Any:
    """The settings with every schedule in steps."""
    if isinstance(settings, Schedule):
        return settings.counted(examples, batch_size)
    if isinstance(settings, Mapping):
        return {name: in_steps(value, examples, batch_size) for name, value in settings.items()}
    if is_dataclass(settings) and not isinstance(settings, type):
        parts = {one.name: getattr(settings, one.name) for one in fields(settings)}
        return replace(settings, **{name: in_steps(one, examples, batch_size) for name, one in parts.items()})
    return settings


def stored_bytes(pipeline: Pipeline, config: Any, code: str) -> int:
    """Bytes of a stage that stores labels of a language's text, with rows as the experiment's teacher cuts
    them.
    """
    labels, length = config["labels"], pipeline.experiment.text.length
    rows: int = len(pipeline.blocks(code)) * labels.masks
    return rows * int(labels.row_bytes(length))


def counted(pipeline: Pipeline, config: Any, arguments: tuple[Any, ...]) -> Any:
    """A stage's settings with the steps that its epochs come to.

    Args:
        arguments: of the stage's job: the cell of a student or task SFT, or the language of a language SFT,
            a generator's kind.
    """
    experiment = pipeline.experiment
    first: Any = arguments[0] if arguments else None
    if "pretrain" in config:  # its text is cut by a vocabulary that is not there yet
        return config
    if isinstance(first, Cell) and "task" in config:
        return in_steps(config, sum(pipeline.amounts(first).values()), config["settings"].batch_size)
    codes = pipeline.languages(first) if isinstance(first, Cell) else (str(first),)
    if "generator" in config:
        codes = pipeline.generator_languages
    parts = [one for one in config.values() if hasattr(one, "schedule")]
    batch_size = next(
        (one.batch_size for one in (*parts, config.get("text")) if one), experiment.text.batch_size
    )
    shares: HeldOut = next((one for one in parts if isinstance(one, HeldOut)), experiment.text)
    blocks = {code: pipeline.blocks(code) for code in codes}
    if "words" in config:
        lines, text = pipeline.first_words(first, config["words"]), config["text"]
        blocks = {first: cut(pipeline.teacher.tokenizer, lines, text.length, packed=text.packed)}
    number = sum(len(own.split(shares.held_out(code))[0]) for code, own in blocks.items())
    return in_steps(config, number, batch_size)
