"""Language SFTs: sparse fine-tuning by masked-language modelling on one language's text (LT-SFT section 4.2).

Notable: the output embedding is decoupled and frozen, layer norms are frozen, so all that is learned lies in
the encoder and travels with the delta."""

from dataclasses import dataclass

from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bistil.errors import InputError
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.lottery import decouple_output_embedding
from bistil.sft.tune import fine_tune
from bistil.sft.tuning import Tuning
from bistil.text.corpora import Batches, Blocks, held_out
from bistil.training.loop import History, Run
from bistil.training.mlm import MaskedLM, evaluate_mlm


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How unlabelled text is cut and masked.

    Attributes:
        length: of a sequence, in tokens.
        packed: full blocks of running text, as in the papers; otherwise one line a sequence, for teachers
            that were trained so.
        batch_size: in sequences.
        mask_share: the share of tokens that are masked.
        held_out_share: the share of sequences that is kept for evaluation.
        lines: at most so many of the file, None for all.
    """

    length: int = 128
    packed: bool = True
    batch_size: int = 8
    mask_share: float = 0.15
    held_out_share: float = 0.05
    lines: int | None = None

    def __post_init__(self) -> None:
        if (
            self.length < 8
            or self.batch_size < 1
            or not 0 <= self.mask_share < 1
            or not 0 < self.held_out_share < 1
        ):
            raise InputError(
                "Text settings need a length of at least 8 tokens, a batch size of at least 1, a mask share"
                f" in [0, 1) and a held-out share in (0, 1), but got {self}."
            )


def language_sft(
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    code: str,
    blocks: Blocks,
    *,
    text: TextConfig,
    sft: SftConfig,
    run: Run,
) -> tuple[SparseDelta, History]:
    """The delta of one language on `mlm.base_model`, best by held-out loss. `mlm` is left adapted, its head
    untied and frozen.
    """
    base = base_hash(mlm.base_model)
    decouple_output_embedding(mlm)
    training, kept_out = blocks.split(text.held_out_share)
    evaluation = held_out({code: kept_out}, tokenizer, batch_size=16, mask_share=text.mask_share)

    def batches(steps: int, seed: int) -> Dataset:
        return Batches(
            {code: training},
            tokenizer,
            weights={code: 1.0},
            batch_size=text.batch_size,
            steps=steps,
            mask_share=text.mask_share,
            seed=seed,
        )

    objective, encoder = MaskedLM(mlm), mlm.base_model
    tuning = Tuning(
        objective, encoder, None, batches, lambda: evaluate_mlm(mlm, evaluation), select="loss", base=base
    )
    return fine_tune(tuning, sft, run)
