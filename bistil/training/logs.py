"""Training where people look at it: event files of TensorBoard, and Weights & Biases.

Notable: it is asked for through the environment, so that workers and a scheduler's jobs know of it too. It is
no part of an artefact or of its name: a stage that is there already has no curve.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bistil.errors import InputError

if TYPE_CHECKING:
    from transformers import TrainerCallback

FORMS = ("tensorboard", "wandb")
FORM, FOLDER = "BISTIL_LOG", "BISTIL_LOGS"


def ask(form: str, folder: Path) -> None:
    """Have every training from now on, in this process and those it starts, told in this form.

    Raises:
        InputError: where the form is none of `FORMS`, or its package is not installed.
    """
    if form not in FORMS:
        raise InputError(f"{' or '.join(FORMS)} was expected, to log trainings in, but {form!r} came.")
    if find_spec(form) is None:
        raise InputError(f"Logs for {form} need its package, which is not installed: pip install {form}")
    os.environ |= {FORM: form, FOLDER: str(folder.resolve())}


def asked() -> list[str]:
    """The options of a command that ask for the same."""
    form = os.environ.get(FORM)
    return ["--log", form, "--logs", os.environ[FOLDER]] if form else []


def loggers(stage: str, work: Path) -> "list[TrainerCallback]":
    """What tells a training, by its stage; none where nothing was asked for.

    work: the folder in which it takes place; the artefact's id in its path keeps stages of one name apart.
    """
    form = os.environ.get(FORM)
    if not form:
        return []
    folder = Path(os.environ[FOLDER])
    if form == "wandb":
        from transformers.integrations import WandbCallback

        os.environ.setdefault("WANDB_DIR", str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        return [WandbCallback()]
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    found = re.search(r"[0-9a-f]{16}(?=\.partial)", str(work))
    name = re.sub(r"[^\w.-]+", "-", stage).strip("-")
    return [TensorBoardCallback(SummaryWriter(str(folder / name / (found[0] if found else ""))))]


def end() -> None:
    """Close what would take the next training of this process for the same."""
    if os.environ.get(FORM) == "wandb":
        import wandb

        wandb.finish()
