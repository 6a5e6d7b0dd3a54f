"""An encoder that is bare whenever its own values are moved.

Notable: a module of its own, since transformers' Trainer takes long to import and a plan needs none.
"""

from typing import Any

from transformers import TrainerCallback

from bistil.adapt.wardrobe import Wardrobe


class Undressing(TrainerCallback):
    """Takes off what an encoder wears once a step's gradients are there, so that the optimiser moves the
    encoder's own values: none of what is worn drifts into them, or out of them (thesis section 6.2).
    """

    def __init__(self, wardrobe: Wardrobe) -> None:
        self._wardrobe = wardrobe

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the encoder bare."""
        self._wardrobe.wear(None)
