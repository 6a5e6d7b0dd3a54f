"""Students before they learn anything, and the teachers that they follow.

Notable: torch's stream is drawn from in the order of these functions, so what they make depends on the seed
that was set before.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from bistil import vocab
from bistil.adapt.worn import WORN, load_worn
from bistil.distil.general import GeneralConfig
from bistil.distil.start import initialise, initialise_with_head, random_student
from bistil.distil.teachers import AdaptedTeacher
from bistil.distil.width import Narrowing, initialise_narrow
from bistil.errors import InputError
from bistil.pipeline.bases import OWN_HEAD, Base, kept_ids, masked_lm
from bistil.pipeline.inputs import Inputs
from bistil.sft.delta import base_hash
from bistil.sft.lottery import decouple_output_embedding
from bistil.store.artefacts import Artefact
from bistil.systems.recipe import Student

CALIBRATION = 256  # sequences a language that a narrower student is projected by
Clothes = Mapping[str, Artefact]
"""What the teacher wears meanwhile, by language."""


def followed_teacher(inputs: Inputs, recipe: Student, kept: Artefact | None, worn: Clothes) -> AdaptedTeacher:
    """The teacher of a recipe.

    One that predicts is trimmed along with the student, so that both predict the same tokens; one that wears
    SFTs keeps the rows that these belong to, reads the student's tokens through `kept`, and predicts by the
    rows that the SFTs were trained to predict by, its own (LT-SFT, thesis section 4.4.2).
    """
    mlm = inputs.fresh_teacher().mlm
    ids = kept_ids(kept) if kept else None
    if ids is not None and recipe.has_head and not worn:
        vocab.trim_model(mlm, ids.numpy())
        ids = None
    if recipe.has_head and worn:
        decouple_output_embedding(mlm)
    encoder: Any = inputs.placed(mlm).base_model
    base = base_hash(encoder) if worn else ""
    deltas = {code: load_worn(found.path(WORN), base=base) for code, found in worn.items()}
    return AdaptedTeacher(encoder, deltas, ids, mlm if recipe.has_head else None)


def started(
    inputs: Inputs,
    recipe: Student,
    config: GeneralConfig,
    teacher: AdaptedTeacher,
    kept: Artefact | None,
    codes: tuple[str, ...],
) -> tuple[PreTrainedModel, Narrowing | None]:
    """A student before it learns anything: an encoder, or a masked LM where it predicts tokens."""
    ids = kept_ids(kept).numpy() if kept else None
    if recipe.start == "random":
        made = random_student(inputs.teacher.mlm, config.lrf, ids)
        return (made if recipe.has_head else cast(PreTrainedModel, made.base_model)), None
    if config.drf > 1:
        text = partial(_calibration, inputs, teacher, codes)
        narrow, narrowing = initialise_narrow(
            teacher.encoder, config.lrf, config.drf, text, learned=config.learn_map
        )
        if ids is not None:
            vocab.trim_model(narrow, ids)
        return narrow, narrowing
    if not recipe.has_head:
        encoder = initialise(inputs.teacher.encoder, config.lrf, recipe.start)
        if ids is not None:
            vocab.trim_model(encoder, ids)
        return encoder, None
    whole = inputs.fresh_teacher().mlm
    if ids is not None:
        vocab.trim_model(whole, ids)
    return initialise_with_head(whole, config.lrf, recipe.start), None


def _calibration(
    inputs: Inputs, teacher: AdaptedTeacher, codes: tuple[str, ...]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of each language's first sequences, the teacher wearing its SFT; in the end none."""
    for code in codes:
        teacher.wear(code)
        for rows in torch.arange(min(CALIBRATION, len(inputs.blocks(code)))).split(32):
            ids, mask = inputs.blocks(code).rows(rows.numpy())
            yield ids.to(inputs.device), mask.to(inputs.device)
    teacher.wear(None)


def go_on(inputs: Inputs, made: PreTrainedModel, donor: Base, kept: Artefact | None) -> None:
    """Give a student that has just started the weights of another pair's, its masked-LM head too where both
    have one.
    """
    whole, _, theirs = donor.load(inputs)
    own = kept_ids(kept) if kept is not None else torch.arange(whole.config.vocab_size)
    rows = (own if theirs is None else theirs).numpy()
    encoder: Any = made.base_model
    vocab.take_over(encoder, whole, own.numpy(), rows)
    assert donor.student is not None
    if made is not encoder and donor.student.path(OWN_HEAD).is_file():
        mlm = inputs.fresh_teacher().mlm
        vocab.trim_model(mlm, rows)
        vocab.take_over(made, masked_lm(mlm, donor.student), own.numpy(), rows)


def frozen_parts(encoder: PreTrainedModel, parts: tuple[str, ...]) -> list[nn.Module]:
    """The modules of an encoder that parts of it are, as `Student.frozen` names them.

    Raises:
        InputError: for positions that the architecture has no table of.
    """
    embeddings: Any = encoder.get_submodule("embeddings")
    places = {"positions": getattr(embeddings, "position_embeddings", None), "embeddings": embeddings}
    if any(places[one] is None for one in parts):
        raise InputError(
            f"A table of positions was expected to be frozen, but {type(encoder).__name__} has none."
            " Take `frozen: [positions]` out of the recipe."
        )
    return [places[one] for one in parts]
