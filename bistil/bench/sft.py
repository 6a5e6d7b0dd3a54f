"""What a step of sparse fine-tuning costs against full fine-tuning, at the size of mBERT.

Notable: every way runs in a process of its own on the same random encoder, so that its peak of memory is its
own; time is the processor's, which other work on the machine disturbs least, and counts as a ratio only.
Baselines are written here after what the published implementations do."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from bistil.bench.choosing import choosing
from bistil.bench.measure import (
    OURS,
    PUBLISHED,
    Found,
    Row,
    Size,
    alternate,
    comparison,
    in_process,
    resident,
)
from bistil.bench.models import DENSITY, bert
from bistil.sft.config import PeftSft
from bistil.sft.lottery import SparseTraining, snapshot
from bistil.sft.peers import library, peft_settings
from bistil.sft.sampled import linear_entries
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer
from bistil.store.provenance import peak_memory_bytes

Step = Callable[[], None]
WAYS = {
    "LT-SFT phase 2": "sparse",
    "LT-SFT phase 2, dense gradients gathered": "gathered",
    "SpIEL-AG": "ag",
    "SpIEL-MA": "ma",
}
MOVING = ("ag", "ma")
FULL, LORA = "full fine-tuning", "LoRA"


def sft(size: Size, *, apart: bool = True) -> list[Row]:
    """Every way's step beside full fine-tuning's and others'; then choosing K entries, and the gradient of a
    few of a weight's.

    Args:
        apart: each way in a new process, without which peaks of memory mean nothing.
    """
    others = {FULL: "full", PUBLISHED: "masked"} | ({LORA: "lora"} if find_spec("peft") else {})
    against = {name: in_process(cost_of, way, size, apart=apart) for name, way in others.items()}
    note = (
        "published: dense AdamW, every gradient times a 0/1 mask (as composable-sft does); LoRA (peft): as"
        " many trainable values"
    )
    rows = [
        comparison(
            f"{name}, density {DENSITY}: a step",
            note,
            {OURS: in_process(cost_of, way, size, apart=apart), **against},
        )
        for name, way in WAYS.items()
    ]
    others.pop(PUBLISHED)
    again = {name: in_process(cost_of, way, size, True, apart=apart) for name, way in others.items()}
    rows += [
        comparison(
            f"{name}, density {DENSITY}: a step that recomputes activations",
            "gradient checkpointing of every layer, on all sides (thesis table 7.4)",
            {OURS: in_process(cost_of, way, size, True, apart=apart), **again},
        )
        for name, way in WAYS.items()
        if way in MOVING
    ]
    rows.append(choosing(size, apart=apart))
    return rows + [gradient_of_few(size, density) for density in (0.01, DENSITY, 0.1, 0.2)]


def cost_of(way: str, size: Size, checkpointed: bool = False) -> Found:
    """Seconds of a step, bytes kept between steps beyond the model, and the peak of memory beyond the model,
    activations included.

    Args:
        checkpointed: whether a layer's activations are computed again in the backward pass instead of kept.
    """
    torch.manual_seed(1)
    encoder = bert(size)
    if checkpointed:
        encoder.train().gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(5, size.vocabulary, (size.batch, size.length))
    gc.collect()
    held, had = _held(), resident()

    def backward() -> None:
        encoder(input_ids=ids).last_hidden_state.square().mean().backward()

    with _training(way, encoder) as (optimizer, mask):
        seconds = []
        for _ in range(1 + size.turns * (4 if way in MOVING else 1)):
            start = time.process_time()
            optimizer.zero_grad()
            backward()
            mask()
            optimizer.step()
            seconds.append(time.process_time() - start)
        kept = _held() - held
    return {
        "cpu seconds": _typical(way, seconds),
        "optimiser, gradients and all else kept, bytes": kept,
        "peak beyond the model, bytes": (peak_memory_bytes() or had) - had,
    }


@contextmanager
def _training(way: str, encoder: Any) -> Iterator[tuple[torch.optim.Optimizer, Step]]:
    """The optimiser of one way, and what it does to the gradients before a step."""
    total = sum(parameter.numel() for parameter in encoder.parameters())
    if way == "full":
        yield torch.optim.AdamW(encoder.parameters()), lambda: None
    elif way == "lora":
        wrapped = library().get_peft_model(encoder, peft_settings(encoder, PeftSft(density=DENSITY)))
        yield (
            torch.optim.AdamW([parameter for parameter in wrapped.parameters() if parameter.requires_grad]),
            lambda: None,
        )
    elif way in MOVING:
        count, moving_on = (
            round(DENSITY * total),
            {"interval": 4, "estimation": 2, "replace_all_first": False},
        )
        config = SpielConfig(method="ag" if way == "ag" else "ma", size=count, steps=1000, **moving_on)  # type: ignore[arg-type]
        with MovingSupport(encoder, config) as moving:
            yield spiel_optimizer(moving, lr=1e-5), lambda: None
    elif way == "masked":
        masks = _masks(encoder, DENSITY)

        def mask() -> None:
            for name, parameter in encoder.named_parameters():
                if parameter.grad is not None:
                    parameter.grad *= masks[name]

        yield torch.optim.AdamW(encoder.parameters()), mask
    else:
        support = {
            name: mask.reshape(-1).nonzero().squeeze(1) for name, mask in _masks(encoder, DENSITY).items()
        }
        with SparseTraining(
            encoder, support=support, theta0=snapshot(encoder), dense_gradients=way == "gathered"
        ) as sparse:
            del support
            optimizer = torch.optim.AdamW([sparse.values])
            sparse.attach(optimizer)
            yield optimizer, lambda: None


def _typical(way: str, seconds: list[float]) -> float:
    """A step's seconds without the first; of SpIEL the mean over a cycle of 20 steps, 5 of them of
    estimation, from cycles of 4 and 2.
    """
    if way not in MOVING:
        return min(seconds[1:])
    third, fourth, quiet = min(seconds[2::4]), min(seconds[3::4]), min(seconds[1::4] + seconds[4::4])
    return (15 * quiet + 5 * third + (fourth - third)) / 20


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


def _masks(encoder: nn.Module, density: float) -> dict[str, Tensor]:
    """Random masks: what is chosen does not change what a step costs, only how it is spread over the
    tensors.
    """
    return {name: torch.rand(parameter.shape) < density for name, parameter in encoder.named_parameters()}


def _held() -> int:
    """Bytes of all tensors that are alive, gradients included, each storage once."""
    # no stand-ins without bytes
    found = [item for item in gc.get_objects() if type(item) in (Tensor, nn.Parameter)]
    found += [item.grad for item in found if item.is_leaf and item.grad is not None]
    return sum(
        {
            item.untyped_storage().data_ptr(): item.untyped_storage().nbytes()
            for item in found
            if not item.is_meta
        }.values()
    )
