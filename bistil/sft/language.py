"""Language SFTs: sparse fine-tuning by masked-language modelling on one language's text (LT-SFT section 4.2).

Notable: the output embedding is decoupled and frozen, layer norms are frozen, so all that is learned lies in
the encoder and travels with the delta."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bistil.settings.ranges import Count, Length, Part, Settings
from bistil.sft.bottleneck import Adapter
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.lottery import decouple_output_embedding
from bistil.sft.tune import fine_tune
from bistil.sft.tuning import Tuning
from bistil.text.corpora import Batches, Blocks, HeldOut, held_out
from bistil.training.loop import History, Run
from bistil.training.mlm import MaskedLM, evaluate_mlm


@dataclass(frozen=True, kw_only=True)
class TextConfig(Settings, HeldOut):
    """How unlabelled text is cut and masked.

    Attributes:
        length: Sub-words of a sequence.
        packed: Whether sequences are full blocks of running text, as in the papers; otherwise each is a line,
            for teachers that were trained so.
        batch_size: Sequences in a batch.
        mask_share: The share of tokens that are predicted.
        held_out_share: The share of the text that is kept for evaluation; its first blocks, 64 of a language
            at most, pick the checkpoint.
        held_out_shares: That of languages that have another one, by code.
        lines: The largest number of lines of a corpus, None for all.
        trim: `experiment` cuts the teacher to the tokens that the experiment's texts use before anything
            else, exactly; `none` leaves it whole; None cuts one with a vocabulary above 100,000.
        without_pairs: Whether lines that are sentences of retrieval's test files are left out, since
            corpora may hold them.
    """

    length: Length = 128
    packed: bool = True
    batch_size: Count = 8
    mask_share: Part = 0.15
    held_out_share: Part = 0.05
    lines: Count | None = None
    trim: Literal["none", "experiment"] | None = field(default=None, metadata={"added_later": True})
    without_pairs: bool = field(default=False, metadata={"added_later": True})
    held_out_shares: Mapping[str, Part] | None = field(default=None, metadata={"added_later": True})


def train_language_sft(
    mlm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    code: str,
    blocks: Blocks,
    *,
    text: TextConfig,
    sft: SftConfig,
    run: Run,
    cut: int = 0,
    before: Adapter | None = None,
) -> tuple[SparseDelta | Adapter, History]:
    """The delta of one language on `mlm.base_model`, or its adapter, best by held-out loss. `mlm` is left
    with its head untied and frozen, and adapted where it is a delta.

    Args:
        cut: how many parameters trimming took from the encoder; the density is a share of all.
        before: the adapter that an adapter starts from; None for a random one.
    """
    base = base_hash(mlm.base_model)
    decouple_output_embedding(mlm)
    training, kept_out = blocks.split(text.held_out(code))
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
        objective,
        encoder,
        None,
        batches,
        lambda: evaluate_mlm(mlm, evaluation),
        select="loss",
        base=base,
        cut=cut,
        before=before,
        named=f"language {code}",
    )
    return fine_tune(tuning, sft.counted(len(training), text.batch_size), run)
