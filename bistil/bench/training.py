"""What a step of training an encoder costs, by every way of training it.

Notable: a way runs in a process of its own on the same random encoder, so that its peak of memory is its own;
time is the processor's, which other work on the machine disturbs least, and counts as a ratio only.
Baselines are written here after what the published implementations do."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bistil.bench.measure import Found, Size, resident
from bistil.bench.models import DENSITY, bert
from bistil.sft.bottleneck import AdapterModule, Hung
from bistil.sft.config import AdapterConfig, PeftSft
from bistil.sft.generator import Generator, GeneratorConfig, Slots
from bistil.sft.lottery import SparseTraining, snapshot
from bistil.sft.peers import library, peft_settings
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer
from bistil.store.provenance import peak_memory_bytes
from bistil.training.loop import Schedule

LOTTERY = {"LT-SFT phase 2": False, "LT-SFT phase 2, dense gradients gathered": True}
"""Whether the gradients of a few entries are gathered from whole ones."""
MOVING = {"SpIEL-AG": "ag", "SpIEL-MA": "ma"}
ADAPTERS = {
    "language adapter": AdapterConfig(reduction=2, invertible=2, last_layer=True),
    "task adapter": AdapterConfig(reduction=16),
}
"""Those of MAD-X, with the reductions of its paper."""
GENERATORS = {"generator, base": "base", "generator, LS": "ls"}
FEATURES = 289
"""As many typological features as MAD-G reads."""


@dataclass(frozen=True)
class Way:
    """How an encoder is trained: what is done before each forward pass, and to the gradients before each
    step.
    """

    optimizer: torch.optim.Optimizer
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


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
    before, had = held(), resident()

    def backward() -> None:
        encoder(input_ids=ids).last_hidden_state.square().mean().backward()

    with _training(way, encoder) as own:
        seconds = []
        for _ in range(1 + size.turns * (4 if way in MOVING else 1)):
            start = time.process_time()
            own.optimizer.zero_grad()
            own.before()
            backward()
            own.after()
            own.optimizer.step()
            seconds.append(time.process_time() - start)
        kept = held() - before
    return {
        "cpu seconds": _typical(way, seconds),
        "optimiser, gradients and all else kept, bytes": kept,
        "peak beyond the model, bytes": (peak_memory_bytes() or had) - had,
    }


@contextmanager
def _training(way: str, encoder: Any) -> Iterator[Way]:
    total = sum(parameter.numel() for parameter in encoder.parameters())
    if way == "full fine-tuning":
        yield Way(torch.optim.AdamW(encoder.parameters()))
    elif way == "LoRA":
        wrapped = library().get_peft_model(encoder, peft_settings(encoder, PeftSft(density=DENSITY)))
        yield Way(torch.optim.AdamW([one for one in wrapped.parameters() if one.requires_grad]))
    elif way in ADAPTERS:
        module = AdapterModule(encoder.config, ADAPTERS[way])
        with _hung(encoder.requires_grad_(False), module):
            yield Way(torch.optim.AdamW(module.parameters()))
    elif way in GENERATORS:
        maker = generator(encoder.config, GENERATORS[way])
        slots, features = Slots(maker.depth), torch.ones(FEATURES)
        with _hung(encoder.requires_grad_(False), slots):
            yield Way(torch.optim.AdamW(maker.parameters()), before=lambda: slots.wear(maker(features)))
    elif way in MOVING:
        moving_on = {"interval": 4, "estimation": 2, "replace_all_first": False, "steps": 1000}
        size = round(DENSITY * total)
        with MovingSupport(encoder, SpielConfig(method=MOVING[way], size=size, **moving_on)) as moving:  # type: ignore[arg-type]
            yield Way(spiel_optimizer(moving, lr=1e-5))
    elif way == "published":
        masks = _masks(encoder, DENSITY)

        def mask() -> None:
            for name, parameter in encoder.named_parameters():
                if parameter.grad is not None:
                    parameter.grad *= masks[name]

        yield Way(torch.optim.AdamW(encoder.parameters()), after=mask)
    elif way in LOTTERY:
        support = {
            name: mask.reshape(-1).nonzero().squeeze(1) for name, mask in _masks(encoder, DENSITY).items()
        }
        with SparseTraining(
            encoder, support=support, theta0=snapshot(encoder), dense_gradients=LOTTERY[way]
        ) as sparse:
            del support
            optimizer = torch.optim.AdamW([sparse.values])
            sparse.attach(optimizer)
            yield Way(optimizer)
    else:
        raise KeyError(way)


@contextmanager
def _hung(encoder: Any, module: AdapterModule) -> Iterator[None]:
    hung = Hung(encoder, module, "language")
    try:
        yield
    finally:
        hung.revert()


def generator(config: Any, kind: str) -> Generator:
    """A random generator of adapters for an encoder."""
    schedule = Schedule(steps=1, learning_rate=1e-3)
    settings = GeneratorConfig(kind=kind, schedule=schedule)  # type: ignore[arg-type]
    made = Generator(
        config.hidden_size, config.num_hidden_layers, settings, [str(i) for i in range(FEATURES)], "random"
    )
    made.start(FEATURES)
    return made


def _typical(way: str, seconds: list[float]) -> float:
    """A step's seconds without the first; of SpIEL the mean over a cycle of 20 steps, 5 of them of
    estimation, from cycles of 4 and 2.
    """
    if way not in MOVING:
        return min(seconds[1:])
    third, fourth, quiet = min(seconds[2::4]), min(seconds[3::4]), min(seconds[1::4] + seconds[4::4])
    return (15 * quiet + 5 * third + (fourth - third)) / 20


def _masks(encoder: nn.Module, density: float) -> dict[str, Tensor]:
    """Random masks: what is chosen does not change what a step costs, only how it is spread over the
    tensors.
    """
    return {name: torch.rand(parameter.shape) < density for name, parameter in encoder.named_parameters()}


def held() -> int:
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
