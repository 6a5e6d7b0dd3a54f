"""MAD-G: a generator that makes a language's bottleneck adapter from its typological features alone (thesis
sections 3.2 and 3.3).

Notable: only the generator is trained, over the text of many languages, one a batch. What it makes is an
adapter like any other, with biases of zero, computed on demand: a file of one has the language's features and
the place of the generator.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import linear, relu
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.models.finite import not_finite
from bistil.settings.ranges import Count, Factor, Settings, Share
from bistil.settings.yaml import build
from bistil.sft import files
from bistil.sft.bottleneck import Adapter, AdapterModule, Hung
from bistil.sft.checks import check_base
from bistil.sft.config import AdapterConfig
from bistil.sft.delta import base_hash
from bistil.sft.language import TextConfig
from bistil.sft.lottery import decouple_output_embedding
from bistil.text.corpora import Batches, Blocks, held_out
from bistil.text.sampling import temperature
from bistil.training.loop import History, Objective, Run, Schedule, fit
from bistil.training.mlm import MaskedLM, evaluate_mlm

Kind = Literal["base", "ls"]


@dataclass(frozen=True, kw_only=True)
class Further(Settings):
    """How an adapter is trained on a little text of its language, from the generated or from a random one;
    the defaults are the thesis'.

    Attributes:
        schedule: How long and how fast it trains.
        batch_size: Sequences in a batch.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=200, learning_rate=5e-5))
    batch_size: Count = 4


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(Settings):
    """A generator of language adapters (MAD-G), made once for all seeds of an experiment. They are in every
    layer, without an invertible map.

    Attributes:
        languages: Those that it is trained on; empty for every one with text and features.
        kind: `base` has its own weights for each layer, `ls` shares them and embeds the layer instead.
        embedding: The size of a language's embedding.
        layer_embedding: The size of a layer's, for `ls`.
        reduction: The encoder's hidden size as a multiple of the adapters' bottleneck.
        cap: A language counts as having at most so many sequences when languages are drawn,
        alpha: each in proportion to its number of sequences to this power.
        schedule: How long and how fast it trains, over all languages together.
        batch_size: Sequences in a batch, all of one language.
        further: How an adapter is trained further on text of its language, for systems that do so.
    """

    languages: tuple[str, ...] = ()
    kind: Kind = "base"
    embedding: Count = 32
    layer_embedding: Count = 32
    reduction: Factor = 2
    cap: Count = 500_000
    alpha: Share = 0.5
    schedule: Schedule
    batch_size: Count = 64
    further: Further | None = field(default=None, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.languages and (len(self.languages) == 1 or len(set(self.languages)) < len(self.languages)):
            raise InputError(
                "A generator of two languages at least, none of them twice, was expected, but `languages` are"
                f" {', '.join(self.languages)}. One language has its own adapter: `worn: adapter`.",
                at=("languages",),
            )


class Generator(nn.Module):
    """Features of a language to the weights of its adapter: W V t (eq. 3.1), or W (V t ⊕ λ(b)) for each layer
    b (eq. 3.2).

    Args:
        features: names of the features that it reads.
        base: `base_hash` of the encoder that its adapters belong to.

    Raises:
        InputError: for bottlenecks of no unit.
    """

    def __init__(
        self, hidden: int, depth: int, settings: GeneratorConfig, features: Sequence[str], base: str
    ) -> None:
        super().__init__()
        if hidden < settings.reduction:
            raise InputError(
                f"States of at least {settings.reduction} values were expected for `reduction:"
                f" {settings.reduction}`, but the encoder's have {hidden}. Lower it."
            )
        self.hidden, self.depth, self.settings = hidden, depth, settings
        self.features, self.base = tuple(features), base
        self.inner = hidden // settings.reduction
        self.layers: nn.Parameter | None = None
        for name, shape in _shapes(hidden, depth, settings, len(self.features)).items():
            setattr(self, name, nn.Parameter(torch.empty(shape)))

    languages: nn.Parameter
    weights: nn.Parameter

    def start(self, set_features: float) -> None:
        """Draw what it starts from, such that generated weights have deviation 0.02, as those of adapters do.

        Args:
            set_features: how many features a language has on average.
        """
        nn.init.normal_(self.languages, std=max(set_features, 1.0) ** -0.5)
        nn.init.normal_(self.weights, std=0.02 * self.weights.shape[-1] ** -0.5)
        if self.layers is not None:
            nn.init.normal_(self.layers)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The adapter of a language.

        Args:
            features: Shape: [F].

        Returns:
            what maps down and up in each layer. Shape: [layers, m, H] and [layers, H, m].
        """
        language = self.languages @ features
        if self.layers is None:
            made = self.weights @ language
        else:
            joint = torch.cat([language.expand(self.depth, -1), self.layers], dim=1)
            made = joint @ self.weights[0].T
        down, up = made.view(self.depth, 2, -1).unbind(1)
        return down.view(-1, self.inner, self.hidden), up.view(-1, self.hidden, self.inner)

    @torch.no_grad()
    def adapter(self, features: np.ndarray) -> Adapter:
        """What a language wears. Shape of its features: [F]."""
        down, up = (one.cpu() for one in self(torch.from_numpy(features).to(self.weights)))
        zeros = {"down": torch.zeros(self.inner), "up": torch.zeros(self.hidden)}
        tensors: dict[str, Tensor] = {}
        for layer in range(self.depth):
            for name, weights in (("down", down), ("up", up)):
                tensors[f"layers.{layer}.{name}.weight"] = weights[layer].clone()
                tensors[f"layers.{layer}.{name}.bias"] = zeros[name].clone()
        settings = AdapterConfig(reduction=self.settings.reduction, last_layer=True)
        return Adapter(settings=settings, role="language", tensors=tensors, base=self.base)

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        header = {
            "kind": files.GENERATOR,
            "base": self.base,
            "shapes": {},
            "notes": {},
            "hidden": self.hidden,
            "layers": self.depth,
            "settings": dataclasses.asdict(self.settings),
            "features": self.features,
        }
        files.write(path, {name: one.detach().cpu() for name, one in self.state_dict().items()}, header)

    @classmethod
    def load(cls, path: Path, *, base: str | None = None) -> "Generator":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, no generator, or belongs to another base.
        """
        header = files.read_header(path)
        if header["kind"] != files.GENERATOR:
            raise InputError(f"A {files.GENERATOR} was expected in {path}, but it holds a {header['kind']}.")
        if base is not None:
            check_base(header["base"], base, str(path))
        settings = build(GeneratorConfig, header.get("settings"), str(path))
        names: Any = header.get("features")
        sizes: list[Any] = [header.get(one) for one in ("hidden", "layers")]
        if not (
            all(type(size) is int and 0 < size < 2**20 for size in sizes)
            and isinstance(names, list)
            and all(isinstance(name, str) for name in names)
        ):
            raise InputError(f"The header of {path} says no sizes or no features: copy the file again.")
        stored = files.read_tensors(path, header["digest"])
        expected = _shapes(sizes[0], sizes[1], settings, len(names))
        kinds = {one.dtype for one in stored.values()}
        if expected != {name: tuple(one.shape) for name, one in stored.items()} or kinds != {torch.float32}:
            raise InputError(f"The tensors in {path} are not those that its header speaks of: copy it again.")
        with torch.device("meta"):
            made = cls(sizes[0], sizes[1], settings, names, header["base"])
        made.load_state_dict(stored, assign=True)
        if told := not_finite(made):
            raise InputError(
                f"A generator of finite values was expected in {path}, but {told}: train it again."
            )
        return made.requires_grad_(False)


def _shapes(hidden: int, depth: int, settings: GeneratorConfig, features: int) -> dict[str, tuple[int, ...]]:
    """What a generator has: V, W, and for `ls` the embeddings of layers."""
    values = 2 * hidden * (hidden // settings.reduction)
    found = {"languages": (settings.embedding, features), "weights": (depth, values, settings.embedding)}
    if settings.kind == "base":
        return found
    width = settings.embedding + settings.layer_embedding
    return {**found, "weights": (1, values, width), "layers": (depth, settings.layer_embedding)}


def save_generated(path: Path, generator: Path, features: np.ndarray) -> None:
    """Write what a language wears as its features and the place of the generator beside the file."""
    header = files.read_header(generator)
    told = {
        "kind": files.GENERATED,
        "base": header["base"],
        "shapes": {},
        "notes": {},
        "generator": Path(os.path.relpath(generator.resolve(), path.parent.resolve())).as_posix(),
        "generator_digest": header["digest"],
    }
    files.write(path, {"features": torch.from_numpy(features)}, told)


def load_generated(path: Path, *, base: str | None = None) -> Adapter:
    """Generate the adapter that a file of `save_generated` speaks of.

    Raises:
        InputError: either file is missing, damaged or of another kind, or they do not belong together.
    """
    header = files.read_header(path)
    found = files.read_tensors(path, header["digest"]).get("features")
    generator = path.parent / str(header.get("generator"))
    if files.read_header(generator)["digest"] != header.get("generator_digest"):
        raise InputError(f"{path} was made for another generator than {generator}: make it again.")
    made = Generator.load(generator, base=base)
    if found is None or found.shape != (len(made.features),):
        raise InputError(f"{path} should hold the {len(made.features)} features that {generator} reads.")
    return made.adapter(found.numpy())


class _Slot(nn.Module):
    """A bottleneck whose weights are handed in."""

    down: Tensor
    up: Tensor

    def forward(self, states: Tensor) -> Tensor:
        """Shape: [..., H] to [..., H]."""
        return linear(relu(linear(states, self.down)), self.up)


class Slots(AdapterModule):
    """The bottlenecks of an encoder that wears generated adapters, one language's after the other's."""

    def __init__(self, depth: int) -> None:
        nn.Module.__init__(self)
        self.layers, self.inverse = nn.ModuleList(_Slot() for _ in range(depth)), None

    def wear(self, made: tuple[Tensor, Tensor]) -> None:
        """Take the weights that a generator made."""
        for slot, down, up in zip(self.layers, *made, strict=True):
            slot.down, slot.up = down, up


class Generating(Objective):
    """Minimises the masked-LM loss of a model that wears what `model`, a generator, makes for each batch's
    language.

    Args:
        features: by language. Shape: [F] each.
    """

    model: Generator

    def __init__(self, mlm: PreTrainedModel, model: Generator, features: Mapping[str, np.ndarray]) -> None:
        super().__init__(model)
        self.slots = (Slots(model.depth),)
        self._inner = (MaskedLM(mlm),)
        self._features = {code: torch.from_numpy(one).to(model.weights) for code, one in features.items()}

    def wear(self, code: str) -> None:
        """Generate a language's adapter and put it on."""
        self.slots[0].wear(self.model(self._features[code]))

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch, which is of one language; no further parts."""
        self.wear(batch["language"])
        found: tuple[Tensor, dict[str, Tensor]] = self._inner[0](batch)
        return found

    def train(self, mode: bool = True) -> "Generating":
        """Switch the masked LM too."""
        self._inner[0].train(mode)
        return super().train(mode)

    def worn_for(self, batches: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The batches, each while its language's adapter is on."""
        for batch in batches:
            self.wear(batch["language"])
            yield batch


def train_generator(
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: Mapping[str, Blocks],
    features: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    text: TextConfig,
    settings: GeneratorConfig,
    seed: int,
    run: Run,
) -> tuple[Generator, History]:
    """A generator of adapters for `mlm.base_model`, best by mean held-out loss, and its history with that of
    each language. `mlm` is left frozen, with its head untied.

    Args:
        blocks: the text of each language that it is trained on.
        features: by language. Shape: [F] each.
        names: of the features.
    """
    encoder: Any = mlm.base_model
    base = base_hash(encoder)
    decouple_output_embedding(mlm)
    mlm.requires_grad_(False)
    parts = {code: own.split(text.held_out(code)) for code, own in blocks.items()}
    training = {code: own for code, (own, _) in parts.items()}
    schedule = settings.schedule.counted(sum(map(len, training.values())), settings.batch_size)
    kept_out = {code: own for code, (_, own) in parts.items()}
    evaluation = held_out(kept_out, tokenizer, batch_size=16, mask_share=text.mask_share)
    set_seed(seed)
    made = Generator(encoder.config.hidden_size, encoder.config.num_hidden_layers, settings, names, base)
    made.start(float(np.mean([features[code].sum() for code in blocks])))
    objective = Generating(mlm, made.to(mlm.device), features)
    sizes = {code: min(len(own), settings.cap) for code, own in training.items()}
    batches = Batches(
        training,
        tokenizer,
        weights=temperature(sizes, settings.alpha),
        batch_size=settings.batch_size,
        steps=schedule.batches,
        mask_share=text.mask_share,
        seed=seed + 1,
    )
    hung = Hung(encoder, objective.slots[0], "language")
    try:
        history = fit(
            objective,
            batches,
            lambda: evaluate_mlm(mlm, objective.worn_for(evaluation)),
            run.phase("checkpoint-generator"),
            schedule=schedule,
            select="loss",
            seed=seed,
        )
    finally:
        hung.revert()
    return made, history
