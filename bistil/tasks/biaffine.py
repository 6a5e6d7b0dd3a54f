"""The shallow biaffine parser: two biaffine products directly on the encoder's states (Glavaš and Vulić
2021).

Notable:
* there is no layer between encoder and biaffine products, and no copy for heads and dependents: that is what
    "shallow" means;
* the state of [CLS] stands for the root, as in that paper;
* relations are scored only for one head of each word, packed over real words, no [B, W, W, R] tensor; the
  large matrix product is done once for each word that governs any, and in a tree about half of them do;
* weights start at zero: directions that source-language training never visits then add nothing in another
language.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, pad

from bistil.tasks.trees import decode


def impossible(scores: Tensor) -> float:
    """The score of what cannot be: below any other of the type, yet finite, so that losses stay so."""
    return torch.finfo(scores.dtype).min


class ShallowBiaffine(nn.Module):
    """Arc and relation scores from first-sub-word states; a constant 1 is appended to each state as the bias.

    Parameters: `arcs` of Shape: [H + 1, H + 1] and `relations` of Shape: [R, H + 1, H + 1].
    """

    def __init__(self, *, hidden_size: int, relations: int, dropout: float) -> None:
        super().__init__()
        # A number and no module: it stays on in a student that follows a teacher, which has no other
        # dropout. On miniworld that is worth .6 LAS (reports/LOG.md).
        self.dropout = dropout
        self.arcs = nn.Parameter(torch.zeros(hidden_size + 1, hidden_size + 1))
        self.relations = nn.Parameter(torch.zeros(relations, hidden_size + 1, hidden_size + 1))

    def forward(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits `arcs` of Shape: [B, W, W + 1] over head candidates (0 is the root) and `relations` of
        Shape: [B, W, R].

        Relations are those at `batch["heads"]`; without that entry a maximum spanning tree is found first and
        returned as `heads`.

        Args:
            hidden: last states of the encoder. Shape: [B, L, H].
            batch: `first_subwords`, Shape: [B, W], -1 where there is no word; `heads`, Shape: [B, W], -100
                where there is none.
        """
        words = batch["first_subwords"] >= 0
        states = self.states(hidden, batch["first_subwords"])
        arcs = self.arc_scores(states, words)
        if "heads" in batch:
            return {"arcs": arcs, "relations": self.relation_scores(states, batch["heads"])}
        found = decode(arcs.detach().double().cpu().numpy(), words.cpu().numpy())
        heads = torch.from_numpy(found).to(hidden.device)
        return {"arcs": arcs, "relations": self.relation_scores(states, heads), "heads": heads}

    def states(self, hidden: Tensor, first_subwords: Tensor) -> Tensor:
        """States of root and words with the constant 1 appended. Shape: [B, L, H] -> [B, W + 1, H + 1]."""
        positions = pad(first_subwords.clamp(min=0), (1, 0))
        states = hidden.gather(1, positions[:, :, None].expand(-1, -1, hidden.shape[-1]))
        return pad(dropout(states, self.dropout, self.training), (0, 1), value=1.0)

    def arc_scores(self, states: Tensor, words: Tensor) -> Tensor:
        """Scores of each word's head candidates; padding and the word itself are impossible. Shape: [B, W +
        1, H + 1] -> [B, W, W + 1].
        """
        scores = (states[:, 1:] @ self.arcs) @ states.mT
        own = torch.eye(words.shape[1] + 1, dtype=torch.bool, device=words.device)[1:]
        return scores.masked_fill(own | ~pad(words, (1, 0), value=True)[:, None, :], impossible(scores))

    def relation_scores(self, states: Tensor, heads: Tensor) -> Tensor:
        """Scores of the relations between each word and the given head, zeros where the head is negative.

        Shape: states [B, W + 1, H + 1], heads [B, W] -> [B, W, R].
        """
        row, word = (heads >= 0).nonzero(as_tuple=True)
        governors, which = torch.unique(row * states.shape[1] + heads[row, word], return_inverse=True)
        products = linear(states.flatten(0, 1)[governors], self.relations.flatten(0, 1)).unflatten(
            1, self.relations.shape[:2]
        )
        packed = (products[which] @ states[row, word + 1][:, :, None]).squeeze(2)
        return packed.new_zeros(*heads.shape, packed.shape[1]).index_put((row, word), packed)
