"""What a step of sparse fine-tuning costs against full fine-tuning, at the size of mBERT."""

from importlib.util import find_spec

import torch

from bistil.bench.choosing import choosing
from bistil.bench.measure import OURS, PUBLISHED, Row, Size, alternate, comparison, in_process
from bistil.bench.models import DENSITY
from bistil.bench.training import LOTTERY, MOVING, cost_of
from bistil.sft.sampled import linear_entries

WAYS = (*LOTTERY, *MOVING)
FULL, LORA = "full fine-tuning", "LoRA"


def sft(size: Size, *, apart: bool = True) -> list[Row]:
    """Every way's step beside full fine-tuning's and others'; then choosing K entries, and the gradient of a
    few of a weight's.

    Args:
        apart: each way in a new process, without which peaks of memory mean nothing.
    """
    others = [FULL, *([LORA] if find_spec("peft") else [])]
    against = {name: in_process(cost_of, name, size, apart=apart) for name in (*others, PUBLISHED)}
    note = (
        "published: dense AdamW, every gradient times a 0/1 mask (as composable-sft does); LoRA (peft): as"
        " many trainable values"
    )
    rows = [
        comparison(
            f"{name}, density {DENSITY}: a step",
            note,
            {OURS: in_process(cost_of, name, size, apart=apart), **against},
        )
        for name in WAYS
    ]
    again = {name: in_process(cost_of, name, size, True, apart=apart) for name in others}
    rows += [
        comparison(
            f"{name}, density {DENSITY}: a step that recomputes activations",
            "gradient checkpointing of every layer, on all sides (thesis table 7.4)",
            {OURS: in_process(cost_of, name, size, True, apart=apart), **again},
        )
        for name in MOVING
    ]
    rows.append(choosing(size, apart=apart))
    return rows + [gradient_of_few(size, density) for density in (0.01, DENSITY, 0.1, 0.2)]


def gradient_of_few(size: Size, density: float) -> Row:
    """The gradient of a share of a feed-forward weight's entries (thesis appendix E.4), beside the whole
    gradient.
    """
    states, gradient = (
        torch.randn(size.batch * size.length, width) for width in (size.hidden, 4 * size.hidden)
    )
    numel = 4 * size.hidden**2
    positions = torch.randperm(numel)[: round(density * numel)].sort().values
    sides = {
        OURS: lambda: linear_entries(positions, gradient, states),
        "dense": lambda: (gradient.t() @ states).take(positions),
    }
    name = f"gradient of {100 * density:g} % of a feed-forward weight"
    return comparison(name, "dense: the whole gradient, gathered", alternate(5, sides))
