"""Weights that are not finite: found where a model is loaded and where a training starts and ends.

Notable: nothing is made of them, and the message can name the true cause."""

from torch import nn


def not_finite(model: nn.Module) -> str | None:
    """Return the first parameter with an infinity or no number in it, as half a sentence; None where all is
    well.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(parameter.detach().isfinite().all()):
            wrong = int((~parameter.detach().isfinite()).sum())
            return f"{wrong:,} of the {parameter.numel():,} values of {name} are infinite or no numbers"
    return None
