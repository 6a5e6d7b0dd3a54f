"""Sizes before anything runs are those of the models that the pipeline makes."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel
from zoo import TOKENIZERS, masked_lm

from bistil import vocab
from bistil.distil.start import initialise
from bistil.distil.width import initialise_narrow
from bistil.errors import InputError
from bistil.plan.sizes import depths, student_size, widths
from bistil.workbench.size_panel import size_panel

LINES = ["the cat sat on the mat", "a dog ran after the cats"] * 8
LENGTH = 12


def flops(model: Any) -> int:
    ids = torch.ones(1, LENGTH, dtype=torch.long)
    model.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_students_size_is_that_of_the_student(name: str) -> None:
    tokenizer = TOKENIZERS[name](LINES)
    teacher = masked_lm(name, tokenizer).base_model
    kept = np.array(sorted({*range(20), *tokenizer.all_special_ids}))
    student = initialise(teacher, 2).eval()
    vocab.trim_model(student, kept)
    found = student_size(teacher.config, lrf=2, tokens=len(kept), length=LENGTH)
    moved = (
        teacher.config.pad_token_id - student.config.pad_token_id if name in ("roberta", "xlm-roberta") else 0
    )
    assert found.parameters == student.num_parameters() + moved * 32  # positions move with the padding id
    assert found.flops == flops(student)
    assert student_size(teacher.config, lrf=1, length=LENGTH).flops == flops(initialise(teacher, 1).eval())


def test_a_narrower_students_size_is_that_of_the_student() -> None:
    tokenizer = TOKENIZERS["bert"](LINES)
    teacher = cast(BertModel, initialise(masked_lm("bert", tokenizer).base_model, 1))
    ids = torch.arange(5, 17)[None]
    student, _ = initialise_narrow(teacher, 3, 2, lambda: [(ids, torch.ones_like(ids))])
    found = student_size(teacher.config, lrf=3, drf=2, length=LENGTH)
    assert (found.parameters, found.flops) == (student.num_parameters(), flops(student.eval()))


def test_factors_that_do_not_divide_are_refused() -> None:
    config = masked_lm("bert", TOKENIZERS["bert"](LINES)).config
    with pytest.raises(InputError, match="does not divide 6"):
        student_size(config, lrf=4, length=LENGTH)
    with pytest.raises(InputError, match="hidden reduction factor must divide"):
        student_size(config, lrf=2, drf=3, length=LENGTH)
    other = masked_lm("roberta", TOKENIZERS["roberta"](LINES)).config
    with pytest.raises(InputError, match="BERT layout"):
        student_size(other, lrf=2, drf=2, length=LENGTH)
    assert widths(other) == [1]


def test_the_panel_tells_the_size_of_the_student_that_is_chosen() -> None:
    config = masked_lm("bert", TOKENIZERS["bert"](LINES)).config
    panel = size_panel(config, tokens=config.vocab_size, length=LENGTH)
    assert (depths(panel.model.teacher), widths(panel.model.teacher)) == ([1, 2, 3, 6], [1, 2])
    assert "(100 % of the teacher)" in panel.words.value
    panel.lrf.value, panel.drf.value, panel.tokens.value = 3, 2, config.vocab_size - 5
    size = student_size(config, lrf=3, drf=2, tokens=config.vocab_size - 5, length=LENGTH)
    assert f"{size.parameters:,} parameters" in panel.words.value
    assert f"{size.flops:,} FLOPs for 12 tokens" in panel.words.value
    assert panel.error.value == ""
    with pytest.raises(InputError, match="1 to"):
        size_panel(config, tokens=config.vocab_size + 1)
