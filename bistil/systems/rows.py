"""The examples that a task is learnt from, as plain values."""

from dataclasses import dataclass, field
from typing import Literal

from bistil.errors import InputError
from bistil.settings.ranges import Count, Positive, Settings


@dataclass(frozen=True, kw_only=True)
class Rows(Settings):
    """Examples that a task is learnt from.

    Attributes:
        language: whose they are: "source", "target", all the task's "targets", or a language's code.
        split: of which file.
        most: at most so many of them, the first ones; None for all.
        upsample: how often each is counted, so that few examples weigh more (thesis section 6.2).
        drawn: whether they are the first ones after a shuffle by task, language and seed: shots.
        overlap: what is done with a shot that stands in the test file too: it is refused, or left out before
            the draw (`drop`).
        translated: the translator that puts the source's examples into the language; "" for its own ones.
    """

    language: str = "source"
    split: Literal["train", "dev"] = "train"
    most: Count | None = None
    upsample: Count = field(default=1, metadata={"added_later": True})
    drawn: bool = field(default=False, metadata={"added_later": True})
    overlap: Literal["refuse", "drop"] = field(default="refuse", metadata={"added_later": True})
    translated: str = field(default="", metadata={"added_later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drawn and (self.most is None or self.translated or self.split != "train"):
            raise InputError(
                f"Shots are `most` examples drawn from a train file, none of them translated, but got {self}."
            )

    def __str__(self) -> str:
        """The rows in short, as in result rows: source, target:20, target:100 drawn x10."""
        return (
            self.language
            + (f" {self.split}" if self.split != "train" else "")
            + (f":{self.most}" if self.most else "")
            + (" drawn" if self.drawn else "")
            + (f" by {self.translated}" if self.translated else "")
            + (f" x{self.upsample}" if self.upsample > 1 else "")
        )


@dataclass(frozen=True, kw_only=True)
class Then(Settings):
    """How a finished model is tuned further, on few examples (Bui section 5.2).

    Attributes:
        epochs: how often it reads all of them.
        batch_size: examples in a batch.
        learning_rate: the peak of the learning rate, which falls linearly to 0.
    """

    epochs: Count = 50
    batch_size: Count = 32
    learning_rate: Positive = 2e-5
