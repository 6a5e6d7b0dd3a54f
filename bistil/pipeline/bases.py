"""What a cell tunes, read back from the artefacts that hold it: the teacher, a student, one of a family."""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from bistil.models.architectures import load_head, with_encoder
from bistil.models.load import load_encoder
from bistil.pipeline.inputs import Inputs
from bistil.store.artefacts import Artefact

MEMBERS = "members"  # of a family: a folder for each language's student
OWN_HEAD = "mlm-head.safetensors"  # of a student whose recipe trains its masked-LM head


@dataclass(frozen=True)
class Base:
    """What a cell tunes: a student, or the teacher where that is None.

    Attributes:
        student: the artefact of the student.
        vocabulary: what the student is trimmed to; None for the teacher's.
        member: the language of one student of a family; "" where there is one student only.
        tokenizer: the folder of the vocabulary's tokenizer that text is read with.
    """

    student: Artefact | None
    vocabulary: Artefact | None
    member: str = ""
    tokenizer: str = field(default="tokenizer", compare=False)

    def load(self, inputs: Inputs) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, torch.Tensor | None]:
        """The encoder, its tokenizer, and the teacher's ids of its tokens (None where they are the same)."""
        if self.student is None:
            return inputs.fresh_teacher().encoder, inputs.teacher.tokenizer, None
        encoder = load_encoder(self.student.path(f"{MEMBERS}/{self.member}" if self.member else "model"))
        if self.vocabulary is None:
            return encoder, inputs.teacher.tokenizer, None
        kept = kept_ids(self.vocabulary) if self.vocabulary.kind == "vocabulary" else None
        return encoder, trimmed_tokenizer(self.vocabulary, self.tokenizer), kept


def masked_lm(mlm: PreTrainedModel, student: Artefact) -> PreTrainedModel:
    """A masked LM, changed in place, with a student's encoder, and its head where it has one."""
    # Without one: the student's last states are trained to be the teacher's, so the teacher's head fits.
    mlm = with_encoder(mlm, load_encoder(student.path("model")))
    if (own := student.path(OWN_HEAD)).is_file():
        load_head(mlm, load_file(own))
    return mlm


def trimmed_tokenizer(vocabulary: Artefact, name: str = "tokenizer") -> PreTrainedTokenizerFast:
    """The tokenizer of a vocabulary artefact."""
    tokenizer: Any = AutoTokenizer.from_pretrained(vocabulary.path(name), trust_remote_code=False)
    return cast(PreTrainedTokenizerFast, tokenizer)


def kept_ids(vocabulary: Artefact) -> torch.Tensor:
    """The teacher's ids of a vocabulary artefact's tokens. Shape: [V]."""
    return load_file(vocabulary.path("kept.safetensors"))["kept"]
