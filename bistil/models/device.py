"""On which device models run."""

import torch

from bistil.errors import InputError


def choose_device(requested: str | None = None) -> tuple[torch.device, str]:
    """Pick the device, with the reason as a sentence: cuda > cpu, mps only when asked. Precision is each
    schedule's `bf16`.
    """
    try:
        device = torch.device(requested or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(
            f"The device should be cpu, cuda, cuda:<number> or mps, not {requested!r}."
        ) from error
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise InputError(
            f"{device} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices. Ask for cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("mps was asked for, but torch finds no Apple GPU on this machine. Ask for cpu.")
    if device.type not in ("cuda", "cpu", "mps"):
        raise InputError(f"The device should be cpu, cuda, cuda:<number> or mps, not {requested!r}.")
    if requested:
        return device, f"{device} was asked for"
    return device, "a CUDA device is present" if device.type == "cuda" else "no CUDA device is present"


def has_bfloat16(device: torch.device) -> bool:
    """Whether matrices of bfloat16 are multiplied there as such; elsewhere that is many times slower, or
    refused.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
