"""What a step of sparse fine-tuning costs against full fine-tuning, at the size of mBERT, and what choosing K entries costs.

Notable: every way runs in a process of its own on the same random encoder, so that its peak of memory is its own; time is the processor's,
which other work on the machine disturbs least, and counts as a ratio only. Baselines are written here after what the published
implementations do.
"""

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from bistil.sft.config import PeftSft
from bistil.sft.lottery import SparseTraining, select_top_k, snapshot
from bistil.sft.peers import library, peft_settings
from bistil.sft.sampled import linear_entries
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer

Step = Callable[[], None]
Found = dict[str, float]
WAYS = {
    "LT-SFT phase 2": "sparse",
    "LT-SFT phase 2, dense gradients gathered": "gathered",
    "SpIEL-AG": "ag",
    "SpIEL-MA": "ma",
    "LT-SFT phase 2 as composable-sft does it (dense AdamW, gradients times a 0/1 mask)": "masked",
    "LoRA (peft) with as many trainable values": "lora",
}


@dataclass(frozen=True, kw_only=True)
class SftSize:
    """The random BERT (by default mBERT's), the batch, the share of its parameters that trains, and how many turns are timed."""

    layers: int = 12
    hidden: int = 768
    vocabulary: int = 119547
    batch: int = 8
    length: int = 128
    density: float = 0.04
    turns: int = 2


def sft(size: SftSize, *, apart: bool = True, say: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Compare every way's step with full fine-tuning's; then the choice of K entries, and the gradient of a few entries of one weight.

    apart: each way in a new process, without which peaks of memory mean nothing.
    """
    rows = []
    full = _run(cost_of, "full", size, apart=apart)
    for name, way in WAYS.items():
        found = _run(cost_of, way, size, apart=apart)
        rows.append(_row(f"{name}, density {size.density}: a step", "full fine-tuning with AdamW", found, full))
        say(f"{name}: {rows[-1]['ratios']}")
    ours, baseline = (_run(cost_of_choice, how, size, apart=apart) for how in ("ours", "array"))
    rows.append(_row("choosing the top K of all differences", "one float32 array of all differences, then np.partition", ours, baseline))
    for density in (0.01, size.density, 0.1, 0.2):
        rows.append(_gradient_row(size, density))
    for row in rows[len(WAYS) :]:
        say(f"{row['name']}: {row['ratios']}")
    return rows


def cost_of(way: str, size: SftSize) -> Found:
    """Seconds of a step, bytes kept between steps beyond the model, and the peak of memory beyond the model, activations included."""
    torch.manual_seed(1)
    encoder = _bert(size)
    ids = torch.randint(5, size.vocabulary, (size.batch, size.length))
    gc.collect()
    held, resident = _held(), _resident()

    def backward() -> None:
        encoder(input_ids=ids).last_hidden_state.square().mean().backward()

    with _training(way, encoder, size) as (optimizer, mask):
        seconds = []
        for _ in range(1 + size.turns * (4 if way in ("ag", "ma") else 1)):
            start = time.process_time()
            optimizer.zero_grad()
            backward()
            mask()
            optimizer.step()
            seconds.append(time.process_time() - start)
        kept = _held() - held
    return {
        "processor seconds": _typical(way, seconds),
        "optimiser, gradients and all else kept, bytes": kept,
        "peak beyond the model, bytes": _peak() - resident,
    }


def cost_of_choice(how: str, size: SftSize) -> Found:
    """Seconds and memory of choosing the K entries that moved most."""
    torch.manual_seed(1)
    before = snapshot(_bert(size))
    after = {name: tensor + 1e-3 * torch.randn_like(tensor) for name, tensor in before.items()}
    k = round(size.density * sum(tensor.numel() for tensor in before.values()))
    resident, start = _resident(), time.process_time()
    if how == "ours":
        select_top_k(before, after, k)
    else:
        everything = np.concatenate([(after[name] - tensor).abs_().numpy().reshape(-1) for name, tensor in before.items()])
        threshold = np.partition(everything, len(everything) - k)[len(everything) - k]
        for name, tensor in before.items():
            ((after[name] - tensor).abs_() >= threshold).reshape(-1).nonzero()
    return {"processor seconds": time.process_time() - start, "peak beyond both models, bytes": _peak() - resident}


@contextmanager
def _training(way: str, encoder: Any, size: SftSize) -> Iterator[tuple[torch.optim.Optimizer, Step]]:
    """The optimiser of one way, and what it does to the gradients before a step."""
    total = sum(parameter.numel() for parameter in encoder.parameters())
    if way == "full":
        yield torch.optim.AdamW(encoder.parameters()), lambda: None
    elif way == "lora":
        wrapped = library().get_peft_model(encoder, peft_settings(encoder, PeftSft(density=size.density)))
        yield torch.optim.AdamW([parameter for parameter in wrapped.parameters() if parameter.requires_grad]), lambda: None
    elif way in ("ag", "ma"):
        count, moving_on = round(size.density * total), {"interval": 4, "estimation": 2, "replace_all_first": False}
        config = SpielConfig(method="ag" if way == "ag" else "ma", size=count, steps=1000, **moving_on)  # type: ignore[arg-type]
        with MovingSupport(encoder, config) as moving:
            yield spiel_optimizer(moving, lr=1e-5), lambda: None
    elif way == "masked":
        masks = _masks(encoder, size.density)

        def mask() -> None:
            for name, parameter in encoder.named_parameters():
                if parameter.grad is not None:
                    parameter.grad *= masks[name]

        yield torch.optim.AdamW(encoder.parameters()), mask
    else:
        support = {name: mask.reshape(-1).nonzero().squeeze(1) for name, mask in _masks(encoder, size.density).items()}
        with SparseTraining(encoder, support=support, theta0=snapshot(encoder), dense_gradients=way == "gathered") as sparse:
            del support
            optimizer = torch.optim.AdamW([sparse.values])
            sparse.attach(optimizer)
            yield optimizer, lambda: None


def _typical(way: str, seconds: list[float]) -> float:
    """A step's seconds without the first; of SpIEL the mean over a cycle of 20 steps, 5 of them of estimation, from cycles of 4 and 2."""
    if way not in ("ag", "ma"):
        return min(seconds[1:])
    third, fourth, quiet = min(seconds[2::4]), min(seconds[3::4]), min(seconds[1::4] + seconds[4::4])
    return (15 * quiet + 5 * third + (fourth - third)) / 20


def _gradient_row(size: SftSize, density: float) -> dict[str, Any]:
    states, gradient = (torch.randn(size.batch * size.length, width) for width in (size.hidden, 4 * size.hidden))
    numel = 4 * size.hidden**2
    positions = torch.randperm(numel)[: round(density * numel)].sort().values
    sides = {"ours": lambda: linear_entries(positions, gradient, states), "baseline": lambda: (gradient.t() @ states).take(positions)}
    found: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(6):
        for name, side in sides.items():
            start = time.process_time()
            side()
            found[name].append(time.process_time() - start)
    ours, baseline = ({"processor seconds": min(found[name][1:])} for name in sides)
    return _row(f"gradient of {100 * density:g} % of a feed-forward weight", "the dense gradient, gathered", ours, baseline)


def _run(measure: Callable[[str, SftSize], Found], way: str, size: SftSize, *, apart: bool) -> Found:
    if not apart:
        return measure(way, size)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (way, size))


def _row(name: str, against: str, ours: Found, baseline: Found) -> dict[str, Any]:
    ratios = {unit: ours[unit] / baseline[unit] for unit in ours if baseline[unit]}
    return {"name": name, "against": against, "ours": ours, "baseline": baseline, "ratios": ratios}


def _bert(size: SftSize) -> BertModel:
    config = BertConfig(
        vocab_size=size.vocabulary, hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=max(1, size.hidden // 64),
        intermediate_size=4 * size.hidden, max_position_embeddings=max(128, size.length),
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def _masks(encoder: nn.Module, density: float) -> dict[str, Tensor]:
    """Random masks: what is chosen does not change what a step costs, only how it is spread over the tensors."""
    return {name: torch.rand(parameter.shape) < density for name, parameter in encoder.named_parameters()}


def _held() -> int:
    """Bytes of all tensors that are alive, gradients included, each storage once."""
    found = [item for item in gc.get_objects() if issubclass(type(item), Tensor)]
    found += [item.grad for item in found if item.is_leaf and item.grad is not None]
    return sum({item.untyped_storage().data_ptr(): item.untyped_storage().nbytes() for item in found if not item.is_meta}.values())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
