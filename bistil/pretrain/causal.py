"""Sparse fine-tuning of a decoder: a small Llama learns some languages, or comes ready-made, and then learns
another text by several methods.

Notable: all methods start from the same weights, change as many values (full fine-tuning aside), see the same
batches, and each takes the learning rate, of the same number of rates, that is best on one half of the
held-out text; the other half is what is reported.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bistil.errors import InputError
from bistil.models.config import read_config
from bistil.models.load import load_weights, read_fast_tokenizer
from bistil.pretrain.wordpiece import train_wordpiece
from bistil.settings.ranges import (
    LARGEST,
    Count,
    Density,
    Filled,
    Layers,
    Length,
    Positive,
    Range,
    Seed,
    Settings,
)
from bistil.sft import quantised
from bistil.sft.config import PeftSft, SftConfig
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.lottery import LotteryConfig
from bistil.sft.spiel.config import SpielSft
from bistil.sft.tune import fine_tune
from bistil.sft.tuning import BatchesFor, Tuning
from bistil.text.corpora import IGNORED, Batches, Blocks, held_out, read_lines, to_blocks
from bistil.text.languages import DataFolder
from bistil.training.loop import Objective, Run, Schedule, fit

METHODS = ("full", "lt-sft", "spiel-ag", "spiel-ma", "lora")
ADDING = ("spiel-ag", "spiel-ma", "lora")
"""Those that leave the weights below as they are, so these can be in 4 bits."""


@dataclass(frozen=True)
class Text:
    """A language to tune to: what is trained on, what chooses a rate, what is reported."""

    code: str
    training: BatchesFor
    dev: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]]

    def losses(self, model: nn.Module) -> dict[str, float]:
        """The loss on both held-out halves, in nats a token."""
        return {
            name: evaluate_causal(model, half)["loss"]
            for name, half in (("dev", self.dev), ("test", self.test))
        }


@dataclass(frozen=True, kw_only=True)
class DecoderSize(Settings):
    """The decoder, its training and its tuning.

    Attributes:
        model: A causal language model by hub name or folder that is tuned instead of one trained here; what
            is said of languages seen, vocabulary, layers, hidden size and training then goes unheeded.
        seen: Languages to train on.
        unseen: The language to tune to.
        lines: Lines of each corpus.
        vocabulary: The size of the WordPiece vocabulary that is learned from the seen languages.
        layers: The number of layers.
        hidden: The hidden size; there is an attention head for every 32 of it.
        length: Tokens of a sequence.
        batch: Sequences in a batch.
        training_steps: Optimiser steps of the training.
        steps: Optimiser steps of each tuning; half of LT-SFT's are dense.
        density: The share of the parameters that each method may change.
        rates: Learning rates to choose from.
        sm3_rates: Those of SpIEL-MA, whose steps are of another scale.
        seed: The seed of weights, batches and supports.
        second: A further language, which each method learns too, from the same start, at the rate that it
            took; both differences are then worn together (thesis section 7.5.1).
        four_bits: Put the linear layers below the head in 4 bits (NF4) before tuning, by the methods that
            leave them so: SpIEL (qSpIEL, thesis section 7.3.4) and LoRA (QLoRA).
    """

    model: str | None = field(default=None, metadata={"added_later": True})
    seen: Annotated[tuple[str, ...], Filled()] = ("qaa", "qab", "qad")
    unseen: str = "qac"
    lines: Count = 6000
    vocabulary: Count = 1500
    layers: Layers = 4
    hidden: Annotated[int, Range(least=32, most=LARGEST, multiple=32)] = 128
    length: Length = 64
    batch: Count = 8
    training_steps: Count = 600
    steps: Annotated[int, Range(least=4, most=LARGEST)] = 200
    density: Density = 0.05
    rates: Annotated[tuple[Positive, ...], Filled()] = (3e-3, 1e-2, 3e-2)
    sm3_rates: Annotated[tuple[Positive, ...], Filled()] = (1e-2, 3e-2, 1e-1)
    seed: Seed = 1
    second: str | None = field(default=None, metadata={"added_later": True})
    four_bits: bool = field(default=False, metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, code, others in (
            ("unseen", self.unseen, self.seen),
            ("second", self.second, (*self.seen, self.unseen)),
        ):
            if code in others:
                raise InputError(
                    f"A language that the model has not read was expected, but {code} is named before.",
                    at=(name,),
                )


class CausalLM(Objective):
    """Minimises the next-token loss of `model`, a causal language model."""

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch; no further parts."""
        return causal_loss(self.model, batch), {}


def causal_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Mean cross-entropy of each real token given those before it, in nats. Shape: []."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    return cross_entropy(
        logits.flatten(0, 1), ids.masked_fill(mask == 0, IGNORED)[:, 1:].flatten(), ignore_index=IGNORED
    )


@torch.no_grad()
def evaluate_causal(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The mean loss over batches, as `loss`."""
    losses = [float(causal_loss(model, batch)) for batch in batches]
    return {"loss": sum(losses) / len(losses)}


def settings(method: str, rate: float, size: DecoderSize) -> SftConfig:
    """A method's settings at one learning rate."""

    def schedule(share: float) -> Schedule:
        return Schedule(
            steps=round(share * size.steps), learning_rate=rate, evaluations=1, warmup_share=0.05, clip=1.0
        )

    if method == "lt-sft":
        return SftConfig(
            lottery=LotteryConfig(density=size.density),
            dense=schedule(0.5),
            sparse=schedule(0.5),
            seed=size.seed,
        )
    whole = {"sparse": schedule(1.0), "seed": size.seed}
    if method == "full":
        return SftConfig(lottery=LotteryConfig(density=1.0, select="all"), **whole)  # type: ignore[arg-type]
    if method == "lora":
        return SftConfig(peft=PeftSft(density=size.density), **whole)  # type: ignore[arg-type]
    moving = {
        "density": size.density,
        "interval": max(2, size.steps // 20),
        "estimation": max(1, size.steps // 80),
    }
    return SftConfig(spiel=SpielSft(method="ma" if method == "spiel-ma" else "ag", **moving), **whole)  # type: ignore[arg-type]


def compare_on_decoder(
    data: DataFolder, size: DecoderSize, *, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Train the decoder, tune it by every method, and return held-out losses in nats a token: before, and
    after by method.
    """
    if size.four_bits:
        quantised.library()
    ready = load_decoder(size.model) if size.model else None
    learned = [size.unseen, *([size.second] if size.second else [])]
    codes = learned if ready else [*size.seen, *learned]
    lines = {code: read_lines(data.text(code))[: size.lines] for code in codes}
    tokenizer = (
        ready.tokenizer
        if ready
        else train_wordpiece(
            [line for code in size.seen for line in lines[code]], size.vocabulary, lowercase=False
        )
    )
    blocks = {code: to_blocks(tokenizer, lines[code], size.length) for code in lines}

    def batches(corpora: Mapping[str, Blocks]) -> BatchesFor:
        alike = dict.fromkeys(corpora, 1.0)
        return lambda steps, seed: Batches(
            corpora, tokenizer, weights=alike, batch_size=size.batch, steps=steps, mask_share=0.0, seed=seed
        )

    def text(code: str) -> Text:
        training, kept = blocks[code].split(0.1, least=4)
        held = held_out({code: kept}, tokenizer, batch_size=2, mask_share=0.0, most=len(kept))
        return Text(code, batches({code: training}), held[::2], held[1::2])

    with tempfile.TemporaryDirectory() as scratch:
        base = (
            ready.model
            if ready
            else _trained(
                len(tokenizer), batches({code: blocks[code] for code in size.seen}), size, Path(scratch)
            )
        )
        if size.four_bits:
            quantised.round_to_4_bits(base.base_model)
        first, *more = map(text, learned)
        before = {one.code: one.losses(base) for one in (first, *more)}
        say(f"before: {before[first.code]}")
        rows = []
        for name in ADDING if size.four_bits else METHODS:
            folder = Path(scratch) / name
            rates = size.sm3_rates if name == "spiel-ma" else size.rates
            best, delta, tried = _best(base, [settings(name, rate, size) for rate in rates], first, folder)
            rows.append({"method": name, **best, "rates": list(rates), "dev of each rate": tried})
            for second in more:
                config = settings(name, best["learning rate"], size)
                alone, other = _tuned(base, config, second, folder / second.code)
                with deltas_applied(base.base_model, delta, other):
                    both = {one.code: one.losses(base)["test"] for one in (first, second)}
                rows[-1]["composed"] = {
                    code: {"before": before[code]["test"], "alone": own["test"], "both": both[code]}
                    for code, own in ((first.code, best), (second.code, alone))
                }
            say(f"{name}: {rows[-1]}")
    return {"before": before[first.code], "rows": rows}


def _trained(vocabulary: int, batches: BatchesFor, size: DecoderSize, scratch: Path) -> LlamaForCausalLM:
    set_seed(size.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=max(1, size.hidden // 32),
        num_key_value_heads=max(1, size.hidden // 64),
        max_position_embeddings=size.length,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    schedule = Schedule(
        steps=size.training_steps, learning_rate=2e-3, evaluations=1, warmup_share=0.05, clip=1.0
    )
    seen = batches(size.training_steps, size.seed)
    run = Run(scratch / "base", "base")
    fit(CausalLM(model), seen, lambda: {"loss": 0.0}, run, schedule=schedule, select="loss", seed=size.seed)
    model.lm_head.requires_grad_(False)  # what a delta carries is the encoder below it
    return model.eval()


@dataclass(frozen=True)
class Ready:
    """A causal language model from elsewhere and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_decoder(name_or_folder: str) -> Ready:
    """A causal language model as float32 on the CPU, with a frozen output layer, and its tokenizer, whose end
    of text stands for special tokens that it lacks.

    Raises:
        InputError: where it cannot be read, is not whole, or is no causal language model.
    """
    config = read_config(name_or_folder)
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        raise InputError(
            f"A causal language model was expected in {name_or_folder}, but it is a {config.model_type}."
        )
    model, missing, _ = load_weights(kind, name_or_folder)
    if missing:
        raise InputError(
            f"A whole {kind.__name__} was expected in {name_or_folder}, but {min(missing)} is missing."
        )
    tokenizer = read_fast_tokenizer(name_or_folder)
    for part in ("cls", "sep", "pad"):
        if getattr(tokenizer, f"{part}_token_id") is None:
            start = tokenizer.bos_token if part == "cls" else None
            setattr(tokenizer, f"{part}_token", start or tokenizer.eos_token)
    if tokenizer.sep_token_id is None:
        raise InputError(f"The tokenizer of {name_or_folder} has no token for the end of a text (eos_token).")
    model.get_output_embeddings().requires_grad_(False)
    return Ready(model, tokenizer)


def _best(
    base: PreTrainedModel, configs: Sequence[SftConfig], text: Text, folder: Path
) -> tuple[dict[str, Any], SparseDelta, list[float]]:
    """What `_tuned` gives by the settings that are best on the text's first half, and that loss by each;
    no more than two differences are held at once.
    """
    best, tried = None, list[float]()
    for config in configs:
        found, delta = _tuned(base, config, text, folder / str(config.sparse.learning_rate))
        tried.append(found["dev"])
        if best is None or found["dev"] < best[0]["dev"]:
            best = found, delta
    assert best is not None, "there is a rate"
    return *best, tried


def _tuned(
    base: PreTrainedModel, config: SftConfig, text: Text, folder: Path
) -> tuple[dict[str, Any], SparseDelta]:
    """Tune a copy and measure the base wearing the delta, so that what is scored is what is kept."""
    model, clean, start = deepcopy(base), base_hash(base.base_model), time.process_time()
    tuning = Tuning(
        CausalLM(model),
        model.base_model,
        None,
        text.training,
        lambda: evaluate_causal(model, text.dev),
        select="loss",
        base=clean,
        named=f"{folder.parent.name}-{folder.name}",
    )
    delta, _ = fine_tune(tuning, config, Run(folder, tuning.named))
    seconds = time.process_time() - start
    assert isinstance(delta, SparseDelta), "an adapter hangs on encoders only"
    with deltas_applied(base.base_model, delta):
        found = text.losses(base)
    return {
        **found,
        "learning rate": config.sparse.learning_rate,
        "trained values": delta.trained,
        "processor seconds": seconds,
    }, delta
