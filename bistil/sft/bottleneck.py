"""Bottleneck adapters, for a language with an invertible one beside (MAD-X; thesis sections 1.4 and 3.1).

Notable: an adapter is hung on an encoder by hooks, so no class of transformers is changed and taking it off
leaves the encoder as it was. A task's adapter stands above the language's, whichever came first. The
encoder's weights never change, so all adapters belong to the bare encoder's `base_hash`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from bistil.errors import InputError
from bistil.models.architectures import architecture, blocks, embedding_width
from bistil.models.finite import not_finite
from bistil.settings.yaml import build
from bistil.sft import files
from bistil.sft.checks import check_base
from bistil.sft.config import AdapterConfig, SftConfig
from bistil.sft.tuning import Tuning
from bistil.training.loop import History, Objective, Run

Role = Literal["language", "task"]
NAMED: Mapping[Role, str] = {"language": "language_adapter", "task": "task_adapter"}
"""What an encoder calls the module that it wears."""


class Bottleneck(nn.Module):
    """What an adapter adds to the states of one layer: U relu(D s + b) + b' (thesis eq. 2.8)."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, states: Tensor) -> Tensor:
        """Shape: [..., H] to [..., H]."""
        found: Tensor = self.up(relu(self.down(states)))
        return found


class Coupling(nn.Module):
    """An invertible map of states, an additive coupling of their two halves (MAD-X section 3.3): y1 = x1 +
    F(x2), y2 = x2 + G(y1).
    """

    def __init__(self, hidden: int, reduction: int) -> None:
        super().__init__()
        self.F, self.G = (Bottleneck(hidden // 2, hidden // 2 // reduction) for _ in range(2))

    def forward(self, states: Tensor) -> Tensor:
        """Shape: [..., H] to [..., H]."""
        first, second = states.chunk(2, dim=-1)
        first = first + self.F(second)
        return torch.cat([first, second + self.G(first)], dim=-1)

    def inverse(self, states: Tensor) -> Tensor:
        """What `forward` maps to these states, to rounding. Shape: [..., H] to [..., H]."""
        first, second = states.chunk(2, dim=-1)
        second = second - self.G(first)
        return torch.cat([first - self.F(second), second], dim=-1)


class AdapterModule(nn.Module):
    """The modules of one adapter: a bottleneck for each layer that has one, and where there is one the
    invertible map at the embeddings.

    Raises:
        InputError: for a bottleneck of no unit, and for an invertible map of states of odd size.
    """

    def __init__(self, config: Any, settings: AdapterConfig) -> None:
        super().__init__()
        self.settings = settings
        hidden, depth, width = config.hidden_size, config.num_hidden_layers, embedding_width(config)
        least = 2 * (settings.invertible or 0)
        if hidden < settings.reduction or width < least or (least and width % 2):
            raise InputError(
                f"States of at least {max(settings.reduction, least)} values, an even number for an"
                f" invertible adapter, were expected for reduction: {settings.reduction} and invertible:"
                f" {settings.invertible}, but the encoder's have {hidden}, its embeddings {width}. Lower"
                " `reduction`, or leave `invertible` out."
            )
        inner, last = hidden // settings.reduction, depth if settings.last_layer else depth - 1
        if not last and not settings.invertible:
            raise InputError(
                "An encoder of two layers or more was expected for an adapter that leaves the last layer out,"
                " but it has one. Set `last_layer: true`."
            )
        self.layers = nn.ModuleList(Bottleneck(hidden, inner) for _ in range(last))
        self.inverse = Coupling(width, settings.invertible) if settings.invertible else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if settings.start == "zero":
            for module in self.modules():
                if isinstance(module, Bottleneck):
                    nn.init.zeros_(module.up.weight)


class Hung:
    """An adapter on an encoder.

    Args:
        decoder: the output embedding of the masked LM that the encoder is of, before which the invertible map
            is undone; None where nothing is predicted.

    Raises:
        InputError: where the encoder wears one of the same role.
    """

    def __init__(
        self, encoder: PreTrainedModel, module: AdapterModule, role: Role, decoder: nn.Module | None = None
    ) -> None:
        self._encoder, self._module, self._role, self._decoder = encoder, module, role, decoder
        self._hooks: list[RemovableHandle] = []
        self.again()

    def revert(self) -> None:
        """Take it off.

        Raises:
            InputError: where it is off already.
        """
        if not self._hooks:
            raise InputError("This adapter was taken off already.")
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        delattr(self._encoder, NAMED[self._role])

    def again(self, *, trained: bool = False) -> None:
        """Put it on, which is the same whether the encoder was trained meanwhile or not.

        Raises:
            InputError: where the encoder wears one of the same role.
        """
        name = NAMED[self._role]
        if hasattr(self._encoder, name):
            raise InputError(f"The encoder wears a {self._role} adapter already; take that off first.")
        device = next(self._encoder.parameters()).device
        self._encoder.add_module(name, self._module.to(device))
        first = self._role == "language"
        norms_first = architecture(self._encoder.config).norms_first
        for block, own in zip(blocks(self._encoder), self._module.layers, strict=False):
            if norms_first:
                self._hooks.append(block.outer.register_forward_hook(_after(own), prepend=first))
            else:
                self._hooks.append(block.outer_norm.register_forward_pre_hook(_within(own), prepend=first))
        inverse = self._module.inverse
        if inverse is not None:
            embeddings = self._encoder.get_submodule("embeddings")
            self._hooks.append(embeddings.register_forward_hook(lambda _, args, out: inverse(out)))
            if self._decoder is not None:
                self._hooks.append(
                    self._decoder.register_forward_pre_hook(lambda _, args: (inverse.inverse(args[0]),))
                )


def _within(own: nn.Module) -> Any:
    """Before the layer norm of the sum s of a block's feed-forward output and its input: s + own(norm(s))."""

    def hook(norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return args[0] + own(norm.forward(args[0])), *args[1:]

    return hook


def _after(own: nn.Module) -> Any:
    """After the feed-forward output x of a block that norms before it, in place of the sum: x + own(x)."""

    def hook(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return out + own(out)

    return hook


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """A trained bottleneck adapter, with the head that was trained beside it.

    Attributes:
        settings: its form.
        role: whose it is; a task's stands above a language's.
        tensors: the weights of its modules by name.
        base: `base_hash` of the encoder that it belongs to.
        full: the head's tensors under names that begin with `head.`.
    """

    settings: AdapterConfig
    role: Role
    tensors: Mapping[str, Tensor]
    base: str
    full: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def trained(self) -> int:
        """How many values it has."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def apply(self, encoder: PreTrainedModel, decoder: nn.Module | None = None) -> Hung:
        """Hang it on the encoder, in front of the output embedding too where that is given.

        Raises:
            InputError: it does not fit, or the encoder wears one of the same role.
        """
        module = AdapterModule(encoder.config, self.settings)
        expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
        found = {name: tensor.shape for name, tensor in self.tensors.items()}
        if expected != found:
            name = next(name for name in sorted(expected | found) if expected.get(name) != found.get(name))
            raise InputError(
                f"An adapter for {encoder.config.num_hidden_layers} layers of {encoder.config.hidden_size}"
                f" was expected, but {name} has shape {_shape(found.get(name))} in place of"
                f" {_shape(expected.get(name))}. Take the encoder it was trained on."
            )
        module.load_state_dict(dict(self.tensors))
        if told := not_finite(module):
            raise InputError(f"An adapter of finite values was expected, but {told}: train or copy it again.")
        return Hung(encoder, module.requires_grad_(False), self.role, decoder)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, atomically."""
        stored = {**self.tensors, **{f"full/{name}": tensor for name, tensor in self.full.items()}}
        header = {
            "kind": files.BOTTLENECK,
            "base": self.base,
            "shapes": {},
            "notes": {},
            "role": self.role,
            "settings": dataclasses.asdict(self.settings),
        }
        files.write(
            Path(path), {name: one.detach().cpu().contiguous() for name, one in stored.items()}, header
        )

    @classmethod
    def load(cls, path: Path | str, *, base: str | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or damaged, no adapter, or belongs to another base.
        """
        header = files.read_header(Path(path))
        if header["kind"] != files.BOTTLENECK or header.get("role") not in NAMED:
            raise InputError(f"A {files.BOTTLENECK} was expected in {path}, but it holds a {header['kind']}.")
        if base is not None:
            check_base(header["base"], base, str(path))
        settings = build(AdapterConfig, header.get("settings"), str(path))
        stored = files.read_tensors(Path(path), header["digest"])
        full = {name.removeprefix("full/"): one for name, one in stored.items() if name.startswith("full/")}
        tensors = {name: one for name, one in stored.items() if not name.startswith("full/")}
        return cls(settings=settings, role=header["role"], tensors=tensors, base=header["base"], full=full)


@contextmanager
def without_adapters(encoder: nn.Module) -> Iterator[Mapping[Role, AdapterModule]]:
    """Inside the block the encoder's state is that of the bare one; yield the adapters that it wears."""
    modules: dict[str, Any] = encoder._modules
    found: dict[Role, Any] = {role: modules.pop(name) for role, name in NAMED.items() if name in modules}
    try:
        yield found
    finally:
        modules.update({NAMED[role]: module for role, module in found.items()})


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else str(tuple(shape))


class _Beside(Objective):
    """An objective of a model whose encoder stays as it is: what trains, and is saved, is the adapter and the
    head.
    """

    def __init__(self, inner: Objective, adapter: AdapterModule, head: nn.Module | None) -> None:
        super().__init__(nn.ModuleDict({"adapter": adapter, **({"head": head} if head is not None else {})}))
        self._inner = (inner,)

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The inner loss and its parts."""
        found: tuple[Tensor, dict[str, Tensor]] = self._inner[0](batch)
        return found

    def train(self, mode: bool = True) -> "_Beside":
        """Switch the inner objective too."""
        self._inner[0].train(mode)
        return super().train(mode)


def adapter_tuning(
    tuning: Tuning, config: SftConfig, settings: AdapterConfig, run: Run
) -> tuple[Adapter, History]:
    """Train an adapter, and the head where there is one, over the steps of the `sparse` schedule; the encoder
    is left as it was.

    Without a head it is a language's, and the model a masked LM whose output embedding stays as it is.
    """
    encoder: Any = tuning.encoder
    role: Role = "language" if tuning.head is None else "task"
    set_seed(config.seed)
    module = AdapterModule(encoder.config, settings)
    if tuning.before is not None:
        module.load_state_dict(dict(tuning.before.tensors))
    encoder.requires_grad_(False)
    whole: Any = tuning.objective.model
    hung = [Hung(encoder, module, role, whole.get_output_embeddings() if role == "language" else None)]
    if tuning.beside is not None:
        hung.append(Hung(tuning.beside, module, role))
    try:
        beside = dataclasses.replace(tuning, objective=_Beside(tuning.objective, module, tuning.head))
        history = beside.fit(
            config.sparse, run.phase("checkpoint-adapter"), seed=config.seed, order=config.seed + 1
        )
    finally:
        for one in hung:
            one.revert()
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    found = Adapter(settings=settings, role=role, tensors=tensors, base=tuning.base, full=tuning.head_tensors)
    return found, history
