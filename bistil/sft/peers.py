"""LoRA (Hu et al. 2022) and (IA)^3 (Liu et al. 2022) through the `peft` library: what sparse fine-tuning is
compared with.

Notable: `peft` trains, and when it is done its weights are merged and the difference to the start is returned
as a SparseDelta like any other, so stages after it need not know. That delta is dense in the tuned matrices;
its notes say how many values were `trainable`.
"""

import dataclasses
from typing import Any

from accelerate.utils import set_seed
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bistil.errors import InputError
from bistil.models.architectures import architecture
from bistil.sft.config import PeftSft, SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.lottery import snapshot
from bistil.sft.spiel.support import choose_tensors
from bistil.sft.tuning import Tuning
from bistil.training.loop import History, Run


def library() -> Any:
    """The `peft` library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import peft  # an optional extra
    except ImportError as error:
        raise InputError("LoRA and (IA)^3 need the peft library: pip install -e '.[peers]'.") from error
    return peft


def rank(encoder: nn.Module, density: float, cut: int = 0) -> int:
    """Return the rank at which LoRA trains nearest to `density` of the encoder's parameters and those that it
    lost by a cut: r * sum(inputs + outputs), at least 1.
    """
    linears = [encoder.get_parameter(name) for name in choose_tensors(encoder)]
    total = sum(parameter.numel() for parameter in encoder.parameters()) + cut
    return max(1, round(density * total / sum(sum(weight.shape) for weight in linears)))


def check_ia3(config: PreTrainedConfig) -> None:
    """Refuse (IA)^3 where it would scale the queries too.

    Raises:
        InputError: one map gives queries, keys and values.
    """
    block = architecture(config).block
    if block.key == block.query:
        raise InputError(
            f"(IA)^3 scales keys and values, but in a {config.model_type} one map gives them and the queries."
            " Take another method."
        )


def peft_settings(encoder: PreTrainedModel, settings: PeftSft, cut: int = 0) -> Any:
    """Return the `peft` configuration for an encoder that lost `cut` parameters.

    Raises:
        InputError: as `check_ia3`.
    """
    peft = library()
    if settings.method == "lora":
        size = rank(encoder, settings.density, cut)
        modules = [name.removesuffix(".weight") for name in choose_tensors(encoder)]
        return peft.LoraConfig(
            r=size, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=modules
        )
    check_ia3(encoder.config)
    kind = architecture(encoder.config)
    layers = [f"{kind.layers}{number}" for number in range(encoder.config.num_hidden_layers)]
    second = [f"{layer}.{kind.block.outer}" for layer in layers]
    chosen = [f"{layer}.{place}" for layer in layers for place in (kind.block.key, kind.block.value)]
    return peft.IA3Config(target_modules=chosen + second, feedforward_modules=second)


def peft_tuning(tuning: Tuning, config: SftConfig, peft: PeftSft, run: Run) -> tuple[SparseDelta, History]:
    """Train over the steps of the `sparse` schedule; the encoder is left with the merged weights, as it was
    built before.
    """
    encoder: Any = tuning.encoder
    theta0 = snapshot(encoder)
    settings = peft_settings(encoder, peft, tuning.cut)
    set_seed(config.seed)
    wrapped = library().get_peft_model(encoder, settings)  # changes the encoder in place
    trainable = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    try:
        history = tuning.fit(
            config.sparse, run.phase("checkpoint-peft", peft.method), seed=config.seed, order=config.seed + 1
        )
    finally:
        wrapped.merge_and_unload()
    notes = {"method": peft.method, "trainable": str(trainable)}
    delta = SparseDelta.between(theta0, snapshot(encoder), base=tuning.base, full=tuning.head_tensors)
    return dataclasses.replace(delta, notes=notes), history
