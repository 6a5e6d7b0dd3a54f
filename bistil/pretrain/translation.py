"""Translations as targets: a multilingual encoder learns to give a sentence the states that a monolingual one
gives its translation.

Notable: masked-language modelling teaches each language for itself and aligns them slowly; here every piece
of a foreign sentence is drawn to the states that the frozen start encoder gives the pieces it translates to,
and the known language to its own former states, which keeps what the encoder could do. Links come from
`align.ibm1`. Reimers & Gurevych 2020 do so with sentence vectors, Cao et al. 2020 with words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import mse_loss
from transformers import BertModel, PreTrainedTokenizerBase

from bistil.pretrain.align import ibm1
from bistil.text import sampling

Pair = tuple[list[int], list[int]]


class Translations:
    """Translation pairs in token ids (foreign, known) by foreign language, and each language's translation
    table.

    Batches are stateless: step k's batch is the same whenever it is asked for. Languages are drawn in
    proportion to pairs ** alpha.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Mapping[str, Sequence[tuple[str, str]]],
        *,
        length: int,
        batch_size: int,
        alpha: float,
        seed: int,
    ) -> None:
        self._tokenizer, self._length, self._batch_size, self._seed = tokenizer, length, batch_size, seed
        self.pairs: dict[str, list[Pair]] = {}
        for code, found in pairs.items():
            known, foreign = (
                tokenizer([pair[side] for pair in found], add_special_tokens=False, verbose=False)[
                    "input_ids"
                ]
                for side in (0, 1)
            )
            both = [(f, k) for f, k in zip(foreign, known, strict=True) if f and k]
            if both:
                self.pairs[code] = both
        self.tables = {
            code: ibm1([f for f, _ in both], [k for _, k in both]) for code, both in self.pairs.items()
        }
        weights = sampling.temperature({code: len(both) for code, both in self.pairs.items()}, alpha)
        self._share = np.array(list(weights.values())) / max(sum(weights.values()), 1e-12)

    def batch(self, step: int) -> dict[str, Any]:
        """The pairs of one step, each from a language of its own: see `collate`."""
        rng = np.random.Generator(np.random.PCG64([self._seed, step, 0x7A]))
        codes = [list(self.pairs)[i] for i in rng.choice(len(self.pairs), self._batch_size, p=self._share)]
        return self.collate(
            [(code, self.pairs[code][int(rng.integers(len(self.pairs[code])))]) for code in codes]
        )

    def collate(self, rows: Sequence[tuple[str, Pair]]) -> dict[str, Any]:
        """`input_ids` and `attention_mask`: B known sentences, then their B translations, Shape: [2B, L];
        `links`, Shape: [B, L, L].
        """
        special, room = self._tokenizer, self._length - 2
        cut = [(code, foreign[:room], known[:room]) for code, (foreign, known) in rows]
        sentences = [known for _, _, known in cut] + [foreign for _, foreign, _ in cut]
        longest = max(map(len, sentences)) + 2
        ids = torch.full((len(sentences), longest), int(special.pad_token_id))
        mask = torch.zeros_like(ids)
        for i, sentence in enumerate(sentences):
            ids[i, : len(sentence) + 2] = torch.tensor(
                [special.cls_token_id, *sentence, special.sep_token_id]
            )
            mask[i, : len(sentence) + 2] = 1
        joined = torch.zeros(len(cut), longest, longest)
        joined[:, 0, 0] = 1.0
        for i, (code, foreign, known) in enumerate(cut):
            joined[i, 1 : len(foreign) + 1, 1 : len(known) + 1] = torch.from_numpy(
                links(self.tables[code], foreign, known)
            )
        return {"language": "translation", "input_ids": ids, "attention_mask": mask, "links": joined}


def links(
    table: csr_matrix,
    foreign: Sequence[int],
    known: Sequence[int],
    *,
    least: float = 0.1,
    diagonal: float = 3.0,
) -> np.ndarray:
    """How much each foreign piece of a sentence stands for each known piece of its translation. Shape: [F,
    K]; rows sum to 1 or are 0.

    Args:
        table: p(known | foreign), as from `ibm1`. A piece whose translations in this sentence have less than
            `least` of its mass is linked to the same piece (a name, a number) on the other side, or to
            nothing.
        diagonal: how strongly pieces at like places in their sentences are preferred, as in fast_align (Dyer
            et al. 2013).
    """
    rows = table[np.asarray(foreign)].toarray()
    weight = rows[:, np.asarray(known)]
    mass = rows[:, np.unique(known)].sum(axis=1, keepdims=True)
    same = np.asarray(foreign)[:, None] == np.asarray(known)[None, :]
    weight = np.where(mass >= least, weight, same)
    places = np.arange(len(foreign))[:, None] / len(foreign) - np.arange(len(known))[None, :] / len(known)
    weight = weight * np.exp(-diagonal * np.abs(places))
    total = weight.sum(axis=1, keepdims=True)
    return (weight / np.where(total > 0, total, 1.0)).astype(np.float32)


def translation_loss(encoder: BertModel, reference: BertModel, batch: Mapping[str, Any]) -> Tensor:
    """Squared distance to the reference's states of the known sentences, relative to those states' variance;
    mean over the upper layers.

    Known sentences keep their own states; linked foreign pieces get the linked mean of the translation's.
    Both count the same.

    Args:
        batch: as from `Translations.collate`.
    """
    size = len(batch["links"])
    ids, mask, joined = batch["input_ids"], batch["attention_mask"], batch["links"]
    with torch.no_grad():
        targets = reference(
            input_ids=ids[:size], attention_mask=mask[:size], output_hidden_states=True
        ).hidden_states
    states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    real, linked = mask[:size].bool(), joined.sum(dim=-1) > 0
    upper = range(encoder.config.num_hidden_layers // 2, encoder.config.num_hidden_layers + 1)
    loss = torch.zeros((), device=ids.device)
    for layer in upper:
        target, state = targets[layer].float(), states[layer].float()
        variance = target[real].var(dim=0).mean()
        kept = mse_loss(state[:size][real], target[real])
        drawn = mse_loss(state[size:][linked], (joined @ target)[linked])
        loss = loss + (kept + drawn) / variance
    return loss / (2 * len(upper))
